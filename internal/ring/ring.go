// Package ring is the queue under the log, the index and the engine.
package ring

// Ring is a queue that is read by index: push at the end, pop at the front, At(0) the oldest. It is made of blocks, so that
// it never copies more than one of them: a log of 100,000 records that doubled held everybody up, and the collector too.
// Blocks go as they are popped empty, so that a burst is not kept for ever. The zero Ring is empty. It must not be used
// concurrently.
type Ring[T any] struct {
	blocks [][]T // each of blockSize, but for one that is alone
	head   int   // in the first block
	n      int
	spare  []T // a block that was popped empty
}

const (
	blockSize = 256
	minSize   = 16 // of a block that is alone
)

// Len returns how many elements there are.
func (r *Ring[T]) Len() int { return r.n }

// At returns the element at index i, 0 being the oldest. The pointer is good until the next Push or Pop.
func (r *Ring[T]) At(i int) *T {
	if uint(i) >= uint(r.n) {
		panic("ring: index out of range")
	}
	i += r.head
	return &r.blocks[i/blockSize][i%blockSize]
}

// Push adds the newest element.
func (r *Ring[T]) Push(v T) {
	end := r.head + r.n
	if len(r.blocks) == 1 && end == len(r.blocks[0]) && end < blockSize {
		end = r.room()
	}
	if end/blockSize == len(r.blocks) {
		r.grow()
	}
	r.blocks[end/blockSize][end%blockSize] = v
	r.n++
}

// room makes room in a block that is alone, and small, by moving what is there to its beginning, in a larger one if it is
// more than half full. It returns the index of the end.
func (r *Ring[T]) room() int {
	from := r.blocks[0]
	to := from
	if 2*r.n > len(from) {
		to = make([]T, 2*len(from))
	}
	copy(to, from[r.head:r.head+r.n])
	if &to[0] == &from[0] {
		clear(to[r.n:])
	}
	r.blocks[0], r.head = to, 0
	return r.n
}

// grow adds a block.
func (r *Ring[T]) grow() {
	block := r.spare
	r.spare = nil
	switch {
	case block != nil:
	case len(r.blocks) == 0:
		block = make([]T, minSize)
	default:
		block = make([]T, blockSize)
	}
	r.blocks = append(r.blocks, block)
}

// Pop drops the oldest, and returns it.
func (r *Ring[T]) Pop() T {
	first := r.blocks[0]
	v := *r.At(0)
	clear(first[r.head : r.head+1])
	r.head++
	r.n--
	switch {
	case r.head == blockSize:
		r.spare = first
		r.blocks[0] = nil
		r.blocks, r.head = r.blocks[1:], 0
	case r.n == 0:
		r.head = 0
	}
	return v
}

// Cap returns how many elements there is room for.
func (r *Ring[T]) Cap() int {
	size := len(r.spare)
	for _, b := range r.blocks {
		size += len(b)
	}
	return size
}
