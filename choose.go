package tidings

import "github.com/tidings-sse/tidings/internal/engine"

// Choosing the connections that a record is for. The hub's lock is held, so nothing here looks at more than a few
// connections for each target: where there are more under a key, they are a group, and it is the loops that look at each.

// post queues a record's frame for every connection that it is for, once, and returns how many these are. Where that can't
// be said without looking at many, it returns false, and counted is called when it is known.
func (r *registry) post(hd *held) (matched int, known bool) {
	switch len(hd.Targets) {
	case 0:
		return r.postGroup(r.engine.Everyone(), len(r.all), hd)
	case 1:
		t := hd.Targets[0]
		k := t.key()
		under := r.under(k)
		switch g := under.group(); {
		case g == nil:
			return r.postEach(under, t, hd), true
		case t.isOnly(k) && !(t.isLabel() && under.roster.first.conn.known):
			return r.postGroup(g, under.len(), hd)
		}
		r.sweep(hd)
		return 0, false
	}
	for _, t := range hd.Targets {
		if r.under(t.key()).group() != nil {
			r.sweep(hd)
			return 0, false
		}
	}
	for _, t := range hd.Targets {
		matched += r.postEach(r.under(t.key()), t, hd)
	}
	return matched, true
}

// postEach queues the frame for each of the few connections under the target's key that it is for and that don't have it.
func (r *registry) postEach(under found, t Target, hd *held) (matched int) {
	for c := range under.all {
		if c.mark != hd.number && c.meets(t) && (hd.Exclude.IsZero() || !c.meets(hd.Exclude)) {
			c.mark = hd.number
			r.engine.Post(c.stream, hd.frame)
			matched++
		}
	}
	return matched
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
		under := r.under(t.key())
		if g := under.group(); g != nil {
			groups = append(groups, g)
			continue
		}
		for c := range under.all {
			if c.mark != hd.number && c.meets(t) {
				c.mark = hd.number
				streams = append(streams, c.stream)
			}
		}
	}
	r.engine.Sweep(streams, groups, hd.frame, func(o engine.Owner) bool { return o.(*conn).isFor(targets, exclude) }, r.countedOf(hd))
}

func (r *registry) countedOf(hd *held) func(int) { return func(matched int) { r.counted(hd, matched) } }
