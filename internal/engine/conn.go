package engine

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"
)

// maxUnread is how much a client may send after its request before its stream ends. Nothing is expected of it.
const maxUnread = 4 << 10

// connWriter owns a net.Conn that net/http has let go of.
type connWriter struct {
	s       *Stream
	conn    net.Conn
	chunked bool          // the response was begun with Transfer-Encoding: chunked
	over    chan struct{} // closed by close
}

// ServeConn writes the stream to a hijacked connection from now on, and returns at once. The head of the response and
// whatever is to stand before the first frame were written. chunked says that the body is chunked; unread is the number
// of bytes that the client sent after its request and net/http has read.
func (s *Stream) ServeConn(conn net.Conn, chunked bool, unread int) {
	tune(conn, s.engine.cfg)
	c := &connWriter{s: s, conn: conn, chunked: chunked, over: make(chan struct{})}
	s.engine.wg.Go(func() {
		if s.serve(c) {
			c.read(unread)
		}
		s.pumps.Wait()
		s.owner.Ended(s.result())
	})
}

// read returns when the connection has ended: the peer's end is learned by reading.
func (c *connWriter) read(unread int) {
	buf := make([]byte, 64) // kept for as long as the connection lives
	for {
		if unread > maxUnread {
			c.s.finish(Lost, fmt.Errorf("it sent more than %d bytes after its request", maxUnread))
			return
		}
		n, err := c.conn.Read(buf)
		unread += n
		switch {
		case err == nil:
			continue
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrClosedPipe):
			if c.s.writing() {
				c.giveWay(10 * time.Millisecond) // longer than it takes a goroutine that was woken to run, mostly
			}
			c.s.finish(Closed, nil)
		default:
			c.s.lose(err)
		}
		return
	}
}

func (c *connWriter) start() { c.s.pumps.Go(c.s.pump) }

func (c *connWriter) write(batch []*Frame) error {
	form := (*Frame).Block
	if c.chunked {
		form = (*Frame).Chunk
	}
	err := c.s.engine.gather(batch, form, func(b []byte) error {
		return c.s.inPieces(b, func(piece []byte) error {
			if err := c.conn.SetWriteDeadline(time.Now().Add(c.s.engine.cfg.Timeout)); err != nil {
				return err
			}
			_, err := c.conn.Write(piece)
			return err
		})
	})
	if errors.Is(err, syscall.EPIPE) {
		c.giveWay(time.Second) // the read ends too
	}
	return err
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
	c.s.engine.wg.Go(func() { _ = c.conn.Close() })
}

// gather has the batch written in one piece.
func (e *Engine) gather(batch []*Frame, form func(*Frame) []byte, write func([]byte) error) error {
	if len(batch) == 1 {
		return write(form(batch[0]))
	}
	scratch := e.scratch.Get().(*[]byte)
	b := (*scratch)[:0]
	for _, f := range batch {
		b = append(b, form(f)...)
	}
	err := write(b)
	if cap(b) <= 2*batchBytes { // a single large frame must not stay in the pool
		*scratch = b
		e.scratch.Put(scratch)
	}
	return err
}
