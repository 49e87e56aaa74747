package engine

import (
	"net"
	"time"
)

// minUserTimeout leaves room for a few retransmissions.
const minUserTimeout = 5 * time.Second

// UserTimeout is how long what was written may stay unacknowledged, so that a peer that vanishes right after a
// heartbeat is found within timeout: the next heartbeat is written, and has the rest of the time.
func UserTimeout(heartbeat, timeout time.Duration) time.Duration {
	return max(timeout-heartbeat, minUserTimeout)
}

// innermost returns the connection below TLS, or conn.
func innermost(conn net.Conn) net.Conn {
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
		return t.NetConn()
	}
	return conn
}

// discard closes a connection at once: what was not sent is dropped and not kept in the kernel for a peer that doesn't
// read. A write under way fails.
func discard(conn net.Conn) {
	inner := innermost(conn)
	if tc, ok := inner.(*net.TCPConn); ok {
		_ = tc.SetLinger(0)
	}
	_ = inner.Close()
}
