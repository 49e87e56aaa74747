package engine

import (
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// poller tells a loop which of its sockets have become readable or writable. The kernel's list of them is itself a
// descriptor that Go's own poller watches, so that no thread waits for it. It is opened for the first socket.
//
// A socket is known to the kernel by a slot and the slot's generation: what was said of a socket that is closed is not
// taken for another one that has its slot, or its descriptor, now.
type poller struct {
	mu   sync.Mutex // guards file and quit; held while it is opened and closed
	file *os.File
	quit chan struct{} // closed by close
	wg   sync.WaitGroup

	// The loop's own.
	slots []slot
	free  []uint32 // slots without a socket
}

type slot struct {
	stream     *Stream // whose writer is watched; nil if the slot is free
	generation uint32
}

// A watched writer is told what has changed.
type watched interface{ ready(events uint32) }

// maxReady is how many sockets the kernel tells of at once.
const maxReady = 256

// open starts the poller, unless it is.
func (p *poller) open(l *loop) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file != nil {
		return nil
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("epoll_create1: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return fmt.Errorf("epoll descriptor: %w", err)
	}
	file := os.NewFile(uintptr(fd), "epoll")
	raw, err := file.SyscallConn()
	if err != nil {
		return fmt.Errorf("epoll descriptor: %w", err)
	}
	p.file, p.quit = file, make(chan struct{})
	p.wg.Go(func() { p.run(l, raw) })
	return nil
}

// run hands what the kernel says to the loop, until the poller is closed.
func (p *poller) run(l *loop, raw syscall.RawConn) {
	events := make([]unix.EpollEvent, maxReady)
	done := make(chan struct{})
	for {
		n := 0
		err := raw.Read(func(fd uintptr) bool {
			var err error
			for n, err = unix.EpollWait(int(fd), events, 0); err == unix.EINTR; {
				n, err = unix.EpollWait(int(fd), events, 0)
			}
			return n != 0
		})
		if err != nil {
			return // it is closed
		}
		l.inbox.do(func() {
			p.ready(events[:max(n, 0)])
			done <- struct{}{}
		})
		select {
		case <-done: // there are no more of them than the loop can cope with
		case <-p.quit:
			return
		}
	}
}

// ready has each socket do what it has become ready for.
func (p *poller) ready(events []unix.EpollEvent) {
	for _, ev := range events {
		if s := p.slots[uint32(ev.Fd)]; s.stream != nil && s.generation == uint32(ev.Pad) {
			s.stream.writer.(watched).ready(ev.Events)
		}
	}
}

// add has the kernel watch the socket of a stream, and returns the slot that it is known by. Edge-triggered, once: it says
// what has changed, and need not be told again.
func (p *poller) add(s *Stream, fd int) (at uint32, err error) {
	if n := len(p.free); n > 0 {
		at, p.free = p.free[n-1], p.free[:n-1]
	} else {
		at = uint32(len(p.slots))
		p.slots = append(p.slots, slot{})
	}
	p.slots[at].stream = s
	return at, p.control(unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLOUT | unix.EPOLLET,
		Fd:     int32(at), Pad: int32(p.slots[at].generation),
	})
}

// remove has the kernel forget the socket in a slot, which must still be open: its description may live on in another
// descriptor.
func (p *poller) remove(at uint32, fd int) {
	_ = p.control(unix.EPOLL_CTL_DEL, fd, nil)
	s := &p.slots[at]
	s.stream = nil
	s.generation++
	p.free = append(p.free, at)
}

func (p *poller) control(op, fd int, ev *unix.EpollEvent) error {
	raw, err := p.file.SyscallConn()
	if err != nil {
		return err
	}
	ctl := raw.Control(func(epfd uintptr) { err = unix.EpollCtl(int(epfd), op, fd, ev) })
	if ctl != nil {
		return ctl
	}
	return err
}

// close ends the poller. The loop has no sockets any more.
func (p *poller) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file == nil {
		return
	}
	close(p.quit)
	_ = p.file.Close()
	p.wg.Wait()
}
