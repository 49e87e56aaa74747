package engine

import (
	"slices"

	"github.com/tidings-sse/tidings/internal/ring"
)

// flushSome writes a slice of the streams on the list.
func (l *loop) flushSome(on *readyList) {
	for range min(on.len(), writeSlice) {
		l.flush(on.pop())
	}
}

// flush writes what the stream has queued, until that is all, or its writer takes no more for now.
func (l *loop) flush(s *Stream) {
	if s.phase == ended || s.parked {
		return
	}
	var events, bytes, writes uint64
	var failed error
	for s.outbox.len() > 0 && failed == nil && !s.parked {
		frames := s.outbox.next(batchBytes)
		if len(frames) == 0 {
			break // all were stale
		}
		n, parked, err := s.writer.write(l.batch.gather(frames, s.chunked)[s.outbox.done:])
		if n > 0 {
			e, last := s.outbox.wrote(n, s.chunked)
			events, bytes, writes = events+e, bytes+uint64(n), writes+1
			if last > 0 {
				s.last.Store(last)
			}
			s.wrote, s.waited = l.now, false
		}
		if s.parked, failed = parked, err; parked && (n > 0 || s.since == 0) {
			s.since = l.engine.clock()
		}
	}
	if s.outbox != nil && s.outbox.len() == 0 {
		l.shelf.put(s.outbox)
		s.outbox = nil
	}
	s.queued.Store(int32(s.outbox.len()))
	if !s.parked {
		s.since = 0
	}
	if writes > 0 {
		l.count(s, events, bytes, writes)
	}
	if failed != nil {
		l.lose(s, failed)
		return
	}
	if s.phase == closing && s.outbox.len() == 0 && !s.parked {
		l.linger.add(s, l.engine.clock()+Linger)
	}
}

// count adds to what the stream and all streams have carried.
func (l *loop) count(s *Stream, events, bytes, writes uint64) {
	s.events.Store(s.events.Load() + events)
	s.bytes.Store(s.bytes.Load() + bytes)
	l.counts.Events.Add(events)
	l.counts.Bytes.Add(bytes)
	l.counts.Writes.Add(writes)
}

// writable goes on with a stream whose writer was busy, or ends it with what became of the write.
func (l *loop) writable(s *Stream, err error) {
	if s.phase == ended {
		return
	}
	if err != nil {
		l.lose(s, err)
		return
	}
	s.parked = false
	s.wrote = l.now // what the writer took has gone out now
	l.flush(s)
}

// A batch is what was gathered for one write. Streams that have the same frames queued share it.
type batch struct {
	frames  []*Frame
	chunked bool
	bytes   []byte
}

// gather returns the frames as one piece, which is good until the next call.
func (b *batch) gather(frames []*Frame, chunked bool) []byte {
	if len(frames) == 1 {
		return frames[0].form(chunked)
	}
	if b.chunked == chunked && slices.Equal(b.frames, frames) {
		return b.bytes
	}
	clear(b.frames)
	b.frames, b.chunked, b.bytes = append(b.frames[:0], frames...), chunked, b.bytes[:0]
	for _, f := range frames {
		b.bytes = append(b.bytes, f.form(chunked)...)
	}
	return b.bytes
}

// A readyList is the streams that have something to write, in the order in which they got it.
type readyList struct {
	kind    lists
	streams ring.Ring[*Stream]
}

// lists says on which lists a stream is.
type lists uint8

const (
	onUrgent lists = 1 << iota
	onReady
)

func (r *readyList) len() int { return r.streams.Len() }

func (r *readyList) add(s *Stream) {
	if s.listed&r.kind == 0 {
		s.listed |= r.kind
		r.streams.Push(s)
	}
}

func (r *readyList) pop() *Stream {
	s := r.streams.Pop()
	s.listed &^= r.kind
	return s
}
