package ring_test

import (
	"math/rand/v2"
	"testing"

	"github.com/tidings-sse/tidings/internal/ring"
)

func TestARingIsAQueueThatIsReadByIndex(t *testing.T) {
	d := rand.New(rand.NewPCG(1, 2))
	var r ring.Ring[int]
	var model []int
	for step := range 30_000 {
		// Long runs of pushes, then long runs of pops, so that it grows and shrinks.
		if grows := step/5_000%2 == 0; len(model) == 0 || d.IntN(10) < 7 == grows {
			r.Push(step)
			model = append(model, step)
		} else {
			r.Pop()
			model = model[1:]
		}
		if r.Len() != len(model) {
			t.Fatalf("step %d: it has %d elements, want %d", step, r.Len(), len(model))
		}
		if len(model) > 0 {
			if i := d.IntN(len(model)); *r.At(i) != model[i] || *r.At(0) != model[0] || *r.At(len(model) - 1) != model[len(model)-1] {
				t.Fatalf("step %d: element %d of %d is %d, want %d", step, i, len(model), *r.At(i), model[i])
			}
		}
	}
}

func TestARingIsNotKeptLargeForABurst(t *testing.T) {
	var r ring.Ring[int]
	for i := range 100_000 {
		r.Push(i)
	}
	for range 99_000 {
		r.Pop()
	}
	if r.Cap() > 8*1000 {
		t.Errorf("it has room for %d elements, and 1000 of them", r.Cap())
	}
	for i := range 1000 {
		if *r.At(i) != 99_000+i {
			t.Fatalf("element %d is %d", i, *r.At(i))
		}
	}
}

func TestARingRefusesAnIndexThatIsNotThere(t *testing.T) {
	for _, i := range []int{-1, 2, 3, 16} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("element %d of 2", i)
				}
			}()
			var r ring.Ring[int]
			r.Push(1)
			r.Push(2)
			_ = *r.At(i)
		}()
	}
}
