package engine_test

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidings-sse/tidings/internal/engine"
)

// fullRig returns a stream with a bound of 3 frames whose writer is stuck, and another one of the same loop.
func fullRig(t *testing.T, w way) (r, other *rig) {
	e := newEngine(engine.Config{MaxEvents: 3, Loops: 1})
	t.Cleanup(e.Close)
	r, other = newRigOf(t, w, e), newRigOf(t, w, e)
	r.serve()
	other.serve()
	r.stick()
	return r, other
}

// fill makes the outbox of a stream that is stuck full, and posts one frame to the other stream.
func fill(r, other *rig) {
	for range 4 {
		r.post(sized(1))
	}
	other.post(text(9, "other\n\n"))
}

// within checks how long something took, to a few turns of a loop that waits.
func within(t testing.TB, start time.Time, want time.Duration) {
	t.Helper()
	if d := time.Since(start); d < want-2*engine.StallTurn || d > want+2*engine.StallTurn {
		t.Errorf("it took %v, want %v", d, want)
	}
}

func TestAStreamIsFullWithOneFrameMoreThanItsBound(t *testing.T) {
	bubble(func(t *testing.T) {
		r, other := fullRig(t, byConn)
		for range 3 {
			r.post(sized(1))
		}
		other.post(text(9, "other\n\n"))
		start := time.Now()
		other.read(7)
		other.took(start, 0) // nobody waits
		time.Sleep(time.Minute - time.Second)
		if n := r.Usage().Queued; n != 3 {
			t.Errorf("%d are queued", n)
		}
	})(t)
}

func TestALoopHoldsWhatWasPostedUntilAFullStreamIsReadFrom(t *testing.T) {
	over(t, func(t *testing.T, w way) {
		r, other := fullRig(t, w)
		start := time.Now()
		fill(r, other)
		go func() {
			time.Sleep(100 * time.Millisecond)
			_, _ = io.Copy(io.Discard, r.peer)
		}()
		if got := other.read(7); got != "other\n\n" {
			t.Errorf("got %q", got)
		}
		if took := time.Since(start); took < 100*time.Millisecond || w != bySocket && took > 110*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		other.post(text(10, "more\n\n"))
		if got := other.read(6); got != "more\n\n" {
			t.Errorf("got %q", got)
		}
	}, byConn, byResponse, bySocket)
}

func TestSendersHaveNoRoomWhileAFullStreamIsWaitedFor(t *testing.T) {
	bubble(func(t *testing.T) {
		r, other := fullRig(t, byConn)
		start := time.Now()
		fill(r, other)
		synctest.Wait()
		go func() { _, _ = io.Copy(io.Discard, other.peer) }()
		for range engine.MaxInboxItems { // the loop may have left one there already: then it is the last of these that waits
			if err := r.engine.Room(t.Context()); err != nil {
				t.Fatal(err)
			}
			other.post(text(0, "x"))
		}
		if err := r.engine.Room(t.Context()); err != nil {
			t.Fatal(err)
		}
		within(t, start, engine.Stall) // then it was slow
		r.check(engine.Slow, errAny)
	})(t)
}

func TestAFullStreamWhosePeerReadsNothingIsSlowAfterAMoment(t *testing.T) {
	over(t, func(t *testing.T, w way) {
		r, other := fullRig(t, w)
		start := time.Now()
		fill(r, other)
		other.read(7)
		if took := time.Since(start); w != bySocket {
			within(t, start, engine.Stall)
		} else if took < engine.Stall/2 {
			t.Errorf("it took %v", took)
		}
		r.check(engine.Slow, errAny)
	}, byConn, byResponse, bySocket)
}

func TestAFullStreamWhosePeerHasNotReadForLongIsSlowAtOnce(t *testing.T) {
	bubble(func(t *testing.T) {
		r, other := fullRig(t, byConn)
		time.Sleep(engine.StallAfter)
		start := time.Now()
		fill(r, other)
		other.read(7)
		r.check(engine.Slow, errAny)
		r.took(start, 0)
	})(t)
}

