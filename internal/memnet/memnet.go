// Package memnet is a network in memory, for tests: a real http.Server and a real http.Client talk over it inside a
// testing/synctest bubble, where sockets can't be used because the bubble's clock would not wait for them.
//
// A connection buffers a bounded number of bytes each way, as a socket does, so that a peer that doesn't read makes
// writes block. It has deadlines. Its end arrives after what was written before.
package memnet

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Listener accepts the connections that its Dial makes. Its methods may be called concurrently.
type Listener struct {
	size  int
	conns chan net.Conn // unbuffered: a connection is dialed when it is accepted
	done  chan struct{}
	once  sync.Once
}

var _ net.Listener = (*Listener)(nil)

// Listen returns a listener whose connections buffer size bytes each way.
func Listen(size int) *Listener {
	return &Listener{size: size, conns: make(chan net.Conn), done: make(chan struct{})}
}

// Dial returns the client's end of a new connection.
func (l *Listener) Dial(ctx context.Context) (*Conn, error) {
	client, server := Pipe(l.size)
	select {
	case l.conns <- server:
		return client, nil
	case <-l.done:
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	case <-ctx.Done():
		return nil, &net.OpError{Op: "dial", Net: network, Err: context.Cause(ctx)}
	}
}

// DialContext is Dial for an http.Transport, whatever the address.
func (l *Listener) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	c, err := l.Dial(ctx)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Accept returns the server's end of the next connection.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept and refuses Dial. Connections stay.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr returns an address that names no place.
func (l *Listener) Addr() net.Addr { return addr{} }

const network = "memory"

type addr struct{}

func (addr) Network() string { return network }
func (addr) String() string  { return network }

// Conn is one end of a connection. Its methods may be called concurrently.
type Conn struct {
	link *link
	in   *flow // from the peer
	out  *flow // to the peer

	// Guarded by link.mu.
	closed      bool
	read, write deadline
}

var _ net.Conn = (*Conn)(nil)

// A link is what both ends share.
type link struct {
	mu   sync.Mutex
	cond sync.Cond // with mu: anything has changed
	size int
}

// A flow is what one end has written and the other not read yet. Guarded by link.mu.
type flow struct {
	buf   []byte
	ended bool  // the writer has closed its end
	gone  bool  // the reader has closed its end
	err   error // what both ends get: the connection was broken
}

type deadline struct {
	at    time.Time   // zero is none
	timer *time.Timer // wakes those who wait
}

// Pipe returns both ends of a connection that buffers size bytes each way.
func Pipe(size int) (*Conn, *Conn) {
	l := &link{size: size}
	l.cond.L = &l.mu
	a, b := new(flow), new(flow)
	return &Conn{link: l, in: a, out: b}, &Conn{link: l, in: b, out: a}
}

// Read returns what has arrived, at least one byte.
func (c *Conn) Read(b []byte) (int, error) {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	for {
		switch {
		case c.closed:
			return 0, c.error("read", net.ErrClosed)
		case c.in.err != nil:
			return 0, c.error("read", c.in.err)
		case c.read.passed():
			return 0, c.error("read", os.ErrDeadlineExceeded)
		case len(b) == 0:
			return 0, nil
		case len(c.in.buf) > 0:
			n := copy(b, c.in.buf)
			c.in.buf = c.in.buf[n:]
			c.link.cond.Broadcast()
			return n, nil
		case c.in.ended:
			return 0, io.EOF
		}
		c.link.cond.Wait()
	}
}

// Write returns when all of b is in the buffer.
func (c *Conn) Write(b []byte) (n int, err error) {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	for {
		switch {
		case c.closed:
			return n, c.error("write", net.ErrClosed)
		case c.out.err != nil:
			return n, c.error("write", c.out.err)
		case c.out.gone:
			return n, c.error("write", syscall.EPIPE)
		case c.write.passed():
			return n, c.error("write", os.ErrDeadlineExceeded)
		case n == len(b):
			return n, nil
		}
		if room := c.link.size - len(c.out.buf); room > 0 {
			part := b[n:min(len(b), n+room)]
			c.out.buf = append(c.out.buf, part...)
			n += len(part)
			c.link.cond.Broadcast()
			continue
		}
		c.link.cond.Wait()
	}
}

func (c *Conn) error(op string, err error) error {
	return &net.OpError{Op: op, Net: network, Source: addr{}, Addr: addr{}, Err: err}
}

// Close ends the connection. The peer reads what was written, then io.EOF; what it writes fails.
func (c *Conn) Close() error {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	if c.closed {
		return c.error("close", net.ErrClosed)
	}
	c.closed = true
	c.out.ended, c.in.gone = true, true
	c.in.buf = nil
	c.read.stop()
	c.write.stop()
	c.link.cond.Broadcast()
	return nil
}

// Break makes all calls of both ends fail with err, those under way too: syscall.ECONNRESET is a reset,
// syscall.ETIMEDOUT what TCP says of a peer that has vanished.
func (c *Conn) Break(err error) {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	c.in.err, c.out.err = err, err
	c.link.cond.Broadcast()
}

// LocalAddr returns an address that names no place.
func (c *Conn) LocalAddr() net.Addr { return addr{} }

// RemoteAddr returns an address that names no place.
func (c *Conn) RemoteAddr() net.Addr { return addr{} }

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	return c.set(t, &c.read, &c.write)
}

// SetReadDeadline bounds Read, also one under way. The zero time is no bound.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.set(t, &c.read) }

// SetWriteDeadline bounds Write, also one under way. The zero time is no bound.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.set(t, &c.write) }

func (c *Conn) set(t time.Time, ds ...*deadline) error {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	if c.closed {
		return c.error("set", net.ErrClosed)
	}
	for _, d := range ds {
		c.setOne(t, d)
	}
	c.link.cond.Broadcast()
	return nil
}

func (c *Conn) setOne(t time.Time, d *deadline) {
	d.stop()
	d.at = t
	if t.IsZero() {
		return
	}
	left := time.Until(t)
	if left <= 0 {
		return // set wakes who waits; Go's race detector can crash on two timers of a synctest bubble that are due at once
	}
	d.timer = time.AfterFunc(left, func() {
		c.link.mu.Lock()
		defer c.link.mu.Unlock()
		c.link.cond.Broadcast()
	})
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
	}
	*d = deadline{}
}
