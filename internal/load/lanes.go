package load

import (
	"slices"
	"sort"
)

// lanes knows for each stream of a shard which event of each lane comes next, and which have not come. Streams are
// counted from 0 within the shard.
type lanes struct {
	streams   int
	fromFirst bool
	next      [MaxPublishers * int(classes)][]uint64 // by lane and stream; 0: none has come
	base      [MaxPublishers * int(classes)][]uint64 // with fromFirst: the first that came
	holes     map[where][]span
	missing   int64 // sum of the holes
}

// where is a lane of a stream.
type where struct {
	lane   uint16
	stream int32
}

// span is the keys from first up to, but without, end.
type span struct{ first, end uint64 }

// A verdict is what an event was.
type verdict uint8

const (
	inOrder    verdict = iota
	late               // came after a later one
	duplicated         // had come before
)

func newLanes(streams int, fromFirst bool) *lanes {
	return &lanes{streams: streams, fromFirst: fromFirst, holes: map[where][]span{}}
}

func laneOf(publisher int, c Class) int { return publisher*int(classes) + int(c) }

// see counts an event that a stream got. Its stamp must be as ReadPayload accepts it.
func (l *lanes) see(stream int, s Stamp) verdict {
	at := laneOf(s.Publisher, s.Class)
	if l.next[at] == nil {
		l.next[at] = make([]uint64, l.streams)
		if l.fromFirst {
			l.base[at] = make([]uint64, l.streams)
		}
	}
	next := l.next[at][stream]
	if s.Key == next { // nearly always
		l.next[at][stream] = next + 1
		return inOrder
	}
	if next == 0 {
		next = 1
		if l.fromFirst {
			next = s.Key
			l.base[at][stream] = next
		}
	}
	if s.Key >= next {
		if s.Key > next {
			w := where{uint16(at), int32(stream)}
			l.holes[w] = append(l.holes[w], span{next, s.Key})
			l.missing += int64(s.Key - next)
		}
		l.next[at][stream] = s.Key + 1
		return inOrder
	}
	if l.fromFirst && s.Key < l.base[at][stream] || l.fill(where{uint16(at), int32(stream)}, s.Key) {
		return late
	}
	return duplicated
}

// fill takes a key out of the holes, and reports whether it was in one.
func (l *lanes) fill(w where, key uint64) bool {
	spans := l.holes[w]
	i := sort.Search(len(spans), func(i int) bool { return spans[i].end > key })
	if i == len(spans) || spans[i].first > key {
		return false
	}
	l.missing--
	h := spans[i]
	switch {
	case h.first+1 == h.end:
		spans = slices.Delete(spans, i, i+1)
	case h.first == key:
		spans[i].first++
	case h.end == key+1:
		spans[i].end--
	default:
		spans[i].end = key
		spans = slices.Insert(spans, i+1, span{key + 1, h.end})
	}
	if l.holes[w] = spans; len(spans) == 0 {
		delete(l.holes, w)
	}
	return true
}

// forget takes the holes for settled.
func (l *lanes) forget() {
	clear(l.holes)
	l.missing = 0
}

// absent returns how many of a ledger's events a stream has not got: its holes, and unless it is still reading, what was
// sent after its last. member gives the number of the stream's target in each class.
func (l *lanes) absent(stream int, sent *Ledger, member [classes]int, reading bool) int64 {
	var n int64
	for in, targets := range sent.sent {
		at := laneOf(in.publisher, in.class)
		target := member[in.class]
		next := uint64(0)
		if l.next[at] != nil {
			next = l.next[at][stream]
		}
		if next == 0 {
			if l.fromFirst {
				continue // nothing says what it should have begun with
			}
			next = 1
		}
		if last := targets[target]; !reading && last >= next {
			n += int64(last - next + 1)
			n -= sent.doubtfulIn(in, target, span{next, last + 1})
		}
		for _, h := range l.holes[where{uint16(at), int32(stream)}] {
			n += int64(h.end - h.first)
			n -= sent.doubtfulIn(in, target, h)
		}
	}
	return n
}
