package main

import (
	"fmt"
	"runtime"
	"syscall"
	"time"

	"github.com/tidings-sse/tidings/bench/internal/proc"
)

// others is how much of the machine had gone to other programs when a run began.
type others struct {
	at   time.Time
	used time.Duration
}

func startOthers() others { return others{time.Now(), usedByOthers()} }

// note says how much of the machine went to other programs since. It is empty if that can't be known.
func (o others) note() string {
	used := usedByOthers() - o.used
	all := time.Since(o.at) * time.Duration(runtime.NumCPU())
	if o.used == 0 || all <= 0 {
		return ""
	}
	share := max(0, 100*float64(used)/float64(all))
	note := fmt.Sprintf("Other programs used %.1f %% of the machine's CPU time meanwhile.", share)
	const disturbs = 5 // percent
	if share > disturbs {
		note += " That disturbs it: the latencies above all, and what is not a ratio."
	}
	return note
}

// usedByOthers returns the CPU time that was used by what is neither this process nor a child of it that has ended.
func usedByOthers() time.Duration {
	busy, err := proc.Busy()
	if err != nil {
		return 0
	}
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if syscall.Getrusage(who, &u) == nil {
			busy -= time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return busy
}
