package engine_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidings-sse/tidings/internal/engine"
)

// take writes what is next whole, and returns it.
func take(o *engine.Outbox, maxBytes int) []*engine.Frame {
	frames := slices.Clone(o.Next(maxBytes))
	size := 0
	for _, f := range frames {
		size += len(f.Block())
	}
	o.Wrote(size, false)
	return frames
}

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
		if got := take(&o, 100); !slices.Equal(got, put[:want]) {
			t.Fatalf("a batch of %d frames, want %d", len(got), want)
		}
		put = put[want:]
	}
	if o.Len() != 0 || o.Bytes() != 0 {
		t.Errorf("%d frames, %d bytes are left", o.Len(), o.Bytes())
	}
}

func TestAStreamThatHasNothingQueuedHasNoOutbox(t *testing.T) {
	bubble(func(t *testing.T) {
		r := newRig(t, byConn, engine.Config{})
		has := func(want bool) {
			t.Helper()
			synctest.Wait()
			if got := r.HasOutbox(); got != want {
				t.Errorf("it has an outbox: %v", got)
			}
		}
		has(false)
		r.serve()
		has(false)
		r.post(text(8, "a\n\n"))
		has(false) // it was written
		r.stick()
		f := sized(10)
		r.post(f)
		has(true)
		f.Supersede()
		r.read(2*pipe + 3)
		has(false)
		r.stick()
		r.post(sized(10))
		has(true)
		r.Abort(engine.Stopped)
		has(false)
	})(t)
}

func TestOutboxesOnTheShelfAreEmptyAndSmall(t *testing.T) {
	var shelf engine.Shelf
	o := shelf.Take()
	for range 5 {
		o.Push(sized(1))
	}
	o.Wrote(3, false)
	shelf.Put(o)
	if again := shelf.Take(); again != o || o.Len() != 0 || o.Bytes() != 0 || o.Done() != 0 || len(o.Next(1)) != 0 {
		t.Errorf("%d frames, %d bytes", o.Len(), o.Bytes())
	}
	if shelf.Take() == o {
		t.Error("two streams have it")
	}
	for range 1000 {
		o.Push(sized(1))
	}
	take(o, 1000)
	shelf.Put(o)
	if shelf.Take() == o {
		t.Errorf("room for %d frames is kept", o.Cap())
	}
}

func TestAnOutboxThatIsNeverEmptyDoesNotGrow(t *testing.T) {
	var o engine.Outbox
	for range 10 {
		o.Push(sized(1))
	}
	for range 100_000 {
		o.Push(sized(1))
		if got := take(&o, 1); len(got) != 1 {
			t.Fatalf("%d frames", len(got))
		}
	}
	if o.Len() != 10 || o.Bytes() != 10 || o.Cap() > 100 {
		t.Errorf("%d frames, %d bytes, room for %d", o.Len(), o.Bytes(), o.Cap())
	}
}

func TestWhatIsSupersededOrExpiredIsNotTaken(t *testing.T) {
	bubble(func(t *testing.T) {
		line := func(dst []byte) []byte { return append(dst, '\n') }
		old, current, later := sized(10), sized(20), sized(40)
		expired, lasting := engine.NewFrame(1, time.Now(), engine.Encode(line)), engine.NewFrame(1, time.Now().Add(time.Second), engine.Encode(line))
		fill := func() *engine.Outbox {
			o := new(engine.Outbox)
			for _, f := range []*engine.Frame{old, expired, current, lasting, old, later, expired} {
				o.Push(f)
			}
			return o
		}
		old.Supersede()
		o := fill()
		if got := take(o, 1000); !slices.Equal(got, []*engine.Frame{current, lasting, later}) {
			t.Errorf("took %d frames", len(got))
		}
		if o.Len() != 0 || o.Bytes() != 0 {
			t.Errorf("%d frames, %d bytes are left", o.Len(), o.Bytes())
		}
		o = fill()
		o.DropStale()
		if o.Len() != 3 || o.Bytes() != 61 {
			t.Errorf("%d frames, %d bytes are kept", o.Len(), o.Bytes())
		}
		if got := take(o, 20); !slices.Equal(got, []*engine.Frame{current}) {
			t.Errorf("took %d frames", len(got))
		}
		o.Push(old)
		time.Sleep(time.Second)
		synctest.Wait()
		o.DropStale()
		if o.Len() != 1 || o.Bytes() != 40 {
			t.Errorf("%d frames, %d bytes are kept", o.Len(), o.Bytes())
		}
	})(t)
}

