package engine

import "sync/atomic"

// Group is a set of streams that frames are posted to with one call, however many they are. Each loop keeps the members
// that are its own.
type Group struct {
	lists []memberList // one for each loop, which owns it
}

type memberList struct{ members []member }

// A member is a stream in a list, and which of the stream's places the list is: each finds the other, so that leaving
// costs the same however long the list is.
type member struct {
	stream *Stream
	place  int32 // everyonePlace, or an index of the stream's places
}

// everyonePlace is the place that every stream has, and keeps apart: it is the only one of most.
const everyonePlace = -1

// A place is where a stream stands in a list of its loop.
type place struct {
	list *memberList
	at   int32
}

// moved is told that the member's place in its list is another one now.
func (m member) moved(at int32) {
	if m.place == everyonePlace {
		m.stream.at = at
	} else {
		m.stream.places[m.place].at = at
	}
}

// NewGroup returns a group without members.
func (e *Engine) NewGroup() *Group { return &Group{lists: make([]memberList, e.cfg.Loops)} }

// join makes the stream a member of the group.
func (s *Stream) join(g *Group) {
	list := &g.lists[s.loop.index]
	at, p := int32(len(list.members)), int32(everyonePlace)
	if g == s.loop.engine.everyone {
		s.at = at
	} else {
		p = int32(len(s.places))
		s.places = append(s.places, place{list, at})
	}
	list.members = append(list.members, member{s, p})
}

// leave takes the stream out of all its groups.
func (s *Stream) leave() {
	if s.at >= 0 {
		s.loop.engine.everyone.lists[s.loop.index].remove(s.at)
	}
	for _, p := range s.places {
		p.list.remove(p.at)
	}
	s.at, s.places = -1, nil
}

// remove takes the member at an index out. The last one takes its place.
func (m *memberList) remove(at int32) {
	end := len(m.members) - 1
	m.members[at] = m.members[end]
	m.members[at].moved(at)
	m.members[end] = member{}
	if m.members = m.members[:end]; cap(m.members) > 64 && end < cap(m.members)/4 {
		m.members = append(make([]member, 0, 2*end), m.members...)
	}
}

// A tally counts what the items of one sweep matched.
type tally struct {
	left    atomic.Int64 // items that are not done
	matched atomic.Int64
	done    func(matched int)
}

func (t *tally) add(n int) {
	t.matched.Add(int64(n))
	if t.left.Add(-1) == 0 {
		t.done(int(t.matched.Load()))
	}
}
