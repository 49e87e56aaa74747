package brokertest

import (
	"regexp"
	"testing"
	"time"
)

func (s *suite) testState(t *testing.T) {
	t.Run("an empty log has no first and no last record", func(t *testing.T) {
		l := s.new(t, Options{})
		if st := l.state(); !st.Floor.IsZero() || !st.Last.IsZero() {
			t.Fatalf("%+v, want zero Floor and Last", st)
		}
		if rs := l.all(); len(rs) != 0 {
			t.Fatalf("it holds %d records", len(rs))
		}
	})
	t.Run("the last record is the one appended last, at once", func(t *testing.T) {
		l := s.new(t, Options{})
		for i := range 10 {
			rs := l.store(events(3*i, 3)...)
			if st := l.state(); st.Last != rs[2].Position || !st.Floor.IsZero() {
				t.Fatalf("%+v after a record at %v", st, rs[2].Position)
			}
		}
	})
	t.Run("the epoch is 1 to 32 letters and digits, stays, and is the log's own", func(t *testing.T) {
		grammar := regexp.MustCompile(`^[0-9A-Za-z]{1,32}$`)
		seen := map[string]bool{}
		for range 3 {
			l := s.new(t, Options{})
			epoch := l.state().Epoch
			if !grammar.MatchString(epoch) {
				t.Fatalf("the epoch is %q", epoch)
			}
			l.store(events(0, 3)...)
			if now := l.state().Epoch; now != epoch {
				t.Fatalf("the epoch was %q and is %q", epoch, now)
			}
			if seen[epoch] {
				t.Fatalf("two logs have the epoch %q", epoch)
			}
			seen[epoch] = true
		}
	})
	t.Run("its clock is the one of the records", func(t *testing.T) {
		const slack = time.Second // two machines' clocks may differ; two readings of one may not by much
		l := s.new(t, Options{})
		before := l.state().Time
		var last time.Time
		for i := range 10 {
			l.store(event(i))
		}
		for i, r := range l.all() {
			now := l.state().Time
			if r.Time.Before(before.Add(-slack)) || r.Time.After(now.Add(slack)) {
				t.Fatalf("record %d is of %v, appended between %v and %v", i, r.Time, before, now)
			}
			if r.Time.Before(last.Add(-slack)) {
				t.Fatalf("record %d is of %v, the one before it of %v", i, r.Time, last)
			}
			last = r.Time
		}
	})
}
