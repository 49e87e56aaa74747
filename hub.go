package tidings

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/tidings-sse/tidings/internal/engine"
	"github.com/tidings-sse/tidings/sse"
)

// Hub tracks connections and routes events to them. It is an [http.Handler] that serves the stream, a [Sender], and,
// through [Hub.API], the HTTP API. Create it with [New]. All its methods may be called concurrently.
type Hub struct {
	Notifier // NotifyClient, NotifyUser, NotifySession, NotifyTopic, Broadcast

	opts    *Options
	log     *slog.Logger
	broker  Broker
	owned   bool // the broker is the hub's own, and closed with it
	engine  *engine.Engine
	pub     *publisher
	counts  *counts
	janitor *janitor

	heartbeat *engine.Frame

	ctx  context.Context // ends with Close
	stop context.CancelFunc
	wg   sync.WaitGroup // publisher, tail, janitor, hooks, and every stream that is admitted

	// mu orders routing and registration: a record is routed, and a connection registered, under it, so that every
	// connection gets each record either by its replay or live. Nothing under it waits for a connection or the network.
	// It is taken after the publisher's lock, never before it.
	mu       sync.Mutex
	conns    *registry
	history  *history
	state    hubState
	admitted int           // streams being served or about to be
	warm     Position      // what the log held at the start: until it is routed, streams are refused
	starts   int           // how often reading what it held had to begin again
	progress chan struct{} // closed when more was routed; nil when nobody waits for it
	skew     time.Duration // the log's clock, ahead of ours
	shaky    error         // why the log can't be followed at the moment; nil when it is
}

type hubState uint8

const (
	hubOpen hubState = iota
	hubDraining
	hubClosed
)

// New returns a hub that has begun to follow its log. nil options are the defaults. The error is an [*InvalidError] for
// options that can't work, or what the broker said.
//
// The hub runs until [Hub.Close] or [Hub.Shutdown].
func New(o *Options) (*Hub, error) {
	opts, err := o.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("tidings: options: %w", err)
	}
	h := &Hub{opts: opts, log: opts.Logger, broker: opts.Broker, counts: newCounts(), conns: newRegistry()}
	if h.broker == nil {
		h.broker = NewMemoryBroker(&MemoryOptions{IdempotencyWindow: opts.IdempotencyWindow})
		h.owned = true
	}
	h.Notifier = Notifier{h}
	h.heartbeat = engine.NewFrame(0, time.Time{}, func(dst []byte) []byte { return append(dst, sse.Heartbeat...) })
	h.ctx, h.stop = context.WithCancel(context.Background())
	st, err := h.broker.State(h.ctx)
	if err == nil && !validEpoch(st.Epoch) {
		err = fmt.Errorf("the broker's epoch %q is not 1 to %d letters and digits", st.Epoch, maxEpoch)
	}
	if err != nil {
		h.stop()
		return nil, fmt.Errorf("tidings: state of the log: %w", err)
	}
	h.history = newHistory(st, opts.HoldBytes)
	h.warm = st.Last
	h.skew = time.Until(st.Time)
	h.engine = engine.New(engine.Config{
		MaxEvents: opts.MaxQueuedEvents, MaxBytes: opts.MaxQueuedBytes,
		Heartbeat: opts.HeartbeatInterval, Timeout: opts.ConnectionTimeout,
	})
	h.pub = newPublisher(h)
	h.janitor = newJanitor(h)
	h.wg.Go(func() { h.pub.run(h.ctx) })
	h.wg.Go(func() { h.tail(h.ctx) })
	h.wg.Go(func() { h.janitor.run(h.ctx) })
	return h, nil
}

// Send sends an event: it is checked, appended to the log, and queued for every connection of this node that matches,
// before Send returns. See [Sender].
func (h *Hub) Send(ctx context.Context, e Event) (Receipt, error) {
	s, err := h.submit(e)
	if err == nil {
		var r Receipt
		if r, err = h.pub.wait(ctx, s); err == nil {
			h.counts.sent.Add(1)
			return r, nil
		}
	}
	return Receipt{}, h.sendFailed(err)
}

