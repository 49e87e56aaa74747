package natsbroker

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// histogram counts times in steps that double, from a microsecond on.
type histogram struct{ steps [40]atomic.Uint64 }

func (h *histogram) add(d time.Duration) {
	h.steps[min(bits.Len64(uint64(d.Microseconds())), len(h.steps)-1)].Add(1)
}

// quantile returns the time that this share of what was counted did not exceed, rounded up to its step; zero if there was
// nothing.
func (h *histogram) quantile(share float64) time.Duration {
	var n [len(h.steps)]uint64
	var total uint64
	for i := range h.steps {
		n[i] = h.steps[i].Load()
		total += n[i]
	}
	if total == 0 {
		return 0
	}
	left := max(1, uint64(math.Ceil(share*float64(total))))
	for i := range n {
		if n[i] >= left {
			return time.Duration(uint64(1)<<i) * time.Microsecond
		}
		left -= n[i]
	}
	return 0
}
