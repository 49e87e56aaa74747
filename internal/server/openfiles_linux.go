package server

import (
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// raiseOpenFiles raises this process's limit on open files to the most that it may be, and returns what it is then.
// Go's os package does the same when a program starts, but doesn't promise it, and says nothing where it fails.
func raiseOpenFiles() (int, error) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 0, fmt.Errorf("the limit on open files can't be read: %w", err)
	}
	if r.Cur < r.Max {
		raised := unix.Rlimit{Cur: r.Max, Max: r.Max}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &raised); err != nil {
			return whole(r.Cur), fmt.Errorf("the limit on open files can't be raised from %d to %d: %w", r.Cur, r.Max, err)
		}
		r = raised
	}
	return whole(r.Cur), nil
}

func whole(n uint64) int { return int(min(n, math.MaxInt)) }
