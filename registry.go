package tidings

import "github.com/tidings-sse/tidings/internal/engine"

// registry is the index of live connections: all, and under each key those that have it. What is done with one of them
// takes as long however many there are. It has no lock of its own: the hub's guards it.
type registry struct {
	engine  *engine.Engine
	counted func(hd *held, matched int) // told by a loop how many connections a record was for that post could not say it of
	all     []*conn                     // in no order; each knows its place
	ones    map[key]*conn               // the keys that one connection has, as most do
	many    map[key]*roster             // those that several have, or had until now
}

// A roster is the connections under one key, in no order. Where they are many, they are a group of the engine's, too, which
// is posted to at once; it stays one until the roster is empty.
type roster struct {
	key   key
	first *node
	n     int
	group *engine.Group // nil while they are few
}

// A node is a connection on one roster.
type node struct {
	conn       *conn
	in         *roster
	next, prev *node // on the roster
	other      *node // the connection's next one, on another roster
}

// few is how many connections are looked at, one by one, while a record is routed.
const few = 64

func newRegistry(e *engine.Engine, counted func(*held, int)) *registry {
	return &registry{engine: e, counted: counted, ones: make(map[key]*conn), many: make(map[key]*roster)}
}

// add lists the connection under its keys, and has its stream join. From then on it gets what is routed.
func (r *registry) add(c *conn, keys []key) {
	c.stream.Join()
	c.at = len(r.all)
	r.all = append(r.all, c)
	for _, k := range keys {
		if k.kind == kindEveryone {
			continue
		}
		m := r.many[k]
		if m == nil {
			one := r.ones[k]
			if one == nil {
				r.ones[k] = c
				continue
			}
			delete(r.ones, k)
			m = &roster{key: k}
			r.many[k] = m
			m.add(one)
		}
		m.add(c)
		if m.group == nil && m.n > few {
			m.group = r.engine.NewGroup()
			for c := range m.all {
				c.stream.JoinGroup(m.group)
			}
		}
	}
}

func (m *roster) add(c *conn) {
	n := &node{conn: c, in: m, next: m.first, other: c.nodes}
	if m.first != nil {
		m.first.prev = n
	}
	m.first, c.nodes = n, n
	m.n++
	if m.group != nil {
		c.stream.JoinGroup(m.group)
	}
}

// all yields the connections on the roster. It must not change meanwhile.
func (m *roster) all(yield func(*conn) bool) {
	for n := m.first; n != nil && yield(n.conn); n = n.next {
	}
}

func (r *registry) remove(c *conn) {
	last := len(r.all) - 1
	r.all[c.at] = r.all[last]
	r.all[c.at].at = c.at
	r.all[last] = nil
	if r.all = r.all[:last]; cap(r.all) > 1024 && last < cap(r.all)/4 {
		r.all = append(make([]*conn, 0, 2*last), r.all...)
	}
	for _, k := range c.keys() {
		if r.ones[k] == c {
			delete(r.ones, k)
		}
	}
	for n := c.nodes; n != nil; n = n.other {
		if n.prev != nil {
			n.prev.next = n.next
		} else {
			n.in.first = n.next
		}
		if n.next != nil {
			n.next.prev = n.prev
		}
		if n.in.n--; n.in.n == 0 {
			delete(r.many, n.in.key)
		}
	}
	c.nodes = nil
}

// found is what there is under a key.
type found struct {
	everyone []*conn
	roster   *roster
	one      *conn
}

func (r *registry) under(k key) found {
	if k.kind == kindEveryone {
		return found{everyone: r.all}
	}
	if one := r.ones[k]; one != nil {
		return found{one: one}
	}
	return found{roster: r.many[k]}
}

// group returns the engine's group of the connections, nil while they are few. That of everyone is the engine's own.
func (f found) group() *engine.Group {
	if f.roster == nil {
		return nil
	}
	return f.roster.group
}

func (f found) len() int {
	switch {
	case f.one != nil:
		return 1
	case f.roster != nil:
		return f.roster.n
	}
	return len(f.everyone)
}

// all yields the connections. The registry must not change meanwhile.
func (f found) all(yield func(*conn) bool) {
	switch {
	case f.one != nil:
		yield(f.one)
	case f.roster != nil:
		f.roster.all(yield)
	default:
		for _, c := range f.everyone {
			if !yield(c) {
				return
			}
		}
	}
}
