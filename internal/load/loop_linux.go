package load

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// loop is the driver for plain HTTP/1.1 on Linux: one goroutine with an epoll holds all streams of a shard.
type loop struct {
	*shard
	dialer *dialer

	epoll  int
	buf    []byte
	queue  queue   // streams that may open as soon as others are done with it
	timers timers  // streams that may open later
	ready  queue   // streams that may have more to read than was read
	slow   []int32 // open streams that read so many bytes a second
	tokens float64 // streams that may open by the connect rate
	filled int64   // when tokens were last added, in nanoseconds since 1970
	ticked int64   // when tick was last called

	wake   int           // eventfd: there is something in the inbox
	mu     sync.Mutex    // guards inbox and over
	inbox  []func()      // run on the loop
	over   bool          // the loop takes nothing any more
	ending bool          // the loop is to end: the loop's own
	done   chan struct{} // closed when it has ended
}

// socket is the loop's part of a stream.
type socket struct {
	fd       int32
	gen      int32 // goes up with each connection: events of an earlier one are not this one's
	deadline int64 // until the stream must be open, in nanoseconds since 1970
	unsent   []byte
	more     bool // it is to have another turn: it is on the ready queue
}

const (
	tickEvery = int64(50 * time.Millisecond)
	batch     = 128 // ready streams that share a time of receipt
)

// newLoop starts a loop for the shard.
func newLoop(s *shard, d *dialer) (*loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	wake, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, errors.Join(err, unix.Close(epoll))
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: -1}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, wake, &ev); err != nil {
		return nil, errors.Join(err, unix.Close(epoll), unix.Close(wake))
	}
	l := &loop{shard: s, dialer: d, epoll: epoll, wake: wake, buf: make([]byte, s.client.cfg.ReadBuffer), done: make(chan struct{})}
	for i := range l.streams {
		l.streams[i].fd = -1
	}
	go l.run()
	return l, nil
}

// do runs f on the loop and waits for it, or itself when the loop has ended.
func (l *loop) do(f func(*shard)) {
	ran := make(chan struct{})
	l.mu.Lock()
	if l.over {
		l.mu.Unlock()
		<-l.done
		l.mu.Lock() // for one at a time
		defer l.mu.Unlock()
		f(l.shard)
		return
	}
	l.inbox = append(l.inbox, func() { f(l.shard); close(ran) })
	l.mu.Unlock()
	l.poke()
	<-ran
}

func (l *loop) poke() {
	one := binary.NativeEndian.AppendUint64(nil, 1)
	_, _ = unix.Write(l.wake, one) // can only fail because it is awake anyway
}

// begin opens all streams.
func (l *loop) begin() {
	l.do(func(*shard) {
		for i := range l.streams {
			l.streams[i].phase = phaseWaiting
			l.queue.push(int32(i))
		}
	})
}

// close ends the loop and waits for it. What streams are left are reset: ports would otherwise be taken for a minute.
func (l *loop) close() {
	l.do(func(*shard) { l.ending = true })
	<-l.done
}

func (l *loop) run() {
	defer close(l.done)
	events := make([]unix.EpollEvent, batch)
	for {
		l.now = time.Now().UnixNano()
		l.runInbox()
		if l.ending {
			break
		}
		l.openDue()
		l.share()
		n, err := unix.EpollWait(l.epoll, events, l.timeout())
		if err != nil && err != unix.EINTR {
			panic("load: epoll: " + err.Error()) // the descriptor is the loop's own
		}
		l.now = time.Now().UnixNano()
		for _, ev := range events[:max(n, 0)] {
			l.handle(ev)
		}
		l.readOn()
		if l.now-l.ticked >= tickEvery {
			l.everyTick()
		}
	}
	l.shutdown()
}

func (l *loop) runInbox() {
	l.mu.Lock()
	fs := l.inbox
	l.inbox = nil
	l.mu.Unlock()
	for _, f := range fs {
		f()
	}
}

