package engine

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// notSent bounds what the kernel holds that was not sent yet: a reader that stalls otherwise pins 4 MB of it.
const notSent = 64 << 10

// tune makes the kernel end a connection whose peer acknowledges nothing for the timeout. Write deadlines don't: the
// heartbeats of an hour fit into the send buffer. Other connections than TCP are left as they are.
func tune(conn net.Conn, cfg Config) {
	tc, ok := innermost(conn).(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := tc.SyscallConn()
	if err != nil {
		return
	}
	_ = TuneSocket(raw, cfg.Heartbeat, cfg.Timeout)
}

// TuneSocket is tune for a socket, or for a listener, whose accepted sockets inherit it.
func TuneSocket(raw syscall.RawConn, heartbeat, timeout time.Duration) error {
	ms := int(UserTimeout(heartbeat, timeout).Milliseconds())
	var err error
	ctlErr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, ms)
		if err == nil {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSent)
		}
		if err == nil {
			// Heartbeats are the probe. Keepalive probes would add traffic, and answer for a dead program.
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0)
		}
	})
	if ctlErr != nil {
		return ctlErr
	}
	return err
}
