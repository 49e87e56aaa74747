package tidings

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidings-sse/tidings/internal/engine"
	"github.com/tidings-sse/tidings/sse"
)

// Hub tracks connections and routes events to them. It is an [http.Handler] that serves the stream, a [Sender], and,
// through [Hub.API], the HTTP API. Create it with [New]. All its methods may be called concurrently.
type Hub struct {
	Notifier // NotifyClient, NotifyUser, NotifySession, NotifyTopic, Broadcast

	opts   *Options
	log    *slog.Logger
	broker Broker
	owned  bool // the broker is the hub's own, and closed with it
	// authenticates says that the authorizer knows who somebody is.
	authenticates bool
	engine        *engine.Engine
	pub           *publisher
	counts        *counts
	janitor       *janitor
	results       []routing // reused by deliver, which runs once at a time

	lingering atomic.Int64 // refused streams that wait for their notice to arrive

	ctx    context.Context // ends with Close
	stop   context.CancelFunc
	closed chan struct{}  // closed when Close has ended
	wg     sync.WaitGroup // publisher, tail, janitor, hooks, and every stream that is admitted

	// mu orders routing and registration: a record is routed, and a connection registered, under it, so that every
	// connection gets each record either by its replay or live. Nothing under it waits for a connection or the network.
	// It is taken after the publisher's lock, never before it.
	mu       sync.Mutex
	conns    *registry
	history  *history
	state    hubState
	admitted int                 // streams being served or about to be
	attempts *rate[netip.Prefix] // streams, by address
	sends    *rate[sender]       // over HTTP, by who sends

	ofUser       tally[string] // of those, by user
	ofIP         tally[netip.Prefix]
	warm         Position           // what the log held at the start: until it is routed, streams are refused
	salvaging    bool               // what it doesn't hold any more is being read for refusals: until it is, streams are refused
	refusedUntil map[Target]refused // users and sessions that are refused
	skips        int                // since when the refusals that were skipped are being read; 0 while they aren't
	starts       int                // how often reading what it held had to begin again
	progress     chan struct{}      // closed when more was routed; nil when nobody waits for it
	skew         time.Duration      // the log's clock, ahead of ours
	shaky        error              // why the log can't be followed at the moment; nil when it is
	tailing      time.Time          // since when it is; zero while it is not
	owed         Position           // what the log had at owedAt, to be routed by this node
	owedAt       time.Time
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
	h := &Hub{opts: opts, log: opts.Logger, broker: opts.Broker, counts: newCounts(), authenticates: authenticates(opts.Authorizer)}
	if h.broker == nil {
		h.broker = NewMemoryBroker(&MemoryOptions{IdempotencyWindow: opts.IdempotencyWindow})
		h.owned = true
	}
	h.ofUser, h.ofIP = newTally[string](opts.MaxConnectionsPerUser), newTally[netip.Prefix](opts.MaxConnectionsPerIP)
	h.attempts, h.sends = newRate[netip.Prefix](opts.MaxConnectsPerSecondPerIP), newRate[sender](opts.MaxSendsPerSecond)
	h.refusedUntil = make(map[Target]refused)
	h.Notifier = Notifier{h}
	h.closed = make(chan struct{})
	h.ctx, h.stop = context.WithCancel(context.Background())
	asked := time.Now()
	st, err := h.broker.State(h.ctx)
	answered := time.Now()
	if err == nil && !validEpoch(st.Epoch) {
		err = fmt.Errorf("the broker's epoch %q is not 1 to %d letters and digits", st.Epoch, maxEpoch)
	}
	if err != nil {
		h.stop()
		return nil, fmt.Errorf("tidings: state of the log: %w", err)
	}
	h.history = newHistory(st, opts.HoldBytes)
	h.warm = st.Last
	h.skew = skew(0, asked, st.Time, answered)
	h.engine = engine.New(engine.Config{
		MaxEvents: opts.MaxQueuedEvents, MaxBytes: opts.MaxQueuedBytes,
		Heartbeat: opts.HeartbeatInterval, Timeout: opts.ConnectionTimeout,
		Beat: engine.NewFrame(0, time.Time{}, engine.Encode(func(dst []byte) []byte { return append(dst, sse.Heartbeat...) })),
	})
	h.conns = newRegistry(h.engine, h.counted)
	h.pub = newPublisher(h)
	h.janitor = newJanitor(h)
	h.wg.Go(func() { h.pub.run(h.ctx) })
	h.wg.Go(func() { h.tail(h.ctx) })
	h.wg.Go(func() { h.janitor.run(h.ctx) })
	h.salvage(st)
	h.answerPeers()
	return h, nil
}

// Send sends an event: it is checked, appended to the log, and queued for every connection of this node that matches,
// before Send returns. See [Sender].
func (h *Hub) Send(ctx context.Context, e Event) (Receipt, error) {
	s, err := h.submit(e, nil)
	if err == nil {
		var r Receipt
		if r, err = h.pub.wait(ctx, s); err == nil {
			h.counts.sent.Add(1)
			return r, nil
		}
	}
	return Receipt{}, h.sendFailed(err)
}

