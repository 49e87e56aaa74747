package brokertest

import (
	"sync"
	"testing"

	"github.com/tidings-sse/tidings"
)

// testHandles asks for what not every broker has. Where it has not, the subtest says so and passes: there is nothing
// that could be wrong.
func (s *suite) testHandles(t *testing.T) {
	t.Run("two handles are one log", func(t *testing.T) {
		a := s.new(t, Options{})
		b := s.get(t, Options{Beside: a.Broker})
		if b == nil {
			t.Log("this broker has one handle for each log")
			return
		}
		fromA, fromB := a.tail(tidings.Position{}), b.tail(tidings.Position{})
		for i := range 20 {
			l := a
			if i%2 == 1 {
				l = b
			}
			stored := l.store(events(2*i, 2)...)
			fromA.want(stored...)
			fromB.want(stored...)
		}
		wantRecords(t, b.all(), a.all())
		if sa, sb := a.state(), b.state(); sa.Epoch != sb.Epoch || sa.Last != sb.Last || sa.Floor != sb.Floor {
			t.Fatalf("one handle's state is %+v, the other's %+v", sa, sb)
		}
	})
	t.Run("calls through two handles at the same time are torn apart nowhere", func(t *testing.T) {
		a := s.new(t, Options{})
		b := s.get(t, Options{Beside: a.Broker})
		if b == nil {
			t.Log("this broker has one handle for each log")
			return
		}
		const calls, size = 30, 5
		var wg sync.WaitGroup
		for i, l := range []*log{a, b} {
			wg.Go(func() {
				for call := range calls {
					as, err := l.Append(l.ctx, events(i*1_000_000+call*size, size))
					if err != nil || len(as) != size {
						t.Errorf("Append: %d answers, %v", len(as), err)
						return
					}
				}
			})
		}
		wg.Wait()
		rs := a.all()
		wantRecords(t, b.all(), rs)
		if len(rs) != 2*calls*size {
			t.Fatalf("the log holds %d records, want %d", len(rs), 2*calls*size)
		}
		next := [2]int{0, 1_000_000}
		for at, r := range rs {
			n := number(t, r)
			if at%size > 0 && n != number(t, rs[at-1])+1 {
				t.Fatalf("record %d follows %d in the middle of a call", n, number(t, rs[at-1]))
			}
			i := n / 1_000_000
			if n != next[i] {
				t.Fatalf("record %d comes where %d belongs", n, next[i])
			}
			next[i]++
		}
	})
	t.Run("a key is one for all handles", func(t *testing.T) {
		a := s.new(t, Options{})
		b := s.get(t, Options{Beside: a.Broker})
		if b == nil {
			t.Log("this broker has one handle for each log")
			return
		}
		first := a.store(keyed("k"))[0]
		wantAnswer(t, b.append(keyed("k"))[0], tidings.Duplicate, first)
		other := keyed("k")
		other.Type = "other"
		wantAnswer(t, b.append(other)[0], tidings.Conflict, first)
		second := b.store(keyed("l"))[0]
		wantAnswer(t, a.append(keyed("l"))[0], tidings.Duplicate, second)
	})
	t.Run("closing one handle leaves the other open", func(t *testing.T) {
		a := s.new(t, Options{})
		b := s.get(t, Options{Beside: a.Broker})
		if b == nil {
			t.Log("this broker has one handle for each log")
			return
		}
		tl := b.tail(tidings.Position{})
		stored := a.store(events(0, 3)...)
		a.close()
		tl.want(stored...)
		tl.want(b.store(event(3))...)
	})
	t.Run("a log that is opened again is as it was", func(t *testing.T) {
		l := s.new(t, Options{})
		stored := l.store(events(0, 10)...)
		stored = append(stored, l.store(keyed("k"))...)
		want, st := l.all(), l.state()
		l.close()
		again := s.get(t, Options{Reopen: l.Broker})
		if again == nil {
			t.Log("this broker's log ends with it")
			return
		}
		if now := again.state(); now.Epoch != st.Epoch || now.Last != st.Last || now.Floor != st.Floor {
			t.Fatalf("the state is %+v, and was %+v", now, st)
		}
		wantRecords(t, again.all(), want)
		wantAnswer(t, again.append(keyed("k"))[0], tidings.Duplicate, stored[10])
		tl := again.tail(stored[4].Position)
		tl.want(stored[5:]...)
		more := again.store(events(10, 3)...)
		if more[0].Position.Compare(stored[10].Position) <= 0 {
			t.Fatalf("the position %v of a new record is not after %v", more[0].Position, stored[10].Position)
		}
		tl.want(more...)
	})
	t.Run("a log that is opened again knows what it has dropped", func(t *testing.T) {
		const limit = 16
		l := s.new(t, Options{MaxEvents: limit})
		l.storeEach(0, 4*limit)
		st := l.state()
		l.close()
		again := s.get(t, Options{MaxEvents: limit, Reopen: l.Broker})
		if again == nil {
			t.Log("this broker's log ends with it")
			return
		}
		if now := again.state(); now.Floor != st.Floor {
			t.Fatalf("the floor is %v, and was %v", now.Floor, st.Floor)
		}
		again.tail(tidings.Position{}).ends(tidings.ErrGap)
	})
}
