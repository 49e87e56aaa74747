package natsbroker_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/tidings-sse/tidings"
)

// within bounds what has no reason to take long, on a machine that is busy.
const within = 60 * time.Second

func bounded(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	t.Cleanup(cancel)
	return ctx
}

// record returns a record whose data is its number.
func record(n int) tidings.Record {
	return tidings.Record{Nonce: rand.Uint64(), Type: "numbered", Data: fmt.Appendf(nil, "%d", n), Targets: []tidings.Target{{UserID: "u"}}}
}

func keyed(n int, key string) tidings.Record {
	r := record(n)
	r.IdempotencyKey = key
	return r
}

// store appends records, one a call, and returns them with their positions.
func store(t testing.TB, b tidings.Broker, first, n int) []tidings.Record {
	t.Helper()
	var rs []tidings.Record
	for i := range n {
		r := record(first + i)
		as, err := b.Append(bounded(t), []tidings.Record{r})
		if err != nil {
			t.Fatal(err)
		}
		r.Position = as[0].Position
		rs = append(rs, r)
	}
	return rs
}

// state asks for the state until it can be had.
func state(t testing.TB, b tidings.Broker) tidings.State {
	t.Helper()
	var st tidings.State
	eventually(t, "the log's state", func() (err error) {
		st, err = b.State(bounded(t))
		return err
	})
	return st
}

// eventually repeats what can only be asked for, until it succeeds.
func eventually(t testing.TB, what string, try func() error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(within); ; {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// A follower follows a log from a position, through all trouble, as a hub does.
type follower struct {
	t    testing.TB
	got  chan tidings.Record
	end  chan error // with the first gap
	stop func()
}

func follow(t testing.TB, b tidings.Broker, after tidings.Position) *follower {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	f := &follower{t: t, got: make(chan tidings.Record), end: make(chan error, 1)}
	done := make(chan struct{})
	f.stop = func() { cancel(); <-done }
	t.Cleanup(f.stop)
	go func() {
		defer close(done)
		for {
			err := b.Tail(ctx, after, func(rs []tidings.Record) error {
				for _, r := range rs {
					select {
					case f.got <- r:
						after = r.Position
					case <-ctx.Done():
						return ctx.Err()
					}
				}
				return nil
			})
			if ctx.Err() != nil {
				return
			}
			if errors.Is(err, tidings.ErrGap) || errors.Is(err, tidings.ErrEpoch) || errors.Is(err, tidings.ErrClosed) {
				f.end <- err
				return
			}
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
				return
			}
		}
	}()
	return f
}

// wants takes records, which must be these.
func (f *follower) wants(rs ...tidings.Record) {
	f.t.Helper()
	for i, want := range rs {
		select {
		case got := <-f.got:
			if got.Nonce != want.Nonce || got.Position != want.Position {
				f.t.Fatalf("record %d is %s at %v, want %s at %v", i, got.Data, got.Position, want.Data, want.Position)
			}
		case err := <-f.end:
			f.t.Fatalf("it ended before record %d: %v", i, err)
		case <-time.After(within):
			f.t.Fatalf("record %d never came", i)
		}
	}
}

// takes returns the next n records, or fewer when no more come.
func (f *follower) takes(n int) (got []tidings.Record) {
	for len(got) < n {
		select {
		case r := <-f.got:
			got = append(got, r)
		case err := <-f.end:
			f.t.Errorf("it ended after %d records: %v", len(got), err)
			return got
		case <-time.After(within):
			f.t.Errorf("no more came after %d records", len(got))
			return got
		}
	}
	return got
}

// ends waits for a gap, before which nothing may come.
func (f *follower) ends(want error) {
	f.t.Helper()
	select {
	case got := <-f.got:
		f.t.Fatalf("%s at %v came, and not the end", got.Data, got.Position)
	case err := <-f.end:
		if !errors.Is(err, want) {
			f.t.Fatalf("it ended with %v, want %v", err, want)
		}
	case <-time.After(within):
		f.t.Fatal("it did not end")
	}
}

// read returns what the log holds, from the beginning.
func read(t testing.TB, b tidings.Broker) []tidings.Record {
	t.Helper()
	st := state(t, b)
	from := st.Floor
	from.Lo++
	var rs []tidings.Record
	for r, err := range b.Read(bounded(t), from, st.Last) {
		if err != nil {
			t.Fatal(err)
		}
		rs = append(rs, r)
	}
	return rs
}

func nonces(rs []tidings.Record) []uint64 {
	var ns []uint64
	for _, r := range rs {
		ns = append(ns, r.Nonce)
	}
	return ns
}

func sameRecords(t testing.TB, got, want []tidings.Record) {
	t.Helper()
	if !slices.Equal(nonces(got), nonces(want)) {
		t.Fatalf("%d records, which are not the %d that are wanted", len(got), len(want))
	}
}
