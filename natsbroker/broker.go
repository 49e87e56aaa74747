package natsbroker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidings-sse/tidings"
)

// Broker is a log on NATS JetStream. It is created by [Connect] or [Embed]. All its methods may be called concurrently.
type Broker struct {
	opts   Options
	log    *slog.Logger
	nc     *nats.Conn
	js     jetstream.JetStream
	server *embedded      // nil where the servers are somebody else's
	want   streamSettings // what the stream must be like, and is made like
	alone  bool           // nobody else appends to this log

	ctx  context.Context // ends with Close
	stop context.CancelFunc

	floor floor // set before the log is used

	turn   chan struct{} // 1: holds a token while an Append is under way
	keys   *keyring      // guarded by turn
	packer packer        // guarded by turn
	atomic bool          // guarded by turn: whether several messages may be published as one

	blocks *cache
	counts counts
	peers  peers

	mu     sync.Mutex // guards what follows
	stated identity   // what State said last
	high   high
	clock  reading // of the log's clock
	tails  map[*tail]struct{}
	hole   hole
	left   map[tidings.Position]mark
	denied error // what the servers last said this node may not do
	closed bool
}

var (
	_ tidings.Broker   = (*Broker)(nil)
	_ tidings.Salvager = (*Broker)(nil)
)

// Log messages and keys.
const (
	logNATS         = "nats"
	logServer       = "nats-server"
	logDisconnected = "the connection to the log was lost"
	logReconnected  = "the log is connected again"
	logEnded        = "the connection to the log has ended for good: start this program again"
	logCreated      = "a new log was begun"
	logGone         = "the log's stream is gone: a new one is begun, and every client is told of a gap"
	logLimits       = "the log's limits are changed"
	logTail         = "following the log again"
	logWaiting      = "waiting for the log"
	logHole         = "the log's files lack events that were acknowledged: every client that comes back from before them is told of a gap"
	logUnsynced     = "the machine stopped before the log was synced, and its end may be lost: every client that comes back from before now is told of a gap"
	logRebuild      = "the index of the log's files is made anew: the program was not stopped in order, or they were changed"
	logJoined       = "a node of the cluster is connected"
	logLeft         = "a node of the cluster is not connected any more"
	logNoMajority   = "no other node of the cluster is connected: nothing can be sent, and no stream begins, until one is"
	logRefusedNode  = "a node was refused at --cluster-listen"
	logRefusesUs    = "a node of the cluster refuses this one: its secret is another one"
	logEmpty        = "the log holds nothing any more, though its newest event is not too old: every client that comes back is told of a gap"
	logTooLarge     = "an answer to another node is larger than the NATS servers take (max_payload), and is not given"

	keyError  = "error"
	keyStream = "stream"
	keyURL    = "url"
	keyFrom   = "from"
	keyTo     = "to"
	keyReason = "reason"
	keyFor    = "for"
	keyBytes  = "bytes"

	keyMissing = "missing" // messages
	keyRemedy  = "remedy"

	keyPeer      = "peer"
	keyConnected = "connected" // other nodes
	keyOf        = "of"
)

// Connect opens the log on NATS servers that are there, and creates its stream if need be. An existing stream that is not
// as it must be is an error that says what to do: it is never changed. The error is an [*tidings.InvalidError] for options
// that can't work.
func Connect(ctx context.Context, o ConnectOptions) (*Broker, error) {
	opts, err := o.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("natsbroker: options: %w", err)
	}
	dial, err := o.dial()
	if err != nil {
		return nil, fmt.Errorf("natsbroker: options: %w", err)
	}
	b := newBroker(opts, or(o.Replicas, 1))
	if err := b.open(ctx, o.URL, dial); err != nil {
		b.stop()
		return nil, fmt.Errorf("natsbroker: %s: %w", redact(o.URL), err)
	}
	return b, nil
}

func newBroker(opts Options, replicas int) *Broker {
	b := &Broker{
		opts: opts, log: opts.Logger, want: settings(&opts, replicas), atomic: true,
		turn: make(chan struct{}, 1), keys: newKeyring(opts.IdempotencyWindow), blocks: newCache(), left: make(map[tidings.Position]mark), tails: make(map[*tail]struct{}),
	}
	b.ctx, b.stop = context.WithCancel(context.Background())
	return b
}

