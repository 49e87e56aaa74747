//go:build !linux

package engine

import (
	"net"
	"syscall"
	"time"
)

// tune leaves the connection as it is: keepalive probes, which net/http turns on, find a dead peer here.
func tune(net.Conn, Config) {}

// TuneSocket does nothing on this system.
func TuneSocket(syscall.RawConn, time.Duration, time.Duration) error { return nil }
