package tidings_test

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/brokertest"
)

func TestTheMemoryBrokerKeepsTheContract(t *testing.T) {
	brokertest.Run(t, func(_ *testing.T, o brokertest.Options) tidings.Broker {
		if o.Beside != nil || o.Reopen != nil {
			return nil // there is one handle, and the log ends with it
		}
		return tidings.NewMemoryBroker(&tidings.MemoryOptions{MaxEvents: o.MaxEvents, MaxBytes: 256 << 20})
	})
}

// memoryLog returns a log, closed with the test.
func memoryLog(t testing.TB, o *tidings.MemoryOptions) *tidings.MemoryBroker {
	b := tidings.NewMemoryBroker(o)
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// appendTo appends the records in one call.
func appendTo(t testing.TB, b tidings.Broker, rs ...tidings.Record) []tidings.Appended {
	t.Helper()
	as, err := b.Append(t.Context(), rs)
	if err != nil {
		t.Fatal(err)
	}
	return as
}

// heldBy returns what the log holds.
func heldBy(t testing.TB, b tidings.Broker) []tidings.Record {
	t.Helper()
	st, err := b.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var rs []tidings.Record
	for r, err := range b.Read(t.Context(), tidings.Position{Hi: st.Floor.Hi + 1}, st.Last) {
		if err != nil {
			t.Fatal(err)
		}
		rs = append(rs, r)
	}
	return rs
}

func TestAMemoryLogHoldsAsManyEventsAsItMay(t *testing.T) {
	b := memoryLog(t, &tidings.MemoryOptions{MaxEvents: 3})
	for i := range 10 {
		appendTo(t, b, tidings.Record{Type: strconv.Itoa(i)})
		if n := len(heldBy(t, b)); n != min(i+1, 3) {
			t.Fatalf("it holds %d of %d records", n, i+1)
		}
	}
	appendTo(t, b, make([]tidings.Record, 7)...) // one call with more than it may hold
	if n := len(heldBy(t, b)); n != 3 {
		t.Fatalf("it holds %d records", n)
	}
}

func TestAMemoryLogHoldsAsManyBytesAsItMay(t *testing.T) {
	const each = 256 // counted for a record, beside its strings and data
	b := memoryLog(t, &tidings.MemoryOptions{MaxBytes: 10 * (each + 100)})
	for range 50 {
		appendTo(t, b, tidings.Record{Type: "0123456789", Data: make([]byte, 50), Targets: []tidings.Target{{UserID: "0123456789", Topic: "0123456789"}}, CollapseKey: "0123456789", IdempotencyKey: ""})
	}
	if n := len(heldBy(t, b)); n != 10 {
		t.Errorf("it holds %d records of 346 bytes in 3560, want 10", n)
	}
	// The newest stays, whatever its size.
	appendTo(t, b, tidings.Record{Data: make([]byte, 1<<20)})
	if n := len(heldBy(t, b)); n != 1 {
		t.Errorf("it holds %d records, want the newest alone", n)
	}
	appendTo(t, b, tidings.Record{})
	if n := len(heldBy(t, b)); n != 1 {
		t.Errorf("it holds %d records, want the newest alone", n)
	}
}

func TestAMemoryLogHoldsARecordUntilItsAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := memoryLog(t, &tidings.MemoryOptions{MaxAge: time.Hour})
		appendTo(t, b, tidings.Record{Type: "first"})
		time.Sleep(30 * time.Minute)
		appendTo(t, b, tidings.Record{Type: "second"})
		time.Sleep(30*time.Minute - time.Nanosecond)
		if n := len(heldBy(t, b)); n != 2 {
			t.Errorf("it holds %d records just before the first one's age, want 2", n)
		}
		time.Sleep(time.Nanosecond)
		if rs := heldBy(t, b); len(rs) != 1 || rs[0].Type != "second" {
			t.Errorf("it holds %v at the first one's age, want the second", rs)
		}
		time.Sleep(30 * time.Minute)
		st, err := b.State(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if want := (tidings.Position{Hi: 2}); st.Floor != want || st.Last != want {
			t.Errorf("an empty log goes from %v to %v, want %v", st.Floor, st.Last, want)
		}
		// What it dropped is not forgotten: a tail from before is a gap, and one from the end is not.
		err = b.Tail(t.Context(), tidings.Position{Hi: 1}, func([]tidings.Record) error { return nil })
		if !errors.Is(err, tidings.ErrGap) {
			t.Errorf("Tail from before what it dropped: %v", err)
		}
		if as := appendTo(t, b, tidings.Record{}); as[0].Position.Hi != 3 {
			t.Errorf("the next position is %v, want 3", as[0].Position)
		}
	})
}

func TestAMemoryLogRemembersAKeyForItsWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := memoryLog(t, &tidings.MemoryOptions{IdempotencyWindow: time.Minute})
		send := func(data string) tidings.Outcome {
			return appendTo(t, b, tidings.Record{Type: "x", Data: []byte(data), IdempotencyKey: "k"})[0].Outcome
		}
		want := func(data string, outcome tidings.Outcome) {
			t.Helper()
			if got := send(data); got != outcome {
				t.Errorf("after %v: the outcome is %d, want %d", time.Now(), got, outcome)
			}
		}
		want("1", tidings.Stored)
		time.Sleep(time.Minute - time.Nanosecond)
		want("1", tidings.Duplicate) // which doesn't make the window longer
		want("2", tidings.Conflict)
		time.Sleep(time.Nanosecond)
		want("2", tidings.Stored)
		want("2", tidings.Duplicate)
	})
}

func TestRecordsHaveTheTimeOfTheLogsClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := memoryLog(t, nil)
		for range 3 {
			appendTo(t, b, tidings.Record{})
			st, err := b.State(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			rs := heldBy(t, b)
			if got := rs[len(rs)-1].Time; !got.Equal(time.Now()) || !st.Time.Equal(got) {
				t.Errorf("the record is of %v, the log's time is %v, want %v", got, st.Time, time.Now())
			}
			time.Sleep(time.Second)
		}
	})
}

func TestAMemoryLogGivesItsMemoryBack(t *testing.T) {
	inUse := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	fill := func(b tidings.Broker, n int) {
		for i := range n {
			appendTo(t, b, tidings.Record{Data: make([]byte, 1024), Targets: []tidings.Target{{UserID: strconv.Itoa(i)}}})
		}
	}
	const bound = 8 << 20
	b := memoryLog(t, &tidings.MemoryOptions{MaxBytes: bound})
	before := inUse()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- b.Tail(ctx, tidings.Position{}, func([]tidings.Record) error { return nil }) }()
	fill(b, 100_000) // 130 MB
	if n := inUse() - before; n > 2*bound {
		t.Errorf("%d bytes are in use, the bound is %d", n, bound)
	}
	cancel()
	<-ended
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if n := inUse() - before; n > bound/8 {
		t.Errorf("%d bytes are in use after Close", n)
	}
	runtime.KeepAlive(b)
}
