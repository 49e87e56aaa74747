package server

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// A server of idle streams allocates next to nothing, so Go's collector doesn't run; and what opening the streams took,
// several times what they keep, stays resident until it does. trim has it collected and given back while little happens.
const (
	trimInterval = 5 * time.Second
	trimQuiet    = 8 << 20 // bytes allocated in an interval, below which it is one in which little happens
	trimWorth    = 8 << 20 // bytes to gain, at least, and a quarter of what is in use
)

// trim runs until ctx ends.
func trim(ctx context.Context) {
	tick := time.NewTicker(trimInterval)
	defer tick.Stop()
	t := newTrimmer()
	for {
		select {
		case <-tick.C:
			t.look()
		case <-ctx.Done():
			return
		}
	}
}

// trimmer remembers what it saw at its last look.
type trimmer struct {
	heap
	trimmed heap // what it saw after the last collection
}

func newTrimmer() *trimmer {
	t := &trimmer{heap: newHeap()}
	t.read()
	return t
}

// look gives back what can be, if it may be worth it and little was allocated since the last look. It reports whether it
// did. What was allocated since the last collection is what there is to gain, at most.
func (t *trimmer) look() bool {
	before := t.allocated
	t.read()
	if t.allocated-before >= trimQuiet || t.allocated-t.trimmed.allocated < max(trimWorth, t.trimmed.resident/4) {
		return false
	}
	debug.FreeOSMemory()
	t.read()
	t.trimmed = t.heap
	return true
}

// heap is what Go says of its memory, in bytes.
type heap struct {
	samples []metrics.Sample

	allocated uint64 // since the program began
	resident  uint64 // of the heap
}

func newHeap() heap {
	var h heap
	for _, name := range [...]string{
		"/gc/heap/allocs:bytes",
		"/memory/classes/heap/objects:bytes",
		"/memory/classes/heap/unused:bytes",
		"/memory/classes/heap/free:bytes",
	} {
		h.samples = append(h.samples, metrics.Sample{Name: name})
	}
	return h
}

func (h *heap) read() {
	metrics.Read(h.samples)
	v := func(i int) uint64 { return h.samples[i].Value.Uint64() }
	h.allocated, h.resident = v(0), v(1)+v(2)+v(3)
}
