//go:build !linux

package engine

import (
	"net"
	"syscall"
)

// poller is there for Linux. Elsewhere every connection has a conn writer.
type poller struct{}

func (*poller) close() {}

// watch is none of a conn writer's: it reads in a goroutine of its own.
type watch struct{}

func (*watch) on() bool { return false }

func (*connWriter) watchable() syscall.RawConn { return nil }
func (*connWriter) watch(syscall.RawConn)      {}
func (*connWriter) unwatch()                   {}

func (*Stream) serveSocket(net.Conn, bool, int) bool { return false }