// submit checks an event and queues it for the log.
func (h *Hub) submit(e Event) (*send, error) {
	rec, err := e.record(h.opts)
	if err != nil {
		return nil, err
	}
	return h.pub.submit(rec)
}

func (h *Hub) sendFailed(err error) error {
	h.counts.sendFailed(err)
	return fmt.Errorf("tidings: send: %w", err)
}

// tail follows the log until ctx ends.
func (h *Hub) tail(ctx context.Context) {
	for pause := time.Duration(0); ; {
		started := time.Now()
		err := h.broker.Tail(ctx, h.position(), h.deliver)
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
	for i := range rs {
		h.route(&rs[i])
	}
	h.janitor.grown(len(rs))
	return nil
}

// route indexes a record and queues it for every connection that it is for.
func (h *Hub) route(rec *Record) {
	now := time.Now()
	var full []*engine.Stream
	h.mu.Lock()
	h.shaky = nil
	deadline := time.Time{}
	if rec.TTL > 0 {
		deadline = rec.Time.Add(rec.TTL - h.skew)
	}
	hd := hold(rec, h.history.newest()+1, h.history.floor.epoch, deadline)
	h.history.add(hd)
	matched := 0
	if deadline.IsZero() || now.Before(deadline) {
		matched = h.conns.choose(rec, hd.number, func(c *conn) {
			if c.stream.Post(hd.frame) {
				full = append(full, c.stream)
			}
		})
	}
	if h.progress != nil {
		close(h.progress)
		h.progress = nil
	}
	h.mu.Unlock()

	for _, s := range full {
		s.Relieve()
	}
	h.counts.routed.Add(1)
	hint := ""
	if matched == 0 && h.pub.awaits(rec.Nonce) {
		hint = h.hint(rec)
	}
	h.pub.routed(rec.Nonce, matched, hint)
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
	h.history.reset(cursor{epoch: st.Epoch, pos: st.Floor}, st.Floor.IsZero())
	h.warm = st.Last
	return true
}

// tellOfGap forgets what was indexed, and has every connection go on at the log's end.
func (h *Hub) tellOfGap(end cursor, known bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.history.reset(end, known)
	h.warm = end.pos
	at := h.history.newest()
	for _, m := range h.conns.under(key{kind: kindEveryone}) {
		if h.opts.Snapshot != nil {
			h.counts.gap(gapSkipped)
			m.conn.stream.End(engine.Gapped, h.farewell(ReasonGap))
			continue
		}
		block := h.gapBlock(gapSkipped, h.history.cursorAt(at).String())
		m.conn.stream.Post(engine.NewFrame(at, time.Time{}, func(dst []byte) []byte { return append(dst, block...) }))
	}
}

// eventID returns the ID of the record at a position.
func (h *Hub) eventID(p Position, nonce uint64) string {
	h.mu.Lock()
	epoch := h.history.floor.epoch
	h.mu.Unlock()
	return cursor{epoch: epoch, pos: p, tag: tagOf(nonce)}.String()
}

// register adds the connection to the index if nothing that it is to get lies between its place and now but what is
// held in memory: that is queued for it, and all that comes follows. Otherwise it returns false, and the rest must be
// written first.
func (h *Hub) register(j *join) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state != hubOpen {
		return false, errDraining
	}
	const most = 64 // events copied under the lock
	numbers, _, more := h.history.since(j.at, j.keys, h.logTime(), most, int64(h.opts.MaxQueuedBytes))
	if more || j.at+1 < h.history.first {
		return false, nil
	}
	for _, n := range numbers {
		if h.history.entry(n).held == nil {
			return false, nil
		}
	}
	c := j.c
	c.stream = h.engine.NewStream(c, j.seen)
	for _, n := range numbers {
		if hd := h.history.entry(n).held; c.isFor(hd.Targets, hd.Exclude) {
			c.stream.Post(hd.frame)
			j.events++
		}
	}
	h.conns.add(c)
	if !c.expires.IsZero() {
		c.expiry = time.AfterFunc(time.Until(c.expires), func() { c.stream.End(engine.Expired, h.farewell(ReasonExpired)) })
	}
	return true, nil
}