func TestAStreamWhoseBytesAreOverTheBoundIsFullToo(t *testing.T) {
	bubble(func(t *testing.T) {
		r := newRig(t, byConn, engine.Config{MaxBytes: 100, Loops: 1})
		r.serve()
		r.stick()
		r.post(sized(50))
		r.post(sized(50))
		time.Sleep(engine.StallAfter / 2)
		if n := r.Usage().Queued; n != 2 {
			t.Errorf("%d are queued", n)
		}
		start := time.Now()
		r.post(sized(1))
		r.check(engine.Slow, errAny)
		within(t, start, engine.Stall)
	})(t)
}

func TestOneFrameIsNeverOverTheBounds(t *testing.T) {
	bubble(func(t *testing.T) {
		r := newRig(t, byConn, engine.Config{MaxBytes: 100})
		r.serve()
		r.stick()
		r.post(sized(1000)) // a frame that is larger than the bound could never be sent
		time.Sleep(timeout / 2)
		go func() {
			time.Sleep(time.Millisecond)
			r.End(engine.Drained, text(0, "bye\n\n"))
		}()
		if got := r.rest(); len(got) != 2*pipe+1005 {
			t.Errorf("%d bytes", len(got))
		}
		r.check(engine.Drained, nil)
	})(t)
}

func TestFramesThatWereSupersededMakeRoom(t *testing.T) {
	bubble(func(t *testing.T) {
		r, _ := fullRig(t, byConn)
		for range 100 {
			f := sized(1)
			r.post(f)
			synctest.Wait()
			f.Supersede()
		}
		time.Sleep(engine.StallAfter / 2)
		r.Abort(engine.Stopped)
		r.check(engine.Stopped, nil)
	})(t)
}

func TestAStreamThatWasWaitedForInVainIsNotWaitedForAgain(t *testing.T) {
	bubble(func(t *testing.T) {
		r, other := fullRig(t, byConn)
		start := time.Now()
		gone := sized(1)
		r.post(gone)
		fill(r, other)
		other.post(text(10, "again\n\n"))
		r.post(sized(1))
		synctest.Wait()
		gone.Supersede() // there is room for one less than was posted, and still no progress
		other.read(7 + 7)
		within(t, start, engine.Stall)
		r.check(engine.Slow, errAny)
		within(t, start, engine.Stall)
	})(t)
}

func TestFramesThatAreSupersededEndTheWaitForAFullStream(t *testing.T) {
	bubble(func(t *testing.T) {
		r, other := fullRig(t, byConn)
		start := time.Now()
		for i := range 4 {
			f := sized(1)
			r.post(f)
			if i > 0 {
				time.AfterFunc(100*time.Millisecond, f.Supersede)
			}
		}
		other.post(text(9, "other\n\n"))
		other.read(7)
		within(t, start, 100*time.Millisecond)
	})(t)
}

func TestAFullStreamThatEndsIsNotWaitedFor(t *testing.T) {
	for name, end := range map[string]func(*rig){
		"it is aborted":   func(r *rig) { r.Abort(engine.Kicked) },
		"the peer closes": func(r *rig) { _ = r.peer.Close() },
	} {
		t.Run(name, bubble(func(t *testing.T) {
			r, other := fullRig(t, byConn)
			start := time.Now()
			fill(r, other)
			time.Sleep(20 * time.Millisecond)
			end(r)
			other.read(7)
			if took := time.Since(start); took < 20*time.Millisecond || took > 50*time.Millisecond {
				t.Errorf("it took %v", took)
			}
			if reason, _ := r.end(); reason == engine.Slow {
				t.Error("it was slow")
			}
		}))
	}
}

