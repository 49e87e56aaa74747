package engine

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Config bounds and paces every stream of an engine. All fields but Loops are set by the caller.
type Config struct {
	MaxEvents int           // frames queued for one stream
	MaxBytes  int           // bytes queued for one stream; one frame may be larger
	Heartbeat time.Duration // how long a stream may be silent
	Timeout   time.Duration // how long a write may make no progress, and a peer leave what was written unacknowledged
	Beat      *Frame        // what is written on a stream that was silent for that long
	Loops     int           // how many loops there are; zero is one for every two processors that Go uses
}

// Engine owns the loops that serve streams. It may be used concurrently. What is posted to it by one goroutine, or under
// one lock, reaches each stream in that order.
type Engine struct {
	cfg      Config
	loops    []*loop
	everyone *Group
	nextLoop atomic.Uint32 // that a stream is given
	started  time.Time
	endings  endings

	running sync.WaitGroup // loops
	telling sync.WaitGroup // the goroutine that tells owners of ends
	writers sync.WaitGroup // conn writers until their connections are closed, and their goroutines
	batches sync.Pool      // *[]byte, for what is written in another goroutine than the loop's
}

// Counts are totals since the start, for all streams.
type Counts struct {
	Events      atomic.Uint64 // frames with a number, written
	Bytes       atomic.Uint64 // bytes of the streams, without what HTTP and TLS add
	Writes      atomic.Uint64
	Beats       atomic.Uint64 // heartbeats queued
	Checkpoints atomic.Uint64 // checkpoints queued
}

// New returns an engine without streams, whose loops run until Close.
func New(cfg Config) *Engine {
	if cfg.Loops == 0 {
		// The other half is for who publishes, for requests, and for the kernel's part of the network.
		cfg.Loops = (runtime.GOMAXPROCS(0) + 1) / 2
	}
	e := &Engine{
		cfg:     cfg,
		started: time.Now(),
		batches: sync.Pool{New: func() any { return new([]byte) }},
	}
	cfg.Beat.beat = true
	e.everyone = e.NewGroup()
	for i := range cfg.Loops {
		l := newLoop(e, i)
		e.loops = append(e.loops, l)
		e.running.Go(l.run)
	}
	e.endings.grown.L = &e.endings.mu
	e.telling.Go(e.endings.run)
	return e
}

// Counts returns the totals as they are now.
func (e *Engine) Counts() *Counts {
	sum := new(Counts)
	for _, l := range e.loops {
		sum.Events.Add(l.counts.Events.Load())
		sum.Bytes.Add(l.counts.Bytes.Load())
		sum.Writes.Add(l.counts.Writes.Load())
		sum.Beats.Add(l.counts.Beats.Load())
		sum.Checkpoints.Add(l.counts.Checkpoints.Load())
	}
	return sum
}

// Everyone returns the group of all streams that have joined and not ended.
func (e *Engine) Everyone() *Group { return e.everyone }

// Room returns when no loop is more than its inbox behind, or ctx ends. Who posts waits for it before, and not under a
// lock: that is how a loop that can't keep up slows down the senders, and not one stream the others.
func (e *Engine) Room(ctx context.Context) error {
	for _, l := range e.loops {
		if err := l.inbox.room(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Post queues a frame for one stream.
func (e *Engine) Post(s *Stream, f *Frame) { s.loop.inbox.post(item{stream: s, frame: f}) }

// PostGroup queues a numbered frame for the members that the group has now. only, if it is not nil, leaves out those for whose
// owners it is false; it is called by the loops.
func (e *Engine) PostGroup(g *Group, f *Frame, only func(Owner) bool) {
	for _, l := range e.loops {
		l.inbox.post(item{group: g, frame: f, only: only})
	}
}

// Sweep queues a numbered frame for all of the streams and members for whose owners only is true, each once, and calls
// done with how many these are, from one of the loops.
func (e *Engine) Sweep(streams []*Stream, groups []*Group, f *Frame, only func(Owner) bool, done func(matched int)) {
	t := &tally{done: done}
	t.left.Store(int64(len(streams) + len(groups)*len(e.loops)))
	if t.left.Load() == 0 {
		e.loops[0].inbox.do(func() { done(0) })
	}
	for _, s := range streams {
		s.loop.inbox.post(item{stream: s, frame: f, only: only, tally: t})
	}
	for _, g := range groups {
		for _, l := range e.loops {
			l.inbox.post(item{group: g, frame: f, only: only, tally: t})
		}
	}
}

// Checkpoint says that f takes the place of the next heartbeat wherever the last numbered frame that was written is
// below stale. now has it written at once on streams that have nothing queued. All frames with numbers up to that of f
// must have been posted.
func (e *Engine) Checkpoint(stale uint64, f *Frame, now bool) {
	f.beat = true
	for _, l := range e.loops {
		l.inbox.post(item{frame: f, stale: stale, checkpoint: true, walk: now})
	}
}

// Stop aborts every stream, and those that join or are served after it.
func (e *Engine) Stop(r Reason) {
	for _, l := range e.loops {
		l.inbox.do(func() { l.stop(r) })
	}
}

// Close ends the loops and returns when nothing of the engine runs any more. All streams must have been served and have
// ended, or end because of Stop.
func (e *Engine) Close() {
	e.writers.Wait()
	for _, l := range e.loops {
		l.inbox.close()
	}
	e.running.Wait()
	e.endings.close() // now: the loops may have had ends to tell of
	e.telling.Wait()
}

// clock is the time since the engine began, by the monotonic clock.
func (e *Engine) clock() time.Duration { return time.Since(e.started) }

const (
	// batchBytes is how much goes into one write: enough to fill several TLS records and a socket's unsent bound,
	// little enough that a stalled stream's batch doesn't hold much.
	batchBytes = 64 << 10

	// batchEvents is how many frames a stream that is not parked has queued at most: with as many, they are written at
	// once. So only a stream whose peer doesn't read can have a full outbox.
	batchEvents = 128

	// Linger is how long the last notice is left to arrive. Some clients lose what comes together with the end.
	Linger = 100 * time.Millisecond

	// endWithin is how long a stream that is ending may take to write what is pending.
	endWithin = 5 * time.Second
)
