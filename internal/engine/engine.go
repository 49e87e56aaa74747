package engine

import (
	"sync"
	"sync/atomic"
	"time"
)

// Config bounds and paces every stream of an engine. All fields are set by the caller.
type Config struct {
	MaxEvents int           // frames queued for one stream
	MaxBytes  int           // bytes queued for one stream; one frame may be larger
	Heartbeat time.Duration // how long a stream may be silent
	Timeout   time.Duration // how long a write may make no progress, and a peer leave what was written unacknowledged
}

// Engine owns the goroutines that serve streams. It may be used concurrently.
type Engine struct {
	cfg     Config
	wg      sync.WaitGroup // goroutines of conn writers
	scratch sync.Pool      // *[]byte of batchBytes, to gather several frames for one write
	counts  Counts
}

// Counts are totals since the start, for all streams.
type Counts struct {
	Events atomic.Uint64 // frames with a number, written
	Bytes  atomic.Uint64 // bytes of the streams, without what HTTP and TLS add
	Writes atomic.Uint64
	Beats  atomic.Uint64 // writes of what the owner gave for a silent stream
}

// New returns an engine without streams.
func New(cfg Config) *Engine {
	return &Engine{
		cfg:     cfg,
		scratch: sync.Pool{New: func() any { return new(make([]byte, 0, batchBytes)) }},
	}
}

// Counts returns the totals, which go on counting.
func (e *Engine) Counts() *Counts { return &e.counts }

// Wait returns when no conn writer is left. The streams must be ending, and no new ones be served.
func (e *Engine) Wait() { e.wg.Wait() }

const (
	// batchBytes is how much goes into one write: enough to fill several TLS records and a socket's unsent bound,
	// little enough that a stalled stream's batch doesn't hold much.
	batchBytes = 64 << 10

	// A stream whose outbox is full is slow, and not just waiting for its turn on the processor or for a packet that
	// was lost (TCP sends it again after 200 ms at the earliest), when one write was stuck for so many turns of a
	// sender that waits for it: 250 ms, and more where the processor is busy.
	stallTurns = 50
	stallTurn  = 5 * time.Millisecond

	// maxStallTurns bounds what senders wait for one stream in all, until it has caught up by half of its outbox: 5 s.
	// One that reads, but never fast enough, would hold everybody up for ever.
	maxStallTurns = 1000

	// stallAfter is how long a write must have been stuck for its stream to be slow as soon as its outbox is full.
	stallAfter = time.Second

	// Linger is how long the last notice is left to arrive. Some clients lose what comes together with the end.
	Linger = 100 * time.Millisecond

	// endWithin is how long a stream that is ending may take to write what is pending.
	endWithin = 5 * time.Second
)

// Reason is why a stream ended.
type Reason string

// The reasons. Closed and Lost are the peer's doing, the others this side's.
const (
	Closed  Reason = "closed"  // the peer ended it in order
	Lost    Reason = "lost"    // the network ended it, or the peer vanished
	Slow    Reason = "slow"    // the peer didn't read, and its outbox was full, or a write took too long
	Drained Reason = "drained" // the hub is shutting down
	Expired Reason = "expired" // what allowed the stream has expired
	Kicked  Reason = "kicked"  // it was disconnected on purpose
	Gapped  Reason = "gap"     // events were lost for it, and its state must be fetched anew
	Stopped Reason = "stopped" // the hub was closed
)