// shutdown gives up everything that the loop owns. What comes into the inbox until over is set still runs.
func (l *loop) shutdown() {
	for i := range l.streams {
		st := &l.streams[i]
		if st.phase = phaseOver; st.fd >= 0 {
			l.hangUp(st, true)
		}
	}
	l.share()
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
	l.runInbox()
	_ = unix.Close(l.epoll)
	_ = unix.Close(l.wake)
}

// timeout returns how long the loop may wait for readiness, in milliseconds.
func (l *loop) timeout() int {
	if l.ready.len() > 0 {
		return 0
	}
	until := l.ticked + tickEvery - l.now
	if l.mayOpen() {
		if rate := l.rate(); rate > 0 {
			until = min(until, int64((1-l.tokens)/rate*float64(time.Second)))
		}
	}
	if len(l.timers) > 0 {
		until = min(until, l.timers[0].when-l.now)
	}
	return int(max(0, (until+int64(time.Millisecond)-1)/int64(time.Millisecond)))
}

// rate is the loop's share of the connect rate, in streams a second.
func (l *loop) rate() float64 {
	return l.client.cfg.ConnectRate * float64(len(l.streams)) / float64(l.client.cfg.Connections)
}

// mayOpen reports whether a stream waits for nothing but the connect rate.
func (l *loop) mayOpen() bool {
	atOnce := max(1, l.client.cfg.ConnectAtOnce/l.client.cfg.Loops)
	return l.queue.len() > 0 && l.connecting < int64(atOnce)
}

// openDue begins to open streams, as many as may.
func (l *loop) openDue() {
	for len(l.timers) > 0 && l.timers[0].when <= l.now {
		l.queue.push(l.timers.pop())
	}
	rate := l.rate()
	if rate > 0 {
		most := max(1, rate/20)
		l.tokens = min(most, l.tokens+rate*float64(l.now-l.filled)/float64(time.Second))
		l.filled = l.now
	}
	for l.mayOpen() {
		if rate > 0 {
			if l.tokens < 1 {
				return
			}
			l.tokens--
		}
		if st := &l.streams[l.queue.pop()]; st.phase == phaseWaiting { // else it was abandoned
			l.dial(st)
		}
	}
}

// dial begins a connection.
func (l *loop) dial(st *stream) {
	l.began(st)
	fd, err := l.dialer.dial(int(st.number))
	if err != nil {
		l.retry(st, err)
		return
	}
	st.fd = int32(fd)
	st.gen++
	st.deadline = l.now + int64(l.client.cfg.ConnectTimeout)
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&math.MaxUint32, Fd: st.index, Pad: st.gen}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		l.fail(st, err)
	}
}

// retry counts a connection that is no more, and makes the stream try again if it should.
func (l *loop) retry(st *stream, err error) {
	if wait, again := l.ended(st, err); again {
		l.timers.push(timer{l.now + int64(wait), st.index})
	}
}

// fail ends a connection.
func (l *loop) fail(st *stream, err error) {
	l.hangUp(st, false)
	l.retry(st, err)
}

