package engine_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tidings-sse/tidings/internal/engine"
)

// taken reports whether the stream's loop has the socket: Go's own connection is closed then.
func taken(conn net.Conn) bool {
	return errors.Is(conn.SetReadDeadline(time.Time{}), net.ErrClosed)
}

// narrow makes a connection's buffers small: the sender's as small as the kernel allows, the reader's so that TCP does not
// wait for its timers.
func narrow(t *testing.T, peer, server net.Conn) {
	t.Helper()
	type buffered interface {
		SetReadBuffer(int) error
		SetWriteBuffer(int) error
	}
	if err := errors.Join(peer.(buffered).SetReadBuffer(64<<10), server.(buffered).SetWriteBuffer(1)); err != nil {
		t.Fatal(err)
	}
}

func TestASlowReaderOfASocketGetsAllBytesInOrder(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprint(network, " chunked ", chunked), func(t *testing.T) {
				e := newEngine(engine.Config{MaxEvents: 1 << 20, MaxBytes: 1 << 30})
				defer e.Close()
				peer, server := connect(t, network)
				narrow(t, peer, server)
				o := newOwner()
				s := e.NewStream(o, 0, nil)
				s.Join()
				s.ServeConn(server, chunked, 0)
				if !taken(server) {
					t.Error("the socket was not taken")
				}
				const frames = 400
				var want bytes.Buffer
				for i := range frames {
					f := text(uint64(i+1), fmt.Sprintf("%d %s\n\n", i, strings.Repeat("x", i*7%3000)))
					if form := f.Block(); chunked {
						want.Write(f.Chunk())
					} else {
						want.Write(form)
					}
					e.Post(s, f)
				}
				e.Settle(s)
				if u := s.Usage(); u.Queued == 0 || u.Events == frames {
					t.Errorf("the socket took all at once: %+v", u)
				}
				got, buf := make([]byte, 0, want.Len()), make([]byte, 777)
				for len(got) < want.Len() {
					n, err := peer.Read(buf)
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, buf[:n]...)
				}
				if !bytes.Equal(got, want.Bytes()) {
					t.Error("got something else")
				}
				_ = peer.Close()
				if reason, _ := o.end(); reason != engine.Closed {
					t.Errorf("it ended: %s, %v", reason, o.err)
				}
				if u := s.Usage(); u.Events != frames || u.Last != frames || u.Bytes != uint64(want.Len()) {
					t.Errorf("%+v", u)
				}
				if n := e.Counts().Writes.Load(); n < 10 {
					t.Errorf("%d writes: none was partial", n)
				}
			})
		}
	}
}

func TestOnlyPlainSocketsAreTaken(t *testing.T) {
	type wrapped struct{ net.Conn }
	for _, network := range []string{"tcp", "unix"} {
		for _, wrap := range []bool{false, true} {
			t.Run(fmt.Sprint(network, " wrapped ", wrap), func(t *testing.T) {
				e := newEngine(engine.Config{})
				defer e.Close()
				peer, server := connect(t, network)
				o := newOwner()
				s := e.NewStream(o, 0, []*engine.Frame{text(1, "a\n\n")})
				s.Join()
				var conn net.Conn = server
				if wrap {
					conn = wrapped{server}
				}
				s.ServeConn(conn, false, 0)
				if taken(server) == wrap {
					t.Errorf("taken: %v", !wrap)
				}
				b := make([]byte, 3)
				if _, err := io.ReadFull(peer, b); err != nil || string(b) != "a\n\n" {
					t.Errorf("got %q, %v", b, err)
				}
				_ = peer.Close()
				if reason, _ := o.end(); reason != engine.Closed {
					t.Errorf("it ended: %s, %v", reason, o.err)
				}
			})
		}
	}
}

// exhaust leaves this process no descriptors until restore is called.
func exhaust(t *testing.T) (restore func()) {
	t.Helper()
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	lowest, err := unix.Dup(0)
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(lowest)
	now := was
	now.Cur = uint64(lowest) // all below are in use
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &now); err != nil {
		t.Fatal(err)
	}
	return sync.OnceFunc(func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
			t.Fatal(err)
		}
	})
}

func TestASocketIsServedAsAnyConnectionWhenDescriptorsRunOut(t *testing.T) {
	for _, first := range []bool{true, false} {
		t.Run(fmt.Sprint("first ", first), func(t *testing.T) { // the first one would open the poller, too
			e := newEngine(engine.Config{Loops: 1})
			t.Cleanup(e.Close)
			if !first {
				r := newRigOf(t, bySocket, e)
				r.serve()
				r.settle()
			}
			r := newRigOf(t, bySocket, e)
			restore := exhaust(t)
			defer restore()
			r.serve()
			if taken(r.server) {
				t.Error("it was taken")
			}
			r.post(text(8, "a\n\n"))
			if got := r.read(3); got != "a\n\n" {
				t.Errorf("got %q", got)
			}
			restore()
			next := newRigOf(t, bySocket, e)
			next.serve()
			if !taken(next.server) {
				t.Error("the next one was not taken")
			}
			r.End(engine.Kicked, text(0, "bye\n\n"))
			if got := r.rest(); got != "bye\n\n" {
				t.Errorf("got %q", got)
			}
			r.check(engine.Kicked, nil)
		})
	}
}

// Descriptors and slots are used again at once, while what the kernel has said of their last user may still come.
func TestWhatIsSaidOfASocketIsNeverTakenForTheNextWithItsSlot(t *testing.T) {
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(uint64(seed), 0))
	e := newEngine(engine.Config{Loops: 1, MaxEvents: 100})
	t.Cleanup(e.Close)
	var streams []*rig
	leave := func(i int) {
		r := streams[i]
		streams[i] = streams[len(streams)-1]
		streams = streams[:len(streams)-1]
		switch rnd.IntN(5) {
		case 0:
			_ = r.peer.Close()
			if reason, _ := r.end(); reason != engine.Closed && reason != engine.Lost { // there may be unread bytes
				t.Errorf("it ended: %s", reason)
			}
		case 1:
			r.reset()
			r.end()
		case 2:
			_ = r.peer.(*net.TCPConn).CloseWrite()
			r.check(engine.Closed, nil)
		case 3:
			r.Abort(engine.Kicked)
			r.check(engine.Kicked, nil)
		case 4:
			r.Abort(engine.Kicked) // and something of it comes just then
			_, _ = r.peer.Write([]byte("x"))
			_ = r.peer.Close()
			r.end()
		}
	}
	number := uint64(0)
	for range 600 {
		switch op := rnd.IntN(8); {
		case op < 3 || len(streams) < 3:
			r := newRigOf(t, bySocket, e)
			r.serve()
			streams = append(streams, r)
		case op < 5:
			leave(rnd.IntN(len(streams)))
		case op == 5:
			_, _ = streams[rnd.IntN(len(streams))].peer.Write([]byte("x"))
		default:
			r := streams[rnd.IntN(len(streams))]
			number++
			block := fmt.Sprintf("%08d\n\n", number)
			r.post(text(number, block))
			if got := r.read(10); got != block {
				t.Fatalf("got %q, want %q", got, block)
			}
		}
	}
	for _, r := range streams {
		select {
		case <-r.over:
			t.Errorf("a stream that nobody ended is over: %s, %v", r.reason, r.err)
		default:
		}
	}
	for len(streams) > 0 {
		leave(0)
	}
}

// descriptors returns how many descriptors this process has.
func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