func TestOtherStreamsBeginAndEndWhileAFullOneIsWaitedFor(t *testing.T) {
	bubble(func(t *testing.T) {
		r, other := fullRig(t, byConn)
		third := newRigOf(t, byConn, r.engine)
		third.post(text(8, "queued\n\n"))
		synctest.Wait()
		fill(r, other)
		synctest.Wait()
		start := time.Now()
		third.serve()
		if got := third.read(8); got != "queued\n\n" {
			t.Errorf("got %q", got)
		}
		_ = third.peer.Close()
		third.check(engine.Closed, nil)
		other.Abort(engine.Kicked)
		other.check(engine.Kicked, nil)
		r.took(start, 0)
	})(t)
}

func TestAStreamThatIsNotServedIsFullAsOneThatIsStuck(t *testing.T) {
	for _, served := range []bool{true, false} {
		over(t, func(t *testing.T, w way) {
			r := newRig(t, w, engine.Config{MaxEvents: 3, Loops: 1})
			for i := range 5 {
				r.post(text(uint64(8+i), "x\n\n"))
			}
			synctest.Wait()
			if !served {
				time.Sleep(engine.Stall + 2*engine.StallTurn)
				r.serve()
				r.check(engine.Slow, errAny)
				return
			}
			time.Sleep(engine.Stall - 20*engine.StallTurn)
			r.serve()
			if got := r.read(15); got != "x\n\nx\n\nx\n\nx\n\nx\n\n" {
				t.Errorf("got %q", got)
			}
		}, byConn, byResponse)
	}
}

func TestALargeFrameMakesProgress(t *testing.T) {
	over(t, func(t *testing.T, w way) {
		r := newRig(t, w, engine.Config{MaxEvents: 3, Loops: 1})
		r.serve()
		r.post(sized(10 * engine.BatchBytes))
		synctest.Wait()
		for range 4 {
			r.post(sized(1))
		}
		r.post(text(0, "end\n\n"))
		buf := make([]byte, engine.BatchBytes/10) // the whole takes 10 times 100 ms
		for range 100 {
			time.Sleep(10 * time.Millisecond)
			if _, err := io.ReadFull(r.peer, buf); err != nil {
				t.Fatal(err)
			}
		}
		r.read(10*engine.BatchBytes - 100*len(buf))
		if got := r.read(9); got != "\n\n\n\nend\n\n" {
			t.Errorf("got %q", got)
		}
	}, byConn, byResponse)
}

func TestAPeerThatReadsSlowlyHoldsSendersUpAndGetsAll(t *testing.T) {
	over(t, func(t *testing.T, w way) {
		r := newRig(t, w, engine.Config{MaxEvents: 3, Loops: 1})
		r.serve()
		const frames = 60 // of which each takes 50 ms
		go func() {
			for range frames {
				r.post(sized(pipe))
			}
			r.End(engine.Drained, text(0, "bye\n\n"))
		}()
		got, buf := 0, make([]byte, pipe)
		for {
			time.Sleep(50 * time.Millisecond)
			n, err := r.peer.Read(buf)
			if got += n; err != nil {
				break
			}
			if n := r.Usage().Queued; n > 4 {
				t.Fatalf("%d frames are queued", n)
			}
		}
		r.check(engine.Drained, nil)
		if got != frames*pipe+5 {
			t.Errorf("%d bytes arrived", got)
		}
	}, byConn, byResponse)
}

// frameAWrite is so large that a write is one frame of this size.
const frameAWrite = engine.BatchBytes/2 + 1

// readEach has the peer read a frame of that size after each interval, until the stream ends.
func (r *rig) readEach(interval time.Duration) (gone <-chan struct{}) {
	over := make(chan struct{})
	go func() {
		defer close(over)
		b := make([]byte, frameAWrite)
		for {
			time.Sleep(interval)
			if _, err := io.ReadFull(r.peer, b); err != nil {
				return
			}
		}
	}()
	return over
}

