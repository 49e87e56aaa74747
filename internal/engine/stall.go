package engine

import (
	"errors"
	"time"
)

// A stream whose outbox is full is slow, and not just waiting for its turn on the processor or for a packet that was
// lost. Until it is known which, its loop takes no more frames: they would have to be dropped, or queued without a bound.
// It goes on when the stream has caught up by half of its outbox, so that it isn't full again at once, or has ended as slow.
// Everything else goes on meanwhile: other streams are written, begin and end.
const (
	// A full stream is slow when there was no progress for so many turns of the loop that waits for it: 250 ms, and more
	// where the processor is busy, and a healthy peer gets its own turn late. TCP sends what was lost again after 200 ms
	// at the earliest. What the peer makes room for is progress, too: a socket can be written again only when half of what
	// it holds has gone.
	stallTurns = 50
	stallTurn  = 5 * time.Millisecond

	// maxStallTurns bounds what a loop waits for one stream: 2 s. One that reads, but never fast enough, would hold
	// everybody up for ever.
	maxStallTurns = 400

	// stallAfter is how long nothing must have been written for a stream to be slow as soon as its outbox is full, if its
	// peer's window is shut.
	stallAfter = time.Second
)

// A fullStream is one that its loop waits for.
type fullStream struct {
	stream *Stream
	since  time.Duration // of its last progress, as it was when
	still  int           // began to be counted: turns without progress
	turns  int           // that were waited in all

	granted uint64 // by its peer, at the last look
	shut    bool
}

var errOutboxFull = errors.New("its outbox is full and it does not read")

// over reports whether the outbox is over its bounds, after making what room can be made.
func (l *loop) over(s *Stream) bool {
	cfg := &l.engine.cfg
	over := func() bool {
		events, bytes := s.outbox.waiting()
		return events > cfg.MaxEvents || events > 1 && bytes > cfg.MaxBytes
	}
	if over() {
		s.outbox.dropStale()
	}
	return over()
}

// caughtUp reports whether a stream that was full has half of its outbox free.
func (l *loop) caughtUp(s *Stream) bool {
	if s.outbox == nil {
		return true
	}
	cfg := &l.engine.cfg
	events, bytes := s.outbox.waiting()
	return events <= cfg.MaxEvents/2 && (events <= 1 || bytes <= cfg.MaxBytes/2)
}

// wait has the loop wait for a stream that is full.
func (l *loop) wait(s *Stream) {
	w := fullStream{stream: s, since: s.since}
	w.look()
	l.full = append(l.full, w)
}

// look looks at how far the peer has let the stream come, and reports whether that is further than before.
func (w *fullStream) look() (further bool) {
	if w.stream.writer == nil {
		w.shut = true
		return false
	}
	before := w.granted
	w.granted, w.shut = w.stream.writer.window()
	return w.granted > before
}

// judge ends the full streams that are slow, and goes on waiting for the others.
func (l *loop) judge() {
	if len(l.full) == 0 {
		return
	}
	turn := l.now-l.turn >= stallTurn
	if turn {
		l.turn = l.now
	}
	kept := l.full[:0]
	for _, w := range l.full {
		s := w.stream
		if turn && s.outbox != nil {
			s.outbox.dropStale()
		}
		if s.phase >= closing || l.caughtUp(s) {
			continue
		}
		if s.since != w.since {
			w.since, w.still = s.since, 0
		}
		if turn {
			w.still++
			w.turns++
			if w.look() {
				w.still = 0
			}
		}
		if w.still >= stallTurns && !l.over(s) {
			s.waited = true
			continue // there is room: something was superseded, has expired, or was written before it got stuck
		}
		if s.waited || w.still >= stallTurns || w.turns >= maxStallTurns || s.parked && w.shut && l.now-s.since >= stallAfter {
			l.finish(s, Slow, errOutboxFull)
			continue
		}
		kept = append(kept, w)
	}
	clear(l.full[len(kept):])
	l.full = kept
}
