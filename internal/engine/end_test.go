package engine_test

import (
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/tidings-sse/tidings/internal/engine"
	"github.com/tidings-sse/tidings/internal/memnet"
)

func TestAStreamEndsWithWhatIsQueuedThenItsNoticeThenAMoment(t *testing.T) {
	for _, served := range []bool{true, false} {
		t.Run(fmt.Sprint("served ", served), func(t *testing.T) {
			over(t, func(t *testing.T, w way) {
				r := newRig(t, w, engine.Config{})
				if served {
					r.serve()
				}
				start := time.Now()
				r.post(text(8, "a\n\n"))
				r.End(engine.Drained, text(0, "bye\n\n"))
				r.End(engine.Kicked, text(0, "not this\n\n")) // the first counts
				r.post(text(9, "too late\n\n"))
				r.serve()
				if got := r.rest(); got != "a\n\nbye\n\n" {
					t.Errorf("got %q", got)
				}
				r.took(start, engine.Linger)
				r.check(engine.Drained, nil)
				r.Abort(engine.Stopped)
				r.End(engine.Kicked, text(0, "nor this\n\n"))
				r.post(text(10, "x"))
				r.check(engine.Drained, nil)
			}, byConn, byResponse, bySocket)
		})
	}
}

func TestAStreamThatIsToEndBeforeItIsServedDoesWhenItIsHoweverLate(t *testing.T) {
	over(t, func(t *testing.T, w way) {
		r := newRig(t, w, engine.Config{})
		r.post(text(8, "a\n\n"))
		r.End(engine.Drained, text(0, "bye\n\n"))
		time.Sleep(time.Minute)
		start := time.Now()
		r.serve()
		if got := r.rest(); got != "a\n\nbye\n\n" {
			t.Errorf("got %q", got)
		}
		r.check(engine.Drained, nil)
		r.took(start, engine.Linger)
	}, byConn, byResponse)
}

func TestAStreamThatIsToEndBeforeItIsServedHasItsBoundFromThenOn(t *testing.T) {
	over(t, func(t *testing.T, w way) {
		r := newRig(t, w, engine.Config{})
		r.post(sized(2 * pipe))
		r.End(engine.Drained, text(0, "bye\n\n"))
		time.Sleep(time.Minute)
		start := time.Now()
		r.serve()
		r.check(engine.Drained, nil)
		r.took(start, engine.EndWithin)
	}, byConn, byResponse)
}

func TestANoticeMayBeLeftOut(t *testing.T) {
	over(t, func(t *testing.T, w way) {
		r := newRig(t, w, engine.Config{})
		r.serve()
		start := time.Now()
		r.post(text(8, "a\n\n"))
		r.End(engine.Kicked, nil)
		if got := r.rest(); got != "a\n\n" {
			t.Errorf("got %q", got)
		}
		r.check(engine.Kicked, nil)
		r.took(start, engine.Linger)
	}, byConn, byResponse, bySocket)
}

func TestAStreamThatWasAbortedBeforeItWasServedEndsWhenItIs(t *testing.T) {
	over(t, func(t *testing.T, w way) {
		r := newRig(t, w, engine.Config{})
		r.post(text(8, "a\n\n"))
		r.Abort(engine.Stopped)
		r.settle()
		if r.ends != 0 {
			t.Error("the owner was told of an end before the stream was served")
		}
		r.serve()
		b := make([]byte, 1)
		if n, err := r.peer.Read(b); err == nil {
			t.Errorf("got %q", b[:n])
		}
		r.check(engine.Stopped, nil)
	}, byConn, byResponse, bySocket)
}

func TestAnAbortEndsAWriteUnderWay(t *testing.T) {
	over(t, func(t *testing.T, w way) {
		r := newRig(t, w, engine.Config{})
		r.serve()
		r.stick()
		r.post(sized(10))
		r.settle()
		start := time.Now()
		r.Abort(engine.Stopped)
		r.check(engine.Stopped, nil)
		r.took(start, 0)
		if u := r.Usage(); u.Queued != 0 {
			t.Errorf("%+v", u)
		}
		if w == bySocket {
			return // what the kernel had is dropped
		}
		if got := r.rest(); len(got) != pipe {
			t.Errorf("got %d bytes", len(got))
		}
	}, byConn, byResponse, bySocket)
}

func TestAnAbortEndsTheLinger(t *testing.T) {
	over(t, func(t *testing.T, w way) {
		r := newRig(t, w, engine.Config{})
		r.serve()
		start := time.Now()
		r.End(engine.Kicked, text(0, "bye\n\n"))
		if got := r.read(5); got != "bye\n\n" {
			t.Errorf("got %q", got)
		}
		r.Abort(engine.Stopped)
		if got := r.rest(); got != "" {
			t.Errorf("got %q", got)
		}
		r.check(engine.Kicked, nil)
		r.took(start, 0)
	}, byConn, byResponse, bySocket)
}

