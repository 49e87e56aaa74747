package brokertest

import (
	"errors"
	"testing"

	"github.com/tidings-sse/tidings"
)

func wantGap(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, tidings.ErrGap) {
		t.Fatalf("the error is %v, want ErrGap", err)
	}
}

func (s *suite) testRetention(t *testing.T) {
	const limit = 64
	t.Run("the oldest records go, the newest stay, and the floor is where the one begins after the other", func(t *testing.T) {
		l := s.new(t, Options{MaxEvents: limit})
		stored := l.storeEach(0, 4*limit)
		st := l.state()
		if st.Last != stored[len(stored)-1].Position {
			t.Fatalf("the last record is at %v, want %v", st.Last, stored[len(stored)-1].Position)
		}
		gone := 0
		for gone < len(stored) && stored[gone].Position.Compare(st.Floor) <= 0 {
			gone++
		}
		if kept := len(stored) - gone; gone == 0 || kept < limit/2 {
			t.Fatalf("the floor %v leaves %d of %d records, want at least %d and not all", st.Floor, kept, len(stored), limit/2)
		}
		if st.Floor != stored[gone-1].Position {
			t.Errorf("the floor is %v, want %v, the position of the newest record that was dropped", st.Floor, stored[gone-1].Position)
		}
		wantRecords(t, l.all(), stored[gone:])
		l.tail(st.Floor).want(stored[gone:]...)
	})
	t.Run("Tail from before what is held is a gap", func(t *testing.T) {
		l := s.new(t, Options{MaxEvents: limit})
		stored := l.storeEach(0, 4*limit)
		l.tail(tidings.Position{}).ends(tidings.ErrGap)
		l.tail(stored[0].Position).ends(tidings.ErrGap)
	})
	t.Run("a Tail that is overtaken is a gap, and passes over nothing before", func(t *testing.T) {
		l := s.new(t, Options{MaxEvents: limit})
		stored := l.storeEach(0, 2)
		tl := l.tail(tidings.Position{})
		tl.want(stored[0])
		stored = append(stored, l.storeEach(2, 8*limit)...)
		next := 1
		for {
			r, err := tl.next()
			if err != nil {
				tl.ends(tidings.ErrGap)
				break
			}
			if d := difference(r, stored[next]); d != "" {
				t.Fatalf("record %d: %s", next, d)
			}
			if next++; next == len(stored) {
				break // it had all of them already
			}
		}
		if st := l.state(); next < len(stored) && stored[next].Position.Compare(st.Floor) > 0 {
			t.Errorf("the record at %v is held, and was told to be in a gap", stored[next].Position)
		}
	})
	t.Run("Read of what is gone is a gap, its last pair", func(t *testing.T) {
		l := s.new(t, Options{MaxEvents: limit})
		stored := l.storeEach(0, 4*limit)
		st := l.state()
		for _, r := range []struct{ from, to tidings.Position }{
			{stored[0].Position, stored[0].Position},
			{stored[0].Position, stored[len(stored)-1].Position},
			{tidings.Position{}, st.Last},
			{st.Floor, st.Last},
		} {
			got, err := l.read(r.from, r.to)
			if err == nil {
				t.Fatalf("Read from %v to %v, with a floor of %v: %d records and no error", r.from, r.to, st.Floor, len(got))
			}
			wantGap(t, err)
		}
	})
	t.Run("a Read that is overtaken is a gap, and passes over nothing before", func(t *testing.T) {
		l := s.new(t, Options{MaxEvents: limit})
		stored := l.storeEach(0, limit/2)
		next := 0
		for r, err := range l.Read(l.ctx, stored[0].Position, stored[len(stored)-1].Position) {
			if err != nil {
				wantGap(t, err)
				return
			}
			if d := difference(r, stored[next]); d != "" {
				t.Fatalf("record %d: %s", next, d)
			}
			if next++; next == 3 {
				l.storeEach(limit, 4*limit)
			}
		}
		if next != len(stored) {
			t.Fatalf("Read ended without an error after %d of %d records", next, len(stored))
		}
	})
}
