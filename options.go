package tidings

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// Options configure a hub. The zero value works and is safe. A zero field has the default that its comment gives.
type Options struct {
	// Broker is the log. The hub does not close a broker that it was given. Default: a [MemoryBroker] of its own.
	Broker Broker

	// Authorizer decides who may listen, send and manage over HTTP. Default: streams are anonymous (a userId or
	// sessionId in the query is refused), and nobody may do anything else over HTTP. See [TrustQuery].
	Authorizer Authorizer

	// Logger gets each connect, disconnect, refusal and fault, with reason and identity, never a payload.
	// Default: slog.Default().
	Logger *slog.Logger

	// HeartbeatInterval is how long a stream may be silent before a comment is sent. Default 30 s.
	HeartbeatInterval time.Duration
	// ConnectionTimeout is how long a peer may leave what was written unacknowledged before its connection is given
	// up. It must be longer than HeartbeatInterval. Default 60 s.
	ConnectionTimeout time.Duration
	// RetryInterval is how long clients are told to wait before they reconnect, on average: each is told something
	// between half and one and a half of it, so that they don't all come at once. Default 3 s.
	RetryInterval time.Duration

	// MaxConnections bounds the streams of this hub. Past it they are refused for now, never displaced.
	// Default 100,000.
	MaxConnections int
	// MaxConnectionsPerUser and MaxConnectionsPerIP bound the streams of one user, and of one address, likewise. An
	// address is that of the TCP peer ([net/http.Request.RemoteAddr]); IPv6 addresses with the same /64 prefix are one.
	// Anonymous streams count for no user, and what has no IP, such as a Unix socket, for no address.
	// Default: no bound. Behind a proxy all streams have its address, and a load test may have one user, so a number
	// that is right for everyone doesn't exist.
	MaxConnectionsPerUser int
	MaxConnectionsPerIP   int
	// MaxConnectsPerSecondPerIP bounds how often one address may try to open a stream, on average and at once, whatever
	// comes of it. Past it, tries are refused for now before the Authorizer is asked. Default: no bound, for the same
	// reason.
	MaxConnectsPerSecondPerIP int
	// MaxSendsPerSecond bounds the events that one sender ([Grant.Name]) sends over HTTP, on average and at once. Past it,
	// a single event is answered with 429, and many in one request are read no faster. Default: no bound.
	MaxSendsPerSecond int
	// MaxTopics bounds the topics of one stream. Default 100.
	MaxTopics int
	// MaxTargets bounds the targets of one event. Default 100.
	MaxTargets int
	// MaxEventBytes bounds the data of one event, and the body of a request that sends one, or one line of many.
	// Default 1 MiB.
	MaxEventBytes int
	// MaxQueuedEvents and MaxQueuedBytes bound what waits for one stream whose client doesn't read. Past either, the
	// stream ends with reason "slow", and resumes from history. Default 1,024 and 1 MiB.
	MaxQueuedEvents int
	MaxQueuedBytes  int
	// MaxReplayEvents and MaxReplayBytes bound what one stream is sent when it resumes. Past either it gets a gap.
	// Default 10,000 and 16 MiB.
	MaxReplayEvents int
	MaxReplayBytes  int64
	// HoldBytes bounds the records that are held in memory to replay them; older ones are read from the broker.
	// Default 32 MiB.
	HoldBytes int64

	// IdempotencyWindow is how long a receipt is kept for a repeated send with its key, and how long the default
	// Broker remembers keys. Default 2 minutes.
	IdempotencyWindow time.Duration

	// DrainWindow is the time over which Shutdown ends the streams, evenly, so that they don't all reconnect at once.
	// Default 5 s.
	DrainWindow time.Duration

	// Snapshot, if set, returns the state that a connection must begin with, as events: they are sent first, when
	// there is no cursor and after a gap, and the client need not fetch anything. Targets and keys of these events
	// are ignored. It is called before anything is written, with the request's context; an error refuses the stream
	// for now. Events that are sent while it runs follow the snapshot.
	Snapshot func(context.Context, Connection) ([]Event, error)

	// OnConnect is called when a connection is registered, and OnDisconnect once after it ended and OnConnect has
	// returned. err is what the network said, if anything. They are called without a lock held, and the stream doesn't
	// wait for them; Close and Shutdown do.
	OnConnect    func(Connection)
	OnDisconnect func(c Connection, r Reason, err error)
}

