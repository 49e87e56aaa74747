package tidings

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidings-sse/tidings/sse"
)

// Joining: from a client's cursor to a live stream, without a hole and without a duplicate.
//
//  1. Find the cursor in history. Only then is the connection told whether its resume is complete or has a gap.
//  2. Replay what history has after the cursor, straight to the connection, up to near the newest record.
//  3. Register. Under the lock that routing takes, what is left is queued, and everything routed later follows.
//
// An id reaches the client only with or after everything that it acknowledges: see [join.begin].

// What tidings.connected says of the cursor the client came with.
const (
	resumeNone     = "none"     // it had none: the stream begins now
	resumeComplete = "complete" // everything after it follows
	resumeGap      = "gap"      // something after it is lost: tidings.gap follows
)

// Why there is a gap.
const (
	gapUnknown  = "unknown"   // the cursor is not one of Tidings
	gapEpoch    = "epoch"     // the log was lost or recreated
	gapExpired  = "expired"   // history no longer reaches back to it
	gapBeyond   = "beyond"    // it lies beyond the log's end
	gapReplaced = "replaced"  // the log was restored: another event has its place
	gapTooMany  = "too-many"  // more follows it than a stream is sent
	gapSkipped  = "log-ahead" // the log dropped events before this node had read them
)

// aheadWait is how long a cursor from a node that was ahead waits for this one to catch up.
const aheadWait = 3 * time.Second

type join struct {
	hub  *Hub
	c    *conn
	keys []key

	resume string
	reason string // of a gap
	at     uint64 // everything up to this number was written, or is not for the connection
	seen   uint64 // the last number whose id the client has: its cursor
	id     string // of at, when the join began

	events int // replayed
	bytes  int64
}

// begin finds the place to start from.
func (h *Hub) begin(ctx context.Context, c *conn, lastEventID string) (*join, error) {
	j := &join{hub: h, c: c, keys: c.keys(), resume: resumeNone}
	if lastEventID != "" {
		if err := j.locate(ctx, lastEventID); err != nil {
			return nil, err
		}
	}
	if j.resume != resumeComplete {
		h.mu.Lock()
		j.at = h.history.newest()
		j.id = h.history.cursorAt(j.at).String()
		h.mu.Unlock()
	}
	j.seen = j.at
	return j, nil
}

// locate sets the place of a cursor, or the reason of a gap.
func (j *join) locate(ctx context.Context, lastEventID string) error {
	j.resume = resumeGap
	cur, err := parseCursor(lastEventID)
	if err != nil {
		j.reason = gapUnknown
		return nil
	}
	if err := j.hub.await(ctx, cur); err != nil {
		return err
	}
	h := j.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	number, found := h.history.lookup(cur)
	switch newest := h.history.cursorAt(h.history.newest()); {
	case cur.epoch != newest.epoch:
		j.reason = gapEpoch
	case cur.pos.Compare(newest.pos) > 0:
		j.reason = gapBeyond
	case cur.pos.Compare(h.history.floor.pos) < 0, !found && cur.pos == h.history.floor.pos && !h.history.known:
		j.reason = gapExpired
	case !found:
		j.reason = gapReplaced
	default:
		if _, _, more := h.history.since(number, j.keys, h.logTime(), h.opts.MaxReplayEvents, h.opts.MaxReplayBytes); more {
			j.reason = gapTooMany
			return nil
		}
		j.resume, j.at = resumeComplete, number
	}
	return nil
}

