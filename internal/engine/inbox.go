package engine

import (
	"context"
	"sync"
)

// An item is something posted to a loop that keeps its order: frames, and who is to get them from now on.
type item struct {
	stream *Stream // one of the two, but for a checkpoint
	group  *Group
	frame  *Frame
	only   func(Owner) bool
	tally  *tally

	join       bool   // the stream joins the group
	end        Reason // the stream ends, with the frame as its notice
	checkpoint bool   // frame is what streams with a last number below stale are given
	walk       bool   // and now
	stale      uint64 // of a checkpoint
}

// How far a loop may be behind: past either, [Engine.Room] waits. The loop takes all of it at once, so there may be as much
// again that it is at work on.
const (
	maxInboxItems = 1024
	maxInboxBytes = 4 << 20
)

// inbox is how other goroutines reach a loop: items, in order, and functions that the loop calls between them, which have
// an order of their own and never wait behind items.
type inbox struct {
	wake chan struct{} // 1: whether the loop is to look; sent to only while it sleeps

	mu     sync.Mutex // guards what follows
	items  []item
	bytes  int // of the items' frames
	ops    []func()
	free   chan struct{} // closed when the items were taken; nil when nobody waits
	asleep bool
	closed bool
}

// post adds an item.
func (in *inbox) post(it item) {
	size := 0
	if it.frame != nil {
		size = len(it.frame.Block())
	}
	in.mu.Lock()
	in.items = append(in.items, it)
	in.bytes += size
	in.rouse()
	in.mu.Unlock()
}

// do has the loop call f.
func (in *inbox) do(f func()) {
	in.mu.Lock()
	in.ops = append(in.ops, f)
	in.rouse()
	in.mu.Unlock()
}

// rouse wakes the loop if it sleeps. The lock is held.
func (in *inbox) rouse() {
	if in.asleep {
		in.asleep = false
		in.wake <- struct{}{}
	}
}

// room returns when the items are within their bounds, or ctx ends.
func (in *inbox) room(ctx context.Context) error {
	for {
		in.mu.Lock()
		if len(in.items) < maxInboxItems && in.bytes < maxInboxBytes {
			in.mu.Unlock()
			return nil
		}
		if in.free == nil {
			in.free = make(chan struct{})
		}
		free := in.free
		in.mu.Unlock()
		select {
		case <-free:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// takeItems returns all items, and keeps the spare slice for the next ones.
func (in *inbox) takeItems(spare []item) []item {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.items) == 0 {
		return spare
	}
	items := in.items
	in.items, in.bytes = spare, 0
	if in.free != nil {
		close(in.free)
		in.free = nil
	}
	return items
}

// takeOps is takeItems for functions.
func (in *inbox) takeOps(spare []func()) []func() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.ops) == 0 {
		return spare
	}
	ops := in.ops
	in.ops = spare
	return ops
}

// sleeps reports whether the loop may sleep, and has it woken from then on. held says that items are to wait.
func (in *inbox) sleeps(held bool) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.asleep = len(in.ops) == 0 && (held || len(in.items) == 0) && !in.closed
	return in.asleep
}

// awake says that the loop sleeps no more, whether it was woken or not.
func (in *inbox) awake() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.asleep = false
	select {
	case <-in.wake:
	default:
	}
}

// close ends the loop, once it has done what was posted.
func (in *inbox) close() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.closed = true
	in.rouse()
}

// isOver reports whether the loop was closed, and all that was posted taken.
func (in *inbox) isOver() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.closed && len(in.ops) == 0 && len(in.items) == 0
}