// open connects, checks what is there, and has the stream ready.
func (b *Broker) open(ctx context.Context, url string, dial []nats.Option) error {
	var err error
	if b.nc, err = nats.Connect(url, append(dial, b.handlers()...)...); err != nil {
		return connectError(err)
	}
	if b.js, err = jetstream.New(b.nc, jetstream.WithDefaultTimeout(requestTimeout)); err == nil {
		err = b.checkUntil(ctx, time.Now().Add(answerWithin))
	}
	if err == nil {
		err = b.settle(ctx)
	}
	if err == nil {
		err = b.peers.join(b)
	}
	if err != nil {
		b.nc.Close()
		return err
	}
	b.nc.SetClosedHandler(func(nc *nats.Conn) {
		if b.ctx.Err() == nil { // else it was closed here
			b.log.Error(logEnded, keyError, nc.LastError())
		}
	})
	return nil
}

// checkUntil checks what is there, again while it may only be that the servers have not chosen a leader yet. For the other
// nodes of a cluster in this process it waits as long as ctx lets it.
func (b *Broker) checkUntil(ctx context.Context, end time.Time) error {
	var m *members
	if b.server != nil {
		m = b.server.members
	}
	for waited := false; ; waited = true {
		err := b.check(ctx)
		if err == nil || !errors.Is(err, tidings.ErrUnavailable) || m == nil && time.Now().After(end) {
			return err
		}
		if m != nil {
			m.waitsFor(err)
		} else if !waited {
			b.log.Warn(logWaiting, keyError, err)
		}
		if !pause(ctx, 10*retryPause) {
			return fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		}
	}
}

// answerWithin is how long servers that are connected to may take, at the start, until the log can be used.
const answerWithin = 30 * time.Second

// How long NATS may take to answer a question, and to create or change a stream, for which its servers must agree.
// nats.go waits for as long as a context lets it, and in a cluster that has no leader yet nobody answers.
const (
	requestTimeout = 2 * time.Second
	createTimeout  = 10 * time.Second
)

// handlers are the connection's options that are no choice of anybody.
func (b *Broker) handlers() []nats.Option {
	return []nats.Option{
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // credentials that are refused now may be good again later, as after a key was changed
		nats.ReconnectWait(200 * time.Millisecond),
		nats.ReconnectJitter(100*time.Millisecond, 200*time.Millisecond),
		nats.PingInterval(2 * time.Second), nats.MaxPingsOutstanding(2), // a server that is paused is left after 6 s
		// What is published while there is no connection fails at once. Else it would be sent later, after its sender was
		// told that it was not.
		nats.ReconnectBufSize(-1),
		nats.NoEcho(), // of what the nodes tell each other; the log comes by a consumer
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil { // else it was closed here
				b.counts.disconnects.Add(1)
				b.log.Warn(logDisconnected, keyError, err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			b.counts.reconnects.Add(1)
			b.log.Info(logReconnected, keyURL, nc.ConnectedUrlRedacted())
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if errors.Is(err, nats.ErrPermissionViolation) {
				b.mu.Lock()
				b.denied = err
				b.mu.Unlock()
			}
			b.log.Warn(logNATS, keyError, err)
		}),
	}
}

// until returns a context that ends with ctx or with Close, and says of which.
func (b *Broker) until(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	if b.ctx.Err() != nil {
		cancel(tidings.ErrClosed) // AfterFunc would do it a little later
	}
	stop := context.AfterFunc(b.ctx, func() { cancel(tidings.ErrClosed) })
	return ctx, func() { stop(); cancel(nil) }
}

// cause returns why ctx ended, or else err.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// Close ends all calls and lets go of the connection, and of the server where it runs in this process. The log stays.
func (b *Broker) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	b.mu.Unlock()
	b.stop()
	b.peers.leave()
	b.turn <- struct{}{} // what is being published is answered or given up
	b.nc.Close()
	<-b.turn
	if b.server != nil {
		return b.server.close()
	}
	return nil
}

// unavailable says that trying again later may help.
func unavailable(err error) error {
	if errors.Is(err, tidings.ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", tidings.ErrUnavailable, err)
}

// notStored marks err as one after which it is certain that nothing was stored.
func notStored(err error) error {
	if errors.Is(err, tidings.ErrNotStored) {
		return err
	}
	return fmt.Errorf("%w (%w)", err, tidings.ErrNotStored)
}

// counts are what Stats is made from.
type counts struct {
	disconnects, reconnects  atomic.Uint64
	appends, messages        atomic.Uint64
	records, failed, unknown atomic.Uint64
	own                      atomic.Uint64 // messages that a tail delivered as this node's, when they were acknowledged
	restarts                 atomic.Uint64 // of tails
	last, read               atomic.Uint64 // the newest message that is known of, and that a tail delivered
	latency                  histogram     // of appends, in microseconds
}
