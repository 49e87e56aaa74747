package engine

import "time"

// wheel holds the streams that may be silent for the heartbeat interval, by when that may be, in steps of a 64th of it.
// A stream stays where it is however often it is written to: it is looked at then, and goes on to when it may be next.
type wheel struct {
	step  time.Duration
	steps [128]wheelStep // the step of a time is time/step, modulo the length
	at    int64          // the first step that was not looked at
	n     int            // streams
}

type wheelStep struct{ streams []*Stream }

// inWheel is where a stream is in the wheel: an index in a step, both counted from one. Zero is nowhere.
type inWheel struct {
	step  uint8
	index uint32
}

func newWheel(interval time.Duration) wheel {
	return wheel{step: max(interval/64, 1)}
}

// add has the stream looked at in the step before due, which is at most the interval away: a heartbeat is rather early
// than late.
func (w *wheel) add(s *Stream, due time.Duration) {
	step := max(int64(due/w.step)-1, w.at) % int64(len(w.steps))
	st := &w.steps[step]
	st.streams = append(st.streams, s)
	s.inWheel = inWheel{uint8(step) + 1, uint32(len(st.streams))}
	w.n++
}

func (w *wheel) remove(s *Stream) {
	if s.inWheel.step == 0 {
		return
	}
	st := &w.steps[s.inWheel.step-1]
	end := len(st.streams) - 1
	moved := st.streams[end]
	st.streams[s.inWheel.index-1] = moved
	moved.inWheel.index = s.inWheel.index
	st.streams[end] = nil
	if st.streams = st.streams[:end]; cap(st.streams) > 64 && end < cap(st.streams)/4 {
		st.streams = append(make([]*Stream, 0, 2*end), st.streams...)
	}
	s.inWheel = inWheel{}
	w.n--
}

// next returns when there is something to look at; ok is false when there is nothing.
func (w *wheel) next() (due time.Duration, ok bool) {
	if w.n == 0 {
		return 0, false
	}
	for i := range int64(len(w.steps)) {
		if len(w.steps[(w.at+i)%int64(len(w.steps))].streams) > 0 {
			return time.Duration(w.at+i) * w.step, true
		}
	}
	return 0, false
}

// turn takes out the streams that are to be looked at by now, and has each looked at.
func (w *wheel) turn(now time.Duration, look func(*Stream)) {
	last := int64(now / w.step)
	if w.n == 0 {
		w.at = max(w.at, last)
		return
	}
	if last-w.at >= int64(len(w.steps)) {
		w.at = last - int64(len(w.steps)) + 1 // a clock that jumped
	}
	for w.at <= last {
		st := &w.steps[w.at%int64(len(w.steps))]
		w.at++ // first: what goes on to a time this near must not wait for the wheel to come round
		streams := st.streams
		st.streams = nil
		w.n -= len(streams)
		for _, s := range streams {
			s.inWheel = inWheel{}
		}
		for _, s := range streams {
			look(s)
		}
	}
}
