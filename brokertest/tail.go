package brokertest

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/tidings-sse/tidings"
)

func (s *suite) testTail(t *testing.T) {
	t.Run("from the beginning it delivers what is held, and then each record as it comes", func(t *testing.T) {
		l := s.new(t, Options{})
		held := l.store(events(0, 10)...)
		tl := l.tail(tidings.Position{})
		tl.want(held...)
		for i := range 5 {
			tl.want(l.store(events(10+2*i, 2)...)...)
		}
	})
	t.Run("it waits on an empty log", func(t *testing.T) {
		l := s.new(t, Options{})
		tl := l.tail(tidings.Position{})
		tl.want(l.store(event(1))...)
		tl.want(l.store(event(2))...)
	})
	t.Run("from any position it delivers what is after it, and not the record at it", func(t *testing.T) {
		l := s.new(t, Options{})
		var held []tidings.Record
		for i := range 5 {
			held = append(held, l.store(events(3*i, 3)...)...) // positions within a call, too
		}
		for i, r := range held {
			l.tail(r.Position).want(held[i+1:]...)
		}
		// From the end on, the first record is one that is appended later.
		tl := l.tail(held[len(held)-1].Position)
		tl.want(l.store(event(100))...)
	})
	t.Run("it goes on where another one ended", func(t *testing.T) {
		l := s.new(t, Options{})
		held := l.store(events(0, 50)...)
		at := tidings.Position{}
		for len(held) > 0 {
			n := min(len(held), 1+rand.IntN(7))
			tl := l.tail(at)
			tl.want(held[:n]...)
			tl.stop()
			at, held = held[n-1].Position, held[n:]
		}
	})
	t.Run("all tails see the same, whenever they began", func(t *testing.T) {
		const records = 300
		l := s.new(t, Options{})
		tails := []*tail{l.tail(tidings.Position{})}
		var stored []tidings.Record
		for len(stored) < records {
			stored = append(stored, l.store(events(len(stored), 1+rand.IntN(5))...)...)
			if len(stored)%7 == 0 {
				tails = append(tails, l.tail(tidings.Position{}))
			}
		}
		var wg sync.WaitGroup
		for _, tl := range tails {
			wg.Go(func() {
				for i, want := range stored {
					r, err := tl.next()
					if err != nil {
						t.Errorf("Tail ended before record %d: %v", i, err)
						return
					}
					if d := difference(r, want); d != "" {
						t.Errorf("record %d: %s", i, d)
						return
					}
				}
			})
		}
		wg.Wait()
	})
	t.Run("it has the time that Read has", func(t *testing.T) {
		l := s.new(t, Options{})
		l.store(events(0, 3)...)
		l.tail(tidings.Position{}).want(l.all()...)
	})
	t.Run("deliver's error ends it, and is what it returns", func(t *testing.T) {
		l := s.new(t, Options{})
		l.store(events(0, 5)...)
		enough := errors.New("enough")
		calls := 0
		err := l.Tail(l.ctx, tidings.Position{}, func([]tidings.Record) error {
			calls++
			return enough
		})
		if !errors.Is(err, enough) || calls != 1 {
			t.Fatalf("Tail called deliver %d times and returned %v, want 1 and %v", calls, err, enough)
		}
	})
	t.Run("deliver is never called without a record", func(t *testing.T) {
		l := s.new(t, Options{})
		stored := l.store(events(0, 5)...)
		enough := errors.New("enough")
		err := l.Tail(l.ctx, tidings.Position{}, func(rs []tidings.Record) error {
			if len(rs) == 0 {
				return errors.New("deliver was called without a record")
			}
			if rs[len(rs)-1].Position == stored[len(stored)-1].Position {
				return enough
			}
			return nil
		})
		if !errors.Is(err, enough) {
			t.Fatal(err)
		}
	})
	t.Run("the context ends it, while it waits and before it began", func(t *testing.T) {
		l := s.new(t, Options{})
		stored := l.store(event(1))
		tl := l.tail(tidings.Position{})
		tl.want(stored...)
		tl.stop()
		tl.ends(context.Canceled)

		ended, cancel := context.WithCancel(t.Context())
		cancel()
		err := l.Tail(ended, stored[0].Position, func([]tidings.Record) error { return nil })
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("Tail with an ended context returned %v", err)
		}
	})
	t.Run("what it delivered stays as it was while it goes on", func(t *testing.T) {
		// Data, Targets and strings may be kept; only the slice is the broker's.
		l := s.new(t, Options{})
		stored := l.store(events(0, 100)...)
		tl := l.tail(tidings.Position{})
		var kept []tidings.Record
		for range stored {
			r, err := tl.next()
			if err != nil {
				t.Fatal(err)
			}
			kept = append(kept, r)
		}
		more := l.store(events(100, 1000)...)
		tl.want(more...)
		wantRecords(t, kept, stored)
	})
	t.Run("a deliver that blocks holds it up, and fills no memory", s.testBackpressure)
}

// testBackpressure appends much more than a tail that doesn't go on may buffer.
func (s *suite) testBackpressure(t *testing.T) {
	const (
		retained = 32
		size     = 128 << 10
		appended = 128 << 20
		most     = 64 << 20 // of memory that may be in use for it, the log's own included
	)
	l := s.new(t, Options{MaxEvents: retained})
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	tl := l.tail(tidings.Position{}) // takes nothing until it is asked
	for n := range appended / size {
		r := event(n)
		r.Type = "large"
		r.Data = append(make([]byte, 0, size), r.Data...)[:size] // a broker that keeps it keeps all of it
		l.store(r)
	}
	runtime.GC()
	runtime.ReadMemStats(&now)
	if now.HeapAlloc > before.HeapAlloc+most {
		t.Errorf("%d MiB were appended while a tail was blocked, and %d MiB more are in use, want at most %d",
			appended>>20, (now.HeapAlloc-before.HeapAlloc)>>20, most>>20)
	}
	runtime.KeepAlive(tl)
}
