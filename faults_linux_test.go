package tidings_test

import (
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/internal/engine"
)

// vanish makes the kernel drop every packet for the client's socket: no acknowledgement, no FIN and no RST comes back
// any more, as from a machine whose power failed.
func vanish(t testing.TB, conn net.Conn) {
	t.Helper()
	if c, ok := conn.(*tls.Conn); ok {
		conn = c.NetConn()
	}
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	dropAll := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
	program := &unix.SockFprog{Len: uint16(len(dropAll)), Filter: &dropAll[0]}
	var setErr error
	if err := raw.Control(func(fd uintptr) {
		setErr = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, program)
	}); err != nil || setErr != nil {
		t.Fatal(err, setErr)
	}
}

// Row 13. The kernel's bound is 5 s at least, so all variants run at once.
func TestAPeerThatVanishesIsFoundWithinTheConnectionTimeout(t *testing.T) {
	const (
		heartbeat = 500 * time.Millisecond
		timeout   = 6 * time.Second
		grace     = 3 * time.Second // of the kernel's timers, and of a busy machine
	)
	checks := make(map[string]func(*testing.T))
	for _, c := range []struct {
		name     string
		protocol string
		busy     bool // events are being sent all the time, and the write is stuck
		reasons  []tidings.Reason
	}{
		{"idle", "HTTP 1.0", false, []tidings.Reason{tidings.ReasonLost}},
		{"idle", "HTTP 1.1", false, []tidings.Reason{tidings.ReasonLost}},
		{"idle", "HTTP 1.1 limited", false, []tidings.Reason{tidings.ReasonLost}},
		{"idle", "HTTP 1.1 TLS", false, []tidings.Reason{tidings.ReasonLost}},
		// net/http says only that the client has gone.
		{"idle", "HTTP 1.1 not hijackable", false, []tidings.Reason{tidings.ReasonClosed, tidings.ReasonLost}},
		{"idle", "HTTP 1.1 TLS not hijackable", false, []tidings.Reason{tidings.ReasonClosed, tidings.ReasonLost}},
		{"idle", "HTTP 2 h2c", false, []tidings.Reason{tidings.ReasonClosed, tidings.ReasonLost}},
		{"idle", "HTTP 2 TLS", false, []tidings.Reason{tidings.ReasonClosed, tidings.ReasonLost}},
		{"while it is written to", "HTTP 1.1", true, []tidings.Reason{tidings.ReasonSlow}},
		{"while it is written to", "HTTP 1.1 limited", true, []tidings.Reason{tidings.ReasonSlow}},
		{"while it is written to", "HTTP 1.1 TLS", true, []tidings.Reason{tidings.ReasonSlow}},
		{"while it is written to", "HTTP 1.1 not hijackable", true, []tidings.Reason{tidings.ReasonSlow, tidings.ReasonClosed, tidings.ReasonLost}},
		{"while it is written to", "HTTP 2 TLS", true, []tidings.Reason{tidings.ReasonSlow, tidings.ReasonClosed, tidings.ReasonLost}},
	} {
		o, ended := endings(tidings.Options{
			HeartbeatInterval: heartbeat, ConnectionTimeout: timeout,
			MaxQueuedEvents: 1 << 20, MaxQueuedBytes: 1 << 30, // so that it is the kernel that finds out
		})
		p := named(t, c.protocol)[0]
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := p.serve(t, tuned{t, l, heartbeat, timeout}, onlyTo(net.Dialer{}, l.Addr()), o, func(s *site) {
			s.patience = time.Minute
			// HTTP/2 probes by itself, and logs it.
			s.server.HTTP2 = &http.HTTP2Config{SendPingTimeout: heartbeat, PingTimeout: timeout - heartbeat}
			s.server.ErrorLog = log.New(io.Discard, "", 0)
		})
		s.open(t, "clientId=a")
		vanish(t, s.dialed.all()[0])
		start := time.Now()
		stop := make(chan struct{})
		var sending sync.WaitGroup
		sending.Go(func() {
			for c.busy {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
					_, _ = s.hub.NotifyClient(t.Context(), "a", "", tidings.Text(strings.Repeat("x", 64<<10)))
				}
			}
		})
		checks[c.protocol+" "+c.name] = func(t *testing.T) {
			e := await(t, ended)
			close(stop)
			sending.Wait()
			if took := e.at.Sub(start); took < time.Second || took > timeout+grace {
				t.Errorf("it was found after %v (%s, %v)", took, e.reason, e.err)
			}
			if !slices.Contains(c.reasons, e.reason) {
				t.Errorf("it ended: %s, %v; want one of %q", e.reason, e.err, c.reasons)
			}
			for c := range s.hub.Connections(tidings.Target{}) {
				t.Errorf("still online: %+v", c)
			}
			if r, err := s.hub.NotifyClient(t.Context(), "a", "", nil); err != nil || r.Matched != 0 {
				t.Errorf("%+v, %v", r, err)
			}
		}
	}
	for name, check := range checks {
		t.Run(name, check)
	}
}

// tuned is a listener as "tidings serve" makes it: its accepted sockets inherit how long a peer may be silent.
type tuned struct {
	testing.TB
	net.Listener
	heartbeat, timeout time.Duration
}

func (l tuned) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err == nil {
		err = engine.TuneSocket(raw, l.heartbeat, l.timeout)
	}
	if err != nil {
		l.Error(err)
	}
	return c, nil
}
