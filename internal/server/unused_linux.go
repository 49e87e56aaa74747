package server

import (
	"net"

	"golang.org/x/sys/unix"
)

// isSilent reports whether no byte ever came on a connection: the kernel counts them.
func isSilent(c net.Conn) bool {
	t, ok := underTLS(c).(*net.TCPConn)
	if !ok {
		return false
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return false
	}
	silent := false
	err = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		silent = err == nil && info.Bytes_received == 0
	})
	return err == nil && silent
}