const (
	defaultHistoryEvents     = 100_000
	defaultHistoryBytes      = 64 << 20
	defaultHistoryAge        = 24 * time.Hour
	defaultIdempotencyWindow = 2 * time.Minute
)

// withDefaults returns a copy with every field set, or an error for what can't work.
func (o *Options) withDefaults() (*Options, error) {
	var d Options
	if o != nil {
		d = *o
	}
	if err := d.checkNegative(); err != nil {
		return nil, err
	}
	d.HeartbeatInterval = positive(d.HeartbeatInterval, 30*time.Second)
	d.ConnectionTimeout = positive(d.ConnectionTimeout, 60*time.Second)
	d.RetryInterval = positive(d.RetryInterval, 3*time.Second)
	d.MaxConnections = positive(d.MaxConnections, 100_000)
	d.MaxTopics = positive(d.MaxTopics, 100)
	d.MaxTargets = positive(d.MaxTargets, 100)
	d.MaxEventBytes = positive(d.MaxEventBytes, 1<<20)
	d.MaxQueuedEvents = positive(d.MaxQueuedEvents, 1024)
	d.MaxQueuedBytes = positive(d.MaxQueuedBytes, 1<<20)
	d.MaxReplayEvents = positive(d.MaxReplayEvents, 10_000)
	d.MaxReplayBytes = positive(d.MaxReplayBytes, 16<<20)
	d.HoldBytes = positive(d.HoldBytes, 32<<20)
	d.IdempotencyWindow = positive(d.IdempotencyWindow, defaultIdempotencyWindow)
	d.DrainWindow = positive(d.DrainWindow, 5*time.Second)
	if d.Logger == nil {
		d.Logger = slog.Default()
	}
	if d.Authorizer == nil {
		d.Authorizer = anonymous{}
	}
	if d.HeartbeatInterval >= d.ConnectionTimeout {
		return nil, &InvalidError{
			Field:  "HeartbeatInterval",
			Reason: fmt.Sprintf("is %v, not below the ConnectionTimeout of %v", d.HeartbeatInterval, d.ConnectionTimeout),
			Hint:   "a silent connection would be given up before it is probed: make the interval at most half of the timeout",
		}
	}
	return &d, nil
}

func (o *Options) checkNegative() error {
	for _, f := range [...]struct {
		field string
		value int64
	}{
		{"HeartbeatInterval", int64(o.HeartbeatInterval)},
		{"ConnectionTimeout", int64(o.ConnectionTimeout)},
		{"RetryInterval", int64(o.RetryInterval)},
		{"MaxConnections", int64(o.MaxConnections)},
		{"MaxConnectionsPerUser", int64(o.MaxConnectionsPerUser)},
		{"MaxConnectionsPerIP", int64(o.MaxConnectionsPerIP)},
		{"MaxConnectsPerSecondPerIP", int64(o.MaxConnectsPerSecondPerIP)},
		{"MaxSendsPerSecond", int64(o.MaxSendsPerSecond)},
		{"MaxTopics", int64(o.MaxTopics)},
		{"MaxTargets", int64(o.MaxTargets)},
		{"MaxEventBytes", int64(o.MaxEventBytes)},
		{"MaxQueuedEvents", int64(o.MaxQueuedEvents)},
		{"MaxQueuedBytes", int64(o.MaxQueuedBytes)},
		{"MaxReplayEvents", int64(o.MaxReplayEvents)},
		{"MaxReplayBytes", o.MaxReplayBytes},
		{"HoldBytes", o.HoldBytes},
		{"IdempotencyWindow", int64(o.IdempotencyWindow)},
		{"DrainWindow", int64(o.DrainWindow)},
	} {
		if f.value < 0 {
			return &InvalidError{Field: f.field, Reason: fmt.Sprintf("is negative (%d)", f.value), Hint: "leave it zero for the default"}
		}
	}
	return nil
}
