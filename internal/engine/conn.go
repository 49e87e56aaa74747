package engine

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// maxUnread is how much a client may send after its request before its stream ends. Nothing is expected of it.
const maxUnread = 4 << 10

var errUnread = fmt.Errorf("it sent more than %d bytes after its request", maxUnread)

// connWriter owns a net.Conn that net/http has let go of and whose socket a loop can't have: TLS, what wraps a connection,
// a pipe. A goroutine reads, for as long as the connection lasts; another one is there while a batch is written.
type connWriter struct {
	s       *Stream
	conn    net.Conn
	writing atomic.Bool
	over    chan struct{} // closed by close
}

// ServeConn writes the stream to a hijacked connection from now on, and returns at once. The head of the response and
// whatever is to stand before the first frame were written. chunked says that the body is chunked; unread is the number
// of bytes that the client sent after its request and net/http has read.
func (s *Stream) ServeConn(conn net.Conn, chunked bool, unread int) {
	tune(conn, s.loop.engine.cfg)
	if s.serveSocket(conn, chunked, unread) {
		return
	}
	c := &connWriter{s: s, conn: conn, over: make(chan struct{})}
	s.loop.engine.writers.Add(1)                        // until close is done
	s.loop.engine.writers.Go(func() { c.read(unread) }) // first: once the loop has it, it may end
	s.loop.inbox.do(func() { s.loop.attach(s, c, chunked) })
}

// read returns when the connection has ended: the peer's end is learned by reading.
func (c *connWriter) read(unread int) {
	buf := make([]byte, 64) // kept for as long as the connection lives
	for {
		if unread > maxUnread {
			c.s.lose(errUnread)
			return
		}
		n, err := c.conn.Read(buf)
		unread += n
		if err == nil {
			continue
		}
		if c.writing.Load() && peerClosed(err) {
			c.giveWay(50 * time.Millisecond) // longer than it takes a goroutine that was woken to run, on a busy machine too
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

func (c *connWriter) close(abort bool) {
	close(c.over)
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
