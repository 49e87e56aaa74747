package tidings

// ring is a queue that is read by index: push at the end, pop at the front, at(0) the oldest. It grows by doubling and
// shrinks when it is a quarter full, so that a burst is not kept for ever. The zero ring is empty.
type ring[T any] struct {
	buf  []T // its length is zero or a power of two
	head int
	n    int
}

const minRing = 16

func (r *ring[T]) len() int { return r.n }

// at returns the element at index i, 0 being the oldest. The pointer is good until the next push or pop.
func (r *ring[T]) at(i int) *T {
	if uint(i) >= uint(r.n) {
		panic("ring: index out of range")
	}
	return &r.buf[(r.head+i)&(len(r.buf)-1)]
}

func (r *ring[T]) push(v T) {
	if r.n == len(r.buf) {
		r.resize(max(minRing, 2*r.n))
	}
	r.buf[(r.head+r.n)&(len(r.buf)-1)] = v
	r.n++
}

// pop drops the oldest.
func (r *ring[T]) pop() {
	clear(r.buf[r.head : r.head+1])
	r.head = (r.head + 1) & (len(r.buf) - 1)
	r.n--
	if len(r.buf) > 1024 && r.n == len(r.buf)/4 {
		r.resize(len(r.buf) / 2)
	}
}

func (r *ring[T]) resize(size int) {
	buf := make([]T, size)
	for i := range r.n {
		buf[i] = *r.at(i)
	}
	r.buf, r.head = buf, 0
}
