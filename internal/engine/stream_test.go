package engine_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidings-sse/tidings/internal/engine"
	"github.com/tidings-sse/tidings/internal/memnet"
)

// rig is a stream, its owner, and the peer that it is served to.
type rig struct {
	*engine.Stream
	engine *engine.Engine
	peer   *memnet.Conn
	server *memnet.Conn

	beat func(last uint64, silent bool) *engine.Frame // nil is a heartbeat where it is silent

	mu     sync.Mutex // guards what follows
	beats  []string
	ends   int
	reason engine.Reason
	err    error
	at     time.Time
}

const (
	heartbeat = 30 * time.Second
	timeout   = time.Minute
	pipe      = 1 << 10 // bytes that the connection takes while the peer doesn't read
)

// newRig returns a stream that is not served yet.
func newRig(cfg engine.Config) *rig {
	if cfg.MaxEvents == 0 {
		cfg.MaxEvents = 10
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 1 << 20
	}
	cfg.Heartbeat, cfg.Timeout = heartbeat, timeout
	r := &rig{engine: engine.New(cfg)}
	r.peer, r.server = memnet.Pipe(pipe)
	r.Stream = r.engine.NewStream(r, 7)
	return r
}

// serve serves the stream over a pipe.
func (r *rig) serve() { r.ServeConn(r.server, false, 0) }

func (r *rig) Beat(last uint64, silent bool) *engine.Frame {
	r.mu.Lock()
	r.beats = append(r.beats, fmt.Sprint(last, " ", silent))
	r.mu.Unlock()
	if r.beat != nil {
		return r.beat(last, silent)
	}
	if !silent {
		return nil
	}
	return text(0, ":\n\n")
}

func (r *rig) Ended(reason engine.Reason, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ends++
	r.reason, r.err, r.at = reason, err, time.Now()
}

// check checks how the stream ended, and that all of it has.
func (r *rig) check(t *testing.T, want engine.Reason, cause error) {
	t.Helper()
	r.engine.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ends != 1 || r.reason != want || !errors.Is(r.err, cause) {
		t.Errorf("it ended %d times: %s, %v; want %s, %v", r.ends, r.reason, r.err, want, cause)
	}
}

