package server

import (
	"errors"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"
)

const (
	acceptFirstWait = 5 * time.Millisecond // after an accept that failed, doubled up to the most
	acceptMostWait  = 250 * time.Millisecond
	acceptLogEvery  = 10 * time.Second // one line for all that failed meanwhile
)

// A listener accepts connections for as long as it is open: where the system lacks what a connection needs, it waits and
// tries again, and counts and logs that. Those who connect meanwhile wait in the kernel's queue.
type listener struct {
	net.Listener
	log   *slog.Logger
	files int           // the limit on open files; 0 is unknown
	done  chan struct{} // closed by Close
	close func() error

	mu       sync.Mutex // guards what follows
	failures uint64     // accepts that failed
	told     uint64     // of those, when it was logged last
	toldAt   time.Time
	last     error
	lastAt   time.Time
}

var _ net.Listener = (*listener)(nil)

func newListener(ln net.Listener, files int, log *slog.Logger) *listener {
	l := &listener{Listener: ln, log: log, files: files, done: make(chan struct{})}
	l.close = sync.OnceValue(func() error {
		close(l.done)
		return ln.Close()
	})
	return l
}

// Accept returns the next connection. It fails when the listener is closed or broken.
func (l *listener) Accept() (net.Conn, error) {
	for wait := acceptFirstWait; ; wait = min(2*wait, acceptMostWait) {
		conn, err := l.Listener.Accept()
		if err == nil || !passes(err) {
			return conn, err
		}
		l.failed(err)
		select {
		case <-time.After(wait):
		case <-l.done:
			return nil, net.ErrClosed
		}
	}
}

// Close ends Accept.
func (l *listener) Close() error { return l.close() }

// passes reports whether what an accept lacks may be there later. ENOSPC is what registering the connection with epoll
// says. What net/http would retry is among them; the rest would end the server.
func passes(err error) bool {
	for _, e := range [...]syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ENOSPC} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

const remedyOpenFiles = "raise the limit on open files (ulimit -n, or LimitNOFILE= of a systemd unit), or lower --max-connections"

// remedy says what to do about an accept that failed.
func remedy(err error) string {
	switch {
	case errors.Is(err, syscall.EMFILE):
		return remedyOpenFiles
	case errors.Is(err, syscall.ENFILE):
		return "raise the machine's limit on open files (sysctl fs.file-max), or lower --max-connections"
	case errors.Is(err, syscall.ENOSPC):
		return "raise the machine's limit on what is watched (sysctl fs.epoll.max_user_watches), or lower --max-connections"
	}
	return "give the machine more memory, or lower --max-connections"
}

// failed counts an accept that failed, and says so in the log, not more often than it can be read.
func (l *listener) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.failures++
	l.last, l.lastAt = err, now
	if l.told > 0 && now.Sub(l.toldAt) < acceptLogEvery {
		return
	}
	l.log.Error(logAcceptFailed, keyError, err, keyFailures, l.failures-l.told, keyLimit, l.files, keyRemedy, remedy(err))
	l.told, l.toldAt = l.failures, now
}

// state returns how many accepts have failed since the start, and with what they fail now; nil if they don't.
func (l *listener) state() (failures uint64, failing error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.lastAt) <= 2*acceptMostWait {
		failing = l.last
	}
	return l.failures, failing
}
