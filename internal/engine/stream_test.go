package engine_test

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/tidings-sse/tidings/internal/engine"
)

func TestWhatWasPostedBeforeAStreamIsServedIsWrittenFirstAndAtOnce(t *testing.T) {
	over(t, func(t *testing.T, w way) {
		r := newRig(t, w, engine.Config{})
		for i := range 5 {
			r.post(text(uint64(10+i), fmt.Sprint(i, "\n\n")))
		}
		r.settle()
		if u := r.Usage(); u.Queued != 5 || u.Last != 7 || u.Events != 0 {
			t.Errorf("before: %+v", u)
		}
		r.serve()
		r.settle()
		r.post(text(20, "live\n\n"))
		if got := r.read(21); got != "0\n\n1\n\n2\n\n3\n\n4\n\nlive\n\n" {
			t.Errorf("got %q", got)
		}
		r.settle()
		if u := r.Usage(); u != (engine.Usage{Last: 20, Events: 6, Bytes: 21}) {
			t.Errorf("after: %+v", u)
		}
		if c := r.engine.Counts(); c.Writes.Load() != 2 || c.Events.Load() != 6 || c.Bytes.Load() != 21 || c.Beats.Load() != 0 {
			t.Errorf("%d writes, %d events, %d bytes", c.Writes.Load(), c.Events.Load(), c.Bytes.Load())
		}
		_ = r.peer.Close()
		r.check(engine.Closed, nil)
	}, byConn, byResponse, bySocket)
}

func TestWhatAStreamBeginsWithComesBeforeWhatIsPosted(t *testing.T) {
	over(t, func(t *testing.T, w way) {
		r := newRig(t, w, engine.Config{})
		s := r.engine.NewStream(r, 7, []*engine.Frame{text(8, "a\n\n"), text(9, "b\n\n")})
		if u := s.Usage(); u.Queued != 2 || u.Last != 7 {
			t.Errorf("before: %+v", u)
		}
		r.Abort(engine.Stopped) // the rig's own
		r.Stream = s
		s.Join()
		r.engine.PostGroup(r.engine.Everyone(), text(10, "c\n\n"), nil)
		r.serve()
		if got := r.read(9); got != "a\n\nb\n\nc\n\n" {
			t.Errorf("got %q", got)
		}
	}, byConn, bySocket)
}

func TestManyFramesGoOutInFewWritesThatAreChunksOnHTTP11(t *testing.T) {
	over(t, func(t *testing.T, w way) {
		r := newRig(t, w, engine.Config{MaxEvents: 10_000, MaxBytes: 1 << 30})
		form := func(block string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(block), block) }
		if w == byResponse {
			form = func(block string) string { return block } // net/http makes the chunks
		}
		var want strings.Builder
		for i := range 5000 {
			block := fmt.Sprintf("data: %d\n\n", i)
			want.WriteString(form(block))
			r.post(text(uint64(i+8), block))
		}
		r.settle()
		r.serveAs(true, 0)
		if got := r.read(want.Len()); got != want.String() {
			t.Error("got something else")
		}
		r.settle()
		if n := r.engine.Counts().Writes.Load(); n > uint64(want.Len()/engine.BatchBytes+1) {
			t.Errorf("%d bytes took %d writes", want.Len(), n)
		}
		r.End(engine.Kicked, text(0, "bye\n\n"))
		if got := r.rest(); got != form("bye\n\n") {
			t.Errorf("it ended with %q: a final chunk is a clean end", got)
		}
		r.check(engine.Kicked, nil)
	}, byConn, byResponse, bySocket)
}

// Everything at once, for the race detector.
func TestAStreamMayBeUsedConcurrently(t *testing.T) {
	for _, w := range []way{byConn, byResponse, bySocket} {
		t.Run(string(w), func(t *testing.T) {
			e := newEngine(engine.Config{MaxEvents: 5})
			t.Cleanup(e.Close)
			for i := range 100 {
				useConcurrently(t, w, e, i)
			}
		})
	}
}

func useConcurrently(t *testing.T, w way, e *engine.Engine, i int) {
	r := newRigOf(t, w, e)
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = io.Copy(io.Discard, r.peer) })
	for range 3 {
		wg.Go(func() {
			for range 20 {
				if err := e.Room(t.Context()); err != nil {
					t.Error(err)
				}
				r.post(text(0, "x\n\n"))
				e.PostGroup(e.Everyone(), text(0, "y\n\n"), nil)
				r.Usage()
			}
		})
	}
	wg.Go(r.serve)
	wg.Go(func() { e.Checkpoint(9, text(10, "checkpoint\n\n"), true) })
	wg.Go(func() {
		g := e.NewGroup()
		r.JoinGroup(g)
		e.PostGroup(g, text(11, "z\n\n"), nil)
	})
	switch i % 4 {
	case 0:
		wg.Go(func() { r.End(engine.Kicked, text(0, "bye\n\n")) })
		wg.Go(func() { r.Abort(engine.Stopped) })
	case 1:
		wg.Go(func() { _ = r.peer.Close() })
		wg.Go(func() { r.End(engine.Kicked, text(0, "bye\n\n")) })
	case 2:
		wg.Go(r.reset)
	case 3:
		wg.Go(func() { r.Abort(engine.Stopped) })
	}
	<-r.over
	_ = r.peer.Close()
	wg.Wait()
	e.Settle(r.Stream)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ends != 1 {
		t.Fatalf("it ended %d times", r.ends)
	}
}
