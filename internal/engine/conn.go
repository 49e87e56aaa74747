package engine

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// maxUnread is how much a client may send after its request before its stream ends. Nothing is expected of it.
const maxUnread = 4 << 10

var errUnread = fmt.Errorf("it sent more than %d bytes after its request", maxUnread)

// connWriter owns a net.Conn that net/http has let go of and whose socket a loop can't have: TLS, what wraps a connection,
// a pipe. A goroutine is there while a batch is written. Another one reads: for as long as the connection lasts, or, where
// the socket below can be watched, while there is something to read.
type connWriter struct {
	s       *Stream
	conn    net.Conn
	writing atomic.Bool
	over    chan struct{} // closed by close
	unread  int           // bytes that the client sent after its request; the reading goroutine's

	// The loop's own.
	watching watch
	reading  bool // there is a goroutine that reads
	again    bool // and meanwhile there was something new to read
}

// quiet is how long nothing must come until the goroutine that reads a watched connection ends.
const quiet = 100 * time.Millisecond

// ServeConn writes the stream to a hijacked connection from now on, and returns at once. The head of the response and
// whatever is to stand before the first frame were written. chunked says that the body is chunked; unread is the number
// of bytes that the client sent after its request and net/http has read.
func (s *Stream) ServeConn(conn net.Conn, chunked bool, unread int) {
	tune(conn, s.loop.engine.cfg)
	if s.serveSocket(conn, chunked, unread) {
		return
	}
	c := &connWriter{s: s, conn: conn, over: make(chan struct{}), unread: unread}
	raw := c.watchable()
	s.loop.engine.writers.Add(1) // until close is done
	if raw == nil {
		c.reading = true
		s.loop.engine.writers.Go(func() { c.read(false) }) // first: once the loop has it, it may end
	}
	s.loop.inbox.do(func() {
		if raw != nil {
			c.watch(raw)
			c.look() // what came before it was watched is no change
		}
		s.loop.attach(s, c, chunked)
	})
}

// look has the connection read, because there may be something to read.
func (c *connWriter) look() {
	if c.reading {
		c.again = true
		return
	}
	c.reading = true
	watched := c.watching.on()
	c.s.loop.engine.writers.Go(func() { c.read(watched) })
}

// rest is told that the goroutine has found nothing more to read.
func (c *connWriter) rest() {
	c.reading = false
	if c.again && c.s.phase != ended {
		c.again = false
		c.look()
	}
}

// read reads and forgets what the client sends, up to a bound. It returns when the connection has ended: the peer's end is
// learned by reading.
func (c *connWriter) read(watched bool) {
	buf := make([]byte, 64) // kept for as long as it reads
	for {
		if c.unread > maxUnread {
			c.s.lose(errUnread)
			return
		}
		if watched {
			_ = c.conn.SetReadDeadline(time.Now().Add(quiet)) // if it fails, so does Read
		}
		n, err := c.conn.Read(buf)
		c.unread += n
		switch {
		case err == nil:
			continue
		case watched && errors.Is(err, os.ErrDeadlineExceeded):
			c.s.loop.inbox.do(c.rest)
			return
		case c.writing.Load() && peerClosed(err):
			c.giveWay(25 * time.Millisecond) // longer than it takes a goroutine that was woken to run, on a busy machine too
		}
		c.s.lose(err)
		return
	}
}

// peerClosed reports whether an error is how reading a connection says that the peer has ended it in order.
func peerClosed(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) }

func (c *connWriter) write(b []byte) (n int, parked bool, err error) {
	e := c.s.loop.engine
	batch := e.take(b)
	n = len(*batch) // now: it is given back when it was written
	c.writing.Store(true)
	e.writers.Go(func() {
		err := c.conn.SetWriteDeadline(time.Now().Add(e.cfg.Timeout))
		if err == nil {
			_, err = c.conn.Write(*batch)
		}
		c.writing.Store(err != nil) // a failure is still to be told of: read gives way to it
		e.give(batch)
		if errors.Is(err, syscall.EPIPE) {
			c.giveWay(time.Second) // the read ends too
		}
		c.s.writable(err)
	})
	return n, true, nil
}

// giveWay lets the other direction say first how the connection ended. A socket tells why it broke only once, to a read
// or to a write; after that, a read finds the end of the stream, and a write a broken pipe.
func (c *connWriter) giveWay(most time.Duration) {
	select {
	case <-c.over:
	case <-time.After(most):
	}
}

func (c *connWriter) window() (granted uint64, shut bool) { return windowOf(c.conn) }

func (c *connWriter) close(abort bool) {
	close(c.over)
	c.unwatch()
	if abort {
		discard(c.conn)
	}
	// TLS may want to write an alert first, which can block; and what wraps a connection may count those that are open.
	go func() {
		defer c.s.loop.engine.writers.Done()
		_ = c.conn.Close()
	}()
}

// take copies the first part of b, to be written in another goroutine than the loop's: at most batchBytes, so that what
// follows is seen as progress.
func (e *Engine) take(b []byte) *[]byte {
	batch := e.batches.Get().(*[]byte)
	*batch = append((*batch)[:0], b[:min(len(b), batchBytes)]...)
	return batch
}

// give gives back what take returned.
func (e *Engine) give(batch *[]byte) { e.batches.Put(batch) }
