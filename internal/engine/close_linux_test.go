package engine_test

import (
	"fmt"
	"io"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/tidings-sse/tidings/internal/engine"
)

// Everything at once, and in the middle of it, Stop: then Close leaves nothing behind.
func TestStopEndsEverythingAndCloseLeavesNothing(t *testing.T) {
	connect(t, "tcp") // so that Go's own poller has its descriptors
	before := descriptors(t)
	for i := range 10 {
		stopInTheMiddle(t, i)
	}
	goleak.VerifyNone(t)
	if now := descriptors(t); now > before {
		t.Errorf("there are %d descriptors, and were %d", now, before)
	}
}

// Nobody waits for the ends that Stop makes.
func TestCloseMayFollowStopAtOnce(t *testing.T) {
	connect(t, "tcp") // so that Go's own poller has its descriptors
	before := descriptors(t)
	for _, w := range []way{bySocket, byConn} {
		for range 20 {
			e := newEngine(engine.Config{})
			rigs := make([]*rig, 5)
			for i := range rigs {
				rigs[i] = newBareRig(t, w, e)
				rigs[i].Join()
				rigs[i].serve()
			}
			e.Stop(engine.Stopped)
			e.Close()
			for _, r := range rigs {
				if r.ends != 1 || r.reason != engine.Stopped {
					t.Errorf("over a %s, it ended %d times: %q", w, r.ends, r.reason)
				}
				_ = r.peer.Close()
			}
		}
	}
	goleak.VerifyNone(t)
	if now := descriptors(t); now > before {
		t.Errorf("there are %d descriptors, and were %d", now, before)
	}
}

func stopInTheMiddle(t *testing.T, round int) {
	e := newEngine(engine.Config{MaxEvents: 5})
	var peers, senders, serving sync.WaitGroup
	var rigs []*rig
	stopped := make(chan struct{})
	for i := range 30 {
		w := []way{byConn, byResponse, bySocket}[i%3]
		r := newBareRig(t, w, e)
		rigs = append(rigs, r)
		if i%5 > 0 { // some never read
			peers.Go(func() { _, _ = io.Copy(io.Discard, r.peer) })
		}
		serving.Go(func() {
			if i%4 == 0 { // some are served after the end
				<-stopped
			}
			r.Join()
			r.serve()
		})
	}
	for i := range 3 {
		senders.Go(func() {
			for n := range 50 {
				number := uint64(i*1000 + n)
				e.PostGroup(e.Everyone(), text(number, fmt.Sprint(number, "\n\n")), nil)
				e.Post(rigs[n%len(rigs)].Stream, sized(3*pipe))
				e.Checkpoint(number, text(number, "checkpoint\n\n"), true)
				if n == 10+round {
					rigs[n].End(engine.Kicked, text(0, "bye\n\n"))
				}
				if i == 0 && n == 20 {
					e.Stop(engine.Stopped)
					close(stopped)
				}
			}
		})
	}
	senders.Wait()
	serving.Wait()
	for _, r := range rigs {
		<-r.over
	}
	e.Close()
	for _, r := range rigs {
		if r.ends != 1 {
			t.Errorf("a stream over a %s ended %d times", r.way, r.ends)
		}
		_ = r.peer.Close()
	}
	peers.Wait()
}
