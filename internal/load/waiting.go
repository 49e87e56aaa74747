package load

import "container/heap"

// queue is a first-in first-out queue of streams.
type queue struct {
	in, out []int32 // out is read from its end
}

func (q *queue) len() int { return len(q.in) + len(q.out) }

func (q *queue) push(i int32) { q.in = append(q.in, i) }

func (q *queue) pop() int32 {
	if len(q.out) == 0 {
		for n := len(q.in); n > 0; n-- {
			q.out = append(q.out, q.in[n-1])
		}
		q.in = q.in[:0]
	}
	i := q.out[len(q.out)-1]
	q.out = q.out[:len(q.out)-1]
	return i
}

// timer is a stream and when it may go on, in nanoseconds since 1970.
type timer struct {
	when   int64
	stream int32
}

// timers is a heap: the first is the next.
type timers []timer

func (t *timers) push(x timer) { heap.Push((*timerHeap)(t), x) }

func (t *timers) pop() int32 { return heap.Pop((*timerHeap)(t)).(timer).stream }

type timerHeap timers

var _ heap.Interface = (*timerHeap)(nil)

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].when < h[j].when }
func (h timerHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *timerHeap) Push(x any)        { *h = append(*h, x.(timer)) }
func (h *timerHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
