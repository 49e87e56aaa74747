package tidings

// registry is the index of live connections. It has no lock of its own: the hub's guards it.
type registry struct {
	lists map[key]*members
}

// members are the connections under one key, in no order.
type members struct {
	key  key
	list []member
}

// A member is a connection in a list, and which of the connection's places the list is: each finds the other, so that
// leaving costs the same however long the list is.
type member struct {
	conn  *conn
	place int
}

// A place is where a connection stands in a list.
type place struct {
	in *members
	at int
}

func newRegistry() *registry { return &registry{lists: make(map[key]*members)} }

// under returns the connections with the key.
func (r *registry) under(k key) []member {
	if m := r.lists[k]; m != nil {
		return m.list
	}
	return nil
}

func (r *registry) len() int { return len(r.under(key{kind: kindEveryone})) }

func (r *registry) add(c *conn) {
	keys := c.keys()
	c.places = make([]place, 0, len(keys))
	for _, k := range keys {
		m := r.lists[k]
		if m == nil {
			m = &members{key: k}
			r.lists[k] = m
		}
		c.places = append(c.places, place{m, len(m.list)})
		m.list = append(m.list, member{c, len(c.places) - 1})
	}
}

func (r *registry) remove(c *conn) {
	for _, p := range c.places {
		end := len(p.in.list) - 1
		moved := p.in.list[end]
		p.in.list[p.at] = moved
		moved.conn.places[moved.place].at = p.at
		p.in.list[end] = member{}
		p.in.list = p.in.list[:end]
		if end == 0 {
			delete(r.lists, p.in.key)
		} else if cap(p.in.list) > 64 && end < cap(p.in.list)/4 {
			p.in.list = append(make([]member, 0, end*2), p.in.list...)
		}
	}
	c.places = nil
}

// choose calls post for each connection that the record is for, once.
func (r *registry) choose(rec *Record, number uint64, post func(*conn)) (matched int) {
	visit := func(ms []member, fits func(*conn) bool) {
		for _, m := range ms {
			if c := m.conn; c.mark != number && fits(c) {
				c.mark = number
				matched++
				post(c)
			}
		}
	}
	included := func(c *conn) bool { return rec.Exclude.IsZero() || !c.meets(rec.Exclude) }
	if len(rec.Targets) == 0 {
		visit(r.under(key{kind: kindEveryone}), included)
		return matched
	}
	for _, t := range rec.Targets {
		visit(r.under(t.key()), func(c *conn) bool { return c.meets(t) && included(c) })
	}
	return matched
}