// read reads n bytes of the stream.
func (r *rig) read(t *testing.T, n int) string {
	t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(r.peer, b); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// rest reads to the end of the stream.
func (r *rig) rest(t *testing.T) string {
	t.Helper()
	b, err := io.ReadAll(r.peer)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// bubble runs a test in a synctest bubble.
func bubble(f func(*testing.T)) func(*testing.T) {
	return func(t *testing.T) { synctest.Test(t, f) }
}

func TestWhatWasPostedBeforeAStreamIsServedIsWrittenFirstAndAtOnce(t *testing.T) {
	bubble(func(t *testing.T) {
		r := newRig(engine.Config{})
		for i := range 5 {
			if r.Post(text(uint64(10+i), fmt.Sprint(i, "\n\n"))) {
				t.Errorf("frame %d is over the bounds", i)
			}
		}
		if u := r.Usage(); u.Queued != 5 || u.Last != 7 || u.Events != 0 {
			t.Errorf("before: %+v", u)
		}
		r.serve()
		synctest.Wait()
		r.Post(text(20, "live\n\n"))
		if got := r.read(t, 21); got != "0\n\n1\n\n2\n\n3\n\n4\n\nlive\n\n" {
			t.Errorf("got %q", got)
		}
		synctest.Wait()
		if u := r.Usage(); u != (engine.Usage{Last: 20, Events: 6, Bytes: 21}) {
			t.Errorf("after: %+v", u)
		}
		if c := r.engine.Counts(); c.Writes.Load() != 2 || c.Events.Load() != 6 || c.Bytes.Load() != 21 || c.Beats.Load() != 0 {
			t.Errorf("%d writes, %d events, %d bytes", c.Writes.Load(), c.Events.Load(), c.Bytes.Load())
		}
		_ = r.peer.Close()
		r.check(t, engine.Closed, nil)
	})(t)
}

func TestAStreamEndsWithWhatIsQueuedThenItsNoticeThenAMoment(t *testing.T) {
	for _, served := range []bool{true, false} {
		t.Run(fmt.Sprint("served ", served), bubble(func(t *testing.T) {
			r := newRig(engine.Config{})
			if served {
				r.serve()
			}
			r.Post(text(8, "a\n\n"))
			r.End(engine.Drained, text(0, "bye\n\n"))
			r.End(engine.Kicked, text(0, "not this\n\n")) // the first counts
			if r.Post(text(9, "too late\n\n")) {
				t.Error("a stream that is ending is over its bounds")
			}
			r.Relieve()
			r.Nudge()
			if !served {
				time.Sleep(time.Minute) // it ends when it is served, however late
				r.serve()
			}
			start := time.Now()
			if got := r.rest(t); got != "a\n\nbye\n\n" {
				t.Errorf("got %q", got)
			}
			if took := time.Since(start); took != engine.Linger {
				t.Errorf("it ended after %v", took)
			}
			r.check(t, engine.Drained, nil)
			r.Abort(engine.Stopped)
			r.End(engine.Kicked, nil)
			r.Post(text(10, "x"))
			r.Relieve()
			r.check(t, engine.Drained, nil)
		}))
	}
}

func TestAStreamThatWasAbortedBeforeItWasServedEndsWhenItIs(t *testing.T) {
	bubble(func(t *testing.T) {
		r := newRig(engine.Config{})
		r.Post(text(8, "a\n\n"))
		r.Abort(engine.Stopped)
		r.serve()
		if got := r.rest(t); got != "" {
			t.Errorf("got %q", got)
		}
		r.check(t, engine.Stopped, nil)
	})(t)
}

func TestAnAbortEndsAWriteUnderWayAndTheLinger(t *testing.T) {
	t.Run("a write", bubble(func(t *testing.T) {
		r := newRig(engine.Config{})
		r.serve()
		r.Post(sized(pipe * 2))
		r.Post(sized(10))
		synctest.Wait()
		start := time.Now()
		r.Abort(engine.Stopped)
		r.check(t, engine.Stopped, nil)
		if time.Since(start) != 0 {
			t.Errorf("it took %v", time.Since(start))
		}
		if got := r.rest(t); len(got) != pipe {
			t.Errorf("got %d bytes", len(got))
		}
		if u := r.Usage(); u.Last != 7 || u.Queued != 0 {
			t.Errorf("%+v", u)
		}
	}))
	t.Run("the linger", bubble(func(t *testing.T) {
		r := newRig(engine.Config{})
		r.serve()
		r.End(engine.Kicked, text(0, "bye\n\n"))
		synctest.Wait()
		start := time.Now()
		r.Abort(engine.Stopped)
		if got := r.rest(t); got != "bye\n\n" {
			t.Errorf("got %q", got)
		}
		r.check(t, engine.Kicked, nil)
		if time.Since(start) != 0 {
			t.Errorf("it took %v", time.Since(start))
		}
	}))
}

func TestAStreamThatIsEndingHasABound(t *testing.T) {
	bubble(func(t *testing.T) {
		r := newRig(engine.Config{})
		r.serve()
		r.Post(sized(pipe * 2))
		r.End(engine.Drained, text(0, "bye\n\n"))
		start := time.Now()
		r.check(t, engine.Drained, nil)
		if took := time.Since(start); took != engine.EndWithin {
			t.Errorf("it took %v", took)
		}
	})(t)
}

func TestTheFirstWhoEndsAStreamGivesTheReason(t *testing.T) {
	slow := sized(pipe * 2)
	for _, c := range []struct {
		name string
		end  func(*rig)
		want engine.Reason
		err  error
	}{
		{"the peer closes", func(r *rig) { _ = r.peer.Close() }, engine.Closed, nil},
		{"the peer resets", func(r *rig) { r.peer.Break(syscall.ECONNRESET) }, engine.Lost, syscall.ECONNRESET},
		{"the peer vanishes", func(r *rig) { r.peer.Break(syscall.ETIMEDOUT) }, engine.Lost, syscall.ETIMEDOUT},
		{"the peer resets while it is written to", func(r *rig) {
			r.Post(slow)
			time.Sleep(time.Second)
			r.peer.Break(syscall.ECONNRESET)
		}, engine.Lost, syscall.ECONNRESET},
		{"the peer vanishes while it is written to", func(r *rig) {
			r.Post(slow)
			time.Sleep(time.Second)
			r.peer.Break(syscall.ETIMEDOUT)
		}, engine.Slow, syscall.ETIMEDOUT},
		{"the peer closes while it is written to", func(r *rig) {
			r.Post(slow)
			time.Sleep(time.Second)
			_ = r.peer.Close()
		}, engine.Closed, nil},
		{"the peer takes nothing for the timeout", func(r *rig) {
			r.Post(slow)
			time.Sleep(timeout)
		}, engine.Slow, os.ErrDeadlineExceeded},
		{"the peer closes while it lingers", func(r *rig) {
			r.End(engine.Kicked, text(0, "bye\n\n"))
			synctest.Wait()
			_ = r.peer.Close()
		}, engine.Kicked, nil},
		{"the peer resets while it is ending", func(r *rig) {
			r.Post(slow)
			r.End(engine.Expired, text(0, "bye\n\n"))
			synctest.Wait()
			r.peer.Break(syscall.ECONNRESET)
		}, engine.Expired, nil},
		{"the peer sends too much", func(r *rig) {
			_, _ = r.peer.Write(make([]byte, engine.MaxUnread+1))
		}, engine.Lost, nil},
	} {
		t.Run(c.name, bubble(func(t *testing.T) {
			r := newRig(engine.Config{})
			r.serve()
			synctest.Wait()
			c.end(r)
			if c.name == "the peer sends too much" {
				r.engine.Wait()
				if r.err == nil {
					t.Error("there is no error")
				}
				c.err = r.err
			}
			r.check(t, c.want, c.err)
		}))
	}
}

func TestWhatThePeerSendsIsReadAndForgottenUpToABound(t *testing.T) {
	for _, unread := range []int{0, 1000, engine.MaxUnread} {
		t.Run(fmt.Sprint(unread), bubble(func(t *testing.T) {
			r := newRig(engine.Config{})
			r.ServeConn(r.server, false, unread)
			if _, err := r.peer.Write(make([]byte, engine.MaxUnread-unread)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			r.Post(text(8, "a\n\n"))
			r.read(t, 3)
			if _, err := r.peer.Write(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			r.engine.Wait()
			r.check(t, engine.Lost, r.err)
		}))
	}
}

func TestTheOwnerIsAskedForABeatOnlyWhereNothingWasWritten(t *testing.T) {
	bubble(func(t *testing.T) {
		r := newRig(engine.Config{})
		r.serve()
		start := time.Now()
		expect := func(want string, at time.Duration) {
			t.Helper()
			if got := r.read(t, len(want)); got != want || time.Since(start) != at {
				t.Errorf("after %v: %q, want %q after %v", time.Since(start), got, want, at)
			}
		}
		expect(":\n\n", heartbeat)
		expect(":\n\n", 2*heartbeat)
		time.Sleep(heartbeat / 2)
		r.Post(text(9, "a\n\n"))
		expect("a\n\n", 2*heartbeat+heartbeat/2)
		expect(":\n\n", 3*heartbeat+heartbeat/2)
		r.Nudge() // not silent: the owner has nothing to say
		synctest.Wait()
		if c := r.engine.Counts().Beats.Load(); c != 3 {
			t.Errorf("%d beats were counted", c)
		}
		_ = r.peer.Close()
		r.check(t, engine.Closed, nil)
		if got, want := strings.Join(r.beats, ", "), "7 true, 7 true, 9 true, 9 false"; got != want {
			t.Errorf("the owner was asked: %s; want %s", got, want)
		}
	})(t)
}

func TestABeatNeverOvertakesAnEvent(t *testing.T) {
	bubble(func(t *testing.T) {
		r := newRig(engine.Config{})
		r.beat = func(last uint64, _ bool) *engine.Frame {
			if last == 7 {
				r.Post(text(8, "event\n\n")) // while the owner makes up its mind
			}
			return text(20, "checkpoint\n\n")
		}
		r.serve()
		r.Nudge()
		synctest.Wait()
		r.Nudge()
		if got := r.read(t, 19); got != "event\n\ncheckpoint\n\n" {
			t.Errorf("got %q", got)
		}
		synctest.Wait()
		if u := r.Usage(); u.Last != 20 || u.Events != 1 {
			t.Errorf("%+v", u)
		}
		r.Abort(engine.Stopped)
		r.check(t, engine.Stopped, nil)
	})(t)
}

func TestAStreamThatWritesAllTheTimeIsNeverSilent(t *testing.T) {
	bubble(func(t *testing.T) {
		r := newRig(engine.Config{})
		r.serve()
		go func() { _, _ = io.Copy(io.Discard, r.peer) }()
		for range 100 {
			time.Sleep(heartbeat - time.Millisecond)
			r.Post(text(8, "x\n\n"))
		}
		synctest.Wait()
		r.Abort(engine.Stopped)
		r.check(t, engine.Stopped, nil)
		if len(r.beats) != 0 {
			t.Errorf("the owner was asked: %q", r.beats)
		}
	})(t)
}

func TestOneFrameIsNeverOverTheBounds(t *testing.T) {
	bubble(func(t *testing.T) {
		r := newRig(engine.Config{MaxBytes: 100})
		if r.Post(sized(1000)) {
			t.Error("a frame that is larger than the bound can never be sent")
		}
		if !r.Post(sized(1)) {
			t.Error("two of them are not over it")
		}
	})(t)
}

func TestRelieveWaitsForRoomAndNoLonger(t *testing.T) {
	t.Run("the peer reads", bubble(func(t *testing.T) {
		r := newRig(engine.Config{MaxEvents: 3})
		r.serve()
		var got bytes.Buffer
		done := make(chan struct{})
		go func() {
			defer close(done)
			buf := make([]byte, pipe)
			for {
				time.Sleep(50 * time.Millisecond) // well below the stall
				n, err := r.peer.Read(buf)
				got.Write(buf[:n])
				if err != nil {
					return
				}
			}
		}()
		for range 100 {
			if r.Post(sized(pipe)) {
				r.Relieve()
			}
			if n := r.Usage().Queued; n > 3 {
				t.Fatalf("%d frames are queued", n)
			}
		}
		r.End(engine.Drained, nil)
		<-done
		r.check(t, engine.Drained, nil)
		if got.Len() < 90*pipe {
			t.Errorf("%d bytes arrived", got.Len())
		}
	}))
	t.Run("the peer doesn't read", bubble(func(t *testing.T) {
		r := newRig(engine.Config{MaxEvents: 3})
		r.serve()
		r.Post(sized(pipe * 2))
		synctest.Wait()
		for range 3 {
			if r.Post(sized(1)) {
				t.Error("3 frames are over the bound of 3")
			}
		}
		if !r.Post(sized(1)) {
			t.Error("4 frames are not")
		}
		start := time.Now()
		var waiting sync.WaitGroup
		for range 3 { // several senders may wait
			waiting.Go(r.Relieve)
		}
		waiting.Wait()
		if took := time.Since(start); took != engine.Stall {
			t.Errorf("it took %v", took)
		}
		r.engine.Wait()
		r.check(t, engine.Slow, r.err)
		if r.err == nil {
			t.Error("there is no error")
		}
	}))
	t.Run("the peer has not read for long", bubble(func(t *testing.T) {
		r := newRig(engine.Config{MaxEvents: 3})
		r.serve()
		r.Post(sized(pipe * 2))
		time.Sleep(engine.StallAfter)
		for range 4 {
			r.Post(sized(1))
		}
		start := time.Now()
		r.Relieve()
		if took := time.Since(start); took != 0 {
			t.Errorf("it took %v", took)
		}
		r.engine.Wait()
		r.check(t, engine.Slow, r.err)
	}))
	t.Run("what is queued has been superseded", bubble(func(t *testing.T) {
		r := newRig(engine.Config{MaxEvents: 3})
		r.serve()
		r.Post(sized(pipe * 2))
		synctest.Wait()
		for range 100 {
			f := sized(1)
			if r.Post(f) {
				t.Error("it is over the bounds")
			}
			f.Supersede()
		}
		r.Abort(engine.Stopped)
		r.check(t, engine.Stopped, nil)
	}))
	t.Run("it is not served yet", bubble(func(t *testing.T) {
		r := newRig(engine.Config{MaxEvents: 3})
		for range 4 {
			r.Post(sized(1))
		}
		go func() {
			time.Sleep(4 * time.Second)
			r.serve()
		}()
		start := time.Now()
		r.Relieve()
		if took := time.Since(start); took != 4*time.Second {
			t.Errorf("it took %v", took)
		}
		r.Abort(engine.Stopped)
		r.check(t, engine.Stopped, nil)
	}))
	t.Run("the stream ends", bubble(func(t *testing.T) {
		r := newRig(engine.Config{MaxEvents: 3})
		r.serve()
		r.Post(sized(pipe * 2))
		synctest.Wait()
		for range 4 {
			r.Post(sized(1))
		}
		start := time.Now()
		go func() {
			time.Sleep(time.Millisecond)
			r.End(engine.Kicked, nil)
		}()
		r.Relieve()
		if took := time.Since(start); took != time.Millisecond {
			t.Errorf("it took %v", took)
		}
		r.check(t, engine.Kicked, nil)
	}))
	t.Run("a large frame makes progress", bubble(func(t *testing.T) {
		r := newRig(engine.Config{MaxEvents: 3})
		r.serve()
		r.Post(sized(10 * engine.BatchBytes))
		synctest.Wait()
		for range 4 {
			r.Post(sized(1))
		}
		var reading sync.WaitGroup
		defer reading.Wait()
		reading.Go(func() {
			buf := make([]byte, engine.BatchBytes/10) // the whole takes 10 times 200 ms
			for {
				if _, err := io.ReadFull(r.peer, buf); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
		start := time.Now()
		r.Relieve()
		if took := time.Since(start); took < time.Second || took > 3*time.Second {
			t.Errorf("it took %v", took)
		}
		r.Abort(engine.Stopped)
		r.check(t, engine.Stopped, nil)
	}))
}

func TestManyFramesGoOutInFewWritesThatAreChunksOnHTTP11(t *testing.T) {
	bubble(func(t *testing.T) {
		r := newRig(engine.Config{MaxEvents: 10_000, MaxBytes: 1 << 30})
		var want strings.Builder
		for i := range 5000 {
			f := text(uint64(i+8), fmt.Sprintf("data: %d\n\n", i))
			fmt.Fprintf(&want, "%x\r\ndata: %d\n\n\r\n", len(f.Block()), i)
			r.Post(f)
		}
		r.ServeConn(r.server, true, 0)
		if got := r.read(t, want.Len()); got != want.String() {
			t.Error("got something else")
		}
		synctest.Wait()
		if n := r.engine.Counts().Writes.Load(); n > uint64(want.Len()/engine.BatchBytes+1) {
			t.Errorf("%d bytes took %d writes", want.Len(), n)
		}
		r.End(engine.Kicked, nil)
		if got := r.rest(t); got != "" {
			t.Errorf("it ended with %q: a final chunk is a clean end", got)
		}
		r.check(t, engine.Kicked, nil)
	})(t)
}

// Everything at once, for the race detector.
func TestAStreamMayBeUsedConcurrently(t *testing.T) {
	for i := range 200 {
		r := newRig(engine.Config{MaxEvents: 5})
		go func() { _, _ = io.Copy(io.Discard, r.peer) }()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for range 20 {
					if r.Post(text(9, "x\n\n")) {
						r.Relieve()
					}
					r.Nudge()
					r.Usage()
				}
			})
		}
		wg.Go(r.serve)
		switch i % 4 {
		case 0:
			wg.Go(func() { r.End(engine.Kicked, text(0, "bye\n\n")) })
			wg.Go(func() { r.Abort(engine.Stopped) })
		case 1:
			wg.Go(func() { _ = r.peer.Close() })
			wg.Go(func() { r.End(engine.Kicked, nil) })
		case 2:
			wg.Go(func() { r.peer.Break(syscall.ECONNRESET) })
		case 3:
			wg.Go(func() { r.Abort(engine.Stopped) })
		}
		wg.Wait()
		r.engine.Wait()
		if r.ends != 1 {
			t.Fatalf("it ended %d times", r.ends)
		}
		_ = r.peer.Close()
	}
}

func TestAPeerThatReadsButNeverFastEnoughHoldsSendersUpForFiveSecondsInAll(t *testing.T) {
	bubble(func(t *testing.T) {
		r := newRig(engine.Config{})
		r.serve()
		gone := make(chan struct{})
		go func() { // a write makes progress every 100 ms
			defer close(gone)
			b := make([]byte, pipe)
			for {
				time.Sleep(100 * time.Millisecond)
				if _, err := r.peer.Read(b); err != nil {
					return
				}
			}
		}()
		var waited time.Duration
		frame := text(8, strings.Repeat("x", pipe-2)+"\n\n")
		for range 2000 {
			if !r.Post(frame) {
				continue
			}
			began := time.Now()
			r.Relieve()
			waited += time.Since(began)
		}
		if waited < engine.Stall || waited > 6*time.Second {
			t.Errorf("senders waited %v", waited)
		}
		<-gone
		r.engine.Wait()
		r.check(t, engine.Slow, r.err)
	})(t)
}