// admit makes room for a stream, which must be released, or says why there is none now.
func (h *Hub) admit() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.state == hubClosed:
		return errStopped
	case h.state == hubDraining:
		return errDraining
	case !h.warmLocked():
		return errStarting
	case h.admitted >= h.opts.MaxConnections:
		return errFull
	}
	h.admitted++
	h.wg.Add(1)
	return nil
}

// release gives back the room of a stream.
func (h *Hub) release() {
	h.mu.Lock()
	h.admitted--
	h.mu.Unlock()
	h.wg.Done()
}

// unregister takes a connection that ended out of the index.
func (h *Hub) unregister(c *conn, r Reason, err error) {
	h.counts.disconnected(r) // first: who is not there any more has been counted
	h.mu.Lock()
	h.conns.remove(c)
	if c.expiry != nil {
		c.expiry.Stop()
	}
	h.mu.Unlock()
	attrs := append(c.logAttrs(), slog.String(keyReason, string(r)), slog.Duration(keyAfter, time.Since(c.connectedAt)))
	if err != nil {
		attrs = append(attrs, slog.Any(keyError, err))
	}
	h.log.LogAttrs(context.Background(), slog.LevelInfo, logDisconnected, attrs...)
	if h.opts.OnDisconnect == nil {
		h.release()
		return
	}
	// Not in this goroutine: it may be the handler's, and the response ends when the handler returns.
	h.wg.Go(func() {
		defer h.release()
		<-c.greeted
		h.opts.OnDisconnect(h.describe(c), r, err)
	})
}

// beat returns what to write on an idle stream: a checkpoint, if its cursor has become old, or a heartbeat.
func (h *Hub) beat(last uint64, silent bool) *engine.Frame {
	if last >= h.janitor.stale.Load() {
		if silent {
			return h.heartbeat
		}
		return nil
	}
	h.mu.Lock()
	number := h.history.newest()
	id := h.history.cursorAt(number).String()
	h.mu.Unlock()
	h.counts.checkpoints.Add(1)
	return engine.NewFrame(number, time.Time{}, func(dst []byte) []byte {
		return sse.AppendBlock(dst, typeCheckpoint, []byte("{}"), id)
	})
}

// logTime returns the log's clock. The lock is held.
func (h *Hub) logTime() time.Time { return time.Now().Add(h.skew) }

// Connections yields the live connections of this node that meet the target; all, for the zero Target. No lock is held
// while it runs: connections that come or go meanwhile may be missing.
func (h *Hub) Connections(t Target) iter.Seq[Connection] {
	return func(yield func(Connection) bool) {
		for _, c := range h.matching(t) {
			if !yield(h.describe(c)) {
				return
			}
		}
	}
}

// matching returns the live connections that meet the target.
func (h *Hub) matching(t Target) []*conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	ms := h.conns.under(t.key())
	cs := make([]*conn, 0, len(ms))
	for _, m := range ms {
		if m.conn.meets(t) {
			cs = append(cs, m.conn)
		}
	}
	return cs
}

// describe returns the connection as it is now.
func (h *Hub) describe(c *conn) Connection {
	d, u := c.describe(), c.stream.Usage()
	d.Events, d.Bytes, d.Queued = u.Events, u.Bytes, u.Queued
	h.mu.Lock()
	defer h.mu.Unlock()
	if u.Last+1 >= h.history.first {
		d.LastEventID = h.history.cursorAt(u.Last).String()
	}
	return d
}

