package engine_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tidings-sse/tidings/internal/engine"
)

// sink is a stream that is written to a string, in its loop.
type sink struct {
	*engine.Stream
	*owner
	engine *engine.Engine

	mu     sync.Mutex // guards what follows
	got    strings.Builder
	writes int
	broken int               // the write that fails; zero is none
	wrote  func(written int) // called by each write with their number, if it is not nil
}

var errBroken = errors.New("broken")

func newSink(e *engine.Engine) *sink {
	k := &sink{owner: newOwner(), engine: e}
	k.Stream = e.NewStream(k, 0, nil)
	return k
}

// serve has the stream join, and serves it.
func (k *sink) serve() *sink {
	k.Join()
	k.ServeWriter(engine.Writer{Write: k.write}, false)
	return k
}

func (k *sink) write(b []byte) (int, bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.writes++; k.writes == k.broken {
		return 0, false, errBroken
	}
	k.got.Write(b)
	if k.wrote != nil {
		k.wrote(k.writes)
	}
	return len(b), false, nil
}

// text returns what was written when all that was posted is.
func (k *sink) text() string {
	k.engine.Settle(k.Stream)
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.got.String()
}

func (k *sink) expect(t *testing.T, want string) {
	t.Helper()
	if got := k.text(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// newSinks returns streams of an engine of so many loops, which end with the test.
func newSinks(t *testing.T, loops, n int, cfg engine.Config) (*engine.Engine, []*sink) {
	cfg.Loops = loops
	e := newEngine(cfg)
	sinks := make([]*sink, n)
	for i := range sinks {
		sinks[i] = newSink(e).serve()
	}
	t.Cleanup(func() {
		e.Stop(engine.Stopped)
		for _, k := range sinks {
			<-k.over
		}
		e.Close()
	})
	return e, sinks
}

func TestAGroupGetsWhatIsPostedToItInOrderWithWhatIsPostedToItsMembers(t *testing.T) {
	e, sinks := newSinks(t, 2, 6, engine.Config{MaxEvents: 100})
	g := e.NewGroup()
	number := uint64(0)
	frame := func(s string) *engine.Frame {
		number++
		return text(number, s)
	}
	e.PostGroup(g, frame("nobody "), nil)
	for _, k := range sinks[:3] {
		k.JoinGroup(g)
	}
	e.PostGroup(g, frame("1 "), nil)
	e.Post(sinks[0].Stream, frame("2 "))
	e.PostGroup(e.Everyone(), frame("3 "), nil)
	sinks[3].JoinGroup(g)
	e.PostGroup(g, frame("4 "), nil)
	e.PostGroup(g, frame("5 "), func(o engine.Owner) bool { return o != engine.Owner(sinks[0]) })
	for i, want := range []string{"1 2 3 4 ", "1 3 4 5 ", "1 3 4 5 ", "3 4 5 ", "3 ", "3 "} {
		sinks[i].expect(t, want)
	}
}

func TestAStreamThatHasEndedIsInNoGroup(t *testing.T) {
	e, sinks := newSinks(t, 1, 3, engine.Config{})
	g := e.NewGroup()
	for _, k := range sinks {
		k.JoinGroup(g)
	}
	sinks[0].End(engine.Kicked, text(0, "bye "))
	<-sinks[0].over
	sinks[0].JoinGroup(e.NewGroup()) // too late, and no fault
	calls := 0
	e.PostGroup(g, text(1, "1 "), func(o engine.Owner) bool { calls++; return true })
	for i, want := range []string{"bye ", "1 ", "1 "} {
		sinks[i].expect(t, want)
	}
	if calls != 2 {
		t.Errorf("%d members", calls)
	}
}

func TestAStreamJoinsBeforeItIsServedOrAfter(t *testing.T) {
	e, _ := newSinks(t, 2, 0, engine.Config{})
	early, late := newSink(e), newSink(e)
	early.Join(e.NewGroup())
	late.ServeWriter(engine.Writer{Write: late.write}, false)
	e.PostGroup(e.Everyone(), text(1, "1 "), nil)
	late.Join()
	early.ServeWriter(engine.Writer{Write: early.write}, false)
	e.PostGroup(e.Everyone(), text(2, "2 "), nil)
	early.expect(t, "1 2 ")
	late.expect(t, "2 ")
	for _, k := range []*sink{early, late} {
		k.Abort(engine.Kicked)
		<-k.over
	}
}

func TestASweepCountsEachStreamOnceThatItIsFor(t *testing.T) {
	e, sinks := newSinks(t, 2, 10, engine.Config{})
	a, b := e.NewGroup(), e.NewGroup()
	for i, k := range sinks {
		if i < 6 {
			k.JoinGroup(a)
		}
		if i > 3 && i < 9 {
			k.JoinGroup(b)
		}
	}
	sinks[0].End(engine.Kicked, text(0, "bye ")) // takes no more frames
	for _, c := range []struct {
		streams []*engine.Stream
		groups  []*engine.Group
		only    func(engine.Owner) bool
		want    int
	}{
		{nil, []*engine.Group{a, b}, nil, 8},
		{nil, []*engine.Group{e.Everyone()}, nil, 9},
		{[]*engine.Stream{sinks[1].Stream, sinks[1].Stream, sinks[9].Stream}, []*engine.Group{a}, nil, 6},
		{[]*engine.Stream{sinks[1].Stream, sinks[2].Stream}, []*engine.Group{b}, func(o engine.Owner) bool { return o != engine.Owner(sinks[1]) }, 6},
		{[]*engine.Stream{sinks[0].Stream}, nil, nil, 0},
		{nil, []*engine.Group{e.NewGroup()}, nil, 0},
		{nil, nil, nil, 0},
	} {
		number := uint64(100 + len(sinks[1].text())) // another one each time
		for _, k := range sinks {
			number = max(number, k.Usage().Last+1)
		}
		matched := make(chan int, 2)
		e.Sweep(c.streams, c.groups, text(number, "x"), c.only, func(n int) { matched <- n })
		if n := <-matched; n != c.want {
			t.Errorf("matched %d, want %d", n, c.want)
		}
		if len(matched) != 0 {
			t.Error("it was counted twice")
		}
	}
	total := 0
	for _, k := range sinks {
		total += strings.Count(k.text(), "x")
	}
	if want := 8 + 9 + 6 + 6; total != want {
		t.Errorf("%d were written, want %d", total, want)
	}
}

// A loop walks a group that is larger than what it does between two writes, while members end in every order.
func TestAWalkOfALargeGroupReachesEachMemberOnceWhoeverEndsMeanwhile(t *testing.T) {
	const n, frames = 3*engine.PostSlice + 100, 6
	e, sinks := newSinks(t, 1, n, engine.Config{MaxEvents: 2})
	last := sinks[n-1] // the walk begins here
	e.Settle(last.Stream)
	ended := make(map[*sink]bool)
	g := newGate(e) // a gate, so that all ends are told of between two slices of the first walk
	for i := range frames {
		e.PostGroup(e.Everyone(), text(uint64(i+1), fmt.Sprint(i)), nil)
	}
	last.mu.Lock()
	last.wrote = func(int) { // by the loop, after the first slice
		last.wrote = nil
		for i, step := 0, 1; i < n-1; i, step = i+step, step%7+1 {
			ended[sinks[i]] = true
			sinks[i].Abort(engine.Kicked)
		}
	}
	last.mu.Unlock()
	g.open()
	g.end()
	want := "012345"
	for _, k := range sinks {
		if got := k.text(); ended[k] && !strings.HasPrefix(want, got) || !ended[k] && got != want {
			t.Fatalf("got %q; ended: %v", got, ended[k])
		}
	}
	if len(ended) < n/10 {
		t.Errorf("%d have ended", len(ended))
	}
}

func TestWhatIsPostedToOneIsWrittenBeforeWhatMostHaveQueued(t *testing.T) {
	const n = 20 * engine.WriteSlice
	e, sinks := newSinks(t, 1, n, engine.Config{})
	e.Settle(sinks[n-1].Stream)
	g := newGate(e)
	var mu sync.Mutex
	var order []int
	for i, k := range sinks {
		k.mu.Lock()
		k.wrote = func(int) {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, i)
		}
		k.mu.Unlock()
	}
	e.PostGroup(e.Everyone(), text(1, "1 "), nil)
	one := sinks[n/2]
	e.Post(one.Stream, text(2, "2 "))
	g.open()
	g.end()
	for _, k := range sinks {
		k.text()
	}
	mu.Lock()
	defer mu.Unlock()
	if at := slices.Index(order, n/2); at != 0 || len(order) != n {
		t.Errorf("it was written after %d others; there were %d writes", at, len(order))
	}
	one.expect(t, "1 2 ")
}
