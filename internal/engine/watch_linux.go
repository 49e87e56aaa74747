package engine

import (
	"crypto/tls"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// watch is how a conn writer over TLS knows that there is something to read: the poller tells it, of the socket below.
// So an idle one needs no goroutine, and no stack, that waits.
type watch struct {
	raw  syscall.RawConn // of the socket; nil if it isn't watched
	slot uint32          // in the poller
}

func (w *watch) on() bool { return w.raw != nil }

// watchable returns the socket below TLS, or nil where there is another connection, or no poller. What wraps a connection
// may have read what TLS has not, and no socket tells of that.
func (c *connWriter) watchable() syscall.RawConn {
	t, ok := c.conn.(*tls.Conn)
	if !ok {
		return nil
	}
	plain, ok := t.NetConn().(*net.TCPConn)
	if !ok || c.s.loop.poller.open(c.s.loop) != nil {
		return nil
	}
	raw, err := plain.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// watch begins, if it can.
func (c *connWriter) watch(raw syscall.RawConn) {
	var err error
	if raw.Control(func(fd uintptr) { c.watching.slot, err = c.s.loop.poller.add(c.s, int(fd)) }) != nil {
		return
	}
	c.watching.raw = raw
	if err != nil {
		c.unwatch()
	}
}

// unwatch ends it, before the connection is closed.
func (c *connWriter) unwatch() {
	w := &c.watching
	if w.raw == nil {
		return
	}
	remove := func(fd uintptr) { c.s.loop.poller.remove(w.slot, int(fd)) }
	if w.raw.Control(remove) != nil {
		remove(^uintptr(0)) // it is closed, which made the kernel forget it
	}
	w.raw = nil
}

// ready is told that there may be something to read.
func (c *connWriter) ready(events uint32) {
	if events&^unix.EPOLLOUT != 0 {
		c.look()
	}
}
