package brokertest

import (
	"context"
	"errors"
	"math"
	"testing"

	"github.com/tidings-sse/tidings"
)

func (s *suite) testRead(t *testing.T) {
	l := s.new(t, Options{})
	var held []tidings.Record
	for i := range 6 {
		held = append(held, l.store(events(4*i, 4)...)...)
	}
	last := len(held) - 1
	end := tidings.Position{Hi: math.MaxUint64, Lo: math.MaxUint64}
	want := func(t *testing.T, from, to tidings.Position, want []tidings.Record) {
		t.Helper()
		got, err := l.read(from, to)
		if err != nil {
			t.Fatalf("Read from %v to %v: %v", from, to, err)
		}
		wantRecords(t, got, want)
	}
	t.Run("both ends of a range are in it", func(t *testing.T) {
		for i := range held {
			for j := i; j < len(held); j += 5 {
				want(t, held[i].Position, held[j].Position, held[i:j+1])
			}
		}
	})
	t.Run("the zero position is the beginning", func(t *testing.T) {
		want(t, tidings.Position{}, held[3].Position, held[:4])
		want(t, tidings.Position{}, held[last].Position, held)
	})
	t.Run("a range that ends before it begins is empty", func(t *testing.T) {
		want(t, held[5].Position, held[4].Position, nil)
		want(t, held[5].Position, tidings.Position{}, nil)
	})
	t.Run("a range beyond the end is cut off there, without an error and without waiting", func(t *testing.T) {
		want(t, held[20].Position, end, held[20:])
		want(t, after(held[last].Position), end, nil)
	})
	t.Run("positions where no record is are no error", func(t *testing.T) {
		for i := range last {
			p := held[i].Position
			want(t, after(p), held[i+1].Position, held[i+1:i+2])
			p.Lo = math.MaxUint64
			if p.Compare(held[i+1].Position) >= 0 {
				continue // the next one is in the same block
			}
			want(t, held[i].Position, p, held[i:i+1])
			want(t, p, held[i+1].Position, held[i+1:i+2])
		}
	})
	t.Run("it may be ended early, and done again", func(t *testing.T) {
		seq := l.Read(l.ctx, held[2].Position, held[last].Position)
		for n := range 4 {
			var got []tidings.Record
			for r, err := range seq {
				if err != nil {
					t.Fatal(err)
				}
				if got = append(got, r); len(got) > n {
					break
				}
			}
			wantRecords(t, got, held[2:3+n])
		}
	})
	t.Run("two may be under way at once", func(t *testing.T) {
		i := 0
		for outer, err := range l.Read(l.ctx, held[0].Position, held[3].Position) {
			if err != nil {
				t.Fatal(err)
			}
			inner, err := l.read(held[4].Position, held[6].Position)
			if err != nil {
				t.Fatal(err)
			}
			wantRecords(t, append([]tidings.Record{outer}, inner...), append([]tidings.Record{held[i]}, held[4:7]...))
			i++
		}
	})
	t.Run("the context ends it", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		n := 0
		var end error
		for _, err := range l.Read(ctx, held[0].Position, held[last].Position) {
			n++
			end = err
		}
		if !errors.Is(end, context.Canceled) {
			t.Fatalf("Read with an ended context ended with %v after %d pairs", end, n)
		}
	})
	t.Run("what it yielded stays as it was", func(t *testing.T) {
		kept, err := l.read(held[0].Position, held[last].Position)
		if err != nil {
			t.Fatal(err)
		}
		l.store(events(1000, 500)...)
		l.all()
		wantRecords(t, kept, held)
	})
}
