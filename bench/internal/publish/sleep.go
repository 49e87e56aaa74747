package publish

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// sleepUntil returns at t, some 50 us late. Go's own timers may be a millisecond late in a process with nothing else to
// do, which would be counted as latency of the server.
func sleepUntil(t time.Time) {
	at := unix.NsecToTimespec(t.UnixNano())
	for errors.Is(unix.ClockNanosleep(unix.CLOCK_REALTIME, unix.TIMER_ABSTIME, &at, nil), unix.EINTR) {
	}
}
