package tidings

import "github.com/tidings-sse/tidings/internal/engine"

// Choosing the connections that a record is for. The hub's lock is held, so nothing here looks at more than a few
// connections for each target: where there are more under a key, they are a group, and it is the loops that look at each.

// post queues a record's frame for every connection that it is for, once, and returns how many these are. Where that can't
// be said without looking at many, it returns false, and counted is called when it is known.
func (r *registry) post(hd *held) (matched int, known bool) {
	rec := &hd.Record
	if len(rec.Targets) == 0 {
		return r.postGroup(r.engine.Everyone(), len(r.all), hd)
	}
	for _, t := range rec.Targets {
		k := t.key()
		m := r.many[k]
		if m == nil || m.group == nil {
			continue
		}
		if len(rec.Targets) == 1 && t.isOnly(k) && !(t.isLabel() && m.first.conn.known) {
			return r.postGroup(m.group, m.n, hd)
		}
		r.sweep(hd)
		return 0, false
	}
	r.choose(rec, hd.number, func(c *conn) {
		matched++
		r.engine.Post(c.stream, hd.frame)
	})
	return matched, true
}

// choose calls post for each connection that the record is for, once. None of its targets has many.
func (r *registry) choose(rec *Record, number uint64, post func(*conn)) {
	for _, t := range rec.Targets {
		for c := range r.under(t.key()).all {
			if c.mark != number && c.meets(t) && (rec.Exclude.IsZero() || !c.meets(rec.Exclude)) {
				c.mark = number
				post(c)
			}
		}
	}
}

// postGroup queues the frame for a group of n, but for whom the record excludes.
func (r *registry) postGroup(g *engine.Group, n int, hd *held) (matched int, known bool) {
	if n == 0 {
		return 0, true
	}
	if hd.Exclude.IsZero() {
		r.engine.PostGroup(g, hd.frame, nil)
		return n, true
	}
	targets, exclude := hd.Targets, hd.Exclude
	only := func(o engine.Owner) bool { return !o.(*conn).meets(exclude) }
	left := r.under(exclude.key())
	if left.len() > few {
		r.engine.Sweep(nil, []*engine.Group{g}, hd.frame, only, r.countedOf(hd))
		return 0, false
	}
	r.engine.PostGroup(g, hd.frame, only)
	for c := range left.all {
		if c.isFor(targets, Target{}) && c.meets(exclude) {
			n--
		}
	}
	return n, true
}

// sweep has the loops decide who gets a record that has several targets, or conditions, of which one is of many.
func (r *registry) sweep(hd *held) {
	targets, exclude := hd.Targets, hd.Exclude
	var streams []*engine.Stream
	var groups []*engine.Group
	for _, t := range targets {
		if m := r.many[t.key()]; m != nil && m.group != nil {
			groups = append(groups, m.group)
			continue
		}
		for c := range r.under(t.key()).all {
			if c.mark != hd.number && c.meets(t) {
				c.mark = hd.number
				streams = append(streams, c.stream)
			}
		}
	}
	r.engine.Sweep(streams, groups, hd.frame, func(o engine.Owner) bool { return o.(*conn).isFor(targets, exclude) }, r.countedOf(hd))
}

func (r *registry) countedOf(hd *held) func(int) { return func(matched int) { r.counted(hd, matched) } }
