package engine

import "time"

// outbox is the bounded queue of one stream. It holds no memory while it is empty.
type outbox struct {
	frames []*Frame
	head   int // frames before it were taken
	bytes  int // of the frames' blocks
}

func (o *outbox) len() int { return len(o.frames) - o.head }

func (o *outbox) push(f *Frame) {
	if len(o.frames) == cap(o.frames) && o.head > len(o.frames)/2 {
		// A queue that never runs empty must not grow with all it has ever held.
		o.keep(o.frames[:copy(o.frames, o.frames[o.head:])])
	}
	o.frames = append(o.frames, f)
	o.bytes += len(f.Block())
}

// take moves frames to batch, dropping those that are stale: as many as fit into maxBytes, and one at least.
func (o *outbox) take(batch []*Frame, maxBytes int, now time.Time) []*Frame {
	size := 0
	for ; o.head < len(o.frames); o.head++ {
		f := o.frames[o.head]
		if !f.stale(now) {
			if size += len(f.Block()); size > maxBytes && len(batch) > 0 {
				break
			}
			batch = append(batch, f)
		}
		o.bytes -= len(f.Block())
		o.frames[o.head] = nil
	}
	if o.head == len(o.frames) {
		*o = outbox{}
	}
	return batch
}

// dropStale makes room by dropping what need not be written any more.
func (o *outbox) dropStale(now time.Time) {
	kept := o.frames[:0]
	for _, f := range o.frames[o.head:] {
		if f.stale(now) {
			o.bytes -= len(f.Block())
		} else {
			kept = append(kept, f)
		}
	}
	o.keep(kept)
}

// keep makes kept, which is the beginning of frames, all there is.
func (o *outbox) keep(kept []*Frame) {
	if len(kept) == 0 {
		*o = outbox{}
		return
	}
	clear(o.frames[len(kept):])
	o.frames, o.head = kept, 0
}
