// Package ring is the queue under the log, the index and the engine.
package ring

// Ring is a queue that is read by index: push at the end, pop at the front, At(0) the oldest. It grows by doubling and
// shrinks when it is a quarter full, so that a burst is not kept for ever. The zero Ring is empty. It must not be used
// concurrently.
type Ring[T any] struct {
	buf  []T // its length is zero or a power of two
	head int
	n    int
}

const minSize = 16

// Len returns how many elements there are.
func (r *Ring[T]) Len() int { return r.n }

// At returns the element at index i, 0 being the oldest. The pointer is good until the next Push or Pop.
func (r *Ring[T]) At(i int) *T {
	if uint(i) >= uint(r.n) {
		panic("ring: index out of range")
	}
	return &r.buf[(r.head+i)&(len(r.buf)-1)]
}

// Push adds the newest element.
func (r *Ring[T]) Push(v T) {
	if r.n == len(r.buf) {
		r.resize(max(minSize, 2*r.n))
	}
	r.buf[(r.head+r.n)&(len(r.buf)-1)] = v
	r.n++
}

// Pop drops the oldest, and returns it.
func (r *Ring[T]) Pop() T {
	v := *r.At(0)
	clear(r.buf[r.head : r.head+1])
	r.head = (r.head + 1) & (len(r.buf) - 1)
	r.n--
	if len(r.buf) > 1024 && r.n == len(r.buf)/4 {
		r.resize(len(r.buf) / 2)
	}
	return v
}

// Cap returns how many elements there is room for.
func (r *Ring[T]) Cap() int { return len(r.buf) }

func (r *Ring[T]) resize(size int) {
	buf := make([]T, size)
	for i := range r.n {
		buf[i] = *r.At(i)
	}
	r.buf, r.head = buf, 0
}
