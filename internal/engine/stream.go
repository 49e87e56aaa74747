package engine

import (
	"sync/atomic"
	"time"
)

// Owner is whom a stream belongs to.
type Owner interface {
	// Ended is called once, after the last write, when the connection is closed or about to be. It is not called by a
	// loop, and may block; other streams' ends wait for it.
	Ended(Reason, error)
}

// Stream is one connection: its outbox and its state, which are its loop's. It joins, which has frames reach it, and is
// served, which has them written, in either order; frames wait until then. Its methods may be called concurrently, but
// ServeConn or ServeResponse is called once, and must be, so that the owner is told of the end.
type Stream struct {
	loop  *loop
	owner Owner

	// Written by the loop only, and read by anyone.
	last, events, bytes atomic.Uint64
	queued              atomic.Int32

	// What follows belongs to the loop, and before the stream has joined to whoever made it.

	phase   phase
	chunked bool // frames are written as chunks
	parked  bool // it waits for its writer, or for having one
	listed  lists
	inWheel inWheel       // when it is looked at
	at      int32         // its place among the members of everyone
	waited  bool          // its loop has waited for it, in vain, since there was progress
	writer  writer        // nil until it is served
	outbox  *outbox       // nil while it is empty
	mark    uint64        // the number of the last frame that was posted to it
	since   time.Duration // while it is parked: when that began, or there was progress
	wrote   time.Duration // when something was written last
	places  []place       // in groups but everyone
	end     *ending       // nil until it is to end
}

// ending is how and why a stream ends.
type ending struct {
	reason Reason
	err    error
}

// Usage is what a stream has carried.
type Usage struct {
	Last   uint64 // number of the last numbered frame that was written
	Events uint64 // numbered frames written
	Bytes  uint64
	Queued int // frames in the outbox
}

type phase uint8

const (
	waiting phase = iota // not served yet
	live
	closing // writes what is queued, its notice the last, then lingers
	ended
)

// A writer carries a stream's bytes to where they go. It adds no rules of its own. It is called by the loop.
type writer interface {
	// write takes the first n bytes of b, which it must not keep. It never blocks. parked says that the loop is to write
	// nothing more until it is told, by loop.writable, that it can.
	write(b []byte) (n int, parked bool, err error)
	// window says what the network knows of the peer: granted is how many bytes it has taken or said it has room for, and
	// grows only if the peer reads; shut is whether it was asked for more room since, in vain and more than once. They are
	// 0 and true where nothing is known.
	window() (granted uint64, shut bool)
	// close ends the connection, truncated. abort says that what was written need not arrive, and that a write under
	// way must fail now. It is called once, and doesn't block.
	close(abort bool)
}

// NewStream returns a stream that counts last as the last numbered frame it has written, and has the frames queued.
func (e *Engine) NewStream(owner Owner, last uint64, queued []*Frame) *Stream {
	l := e.loops[e.nextLoop.Add(1)%uint32(len(e.loops))]
	s := &Stream{loop: l, owner: owner, parked: true, at: -1, since: e.clock()}
	s.last.Store(last)
	if len(queued) > 0 {
		s.outbox = new(outbox)
	}
	for _, f := range queued {
		s.outbox.push(f)
	}
	s.queued.Store(int32(s.outbox.len()))
	return s
}

// Join has the stream get what is posted to everyone and to the groups from now on, and to itself. It is called once.
func (s *Stream) Join(groups ...*Group) {
	in := &s.loop.inbox
	in.post(item{stream: s, group: s.loop.engine.everyone, join: true})
	for _, g := range groups {
		s.JoinGroup(g)
	}
}

// JoinGroup has a stream that has joined get what is posted to the group, too.
func (s *Stream) JoinGroup(g *Group) { s.loop.inbox.post(item{stream: s, group: g, join: true}) }

// End has the stream write what was posted before and then the notice, if it is not nil, and end a moment later. It
// returns at once. Of several calls, and of the peer's own end, the first counts. A stream that is ending takes no more frames.
func (s *Stream) End(r Reason, notice *Frame) {
	s.loop.inbox.post(item{stream: s, frame: notice, end: r})
}

// Abort ends the stream at once, even in the middle of a frame.
func (s *Stream) Abort(r Reason) { s.finish(r, nil) }

// finish has the loop end the stream now.
func (s *Stream) finish(r Reason, err error) {
	s.loop.inbox.do(func() { s.loop.finish(s, r, err) })
}

// writable tells the loop that the writer can go on, or what became of what it took.
func (s *Stream) writable(err error) {
	s.loop.inbox.do(func() { s.loop.writable(s, err) })
}

// lose has the loop end the stream because of what the network said.
func (s *Stream) lose(err error) {
	s.loop.inbox.do(func() { s.loop.lose(s, err) })
}

// Usage returns what the stream has carried so far.
func (s *Stream) Usage() Usage {
	return Usage{Last: s.last.Load(), Events: s.events.Load(), Bytes: s.bytes.Load(), Queued: int(s.queued.Load())}
}
