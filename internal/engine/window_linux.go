package engine

import (
	"net"

	"golang.org/x/sys/unix"
)

// window says what the kernel knows of a TCP socket's peer, as a writer's window does. The end of the receive window
// moves when the peer's program reads, and not when what is left of the window is filled. Once the window is too small
// for what is to be sent, the kernel probes it, less and less often (RFC 9293, 3.8.6.1); a probe that moves nothing makes
// it back off. The first comes after 200 ms at the earliest and the second after 600: a busy peer may miss one.
func window(fd int) (granted uint64, shut bool) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil { // it isn't TCP
		return 0, true
	}
	return info.Bytes_acked + uint64(info.Snd_wnd), info.Backoff > 1
}

// windowOf is window for the socket below a connection, if there is one.
func windowOf(conn net.Conn) (granted uint64, shut bool) {
	shut = true
	if tc, ok := innermost(conn).(*net.TCPConn); ok {
		if raw, err := tc.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { granted, shut = window(int(fd)) }) // fails where it is closed
		}
	}
	return granted, shut
}
