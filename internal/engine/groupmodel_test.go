package engine_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/tidings-sse/tidings/internal/engine"
)

// modelled is a stream, and what the model says that it gets.
type modelled struct {
	*sink
	groups  map[int]bool
	want    []string
	aborted bool
}

// The model knows who is a member when something is posted. A stream gets exactly that, in order; one that breaks while
// its loop walks a group, exactly what came before; one that is aborted, the beginning.
func TestGroupsAreAsTheirModel(t *testing.T) {
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(uint64(seed), 0))
	for range 20 {
		runModel(t, rnd)
	}
}

func runModel(t *testing.T, rnd *rand.Rand) {
	// With a bound of one frame, a frame is written as soon as it is queued: in the middle of a walk.
	e := newEngine(engine.Config{MaxEvents: 1 + rnd.IntN(2), Loops: 1 + rnd.IntN(3)})
	groups := []*engine.Group{e.Everyone()}
	for range 4 {
		groups = append(groups, e.NewGroup())
	}
	defer e.Close()
	var all, live, late []*modelled
	serve := func() {
		for _, m := range late {
			m.ServeWriter(engine.Writer{Write: m.write}, false)
		}
		late = nil
	}
	for number := uint64(1); number < 400; number++ {
		if number%8 == 0 {
			serve()
		}
		s := fmt.Sprint(number, " ")
		switch op := rnd.IntN(10); {
		case op == 0 || len(live) < 20:
			m := &modelled{sink: newSink(e), groups: map[int]bool{0: true}}
			if m.broken = rnd.IntN(60); m.broken > 30 {
				m.broken = 0
			}
			if rnd.IntN(2) == 0 { // served by and by
				m.Join()
				late = append(late, m)
				m.aborted = true // on a busy machine it may be slow
			} else {
				m.serve()
			}
			all, live = append(all, m), append(live, m)
		case op == 1:
			m, g := live[rnd.IntN(len(live))], rnd.IntN(len(groups))
			if !m.groups[g] {
				m.groups[g] = true
				m.JoinGroup(groups[g])
			}
		case op == 2:
			i := rnd.IntN(len(live))
			live[i].aborted = true
			live[i].Abort(engine.Kicked)
			live[i] = live[len(live)-1]
			live = live[:len(live)-1]
		case op < 5:
			m := live[rnd.IntN(len(live))]
			m.want = append(m.want, s)
			e.Post(m.Stream, text(number, s))
		case op == 5: // two groups and a stream
			m, a, b := live[rnd.IntN(len(live))], rnd.IntN(len(groups)), rnd.IntN(len(groups))
			for _, o := range all {
				if o == m || o.groups[a] || o.groups[b] {
					o.want = append(o.want, s)
				}
			}
			e.Sweep([]*engine.Stream{m.Stream}, []*engine.Group{groups[a], groups[b]}, text(number, s), nil, func(int) {})
		default:
			g, left := rnd.IntN(len(groups)), live[rnd.IntN(len(live))]
			only := func(o engine.Owner) bool { return o != engine.Owner(left.sink) }
			if op == 9 {
				left, only = nil, nil
			}
			for _, m := range all {
				if m.groups[g] && m != left {
					m.want = append(m.want, s)
				}
			}
			e.PostGroup(groups[g], text(number, s), only)
		}
	}
	serve()
	for _, m := range all {
		m.check(t)
	}
	e.Stop(engine.Stopped)
	for _, m := range all {
		<-m.over
	}
}

func (m *modelled) check(t *testing.T) {
	t.Helper()
	got, want := m.text(), strings.Join(m.want, "")
	m.mu.Lock()
	broke := m.broken > 0 && m.writes >= m.broken
	m.mu.Unlock()
	if got != want && !(strings.HasPrefix(want, got) && (m.aborted || broke)) {
		t.Errorf("got  %q\nwant %q\nit was aborted: %v, it broke: %v", got, want, m.aborted, broke)
	}
}
