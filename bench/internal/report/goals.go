package report

// A Goal is a number that Tidings has to reach.
type Goal struct {
	What, Must, Aim string
	Measured        string // "not measured", or why it failed, where there is no value
	Known           bool   // it was measured, or failed
	Met, AimMet     bool
}

// A goal is a Goal before it is looked up.
type goal struct {
	what      string
	must, aim float64 // aim is the same as must where there is none
	atLeast   bool    // else at most
	show      func(float64) string
	scenario  string
	value     func(*Results) (float64, bool)
}

// The names that the goals need from the scenarios; a test holds that they are the same there.
const (
	ours   = "tidings"
	posted = "tidings-serve"
	floor  = "floor"
)

func goals() []goal {
	of := func(scenario, metric string) func(*Results) (float64, bool) {
		return func(r *Results) (float64, bool) { return r.Median(scenario, ours, metric) }
	}
	most := func(scenario, metric string) func(*Results) (float64, bool) {
		return func(r *Results) (float64, bool) { return r.Max(scenario, ours, metric) }
	}
	overFloor := func(metric string) func(*Results) (float64, bool) {
		return func(r *Results) (float64, bool) { return r.Ratio("paced", ours, floor, metric) }
	}
	return []goal{
		{"resident memory per idle stream, HTTP/1.1", 2 << 10, 1 << 10, false, kib, "idle", of("idle", "resident")},
		{"the same, TLS over HTTP/1.1", 20 << 10, 20 << 10, false, kib, "idle", of("idle", "resident, TLS")},
		{"the same, HTTP/2 over TLS, one stream a connection", 16 << 10, 16 << 10, false, kib, "idle", of("idle", "resident, HTTP/2 TLS, 1 each")},
		{"the same, HTTP/2 over TLS, 100 streams a connection", 16 << 10, 16 << 10, false, kib, "idle", of("idle", "resident, HTTP/2 TLS, 100 each")},
		{"the same, h2c, one stream a connection", 16 << 10, 16 << 10, false, kib, "idle", of("idle", "resident, h2c, 1 each")},
		{"the same, h2c, 100 streams a connection", 16 << 10, 16 << 10, false, kib, "idle", of("idle", "resident, h2c, 100 each")},
		{"the same, of `tidings serve`", 16 << 10, 16 << 10, false, kib, "idle", func(r *Results) (float64, bool) { return r.Median("idle", posted, "resident, h2c, 100 each") }},
		{"CPU per delivery, over the C floor's", 1.3, 1.2, false, times, "paced", overFloor("CPU per delivery")},
		{"p99 latency, over the C floor's", 1.2, 1, false, times, "paced", overFloor("p99")},
		{"burst of broadcasts, in process", 3e6, 5e6, true, perS, "burst", of("burst", "deliveries")},
		{"burst of broadcasts, one NDJSON POST", 3e6, 5e6, true, perS, "burst", func(r *Results) (float64, bool) { return r.Median("burst", posted, "deliveries") }},
		{"burst, over the best peer's", 15, 15, true, times, "burst", overBestPeer},
		{"unicast in process, random users, 8 publishers", 1e5, 2e5, true, perS, "unicast", of("unicast", "deliveries")},
		{"p99 of a unicast while broadcasts go out", 20, 7, false, millis, "mixed", of("mixed", "p99")},
		{"all streams drop and resume: all back", 3000, 1500, false, seconds, "storm", of("storm", "all back")},
		{"the same: lost, in the worst round", 0, 0, false, number, "storm", most("storm", "lost")},
		{"the same: twice, in the worst round", 0, 0, false, number, "storm", most("storm", "twice")},
		{"CPU per delivery with many streams, over that with few", 1.5, 1.3, false, times, "scale", func(r *Results) (float64, bool) {
			return r.Within("scale", ours, "CPU per delivery, many streams", "CPU per delivery, few streams")
		}},
		{"others' p99 with stalled clients, over that without", 1.1, 1.1, false, times, "stalled", func(r *Results) (float64, bool) { return r.Within("stalled", ours, "p99 with", "p99 without") }},
		{"kernel memory that a stalled client pins, the worst", 256 << 10, 256 << 10, false, kib, "stalled", func(r *Results) (float64, bool) {
			v, ok := r.Max("stalled", ours, "kernel memory, the most")
			return v * 1024, ok
		}},
		{"broadcasts at full speed: lost, in the worst round", 0, 0, false, number, "flood", most("flood", "lost")},
		{"the same: streams ended, in the worst round", 0, 0, false, number, "flood", most("flood", "streams ended")},
	}
}

// Goals returns what has to be reached, and what was.
func (r *Results) Goals() []Goal {
	var all []Goal
	for _, g := range goals() {
		bound := "<= "
		if g.atLeast {
			bound = ">= "
		}
		shown := Goal{What: g.what, Must: bound + g.show(g.must), Measured: "not measured"}
		if g.aim != g.must {
			shown.Aim = g.show(g.aim)
		}
		v, ok := g.value(r)
		if failed := r.Failed(g.scenario, ours); failed != "" {
			shown.Measured, shown.Known = "failed", true
		} else if ok {
			shown.Measured, shown.Known = g.show(v), true
			shown.Met, shown.AimMet = v <= g.must, v <= g.aim
			if g.atLeast {
				shown.Met, shown.AimMet = v >= g.must, v >= g.aim
			}
		}
		all = append(all, shown)
	}
	return all
}

// overBestPeer returns the burst's deliveries over those of the best peer; the floor is none.
func overBestPeer(r *Results) (float64, bool) {
	best := 0.0
	for _, m := range r.Measurements {
		if m.Scenario == "burst" && m.Metric == "deliveries" && m.Contender != ours && m.Contender != posted && m.Contender != floor {
			v, _ := r.Median(m.Scenario, m.Contender, m.Metric)
			best = max(best, v)
		}
	}
	v, ok := r.Median("burst", ours, "deliveries")
	if !ok || best == 0 {
		return 0, false
	}
	return v / best, true
}
