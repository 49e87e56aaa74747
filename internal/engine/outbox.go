package engine

// outbox is the bounded queue of one stream. A stream whose outbox is empty has none: a nil outbox is an empty one.
type outbox struct {
	frames []*Frame
	head   int // frames before it were written
	done   int // bytes of the frame at head that were written
	bytes  int // of the frames' blocks
}

func (o *outbox) len() int {
	if o == nil {
		return 0
	}
	return len(o.frames) - o.head
}

// waiting returns how much there is behind the frame that is being written, if one is.
func (o *outbox) waiting() (events, bytes int) {
	if o == nil {
		return 0, 0
	}
	if o.done > 0 {
		return o.len() - 1, o.bytes - len(o.frames[o.head].Block())
	}
	return o.len(), o.bytes
}

func (o *outbox) push(f *Frame) {
	if len(o.frames) == cap(o.frames) && o.head > len(o.frames)/2 {
		// A queue that never runs empty must not grow with all it has ever held.
		o.keep(o.frames[:copy(o.frames, o.frames[o.head:])])
	}
	o.frames = append(o.frames, f)
	o.bytes += len(f.Block())
}

// next returns the frames to be written now, after dropping those that are stale: as many as have maxBytes together, and
// one at least, if there is one. The slice is good until the next push.
func (o *outbox) next(maxBytes int) []*Frame {
	size := 0
	for i := o.head; i < len(o.frames); i++ {
		f := o.frames[i]
		if f.stale() && !(i == o.head && o.done > 0) {
			o.dropStale()
			return o.next(maxBytes)
		}
		if size += len(f.Block()); size > maxBytes && i > o.head {
			return o.frames[o.head:i]
		}
	}
	return o.frames[o.head:]
}

// wrote drops the n bytes that were written. It returns how many events are now written whole, and the number of the last
// numbered frame among them.
func (o *outbox) wrote(n int, chunked bool) (events, last uint64) {
	for n > 0 {
		f := o.frames[o.head]
		left := len(f.form(chunked)) - o.done
		if n < left {
			o.done += n
			break
		}
		n -= left
		o.done = 0
		o.bytes -= len(f.Block())
		o.frames[o.head] = nil
		o.head++
		if f.number > 0 {
			last = f.number
			if !f.beat {
				events++
			}
		}
	}
	return events, last
}

// dropStale makes room by dropping what need not be written any more. A frame that is partly written must be, whole.
func (o *outbox) dropStale() {
	kept := o.frames[:0]
	for i, f := range o.frames[o.head:] {
		if f.stale() && !(i == 0 && o.done > 0) {
			o.bytes -= len(f.Block())
		} else {
			kept = append(kept, f)
		}
	}
	o.keep(kept)
}

// keep makes kept, which is the beginning of frames, all there is.
func (o *outbox) keep(kept []*Frame) {
	clear(o.frames[len(kept):])
	o.frames, o.head = kept, 0
}

// A shelf keeps outboxes that are empty for the next stream that needs one.
type shelf struct{ outboxes []*outbox }

const (
	maxShelf       = 1024 // outboxes, of
	maxShelfFrames = 256  // frames at most
)

func (s *shelf) take() *outbox {
	if n := len(s.outboxes); n > 0 {
		o := s.outboxes[n-1]
		s.outboxes = s.outboxes[:n-1]
		return o
	}
	return &outbox{frames: make([]*Frame, 0, 4)}
}

func (s *shelf) put(o *outbox) {
	if len(s.outboxes) == maxShelf || cap(o.frames) > maxShelfFrames {
		return
	}
	clear(o.frames[o.head:])
	*o = outbox{frames: o.frames[:0]}
	s.outboxes = append(s.outboxes, o)
}