func TestAStreamThatIsEndingHasABound(t *testing.T) {
	over(t, func(t *testing.T, w way) {
		r := newRig(t, w, engine.Config{})
		r.serve()
		r.stick()
		r.End(engine.Drained, text(0, "bye\n\n"))
		start := time.Now()
		r.check(engine.Drained, nil)
		r.took(start, engine.EndWithin)
	}, byConn, byResponse)
}

func TestAStreamThatReadsWhileItIsEndingGetsAll(t *testing.T) {
	over(t, func(t *testing.T, w way) {
		r := newRig(t, w, engine.Config{})
		r.serve()
		r.stick()
		r.End(engine.Drained, text(0, "bye\n\n"))
		got := r.rest()
		if len(got) < 2*pipe+5 || got[len(got)-5:] != "bye\n\n" {
			t.Errorf("%d bytes, the last %q", len(got), got[max(0, len(got)-5):])
		}
		r.check(engine.Drained, nil)
	}, byConn, byResponse, bySocket)
}

func TestTheFirstWhoEndsAStreamGivesTheReason(t *testing.T) {
	all := []way{byConn, byResponse, bySocket}
	hijacked := []way{byConn, bySocket}
	for _, c := range []struct {
		name string
		ways []way
		end  func(*rig)
		want engine.Reason
		err  error
	}{
		{"the peer closes", all, func(r *rig) { _ = r.peer.Close() }, engine.Closed, nil},
		{"the peer closes its half", []way{bySocket}, func(r *rig) { _ = r.peer.(*net.TCPConn).CloseWrite() }, engine.Closed, nil},
		{"the peer resets", hijacked, (*rig).reset, engine.Lost, syscall.ECONNRESET},
		{"the peer vanishes", []way{byConn}, func(r *rig) { r.peer.(*memnet.Conn).Break(syscall.ETIMEDOUT) }, engine.Lost, syscall.ETIMEDOUT},
		{"the peer resets while it is written to", hijacked, func(r *rig) {
			r.stick()
			r.reset()
		}, engine.Lost, syscall.ECONNRESET},
		{"the peer vanishes while it is written to", []way{byConn}, func(r *rig) {
			r.stick()
			time.Sleep(time.Second)
			r.peer.(*memnet.Conn).Break(syscall.ETIMEDOUT)
		}, engine.Slow, syscall.ETIMEDOUT},
		{"the peer closes while it is written to", []way{byConn}, func(r *rig) {
			r.stick()
			time.Sleep(time.Second)
			_ = r.peer.Close()
		}, engine.Closed, nil},
		{"the peer closes its half while it is written to", []way{bySocket}, func(r *rig) {
			r.stick()
			_ = r.peer.(*net.TCPConn).CloseWrite()
		}, engine.Closed, nil},
		{"the peer takes nothing for the timeout", []way{byConn, byResponse}, func(r *rig) {
			r.stick()
			time.Sleep(timeout)
		}, engine.Slow, os.ErrDeadlineExceeded},
		{"the peer closes while it lingers", all, func(r *rig) {
			r.End(engine.Kicked, text(0, "bye\n\n"))
			r.read(5)
			_ = r.peer.Close()
		}, engine.Kicked, nil},
		{"the peer resets while it is ending", hijacked, func(r *rig) {
			r.stick()
			r.End(engine.Expired, text(0, "bye\n\n"))
			r.settle()
			r.reset()
		}, engine.Expired, nil},
		{"the peer sends too much", hijacked, func(r *rig) {
			_, _ = r.peer.Write(make([]byte, engine.MaxUnread+1))
		}, engine.Lost, errAny},
		{"it is ended, then aborted", all, func(r *rig) {
			r.End(engine.Gapped, text(0, "bye\n\n"))
			r.settle()
			r.Abort(engine.Stopped)
		}, engine.Gapped, nil},
		{"it is aborted, then ended", all, func(r *rig) {
			r.Abort(engine.Stopped)
			r.settle()
			r.End(engine.Gapped, text(0, "bye\n\n"))
		}, engine.Stopped, nil},
		{"the engine stops", all, func(r *rig) { r.engine.Stop(engine.Stopped) }, engine.Stopped, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			over(t, func(t *testing.T, w way) {
				r := newRig(t, w, engine.Config{})
				r.serve()
				r.settle()
				c.end(r)
				r.check(c.want, c.err)
			}, c.ways...)
		})
	}
}

func TestWhatThePeerSendsIsReadAndForgottenUpToABound(t *testing.T) {
	for _, unread := range []int{0, 1000, engine.MaxUnread} {
		t.Run(fmt.Sprint(unread), func(t *testing.T) {
			over(t, func(t *testing.T, w way) {
				r := newRig(t, w, engine.Config{})
				r.serveAs(false, unread)
				if _, err := r.peer.Write(make([]byte, engine.MaxUnread-unread)); err != nil {
					t.Fatal(err)
				}
				r.settle()
				r.post(text(8, "a\n\n"))
				r.read(3)
				if _, err := r.peer.Write(make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
				r.check(engine.Lost, errAny)
			}, byConn, bySocket)
		})
	}
}
