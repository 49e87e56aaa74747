package tidings

import (
	"sync"
	"time"
)

// A rate bounds how often each key may do something: on average perSecond times a second, and as often at once. It keeps
// one time for each key that did something of late (the generic cell rate algorithm), and none while there is no bound.
// It may be used concurrently.
type rate[K comparable] struct {
	every time.Duration // between two of one key, on average; 0 is no bound

	mu     sync.Mutex      // guards what follows
	free   map[K]time.Time // when the key has used nothing of what it may do at once
	sweeps int             // at how many keys those that are free are forgotten
}

const minRateSweep = 1024 // keys

func newRate[K comparable](perSecond int) *rate[K] {
	r := &rate[K]{}
	if perSecond > 0 {
		r.every = max(time.Second/time.Duration(perSecond), 1)
		r.free, r.sweeps = make(map[K]time.Time), minRateSweep
	}
	return r
}

// take counts one more of a key, and returns 0; or it doesn't, and returns how long to wait until it would.
func (r *rate[K]) take(k K) (wait time.Duration) {
	if r.every == 0 {
		return 0
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	at := r.free[k]
	if at.Before(now) {
		at = now
	}
	if wait := at.Sub(now) - (max(time.Second, r.every) - r.every); wait > 0 {
		return wait
	}
	r.free[k] = at.Add(r.every)
	if len(r.free) >= r.sweeps {
		for k, at := range r.free {
			if !now.Before(at) {
				delete(r.free, k)
			}
		}
		r.sweeps = max(2*len(r.free), minRateSweep)
	}
	return 0
}
