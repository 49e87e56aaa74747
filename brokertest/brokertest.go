// Package brokertest is the contract of [tidings.Broker] as tests. A broker that passes [Run] can carry a hub: order,
// no hole, no duplicate, and a gap that is told and never hidden.
//
//	func TestBroker(t *testing.T) {
//		brokertest.Run(t, func(t *testing.T, o brokertest.Options) tidings.Broker {
//			if o.Beside != nil || o.Reopen != nil {
//				return nil // one handle for each log, and a log that ends with it
//			}
//			return tidings.NewMemoryBroker(&tidings.MemoryOptions{MaxEvents: o.MaxEvents})
//		})
//	}
//
// What it asks of a broker, each a subtest:
//
//	Append      the answers are the records' positions; one call's records stand side by side, in order; all fields
//	            survive, whatever bytes are in them; rs is neither kept nor changed; an error says truly whether
//	            something was stored
//	Tail        from any position, what is held and then what comes, once each; the same for every tail; deliver's
//	            error and the context end it; a deliver that blocks holds it up and fills no memory
//	Read        ranges, both ends included; ended early; beyond the end; where no record is
//	State       epoch, floor, last, and the clock of the records
//	Retention   the oldest go first; Tail and Read then answer ErrGap, and never pass over a hole
//	Idempotency Duplicate and Conflict: in later calls, in one call, between concurrent calls, after the first record
//	            was dropped
//	Close       everything ends with ErrClosed
//	Handles     several handles on one log, and a log that is opened again, where the broker has them
//
// It needs no network, sleeps nowhere, and takes a second or two with a log in memory. What is a broker's own (age and
// byte bounds, windows, reconnecting) is for its own tests.
package brokertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/tidings-sse/tidings"
)

// Options is what the suite asks of a log that it wants opened.
type Options struct {
	// MaxEvents is how many records the log is to hold, roughly: after four times as many calls of Append with one
	// record each, the first record MUST be gone, and the newest half of MaxEvents MUST be there. Zero is enough for
	// everything: 100,000 records and 256 MiB at least.
	MaxEvents int

	// Beside, if not nil, is an open broker, and another handle on its log is wanted, as another node has it. Closing
	// one handle leaves the other open. Return nil if there can't be one.
	Beside tidings.Broker

	// Reopen, if not nil, is a broker that was closed, and its log is wanted again, as after a restart of the program.
	// Return nil if the log ended with it.
	Reopen tidings.Broker
}

// Run proves that the brokers which open returns keep the contract. With Beside and Reopen nil, open returns an empty
// log that is no other call's. It is called from the test's goroutine, must not return before the broker can be used,
// and reports what goes wrong to its t. The suite closes what it opens.
func Run(t *testing.T, open func(t *testing.T, o Options) tidings.Broker) {
	t.Helper()
	s := &suite{open}
	t.Run("Append", s.testAppend)
	t.Run("Tail", s.testTail)
	t.Run("Read", s.testRead)
	t.Run("State", s.testState)
	t.Run("Retention", s.testRetention)
	t.Run("Idempotency", s.testIdempotency)
	t.Run("Close", s.testClose)
	t.Run("Handles", s.testHandles)
}

type suite struct {
	open func(*testing.T, Options) tidings.Broker
}

// patience is how long anything may take before it counts as never.
const patience = 30 * time.Second

// A log is a broker under test. Its methods end the test where the broker fails.
type log struct {
	tidings.Broker
	t   *testing.T
	ctx context.Context
}

// new opens an empty log.
func (s *suite) new(t *testing.T, o Options) *log {
	t.Helper()
	l := s.get(t, o)
	if l == nil {
		t.Fatal("open returned nil for a new log")
	}
	return l
}

// get opens a log, or returns nil if there is no such thing.
func (s *suite) get(t *testing.T, o Options) *log {
	t.Helper()
	b := s.open(t, o)
	if b == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(func() {
		cancel()
		if err := b.Close(); err != nil && !errors.Is(err, tidings.ErrClosed) {
			t.Errorf("Close: %v", err)
		}
	})
	return &log{b, t, ctx}
}

// event returns a record that can be told from others by its number.
func event(n int) tidings.Record {
	return tidings.Record{Nonce: rand.Uint64(), Type: "numbered", Data: []byte(strconv.Itoa(n)), Targets: []tidings.Target{{UserID: "u" + strconv.Itoa(n%7)}}}
}

// events returns the records numbered from first on.
func events(first, n int) []tidings.Record {
	rs := make([]tidings.Record, n)
	for i := range rs {
		rs[i] = event(first + i)
	}
	return rs
}

// number returns the number of a record that event made.
func number(t *testing.T, r tidings.Record) int {
	t.Helper()
	n, err := strconv.Atoi(string(r.Data))
	if err != nil {
		t.Fatalf("a record that was never appended: %q", r.Data)
	}
	return n
}

// append appends the records in one call.
func (l *log) append(rs ...tidings.Record) []tidings.Appended {
	l.t.Helper()
	as, err := l.Append(l.ctx, rs)
	if err != nil {
		l.t.Fatalf("Append of %d records: %v", len(rs), err)
	}
	if len(as) != len(rs) {
		l.t.Fatalf("Append of %d records answered %d", len(rs), len(as))
	}
	return as
}

// store appends the records in one call, each of which must be new, and returns them as the log has them now.
func (l *log) store(rs ...tidings.Record) []tidings.Record {
	l.t.Helper()
	stored := slices.Clone(rs)
	for i, a := range l.append(rs...) {
		if a.Outcome != tidings.Stored || a.Position.IsZero() || a.Nonce != rs[i].Nonce {
			l.t.Fatalf("the answer for record %d is %+v, want Stored, a position and the nonce %d", i, a, rs[i].Nonce)
		}
		stored[i].Position = a.Position
	}
	return stored
}

