package engine

import (
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// socketWriter owns a plain socket that was detached from its net.Conn. Only its loop touches it.
type socketWriter struct {
	s      *Stream
	fd     int32
	slot   uint32 // in the poller
	unread int32  // bytes that the client sent after its request
}

// serveSocket is ServeConn for a connection that is a socket and nothing else. It reports false, and has changed nothing,
// when it isn't, or when there are no descriptors left.
func (s *Stream) serveSocket(conn net.Conn, chunked bool, unread int) bool {
	var plain syscall.Conn
	switch c := conn.(type) { // exactly these: what wraps one wants to see what is written
	case *net.TCPConn:
		plain = c
	case *net.UnixConn:
		plain = c
	default:
		return false
	}
	if s.loop.poller.open(s.loop) != nil {
		return false
	}
	fd, err := detach(plain)
	if err != nil {
		return false
	}
	_ = conn.Close() // Go's own descriptor and its poller's knowledge of it; the socket lives on in ours
	w := &socketWriter{s: s, fd: int32(fd), unread: int32(min(unread, maxUnread+1))}
	s.loop.inbox.do(func() {
		if w.slot, err = s.loop.poller.add(s, fd); err != nil {
			s.loop.finish(s, Lost, err)
		}
		s.loop.attach(s, w, chunked)
		if s.phase != ended { // else the descriptor is closed, and may be another's
			w.ready(unix.EPOLLIN) // what came before it was watched is no change
		}
	})
	return true
}

// detach returns a descriptor of the same socket. It doesn't block, as the one it was made from: File().Fd() would make
// both block.
func detach(conn syscall.Conn) (fd int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, err
	}
	ctl := raw.Control(func(from uintptr) { fd, err = unix.FcntlInt(from, unix.F_DUPFD_CLOEXEC, 0) })
	if ctl != nil {
		return -1, ctl
	}
	return fd, err
}

// write writes what the kernel takes. Where that is not all, the kernel says when it takes more.
func (w *socketWriter) write(b []byte) (n int, parked bool, err error) {
	for {
		n, err = unix.Write(int(w.fd), b)
		switch err {
		case nil:
			return n, n < len(b), nil
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return 0, true, nil
		}
		// A socket says only once why it broke, to a read or to a write. A broken pipe is no reason: a read says whether
		// the peer had closed in order before.
		if err == unix.EPIPE {
			if why := w.read(); why != nil {
				err = why
			}
		}
		return 0, false, err
	}
}

func (w *socketWriter) window() (granted uint64, shut bool) { return window(int(w.fd)) }

// ready is told what has changed.
func (w *socketWriter) ready(events uint32) {
	l := w.s.loop
	if events&^unix.EPOLLOUT != 0 {
		if err := w.read(); err != nil {
			l.lose(w.s, err)
			return
		}
	}
	if events&unix.EPOLLOUT != 0 && w.s.parked {
		l.writable(w.s, nil)
	}
}

// read reads and forgets what the peer has sent, up to a bound. The error is io.EOF when it has ended the connection.
func (w *socketWriter) read() error {
	var junk [512]byte
	for w.unread <= maxUnread {
		n, err := unix.Read(int(w.fd), junk[:])
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return nil
		case err != nil:
			return err
		case n == 0:
			return io.EOF
		default:
			w.unread += int32(n)
		}
	}
	return errUnread
}

// close closes the socket. If it is aborted, what was not sent is dropped, and not kept in the kernel for a peer that
// doesn't read.
func (w *socketWriter) close(abort bool) {
	w.s.loop.poller.remove(w.slot, int(w.fd))
	if abort {
		_ = unix.SetsockoptLinger(int(w.fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	_ = unix.Close(int(w.fd))
}
