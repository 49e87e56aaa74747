package brokertest

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/tidings-sse/tidings"
)

// keyed returns the same event each time, but for its nonce.
func keyed(key string) tidings.Record {
	return tidings.Record{
		Nonce: rand.Uint64(), Type: "order-paid", Data: []byte(`{"order":7}`), IdempotencyKey: key,
		Targets: []tidings.Target{{UserID: "u"}, {Topic: "orders"}}, Exclude: tidings.Target{ClientID: "c"},
		TTL: time.Hour, CollapseKey: "k",
	}
}

func wantAnswer(t *testing.T, a tidings.Appended, outcome tidings.Outcome, first tidings.Record) {
	t.Helper()
	if a.Outcome != outcome {
		t.Fatalf("the outcome is %d, want %d", a.Outcome, outcome)
	}
	if outcome != tidings.Conflict && (a.Position != first.Position || a.Nonce != first.Nonce) {
		t.Fatalf("the answer is %v, nonce %d; want those of the first one, %v and %d", a.Position, a.Nonce, first.Position, first.Nonce)
	}
}

func (s *suite) testIdempotency(t *testing.T) {
	t.Run("the same event with the same key is a Duplicate, answered with the first one's position and nonce", func(t *testing.T) {
		l := s.new(t, Options{})
		first := l.store(keyed("a"))[0]
		l.store(event(1))
		for range 3 {
			wantAnswer(t, l.append(keyed("a"))[0], tidings.Duplicate, first)
		}
		if rs := l.all(); len(rs) != 2 {
			t.Fatalf("the log holds %d records, want 2", len(rs))
		}
	})
	t.Run("another event with the same key is a Conflict, whatever differs", func(t *testing.T) {
		l := s.new(t, Options{})
		first := l.store(keyed("a"))[0]
		for name, change := range map[string]func(*tidings.Record){
			"type":         func(r *tidings.Record) { r.Type = "order-sent" },
			"data":         func(r *tidings.Record) { r.Data = []byte(`{"order":8}`) },
			"targets":      func(r *tidings.Record) { r.Targets = r.Targets[:1] },
			"everyone":     func(r *tidings.Record) { r.Targets = nil },
			"exclude":      func(r *tidings.Record) { r.Exclude = tidings.Target{} },
			"ttl":          func(r *tidings.Record) { r.TTL++ },
			"collapse key": func(r *tidings.Record) { r.CollapseKey = "" },
		} {
			r := keyed("a")
			change(&r)
			if a := l.append(r)[0]; a.Outcome != tidings.Conflict {
				t.Errorf("another %s: the outcome is %d, want Conflict", name, a.Outcome)
			}
		}
		wantAnswer(t, l.append(keyed("a"))[0], tidings.Duplicate, first)
		if rs := l.all(); len(rs) != 1 {
			t.Fatalf("the log holds %d records, want 1", len(rs))
		}
	})
	t.Run("other keys and no keys are not mixed up", func(t *testing.T) {
		l := s.new(t, Options{})
		for _, key := range []string{"a", "A", "b", "a ", "", "", "ab", "*", ">", "a.b"} {
			l.store(keyed(key))
		}
	})
	t.Run("it holds within one call, whose other records stay side by side", func(t *testing.T) {
		l := s.new(t, Options{})
		earlier := l.store(keyed("earlier"))[0]
		other := keyed("a")
		other.Type = "other"
		rs := []tidings.Record{keyed("a"), event(1), keyed("a"), keyed("earlier"), other, keyed("b"), event(2), keyed("b")}
		as := l.append(rs...)
		var stored []tidings.Record
		for _, i := range []int{0, 1, 5, 6} {
			if as[i].Outcome != tidings.Stored {
				t.Fatalf("the outcome of record %d is %d, want Stored", i, as[i].Outcome)
			}
			rs[i].Position = as[i].Position
			stored = append(stored, rs[i])
		}
		wantAnswer(t, as[2], tidings.Duplicate, rs[0])
		wantAnswer(t, as[3], tidings.Duplicate, earlier)
		wantAnswer(t, as[4], tidings.Conflict, rs[0])
		wantAnswer(t, as[7], tidings.Duplicate, rs[5])
		l.tail(earlier.Position).want(stored...)
	})
	t.Run("a call of nothing but duplicates appends nothing", func(t *testing.T) {
		l := s.new(t, Options{})
		first := l.store(keyed("a"), keyed("b"))
		for i, a := range l.append(keyed("a"), keyed("b")) {
			wantAnswer(t, a, tidings.Duplicate, first[i])
		}
		l.tail(first[1].Position).want(l.store(event(1))...)
	})
	t.Run("of concurrent calls with one key, one is Stored and the others are its Duplicates", func(t *testing.T) {
		const senders, rounds = 8, 10
		l := s.new(t, Options{})
		for round := range rounds {
			key := string(rune('a' + round))
			answers := make([]tidings.Appended, senders)
			nonces := make([]uint64, senders)
			var wg sync.WaitGroup
			for i := range senders {
				wg.Go(func() {
					r := keyed(key)
					nonces[i] = r.Nonce
					as, err := l.Append(l.ctx, []tidings.Record{r})
					if err != nil || len(as) != 1 {
						t.Errorf("Append: %d answers, %v", len(as), err)
						return
					}
					answers[i] = as[0]
				})
			}
			wg.Wait()
			if t.Failed() {
				return
			}
			var first tidings.Record
			for i, a := range answers {
				if a.Outcome == tidings.Stored {
					if !first.Position.IsZero() {
						t.Fatalf("two of %d were stored", senders)
					}
					first = tidings.Record{Position: a.Position, Nonce: nonces[i]}
				}
			}
			for _, a := range answers {
				if a.Outcome != tidings.Stored {
					wantAnswer(t, a, tidings.Duplicate, first)
				}
			}
		}
		if rs := l.all(); len(rs) != rounds {
			t.Fatalf("the log holds %d records, want %d", len(rs), rounds)
		}
	})
	t.Run("a key is remembered after its record was dropped", func(t *testing.T) {
		const limit = 16
		l := s.new(t, Options{MaxEvents: limit})
		first := l.store(keyed("a"))[0]
		l.storeEach(0, 4*limit)
		if st := l.state(); first.Position.Compare(st.Floor) > 0 {
			t.Fatalf("the record at %v is still held", first.Position)
		}
		wantAnswer(t, l.append(keyed("a"))[0], tidings.Duplicate, first)
	})
}
