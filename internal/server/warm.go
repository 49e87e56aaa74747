package server

import (
	"context"
	"runtime/debug"
	"time"
)

// Reading a long log at the start makes several times as much garbage as is kept of it. Until it is read, Go's collector is
// to run more often than by default: the program then takes half as much more than it keeps, and not as much again.
const (
	warmPercent  = 40 // GOGC; a lower one that was asked for stays
	warmInterval = 100 * time.Millisecond
)

// warm returns when the hub is ready, or ctx ends.
func warm(ctx context.Context, ready func() error) {
	was := debug.SetGCPercent(warmPercent)
	defer debug.SetGCPercent(was)
	if was < warmPercent { // also where it is off, which is negative
		return
	}
	tick := time.NewTicker(warmInterval)
	defer tick.Stop()
	for ready() != nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
