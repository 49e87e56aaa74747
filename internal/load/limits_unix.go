//go:build unix

package load

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// RaiseDescriptors raises the number of file descriptors that the process may have to its hard limit, and returns it.
func RaiseDescriptors() (uint64, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("the limit of file descriptors can't be read: %w", err)
	}
	if limit.Cur < limit.Max {
		raised := limit
		raised.Cur = limit.Max
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &raised); err == nil { // else it stays: macOS allows less than it says
			limit = raised
		}
	}
	return uint64(limit.Cur), nil
}