// storeEach appends n numbered records in as many calls.
func (l *log) storeEach(first, n int) []tidings.Record {
	l.t.Helper()
	var stored []tidings.Record
	for i := range n {
		stored = append(stored, l.store(event(first+i))...)
	}
	return stored
}

func (l *log) state() tidings.State {
	l.t.Helper()
	st, err := l.State(l.ctx)
	if err != nil {
		l.t.Fatalf("State: %v", err)
	}
	return st
}

// read returns the records of a range, and the error that ended it.
func (l *log) read(from, to tidings.Position) ([]tidings.Record, error) {
	l.t.Helper()
	var rs []tidings.Record
	var failed error
	for r, err := range l.Read(l.ctx, from, to) {
		if failed != nil {
			l.t.Fatalf("Read goes on after its error %v with %v, %v", failed, r, err)
		}
		if failed = err; err == nil {
			rs = append(rs, r)
		}
	}
	return rs, failed
}

// all returns everything that the log holds.
func (l *log) all() []tidings.Record {
	l.t.Helper()
	st := l.state()
	rs, err := l.read(after(st.Floor), st.Last)
	if err != nil {
		l.t.Fatalf("Read of all after %v up to %v: %v", st.Floor, st.Last, err)
	}
	return rs
}

// after returns the first position after p.
func after(p tidings.Position) tidings.Position {
	if p.Lo++; p.Lo == 0 {
		p.Hi++
	}
	return p
}

// A tail follows a log. It takes a record only when it is asked for one, so the log waits for it.
type tail struct {
	l       *log
	records chan tidings.Record
	stop    context.CancelFunc
	done    chan struct{}
	err     error // what Tail returned; read after done
}

// tail follows the log after a position.
func (l *log) tail(after tidings.Position) *tail {
	ctx, cancel := context.WithCancel(l.ctx)
	t := &tail{l: l, records: make(chan tidings.Record), stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(t.done)
		t.err = l.Tail(ctx, after, func(rs []tidings.Record) error {
			for _, r := range rs {
				select {
				case t.records <- r:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		})
	}()
	l.t.Cleanup(func() {
		cancel()
		<-t.done
	})
	return t
}

// next returns the next record, or the error that Tail ended with.
func (t *tail) next() (tidings.Record, error) {
	t.l.t.Helper()
	select {
	case r := <-t.records:
		return r, nil
	case <-t.done:
		if t.err == nil {
			t.l.t.Fatal("Tail returned nil")
		}
		return tidings.Record{}, t.err
	case <-t.l.ctx.Done():
		t.l.t.Fatalf("Tail delivered nothing for %v", patience)
		panic("unreachable")
	}
}

// want takes as many records as there are in want, which they must be.
func (t *tail) want(want ...tidings.Record) {
	t.l.t.Helper()
	for i, w := range want {
		r, err := t.next()
		if err != nil {
			t.l.t.Fatalf("Tail ended before record %d of %d: %v", i, len(want), err)
		}
		if d := difference(r, w); d != "" {
			t.l.t.Fatalf("Tail's record %d of %d: %s", i, len(want), d)
		}
	}
}

// ends waits for Tail to return an error that matches want.
func (t *tail) ends(want error) {
	t.l.t.Helper()
	select {
	case <-t.done:
	case r := <-t.records:
		t.l.t.Fatalf("Tail delivers %v, want the end: %v", r, want)
	case <-t.l.ctx.Done():
		t.l.t.Fatalf("Tail did not end for %v", patience)
	}
	if !errors.Is(t.err, want) {
		t.l.t.Fatalf("Tail ended with %v, want %v", t.err, want)
	}
}

// wantRecords compares what Read gave.
func wantRecords(t *testing.T, got, want []tidings.Record) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if d := difference(got[i], want[i]); d != "" {
			t.Fatalf("record %d of %d: %s", i, len(want), d)
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
}

// difference says what is not as it was appended; empty when everything is. A Time is compared only where want has one,
// to the millisecond.
func difference(got, want tidings.Record) string {
	switch {
	case got.Position != want.Position:
		return fmt.Sprintf("it is at %v (data %.20q), want the one at %v (data %.20q)", got.Position, got.Data, want.Position, want.Data)
	case got.Nonce != want.Nonce:
		return fmt.Sprintf("its nonce is %d, want %d", got.Nonce, want.Nonce)
	case got.Type != want.Type:
		return fmt.Sprintf("its type is %q, want %q", got.Type, want.Type)
	case !bytes.Equal(got.Data, want.Data):
		return fmt.Sprintf("its data is %.40q (%d bytes), want %.40q (%d bytes)", got.Data, len(got.Data), want.Data, len(want.Data))
	case !slices.Equal(got.Targets, want.Targets):
		return fmt.Sprintf("its targets are %v, want %v", got.Targets, want.Targets)
	case got.Exclude != want.Exclude:
		return fmt.Sprintf("it excludes %v, want %v", got.Exclude, want.Exclude)
	case got.TTL != want.TTL:
		return fmt.Sprintf("its TTL is %v, want %v", got.TTL, want.TTL)
	case got.CollapseKey != want.CollapseKey:
		return fmt.Sprintf("its collapse key is %q, want %q", got.CollapseKey, want.CollapseKey)
	case got.IdempotencyKey != want.IdempotencyKey:
		return fmt.Sprintf("its idempotency key is %q, want %q", got.IdempotencyKey, want.IdempotencyKey)
	case got.Time.IsZero():
		return "it has no time"
	case !want.Time.IsZero() && got.Time.UnixMilli() != want.Time.UnixMilli():
		return fmt.Sprintf("its time is %v, want %v", got.Time, want.Time)
	}
	return ""
}
