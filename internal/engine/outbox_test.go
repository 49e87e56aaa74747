package engine_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tidings-sse/tidings/internal/engine"
)

// sized returns a frame of n bytes.
func sized(n int) *engine.Frame { return text(1, strings.Repeat("\n", n)) }

func TestAnOutboxGivesWhatWasPutInOrderAndInBatches(t *testing.T) {
	var o engine.Outbox
	var put []*engine.Frame
	for _, size := range []int{40, 40, 40, 300, 10, 90} {
		put = append(put, sized(size))
		o.Push(put[len(put)-1])
	}
	if o.Len() != 6 || o.Bytes() != 520 {
		t.Errorf("%d frames, %d bytes", o.Len(), o.Bytes())
	}
	for _, want := range []int{2, 1, 1, 2, 0} { // 300 is over the bound, and goes alone
		got := o.Take(100, time.Now())
		if len(got) != want {
			t.Fatalf("a batch of %d frames, want %d", len(got), want)
		}
		for i := range got {
			if got[i] != put[i] {
				t.Error("another frame was due")
			}
		}
		put = put[want:]
	}
	if o.Len() != 0 || o.Bytes() != 0 {
		t.Errorf("%d frames, %d bytes are left", o.Len(), o.Bytes())
	}
}

func TestAnEmptyOutboxHoldsNoMemory(t *testing.T) {
	var o engine.Outbox
	for range 100 {
		o.Push(sized(1))
	}
	o.Take(1000, time.Now())
	if o.Cap() != 0 {
		t.Errorf("room for %d frames", o.Cap())
	}
	f := sized(1)
	o.Push(f)
	f.Supersede()
	o.DropStale(time.Now())
	if o.Cap() != 0 || o.Bytes() != 0 || o.Len() != 0 {
		t.Errorf("room for %d frames, %d bytes, %d frames", o.Cap(), o.Bytes(), o.Len())
	}
}

func TestAnOutboxThatIsNeverEmptyDoesNotGrow(t *testing.T) {
	var o engine.Outbox
	for range 10 {
		o.Push(sized(1))
	}
	for range 100_000 {
		o.Push(sized(1))
		if got := o.Take(1, time.Now()); len(got) != 1 {
			t.Fatalf("%d frames", len(got))
		}
	}
	if o.Len() != 10 || o.Bytes() != 10 || o.Cap() > 100 {
		t.Errorf("%d frames, %d bytes, room for %d", o.Len(), o.Bytes(), o.Cap())
	}
}

func TestWhatIsSupersededOrExpiredIsNotTaken(t *testing.T) {
	now := time.Now()
	old, current, later := sized(10), sized(20), sized(40)
	expired := engine.NewFrame(1, now, func(dst []byte) []byte { return append(dst, '\n') })
	lasting := engine.NewFrame(1, now.Add(time.Second), func(dst []byte) []byte { return append(dst, '\n') })
	fill := func() *engine.Outbox {
		o := new(engine.Outbox)
		for _, f := range []*engine.Frame{old, expired, current, lasting, old, later, expired} {
			o.Push(f)
		}
		return o
	}
	old.Supersede()
	o := fill()
	if got := o.Take(1000, now); len(got) != 3 || got[0] != current || got[1] != lasting || got[2] != later {
		t.Errorf("took %d frames", len(got))
	}
	if o.Len() != 0 || o.Bytes() != 0 {
		t.Errorf("%d frames, %d bytes are left", o.Len(), o.Bytes())
	}
	o = fill()
	o.DropStale(now)
	if o.Len() != 3 || o.Bytes() != 61 {
		t.Errorf("%d frames, %d bytes are kept", o.Len(), o.Bytes())
	}
	if got := o.Take(20, now); len(got) != 1 || got[0] != current {
		t.Errorf("took %d frames", len(got))
	}
	o.Push(old)
	o.DropStale(now.Add(time.Second))
	if o.Len() != 1 || o.Bytes() != 40 {
		t.Errorf("%d frames, %d bytes are kept", o.Len(), o.Bytes())
	}
}