// submit checks an event and queues it for the log. by is what its sender may do; nil is this program itself.
func (h *Hub) submit(e Event, by *Grant) (*send, error) {
	rec, err := e.record(h.opts)
	if err == nil && h.authenticates {
		err = checkLabels(rec.Targets, rec.Exclude)
	}
	if err == nil && by != nil {
		err = by.restrict(&rec)
	}
	if err != nil {
		return nil, err
	}
	s, err := h.pub.submit(rec)
	if err == nil {
		s.uncounted = by != nil && !by.mayCount(&rec)
	}
	return s, err
}

func (h *Hub) sendFailed(err error) error {
	h.counts.sendFailed(err)
	return fmt.Errorf("tidings: send: %w", err)
}

// epoch returns the name of the log.
func (h *Hub) epoch() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.history.floor.epoch
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
	if h.refusesLocked(j.c.userID, j.c.sessionID) {
		return false, errSignedOut
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
	var queued []*engine.Frame
	for _, n := range numbers {
		if hd := h.history.entry(n).held; c.isFor(hd.Targets, hd.Exclude) {
			queued = append(queued, hd.frame)
			j.events++
		}
	}
	c.stream = h.engine.NewStream(c, j.seen, queued)
	h.conns.add(c, j.keys)
	if c.expiry != nil {
		c.expiry.timer = time.AfterFunc(time.Until(c.expiry.at), func() { c.stream.End(engine.Expired, h.farewell(ReasonExpired)) })
	}
	return true, nil
}

// unregister takes a connection that ended out of the index.
func (h *Hub) unregister(c *conn, r Reason, err error) {
	h.counts.disconnected(r) // first: who is not there any more has been counted
	h.mu.Lock()
	h.conns.remove(c)
	if c.expiry != nil {
		c.expiry.timer.Stop()
	}
	h.mu.Unlock()
	why := []slog.Attr{slog.String(keyReason, string(r)), slog.Duration(keyAfter, time.Since(time.Unix(0, c.connectedAt)))}
	if err != nil {
		why = append(why, slog.Any(keyError, err))
	}
	h.logConn(context.Background(), slog.LevelInfo, logDisconnected, c, why...)
	if h.opts.OnDisconnect == nil {
		h.release(c)
		return
	}
	// Not in this goroutine: it may be the handler's, and the response ends when the handler returns.
	h.wg.Go(func() {
		defer h.release(c)
		<-c.greeted
		h.opts.OnDisconnect(h.describe(c), r, err)
	})
}

// skew returns how far the log's clock is ahead of ours. It was read at some moment between asked and answered, so that
// what is believed is only wrong if it would have been read outside of them: an answer that waits, here or on its way, says
// nothing.
func skew(believed time.Duration, asked, read, answered time.Time) time.Duration {
	return min(max(believed, read.Sub(answered)), read.Sub(asked))
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
	found := h.conns.under(t.key())
	cs := make([]*conn, 0, found.len())
	for c := range found.all {
		if c.has(t) {
			cs = append(cs, c)
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
// They may come back: [Hub.Refuse] keeps them away. The zero Target is refused with [ErrNoTarget].
func (h *Hub) Disconnect(t Target) (int, error) {
	if t.IsZero() {
		return 0, fmt.Errorf("tidings: disconnect: %w", &InvalidError{Field: "target", Reason: "has no condition", Err: ErrNoTarget, Hint: "name a clientId, userId, sessionId or topic"})
	}
	err := t.check("target")
	if err == nil && h.authenticates {
		err = checkLabels([]Target{t}, Target{})
	}
	if err != nil {
		return 0, fmt.Errorf("tidings: disconnect: %w", err)
	}
	cs := h.matching(t)
	for _, c := range cs {
		c.stream.End(engine.Kicked, h.farewell(ReasonKicked))
	}
	return len(cs), nil
}

// Ready reports whether the hub can serve streams: nil, or why not. It has read what the log holds, follows it without
// being more than a few seconds behind, and is not shutting down.
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
	if behind := time.Since(h.owedAt); behind > maxBehind && h.newestPosition().Compare(h.owed) < 0 {
		return fmt.Errorf("%w: this node is %v behind the log", ErrUnavailable, behind.Truncate(time.Second))
	}
	return nil
}

// maxBehind is how far a node may be behind the log and be called ready.
const maxBehind = 5 * time.Second

// newestPosition returns the newest position that was routed. The lock is held.
func (h *Hub) newestPosition() Position { return h.history.cursorAt(h.history.newest()).pos }

func (h *Hub) warmLocked() bool {
	return !h.salvaging && h.newestPosition().Compare(h.warm) >= 0
}

var _ http.Handler = (*Hub)(nil)
