package engine

import (
	"context"
	"net"
	"time"
)

// What the tests outside of the package need of its inside.

// The bounds that the tests count with.
const (
	BatchBytes    = batchBytes
	MaxUnread     = maxUnread
	EndWithin     = endWithin
	StallTurn     = stallTurn
	Stall         = stallTurns * stallTurn
	MaxStall      = maxStallTurns * stallTurn
	StallAfter    = stallAfter
	MaxInboxItems = maxInboxItems
	MaxInboxBytes = maxInboxBytes
	PostSlice     = postSlice
	WriteSlice    = writeSlice
)

// Settle returns when the stream's loop has done what was posted before, and written of it to the stream what it can.
func (e *Engine) Settle(s *Stream) {
	done := make(chan struct{})
	nobody := func(Owner) bool { return false }
	e.Sweep([]*Stream{s}, nil, s.loop.engine.cfg.Beat, nobody, func(int) { s.loop.inbox.do(func() { close(done) }) })
	<-done
}

// Writer is a writer of a test, which its stream's loop calls as it does any other.
type Writer struct {
	Write func(b []byte) (n int, parked bool, err error)
	Close func(abort bool) // nil does nothing

	Window func() (granted uint64, shut bool) // nil knows nothing
}

func (w Writer) write(b []byte) (n int, parked bool, err error) { return w.Write(b) }

func (w Writer) window() (granted uint64, shut bool) {
	if w.Window == nil {
		return 0, true
	}
	return w.Window()
}

func (w Writer) close(abort bool) {
	if w.Close != nil {
		w.Close(abort)
	}
}

// ServeWriter serves the stream to a writer of a test.
func (s *Stream) ServeWriter(w Writer, chunked bool) {
	s.loop.inbox.do(func() { s.loop.attach(s, w, chunked) })
}

// Writable says that the writer takes more.
func (s *Stream) Writable() { s.writable(nil) }

// WindowOf returns what is known of the window of a connection's peer.
func WindowOf(conn net.Conn) (granted uint64, shut bool) { return windowOf(conn) }

// Outbox is the queue of a stream.
type Outbox = outbox

func (o *outbox) Len() int                     { return o.len() }
func (o *outbox) Bytes() int                   { return o.bytes }
func (o *outbox) Done() int                    { return o.done }
func (o *outbox) Cap() int                     { return cap(o.frames) }
func (o *outbox) Waiting() (events, bytes int) { return o.waiting() }
func (o *outbox) Push(f *Frame)                { o.push(f) }
func (o *outbox) Next(maxBytes int) []*Frame   { return o.next(maxBytes) }
func (o *outbox) Wrote(n int, chunked bool) (events int, last uint64) {
	e, l := o.wrote(n, chunked)
	return int(e), l
}
func (o *outbox) DropStale() { o.dropStale() }

// Shelf keeps outboxes that are empty.
type Shelf = shelf

func (s *shelf) Take() *Outbox { return s.take() }
func (s *shelf) Put(o *Outbox) { s.put(o) }

// HasOutbox reports whether the stream has one, while its loop does nothing.
func (s *Stream) HasOutbox() bool { return s.outbox != nil }

// Batch is what was gathered for one write.
type Batch = batch

func (b *batch) Gather(frames []*Frame, chunked bool) []byte { return b.gather(frames, chunked) }

// Wheel says which streams may be silent.
type Wheel = wheel

func NewWheel(interval time.Duration) *Wheel { w := newWheel(interval); return &w }

func (w *wheel) Step() time.Duration                          { return w.step }
func (w *wheel) Len() int                                     { return w.n }
func (w *wheel) Add(s *Stream, due time.Duration)             { w.add(s, due) }
func (w *wheel) Remove(s *Stream)                             { w.remove(s) }
func (w *wheel) Next() (time.Duration, bool)                  { return w.next() }
func (w *wheel) Turn(now time.Duration, look func(s *Stream)) { w.turn(now, look) }

// Timeline is streams for which something is due.
type Timeline = timeline

func (t *timeline) Add(s *Stream, due time.Duration)           { t.add(s, due) }
func (t *timeline) Next() (time.Duration, bool)                { return t.next() }
func (t *timeline) Expire(now time.Duration, do func(*Stream)) { t.expire(now, do) }

// Inbox is how a loop is reached.
type Inbox = inbox

func (in *inbox) Post(f *Frame)                  { in.post(item{frame: f}) }
func (in *inbox) Take() int                      { return len(in.takeItems(nil)) }
func (in *inbox) Room(ctx context.Context) error { return in.room(ctx) }