// await returns when this node has routed the log up to the cursor, or can't be expected to: the client may come from a
// node that was ahead.
func (h *Hub) await(ctx context.Context, cur cursor) error {
	var timeout <-chan time.Time
	for {
		h.mu.Lock()
		newest := h.history.cursorAt(h.history.newest())
		if cur.epoch != newest.epoch || cur.pos.Compare(newest.pos) <= 0 {
			h.mu.Unlock()
			return nil
		}
		if h.progress == nil {
			h.progress = make(chan struct{})
		}
		progress := h.progress
		h.mu.Unlock()
		if timeout == nil {
			st, err := h.broker.State(ctx)
			if err != nil {
				return errNoLog
			}
			if cur.pos.Compare(st.Last) > 0 {
				return nil // beyond the log's end
			}
			timer := time.NewTimer(aheadWait)
			defer timer.Stop()
			timeout = timer.C
		}
		select {
		case <-progress:
		case <-timeout:
			return errBehind
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// greeting returns what the stream begins with. A connection without a cursor is given one at once, unless a snapshot
// follows, which it would acknowledge. One that resumes keeps its own. After a gap, the gap carries it, on the same
// condition.
func (j *join) greeting(snapshot []byte) []byte {
	b := sse.AppendRetry(nil, j.hub.retryAfter())
	data := mustJSON(struct {
		ClientID     string `json:"clientId"`
		ConnectionID string `json:"connectionId"`
		Resume       string `json:"resume"`
	}{j.c.clientID, j.c.connectionID, j.resume})
	early := j.id
	if j.hub.opts.Snapshot != nil {
		early = ""
	}
	id := ""
	if j.resume == resumeNone {
		id = early
	}
	b = sse.AppendBlock(b, typeConnected, data, id)
	if j.resume == resumeGap {
		b = append(b, j.hub.gapBlock(j.reason, early)...)
	}
	if j.resume != resumeComplete && j.hub.opts.Snapshot != nil {
		b = append(b, snapshot...)
		b = sse.AppendBlock(b, typeCheckpoint, []byte("{}"), j.id)
	}
	return b
}

// snapshot returns the state that the connection begins with, as blocks without an id.
func (j *join) snapshot(ctx context.Context) ([]byte, error) {
	h := j.hub
	if h.opts.Snapshot == nil || j.resume == resumeComplete {
		return nil, nil
	}
	events, err := h.opts.Snapshot(ctx, j.c.describe())
	if err != nil {
		return nil, err
	}
	var b []byte
	for i, e := range events {
		e.Everyone, e.Target, e.Targets, e.Exclude = true, Target{}, nil, Target{}
		rec, err := e.record(h.opts)
		if err != nil {
			return nil, fmt.Errorf("event %d: %w", i, err)
		}
		b = sse.AppendBlock(b, rec.Type, rec.Data, "")
	}
	return b, nil
}

// errGapped ends a replay that has lost events, where the client must come back for a snapshot.
var errGapped = errors.New("events were lost during the replay")

// replay writes what history has after the cursor, and registers the connection.
func (j *join) replay(ctx context.Context, out *output) error {
	for {
		ok, err := j.hub.register(j)
		if ok || err != nil {
			return err
		}
		if err := j.catchUp(ctx, out); err != nil {
			return err
		}
	}
}

// catchUp writes what history has now.
func (j *join) catchUp(ctx context.Context, out *output) error {
	h := j.hub
	h.mu.Lock()
	newest := h.history.newest()
	expired := j.at+1 < h.history.first
	numbers, _, more := h.history.since(j.at, j.keys, h.logTime(), h.opts.MaxReplayEvents-j.events, h.opts.MaxReplayBytes-j.bytes)
	h.mu.Unlock()
	if expired {
		return j.lost(gapExpired, out)
	}
	if more {
		return j.lost(gapTooMany, out)
	}
	for len(numbers) > 0 {
		page := numbers[:min(len(numbers), replayPage)]
		numbers = numbers[len(page):]
		err := j.write(ctx, page, out)
		if errors.Is(err, ErrGap) {
			return j.lost(gapExpired, out)
		}
		if err != nil {
			return err
		}
		j.at = page[len(page)-1]
	}
	j.at = max(j.at, newest)
	return nil
}

// replayPage is how many events are looked up at once: the lock is not held for long.
const replayPage = 128

// write sends one page of events.
func (j *join) write(ctx context.Context, page []uint64, out *output) error {
	if err := j.hub.mayGoOn(j.c); err != nil {
		return err
	}
	hs, err := j.hub.fetch(ctx, page)
	if err != nil {
		return err
	}
	var b []byte
	for _, hd := range hs {
		if hd == nil || !j.c.isFor(hd.Targets, hd.Exclude) {
			continue
		}
		j.events++
		j.bytes += int64(len(hd.Data))
		j.seen = hd.number
		b = append(b, hd.frame.Block()...)
		if len(b) >= replayWrite {
			if err := j.hub.mayGoOn(j.c); err != nil {
				return err
			}
			if err := out.write(b); err != nil {
				return err
			}
			b = b[:0]
		}
	}
	if len(b) == 0 {
		return nil
	}
	return out.write(b)
}

// errExpired ends a replay whose grant has expired.
var errExpired = errors.New("the grant expired during the replay")

// mayGoOn says why a replay must end: a slow one may outlive its grant, or the hub, and its user may be signed out.
func (h *Hub) mayGoOn(c *conn) error {
	if c.expiry != nil && !time.Now().Before(c.expiry.at) {
		return errExpired
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state != hubOpen {
		return errDraining
	}
	if h.refusesLocked(c.userID, c.sessionID) {
		return errSignedOut
	}
	return nil
}

// replayWrite is how many bytes of a replay are gathered for one write.
const replayWrite = 64 << 10

// lost tells the client of a gap in the middle of its replay. The stream goes on from the newest record.
func (j *join) lost(reason string, out *output) error {
	h := j.hub
	if h.opts.Snapshot != nil {
		return errGapped
	}
	h.mu.Lock()
	j.at = h.history.newest()
	j.seen = j.at
	id := h.history.cursorAt(j.at).String()
	h.mu.Unlock()
	j.events, j.bytes = 0, 0
	return out.write(h.gapBlock(reason, id))
}

// A wanted record is one of a replay that may have to be read from the broker.
type wanted struct {
	number uint64
	pos    Position
	tag    uint32
	held   *held
}

// fetch returns the records with these numbers, oldest first. It is nil for one that was superseded meanwhile.
func (h *Hub) fetch(ctx context.Context, numbers []uint64) ([]*held, error) {
	ws := make([]wanted, len(numbers))
	h.mu.Lock()
	epoch := h.history.floor.epoch
	for i, n := range numbers {
		if n < h.history.first {
			h.mu.Unlock()
			return nil, ErrGap
		}
		if e := h.history.entry(n); !e.dead {
			ws[i] = wanted{n, e.pos, e.tag, e.held}
		}
	}
	h.mu.Unlock()
	hs := make([]*held, len(ws))
	for i := 0; i < len(ws); {
		if ws[i].held != nil || ws[i].number == 0 {
			hs[i] = ws[i].held
			i++
			continue
		}
		end := i + 1
		for end < len(ws) && ws[end].held == nil && ws[end].number != 0 && ws[end].number-ws[end-1].number <= readAcross {
			end++
		}
		if err := h.read(ctx, ws[i:end], hs[i:end], epoch); err != nil {
			return nil, err
		}
		i = end
	}
	return hs, nil
}

// readAcross is how many records are read in vain rather than asking the broker once more.
const readAcross = 16

// read gets a run of records from the broker.
func (h *Hub) read(ctx context.Context, ws []wanted, hs []*held, epoch string) error {
	i := 0
	for rec, err := range h.broker.Read(ctx, ws[0].pos, ws[len(ws)-1].pos) {
		if err != nil {
			return err
		}
		if rec.Position == ws[i].pos {
			if tagOf(rec.Nonce) != ws[i].tag {
				return ErrGap
			}
			hs[i] = hold(&rec, ws[i].number, epoch, time.Time{})
			if i++; i == len(ws) {
				return nil
			}
		}
	}
	return fmt.Errorf("a record of the index is not in the log: %w", ErrGap)
}
