//go:build !linux

package engine

import "net"

// poller is there for Linux. Elsewhere every connection has a conn writer.
type poller struct{}

func (*poller) close() {}

func (*Stream) serveSocket(net.Conn, bool, int) bool { return false }
