package engine

import (
	"time"

	"github.com/tidings-sse/tidings/internal/ring"
)

// timeline is streams for which something is due, each as long after it was added as every other one: so they are in order.
type timeline struct{ entries ring.Ring[timelineEntry] }

type timelineEntry struct {
	stream *Stream
	due    time.Duration
}

func (t *timeline) add(s *Stream, due time.Duration) { t.entries.Push(timelineEntry{s, due}) }

// next returns when the first is due.
func (t *timeline) next() (due time.Duration, ok bool) {
	if t.entries.Len() == 0 {
		return 0, false
	}
	return t.entries.At(0).due, true
}

// expire takes out those that are due, and calls do with each.
func (t *timeline) expire(now time.Duration, do func(*Stream)) {
	for t.entries.Len() > 0 && t.entries.At(0).due <= now {
		do(t.entries.Pop().stream)
	}
}
