package publish

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// An alarm sleeps until a time, for one goroutine. Go's own timers may be a millisecond late in a process with nothing else
// to do, and a thread that sleeps in the kernel keeps one of Go's processors, which the runtime's monitor then looks at
// every 20 us: either would be counted as the server's. So it is a descriptor, waited for as a socket is.
type alarm struct{ file *os.File }

func newAlarm() (alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return alarm{}, fmt.Errorf("timerfd_create: %w", err)
	}
	return alarm{os.NewFile(uintptr(fd), "timerfd")}, nil
}

// sleepUntil returns at t, or at once if that is past.
func (a alarm) sleepUntil(t time.Time) error {
	raw, err := a.file.SyscallConn()
	if err != nil {
		return err
	}
	at := unix.ItimerSpec{Value: unix.NsecToTimespec(t.UnixNano())}
	ctl := raw.Control(func(fd uintptr) { err = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME, &at, nil) })
	if ctl != nil {
		return ctl
	}
	if err != nil {
		return fmt.Errorf("timerfd_settime: %w", err)
	}
	var expirations [8]byte
	_, err = a.file.Read(expirations[:])
	return err
}

func (a alarm) close() { _ = a.file.Close() }