// Disconnect ends the live connections of this node that meet the target, with reason "kicked", and returns how many.
// They may come back: to keep them away is the Authorizer's business. The zero Target is refused with [ErrNoTarget].
func (h *Hub) Disconnect(t Target) (int, error) {
	if t.IsZero() {
		return 0, fmt.Errorf("tidings: disconnect: %w", &InvalidError{Field: "target", Reason: "has no condition", Err: ErrNoTarget, Hint: "name a clientId, userId, sessionId or topic"})
	}
	if err := t.check("target"); err != nil {
		return 0, fmt.Errorf("tidings: disconnect: %w", err)
	}
	cs := h.matching(t)
	for _, c := range cs {
		c.stream.End(engine.Kicked, h.farewell(ReasonKicked))
	}
	return len(cs), nil
}

// Ready reports whether the hub can serve streams: nil, or why not. It has read what the log holds, follows it, and is
// not shutting down.
func (h *Hub) Ready() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.state == hubClosed:
		return ErrClosed
	case h.state == hubDraining:
		return errDraining
	case h.shaky != nil:
		return fmt.Errorf("%w: %w", ErrUnavailable, h.shaky)
	case !h.warmLocked():
		return errStarting
	}
	return nil
}

func (h *Hub) warmLocked() bool {
	return h.history.cursorAt(h.history.newest()).pos.Compare(h.warm) >= 0
}

// Shutdown drains the hub: new streams are refused, so that a load balancer's clients go elsewhere, and live ones are
// ended over [Options.DrainWindow], each with what was queued for it; they come back and resume. Events can be sent until
// the last stream has ended. Then the hub is closed. If ctx ends first, the rest is closed at once, and its error
// returned.
//
// Call it before the http.Server's own Shutdown, which doesn't know of hijacked connections and would wait for the others.
func (h *Hub) Shutdown(ctx context.Context) error {
	h.mu.Lock()
	if h.state == hubClosed {
		h.mu.Unlock()
		return ErrClosed
	}
	h.state = hubDraining
	cs := make([]*conn, 0, h.conns.len())
	for _, m := range h.conns.under(key{kind: kindEveryone}) {
		cs = append(cs, m.conn)
	}
	h.mu.Unlock()
	h.log.Info(logDraining, keyConnections, len(cs))
	err := h.drain(ctx, cs)
	return errors.Join(err, h.Close())
}

// drain ends the connections evenly over the window, and waits until they have ended.
func (h *Hub) drain(ctx context.Context, cs []*conn) error {
	const step = 20 * time.Millisecond
	steps := max(1, int(h.opts.DrainWindow/step))
	tick := time.NewTicker(step)
	defer tick.Stop()
	done := 0
	for i := range steps {
		end := ((i+1)*len(cs) + steps - 1) / steps // rounded up: the first is ended at once
		for _, c := range cs[done:end] {
			c.stream.End(engine.Drained, h.farewell(ReasonDrained))
		}
		if done = end; done == len(cs) {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for h.busy() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (h *Hub) busy() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.admitted > 0
}

// Close ends all streams at once, stops the hub, and returns when nothing of it runs any more. What was sent and not
// answered yet fails. A broker that the hub was given stays open. It must not be called from a hook.
func (h *Hub) Close() error {
	h.mu.Lock()
	if h.state == hubClosed {
		h.mu.Unlock()
		return nil
	}
	h.state = hubClosed
	cs := h.conns.under(key{kind: kindEveryone})
	streams := make([]*engine.Stream, 0, len(cs))
	for _, m := range cs {
		streams = append(streams, m.conn.stream)
	}
	h.mu.Unlock()
	for _, s := range streams {
		s.Abort(engine.Stopped)
	}
	h.stop()
	h.wg.Wait()
	h.engine.Wait()
	h.log.Info(logClosed)
	if h.owned {
		return h.broker.Close()
	}
	return nil
}

var _ http.Handler = (*Hub)(nil)
