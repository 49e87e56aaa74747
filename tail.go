package tidings

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/tidings-sse/tidings/internal/engine"
)

// Following the log: each record is indexed and queued for whom it is, in the log's order, and where the log has lost
// records every connection is told.

// tail follows the log until ctx ends.
func (h *Hub) tail(ctx context.Context) {
	for pause := time.Duration(0); ; {
		started := time.Now()
		h.setTailing(started)
		err := h.broker.Tail(ctx, h.position(), h.deliver)
		h.setTailing(time.Time{})
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, ErrGap), errors.Is(err, ErrEpoch):
			err = h.skip(ctx, err)
		}
		h.setShaky(err)
		if err == nil {
			continue
		}
		h.log.Error(logTailFailed, keyError, err)
		if time.Since(started) > maxTailPause {
			pause = 0
		}
		pause = min(max(2*pause, minTailPause), maxTailPause)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause/2 + rand.N(pause/2)):
		}
	}
}

// How long the hub waits before it follows the log again after a fault.
const (
	minTailPause = 100 * time.Millisecond
	maxTailPause = 5 * time.Second
)

func (h *Hub) setTailing(since time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tailing = since
}

func (h *Hub) setShaky(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.shaky = err
}

// position returns the newest position that was routed.
func (h *Hub) position() Position {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.history.cursorAt(h.history.newest()).pos
}

// deliver routes a batch of the log.
func (h *Hub) deliver(rs []Record) error {
	h.janitor.grown(len(rs))
	for len(rs) > 0 {
		if err := h.engine.Room(h.ctx); err != nil {
			return err
		}
		results := h.routeSome(rs, h.results[:0])
		rs = rs[len(results):]
		h.counts.routed.Add(uint64(len(results)))
		h.pub.routed(h.explain(results))
		clear(results)
		h.results = results
	}
	return nil
}

// A routing is what became of one record on this node.
type routing struct {
	rec     *Record
	nonce   uint64
	matched int
	known   bool   // else the loops are still counting
	wonders bool   // nobody matched, and somebody waits to hear why
	hint    string // why nobody matched
}

// What is routed at most while the hub's lock is held, since registering waits for it.
const (
	routeRecords = 64
	routePosts   = 512     // connections that matched, beside those of a group
	routeBytes   = 1 << 20 // of data
)

// routeSome indexes the first of the records, one at least, and queues each for every connection that it is for.
func (h *Hub) routeSome(rs []Record, results []routing) []routing {
	now := time.Now()
	posts, bytes := 0, 0
	h.mu.Lock()
	defer h.mu.Unlock()
	h.shaky = nil
	for i := range rs[:min(len(rs), routeRecords)] {
		results = append(results, h.route(&rs[i], now))
		posts += min(results[i].matched, few*len(rs[i].Targets))
		if bytes += len(rs[i].Data); posts >= routePosts || bytes >= routeBytes {
			break
		}
	}
	if h.progress != nil {
		close(h.progress)
		h.progress = nil
	}
	return results
}

// route indexes a record and queues it for every connection that it is for. The lock is held.
func (h *Hub) route(rec *Record, now time.Time) routing {
	deadline := time.Time{}
	if rec.TTL > 0 {
		deadline = rec.Time.Add(rec.TTL - h.skew)
	}
	hd := hold(rec, h.history.newest()+1, h.history.floor.epoch, deadline)
	h.history.add(hd)
	r := routing{rec: &hd.Record, nonce: rec.Nonce, known: true}
	switch {
	case rec.Type == typeRefuse:
		r.matched = h.refuseLocked(rec)
	case deadline.IsZero() || now.Before(deadline):
		r.matched, r.known = h.conns.post(hd)
	}
	return r
}

// counted is told how many connections a record was for, when route could not say it.
func (h *Hub) counted(hd *held, matched int) {
	h.pub.routed(h.explain([]routing{{rec: &hd.Record, nonce: hd.Nonce, matched: matched, known: true}}))
}

// explain says why nobody matched, where somebody waits to hear it.
func (h *Hub) explain(results []routing) []routing {
	if !h.pub.wonders(results) {
		return results
	}
	for i := range results {
		if r := &results[i]; r.wonders {
			r.hint = h.hint(r.rec)
		}
	}
	return results
}

// skip goes on at the log's end after a gap, and tells every connection.
func (h *Hub) skip(ctx context.Context, cause error) error {
	st, err := h.broker.State(ctx)
	if err != nil {
		return fmt.Errorf("%w, and the log's state: %w", cause, err)
	}
	if !validEpoch(st.Epoch) {
		return fmt.Errorf("the broker's epoch %q is not 1 to %d letters and digits", st.Epoch, maxEpoch)
	}
	if h.startAgain(st) {
		h.pub.skipped(st.Floor)
		return nil
	}
	h.log.Error(logGap, keyError, cause, keyEpoch, st.Epoch)
	floor, known := cursor{epoch: st.Epoch, pos: st.Last}, st.Last.IsZero()
	for rec, err := range h.broker.Read(ctx, st.Last, st.Last) {
		if known = err == nil; known {
			floor.tag = tagOf(rec.Nonce)
		}
	}
	h.tellOfGap(floor, known)
	h.readSkipped(ctx)
	h.pub.skipped(floor.pos)
	return nil
}

// maxStarts is how often the hub begins to read the log at its oldest record. A log that drops faster than it is read is
// then followed from its end.
const maxStarts = 10

// startAgain begins anew with what the log holds now, when it has dropped records before the hub has read it for the
// first time: a full log drops all the time. No stream is served yet, so nobody has missed anything.
func (h *Hub) startAgain(st State) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.starts++; h.starts > maxStarts || h.warmLocked() {
		return false
	}
	floor := cursor{epoch: st.Epoch, pos: st.Floor}
	h.rebaseRefusals(floor, st.Last)
	h.history.reset(floor, st.Floor.IsZero())
	h.warm, h.owed = st.Last, Position{}
	return true
}

// tellOfGap forgets what was indexed, and has every connection go on at the log's end.
func (h *Hub) tellOfGap(end cursor, known bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rebaseRefusals(end, end.pos)
	h.history.reset(end, known)
	h.warm, h.owed = end.pos, Position{}
	at := h.history.newest()
	for _, c := range h.conns.all {
		if h.opts.Snapshot != nil {
			h.counts.gap(gapSkipped)
			c.stream.End(engine.Gapped, h.farewell(ReasonGap))
			continue
		}
		block := h.gapBlock(gapSkipped, h.history.cursorAt(at).String())
		h.engine.Post(c.stream, engine.NewFrame(at, time.Time{}, engine.Encode(func(dst []byte) []byte { return append(dst, block...) })))
	}
}