func TestALoopGoesOnWhenAFullStreamHasCaughtUpByHalf(t *testing.T) {
	over(t, func(t *testing.T, w way) {
		e := newEngine(engine.Config{Loops: 1, MaxEvents: 10})
		t.Cleanup(e.Close)
		r, other := newRigOf(t, w, e), newRigOf(t, w, e)
		r.serve()
		other.serve()
		frame := sized(frameAWrite)
		r.post(frame)
		r.settle() // it is stuck with this one
		start := time.Now()
		for range 11 {
			r.post(frame)
		}
		other.post(text(8, "other\n\n"))
		gone := r.readEach(100 * time.Millisecond)
		other.read(7)
		within(t, start, 600*time.Millisecond) // six are written, five wait
		r.Abort(engine.Stopped)
		<-gone
	}, byConn, byResponse)
}

func TestAPeerThatReadsButDoesNotCatchUpByHalfIsSlowAfterABound(t *testing.T) {
	over(t, func(t *testing.T, w way) {
		r := newRig(t, w, engine.Config{Loops: 1, MaxEvents: 20})
		r.serve()
		start := time.Now()
		for range 30 {
			r.post(sized(frameAWrite))
		}
		<-r.readEach(240 * time.Millisecond) // each is progress, in time not to be stuck
		_, at := r.end()
		if took := at.Sub(start); took < engine.MaxStall-2*engine.StallTurn || took > engine.MaxStall+2*engine.StallTurn {
			t.Errorf("it ended after %v", took)
		}
		r.check(engine.Slow, errAny)
	}, byConn, byResponse)
}

// A peer whose kernel says that it reads is not stuck, even if nothing more can be written to it yet.
func TestAFullStreamIsNotSlowWhileItsPeerMakesRoom(t *testing.T) {
	for name, c := range map[string]struct {
		parked time.Duration // before it becomes full
		moves  time.Duration // how long its peer makes room for, from then on
		shut   bool          // what its kernel says of it all the while
		want   time.Duration
	}{
		"it never does":                                  {0, 0, false, engine.Stall},
		"it does for a while":                            {0, time.Second, false, time.Second + engine.Stall},
		"it does for ever":                               {0, time.Hour, false, engine.MaxStall},
		"it was stuck for long":                          {engine.StallAfter, time.Hour, true, 0},
		"it was not written to for long":                 {engine.StallAfter, 0, false, engine.Stall},
		"it was not written to for long, and makes room": {engine.StallAfter, time.Second, false, time.Second + engine.Stall},
	} {
		t.Run(name, bubble(func(t *testing.T) {
			e := newEngine(engine.Config{MaxEvents: 3, Loops: 1})
			defer e.Close()
			k := newSink(e)
			k.Join()
			start := time.Now()
			k.ServeWriter(engine.Writer{
				Write:  func([]byte) (int, bool, error) { return 0, true, nil },
				Window: func() (uint64, bool) { return uint64(min(time.Since(start), c.parked+c.moves)), c.shut },
			}, false)
			e.Post(k.Stream, sized(1))
			time.Sleep(c.parked)
			for range 3 {
				e.Post(k.Stream, sized(1))
			}
			full := time.Now()
			if reason, at := k.end(); reason != engine.Slow || at.Sub(full) < c.want-2*engine.StallTurn || at.Sub(full) > c.want+2*engine.StallTurn {
				t.Errorf("it was %s after %v, want %v", reason, at.Sub(full), c.want)
			}
		}))
	}
}

// Whenever it got stuck, and though nothing but the wheel finds it: a socket has no deadline.
func TestAStreamThatTakesNothingForTheTimeoutIsSlowSoonAfterIt(t *testing.T) {
	bubble(func(t *testing.T) {
		e := newEngine(engine.Config{})
		defer e.Close()
		for i := range 100 {
			k := newSink(e)
			k.Join()
			k.ServeWriter(engine.Writer{Write: func([]byte) (int, bool, error) { return 0, true, nil }}, false)
			time.Sleep(time.Duration(i) * 731 * time.Millisecond % (heartbeat - early))
			start := time.Now()
			e.Post(k.Stream, text(1, "a\n\n"))
			reason, at := k.end()
			if took := at.Sub(start); reason != engine.Slow || took < timeout || took > timeout+early {
				t.Errorf("it was %s after %v", reason, took)
			}
		}
	})(t)
}
