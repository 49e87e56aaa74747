package engine

import "time"

// What the tests outside of the package need of its inside.

// Outbox is the queue of a stream.
type Outbox = outbox

func (o *outbox) Len() int      { return o.len() }
func (o *outbox) Bytes() int    { return o.bytes }
func (o *outbox) Cap() int      { return cap(o.frames) }
func (o *outbox) Push(f *Frame) { o.push(f) }
func (o *outbox) Take(maxBytes int, now time.Time) []*Frame {
	return o.take(nil, maxBytes, now)
}
func (o *outbox) DropStale(now time.Time) { o.dropStale(now) }

// The bounds that the tests count with.
const (
	BatchBytes = batchBytes
	MaxUnread  = maxUnread
	EndWithin  = endWithin
	Stall      = stallTurns * stallTurn
	StallAfter = stallAfter
)
