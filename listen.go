package tidings

import (
	"syscall"

	"github.com/tidings-sse/tidings/internal/engine"
)

// ListenControl returns a [net.ListenConfig.Control] for the listener of the server that a hub with these options is
// part of: accepted sockets inherit that what was written must be acknowledged within ConnectionTimeout. nil options
// are the defaults.
//
// The hub does this itself for the connections that it takes over from net/http, which is HTTP/1.1. It can't for HTTP/2,
// nor where a middleware hides the connection: there, a peer that vanishes without a word is found only with it, and,
// for HTTP/2, with [net/http.HTTP2Config.SendPingTimeout] and PingTimeout, whose sum should be below ConnectionTimeout.
// It does something on Linux only; set KeepAlive elsewhere.
func ListenControl(o *Options) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		opts, err := o.withDefaults()
		if err != nil {
			return err
		}
		return engine.TuneSocket(c, opts.HeartbeatInterval, opts.ConnectionTimeout)
	}
}
