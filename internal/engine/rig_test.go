package engine_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidings-sse/tidings/internal/engine"
	"github.com/tidings-sse/tidings/internal/memnet"
)

// A way is how a stream is served.
type way string

const (
	byConn     way = "conn"     // over a pipe
	byResponse way = "response" // over a pipe, through what stands for net/http
	bySocket   way = "socket"   // over TCP: by a socket writer, on Linux
)

const (
	heartbeat = 30 * time.Second
	timeout   = time.Minute
	pipe      = 1 << 10         // bytes that a pipe takes while the peer doesn't read
	patience  = 5 * time.Second // how much later than it should a thing may come in real time
)

// over runs a test over each of the ways, in a synctest bubble but for sockets, for which its clock would not wait.
func over(t *testing.T, test func(*testing.T, way), ways ...way) {
	for _, w := range ways {
		t.Run(string(w), func(t *testing.T) {
			if w == bySocket {
				test(t, w)
				return
			}
			synctest.Test(t, func(t *testing.T) { test(t, w) })
		})
	}
}

// bubble runs a test in a synctest bubble.
func bubble(f func(*testing.T)) func(*testing.T) {
	return func(t *testing.T) { synctest.Test(t, f) }
}

// sized returns a frame of n bytes, without a number: a stream takes one with the number of the last only once.
func sized(n int) *engine.Frame { return text(0, strings.Repeat("\n", n)) }

// newEngine returns an engine with the bounds of these tests where cfg has none.
func newEngine(cfg engine.Config) *engine.Engine {
	if cfg.MaxEvents == 0 {
		cfg.MaxEvents = 10
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 1 << 20
	}
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat, cfg.Timeout = heartbeat, timeout
	}
	cfg.Beat = text(0, ":\n\n")
	return engine.New(cfg)
}

// owner is told of the end of one stream.
type owner struct {
	over chan struct{} // closed by the first end

	mu     sync.Mutex // guards what follows
	ends   int
	reason engine.Reason
	err    error
	at     time.Time
}

func newOwner() *owner { return &owner{over: make(chan struct{})} }

func (o *owner) Ended(reason engine.Reason, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ends++; o.ends == 1 {
		close(o.over)
	}
	o.reason, o.err, o.at = reason, err, time.Now()
}

// end waits for the end, and returns how it was.
func (o *owner) end() (reason engine.Reason, at time.Time) {
	<-o.over
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.reason, o.at
}

// rig is an engine with a stream, its owner, and the peer that it is served to.
type rig struct {
	*engine.Stream
	*owner
	t      testing.TB
	engine *engine.Engine
	way    way
	peer   net.Conn
	server net.Conn
	serves sync.Once
}

// newRig returns a stream that has joined and is not served yet. It ends with the test, and its engine with it.
func newRig(t testing.TB, w way, cfg engine.Config) *rig {
	e := newEngine(cfg)
	t.Cleanup(e.Close)
	return newRigOf(t, w, e)
}

// newRigOf is newRig with an engine that there is.
func newRigOf(t testing.TB, w way, e *engine.Engine) *rig {
	r := newBareRig(t, w, e)
	r.Join()
	t.Cleanup(func() {
		r.Abort(engine.Stopped)
		r.serve()
		<-r.over
		_ = r.peer.Close()
	})
	return r
}

// newBareRig returns a stream that has not joined and ends when its test has it end.
func newBareRig(t testing.TB, w way, e *engine.Engine) *rig {
	r := &rig{owner: newOwner(), t: t, engine: e, way: w}
	if w == bySocket {
		r.peer, r.server = connect(t, "tcp")
	} else {
		r.peer, r.server = memnet.Pipe(pipe)
	}
	r.Stream = e.NewStream(r, 7, nil)
	return r
}

// serve serves the stream, unless it is.
func (r *rig) serve() { r.serveAs(false, 0) }

func (r *rig) serveAs(chunked bool, unread int) {
	r.serves.Do(func() {
		if r.way == byResponse {
			serveResponse(r.t, r.Stream, r.server)
			return
		}
		r.ServeConn(r.server, chunked, unread)
	})
}

// settle returns when nothing happens any more, or over a socket, when the loop has written what it can.
func (r *rig) settle() {
	if r.way != bySocket {
		synctest.Wait()
		return
	}
	r.engine.Settle(r.Stream)
}

// post queues a frame for the stream.
func (r *rig) post(f *engine.Frame) { r.engine.Post(r.Stream, f) }

// stick makes the stream's writer stuck with a frame that the peer would have to read for it to go on.
func (r *rig) stick() {
	size := 2 * pipe
	if r.way == bySocket {
		size = 2 << 20
	}
	r.post(sized(size))
	r.settle()
}

// check waits for the end of the stream, and checks how it ended. Any error will do for someError.
func (r *rig) check(want engine.Reason, cause error) {
	r.t.Helper()
	select {
	case <-r.over:
	case <-time.After(time.Hour):
		r.t.Fatal("it doesn't end")
	}
	r.settle() // a second end would be a fault
	r.mu.Lock()
	defer r.mu.Unlock()
	right := errors.Is(r.err, cause)
	if cause == errAny {
		right = r.err != nil
	}
	if r.ends != 1 || r.reason != want || !right {
		r.t.Errorf("it ended %d times: %s, %v; want %s, %v", r.ends, r.reason, r.err, want, cause)
	}
}

var errAny = errors.New("any error")

// took checks how long something took: exactly so long, or over a socket not less.
func (r *rig) took(start time.Time, want time.Duration) {
	r.t.Helper()
	if d := time.Since(start); d != want && (r.way != bySocket || d < want || d > want+patience) {
		r.t.Errorf("it took %v, want %v", d, want)
	}
}

// read reads n bytes of the stream.
func (r *rig) read(n int) string {
	r.t.Helper()
	b := make([]byte, n)
	if got, err := io.ReadFull(r.peer, b); err != nil {
		r.t.Fatalf("read %q, %v", b[:got], err)
	}
	return string(b)
}

// rest reads to the end of the stream.
func (r *rig) rest() string {
	r.t.Helper()
	b, err := io.ReadAll(r.peer)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(b)
}

// reset has the peer reset the connection.
func (r *rig) reset() {
	switch c := r.peer.(type) {
	case *memnet.Conn:
		c.Break(syscall.ECONNRESET)
	case *net.TCPConn:
		_ = c.SetLinger(0)
		_ = c.Close()
	}
}

// connect returns both ends of a connection: the one that has dialed first.
func connect(t testing.TB, network string) (peer, server net.Conn) {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = t.TempDir() + "/s"
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if peer, err = net.Dial(network, l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return peer, server
}

// serveResponse serves the stream in a goroutine that stands for a handler of net/http, on a connection: the request's
// context ends when the peer closes it, and when the handler returns, it is closed. The channel is closed then.
func serveResponse(t testing.TB, s *engine.Stream, conn net.Conn) <-chan struct{} {
	ctx, cancel := context.WithCancel(context.Background())
	returned := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, conn)
		cancel()
	}()
	go func() {
		defer close(returned)
		w := &response{t: t, conn: conn}
		s.ServeResponse(ctx, w)
		w.end()
	}()
	return returned
}