func TestAFrameThatIsPartlyWrittenIsNeverDropped(t *testing.T) {
	for _, drop := range []func(*engine.Outbox){(*engine.Outbox).DropStale, func(o *engine.Outbox) { o.Next(1000) }} {
		var o engine.Outbox
		first, second, third := text(1, "first"), text(2, "second"), text(3, "third")
		for _, f := range []*engine.Frame{first, second, third} {
			o.Push(f)
		}
		o.Wrote(2, false)
		if events, size := o.Waiting(); events != 2 || size != 11 {
			t.Errorf("%d frames of %d bytes are behind the one that is being written", events, size)
		}
		first.Supersede()
		second.Supersede()
		drop(&o)
		if o.Len() != 2 || o.Bytes() != 10 || o.Done() != 2 {
			t.Errorf("%d frames, %d bytes, %d written", o.Len(), o.Bytes(), o.Done())
		}
		if got := o.Next(1000); !slices.Equal(got, []*engine.Frame{first, third}) {
			t.Errorf("%d frames are next", len(got))
		}
		if events, last := o.Wrote(3, false); events != 1 || last != 1 {
			t.Errorf("%d events, the last %d", events, last)
		}
	}
}

// However the kernel splits it, what is written is the frames, whole and in order, and they are counted when they are.
func TestAnyPartsOfWritesMakeWholeFrames(t *testing.T) {
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(uint64(seed), 0))
	for range 300 {
		chunked := rnd.IntN(2) == 0
		var o engine.Outbox
		var b engine.Batch
		var got, want bytes.Buffer
		var ends []int // of each frame in want
		events, last := 0, uint64(0)
		for n := uint64(0); n < 40 || o.Len() > 0; {
			if n < 40 && rnd.IntN(3) > 0 {
				n++
				f := text(n, fmt.Sprint(n, strings.Repeat("x", rnd.IntN(50))))
				o.Push(f)
				form := f.Block()
				if chunked {
					form = f.Chunk()
				}
				want.Write(form)
				ends = append(ends, want.Len())
				continue
			}
			next := o.Next(1 + rnd.IntN(100))
			if len(next) == 0 {
				continue
			}
			rest := b.Gather(next, chunked)[o.Done():]
			part := rest[:rnd.IntN(len(rest)+1)]
			got.Write(part)
			e, l := o.Wrote(len(part), chunked)
			if events += e; l > 0 {
				last = l
			}
			whole, _ := slices.BinarySearch(ends, got.Len()+1)
			if events != whole || last != uint64(whole) {
				t.Fatalf("after %d bytes: %d events, the last %d; %d frames are whole", got.Len(), events, last, whole)
			}
		}
		if !bytes.Equal(got.Bytes(), want.Bytes()) || o.Bytes() != 0 || o.Done() != 0 {
			t.Fatalf("%q was written, want %q", got.Bytes(), want.Bytes())
		}
	}
}

func TestABatchThatIsUsedAgainHasTheSameBytes(t *testing.T) {
	frames := make([]*engine.Frame, 10)
	for i := range frames {
		frames[i] = text(uint64(i), strings.Repeat("x", i))
	}
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(uint64(seed), 0))
	var b engine.Batch
	for range 5000 {
		from := rnd.IntN(3)
		to := from + 1 + rnd.IntN(3)
		chunked := rnd.IntN(2) == 0
		var want []byte
		for _, f := range frames[from:to] {
			if chunked {
				want = append(want, f.Chunk()...)
			} else {
				want = append(want, f.Block()...)
			}
		}
		if got := b.Gather(frames[from:to], chunked); !bytes.Equal(got, want) {
			t.Fatalf("frames %d to %d, chunked %v: %q, want %q", from, to, chunked, got, want)
		}
	}
}