// hangUp closes a connection, with a reset if that is asked for.
func (l *loop) hangUp(st *stream, reset bool) {
	if reset {
		_ = unix.SetsockoptLinger(int(st.fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	_ = unix.Close(int(st.fd)) // which takes it out of the epoll
	st.fd, st.unsent, st.more = -1, nil, false
	st.gen++
	if st.pace == paceSlow {
		l.slow = slices.DeleteFunc(l.slow, func(i int32) bool { return i == st.index })
	}
}

// handle takes what epoll says of a stream.
func (l *loop) handle(ev unix.EpollEvent) {
	if ev.Fd < 0 {
		var b [8]byte
		_, _ = unix.Read(l.wake, b[:])
		return
	}
	st := &l.streams[ev.Fd]
	if st.gen != ev.Pad || st.fd < 0 {
		return
	}
	if st.phase == phaseDialing || len(st.unsent) > 0 {
		if ev.Events&(unix.EPOLLOUT|unix.EPOLLERR|unix.EPOLLHUP) == 0 {
			return
		}
		if err := l.send(st); err != nil {
			l.fail(st, err)
			return
		}
	}
	const over = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
	switch {
	case ev.Events&(unix.EPOLLIN|over) == 0:
	case st.phase == phaseOpen && st.pace != paceFull:
		if ev.Events&over != 0 && st.pace == paceStop {
			l.fail(st, io.EOF)
		}
	case !st.more: // else its turn comes
		l.turn(st, ev.Events&over != 0)
	}
}

// send sends the request, or the rest of it.
func (l *loop) send(st *stream) error {
	if st.phase == phaseDialing {
		if n, err := unix.GetsockoptInt(int(st.fd), unix.SOL_SOCKET, unix.SO_ERROR); err != nil || n != 0 {
			return errors.Join(err, unix.Errno(n))
		}
		st.phase = phaseHead
		st.unsent = l.client.appendRequest(l.buf[:0], st)
	}
	n, err := unix.Write(int(st.fd), st.unsent)
	switch {
	case err == unix.EAGAIN, err == unix.EINTR:
		n = 0
	case err != nil:
		return err
	}
	if st.unsent = st.unsent[n:]; len(st.unsent) == 0 {
		st.unsent = nil
	} else {
		st.unsent = slices.Clone(st.unsent) // the buffer is everybody's
	}
	return nil
}

// turn reads once: a thousand streams are to be read as a thousand clients would, none of which waits for another's
// megabytes. What may be left is for another turn. A read that does not fill the buffer was the last,
// but where epoll has said that the end has come as well: it won't say so again.
func (l *loop) turn(st *stream, toTheEnd bool) {
	n, ok := l.readOnce(st, l.buf)
	switch {
	case !ok, !toTheEnd && n < len(l.buf) && n >= 0, st.phase == phaseOpen && st.pace != paceFull:
		return
	}
	st.more = true
	l.ready.push(st.index)
}

// readOnce reads into b, at most once. It reports false where there was nothing, or the connection has ended. An n of -1
// says to try again.
func (l *loop) readOnce(st *stream, b []byte) (n int, ok bool) {
	slowBefore := st.phase == phaseOpen
	n, err := unix.Read(int(st.fd), b)
	switch {
	case err == unix.EINTR:
		return -1, true
	case err == unix.EAGAIN:
		return 0, false
	case err != nil:
		l.fail(st, err)
		return 0, false
	case n == 0:
		l.fail(st, io.EOF)
		return 0, false
	}
	if err := l.shard.read(st, b[:n]); err != nil {
		l.fail(st, err)
		return 0, false
	}
	if st.pace == paceSlow && st.phase == phaseOpen && !slowBefore {
		l.slow = append(l.slow, st.index)
	}
	return n, true
}

// readOn gives streams that were not read to the end another turn, as many as were told of at once.
func (l *loop) readOn() {
	for range min(l.ready.len(), batch) {
		if st := &l.streams[l.ready.pop()]; st.more { // else it has hung up
			st.more = false
			l.now = time.Now().UnixNano()
			l.turn(st, true)
		}
	}
}

// everyTick does what is done by the clock.
func (l *loop) everyTick() {
	elapsed := min(l.now-l.ticked, int64(time.Second))
	l.ticked = l.now
	l.tick(l.now)
	if l.connecting > 0 {
		for i := range l.streams {
			if st := &l.streams[i]; st.fd >= 0 && st.phase != phaseOpen && st.deadline < l.now {
				l.fail(st, unix.ETIMEDOUT)
			}
		}
	}
	allowance := int64(l.client.cfg.Slow.BytesPerSecond) * elapsed / int64(time.Second)
	for _, i := range slices.Clone(l.slow) {
		l.readOnce(&l.streams[i], l.buf[:min(max(allowance, 1), int64(len(l.buf)))])
	}
}

// drop drops open streams, so that they come back. It is called on the loop.
func (l *loop) drop(st *stream, how Storm) {
	l.hangUp(st, how.Reset)
	l.dropped(st)
	wait := time.Duration(0)
	if how.AfterRetry {
		wait = l.retryOf(st)
	}
	l.timers.push(timer{l.now + int64(wait), st.index})
}

// abandon gives up a stream that was never open. It is called on the loop.
func (l *loop) abandon(st *stream) {
	if st.fd >= 0 {
		l.hangUp(st, false)
		l.connecting--
	}
	l.giveUp(st)
}
