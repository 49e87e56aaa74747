package engine_test

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidings-sse/tidings/internal/engine"
)

// early is how much sooner than it is due a heartbeat may come.
const early = 2 * heartbeat / 64

// expect reads a block, and checks when it came: at a time after start, or as much sooner as a heartbeat may.
func (r *rig) expect(want string, start time.Time, at time.Duration) {
	r.t.Helper()
	got, took := r.read(len(want)), time.Since(start)
	if got != want || took > at || took < at-early {
		r.t.Errorf("after %v: %q, want %q after %v", took, got, want, at)
	}
}

func TestAHeartbeatIsWrittenWhereNothingElseWasForTheInterval(t *testing.T) {
	over(t, func(t *testing.T, w way) {
		r := newRig(t, w, engine.Config{})
		r.serve()
		for range 3 {
			r.expect(":\n\n", time.Now(), heartbeat)
		}
		time.Sleep(heartbeat / 2)
		start := time.Now()
		r.post(text(9, "a\n\n"))
		if got := r.read(3); got != "a\n\n" {
			t.Errorf("got %q", got)
		}
		r.took(start, 0)
		r.expect(":\n\n", start, heartbeat)
		synctest.Wait()
		if n := r.engine.Counts().Beats.Load(); n != 4 {
			t.Errorf("%d beats were counted", n)
		}
		if u := r.Usage(); u.Events != 1 || u.Last != 9 {
			t.Errorf("%+v", u)
		}
	}, byConn, byResponse)
}

// Whatever the distance between them, which is not that of the wheel's steps.
func TestAHeartbeatIsNeverLateAfterAnEvent(t *testing.T) {
	bubble(func(t *testing.T) {
		r := newRig(t, byConn, engine.Config{})
		r.serve()
		for i := range 200 {
			time.Sleep(time.Duration(i) * 137 * time.Millisecond % heartbeat)
			start := time.Now()
			r.post(text(uint64(8+i), "a\n\n"))
			got := r.read(3)
			for got == ":\n\n" { // of the time before
				got = r.read(3)
			}
			r.expect(":\n\n", start, heartbeat)
		}
	})(t)
}

func TestAStreamThatWritesAllTheTimeIsNeverSilent(t *testing.T) {
	bubble(func(t *testing.T) {
		r := newRig(t, byConn, engine.Config{})
		r.serve()
		go func() { _, _ = io.Copy(io.Discard, r.peer) }()
		for i := range 100 {
			time.Sleep(heartbeat - early - time.Millisecond)
			r.post(text(uint64(8+i), "x\n\n"))
		}
		synctest.Wait()
		if n := r.engine.Counts().Beats.Load(); n != 0 {
			t.Errorf("%d beats", n)
		}
	})(t)
}

func TestAStreamThatIsStuckGetsNoHeartbeats(t *testing.T) {
	bubble(func(t *testing.T) {
		r := newRig(t, byConn, engine.Config{})
		r.serve()
		r.stick()
		time.Sleep(timeout - time.Second)
		if n := r.engine.Counts().Beats.Load(); n != 0 {
			t.Errorf("%d beats", n)
		}
		if got := r.read(2 * pipe); len(got) != 2*pipe {
			t.Errorf("%d bytes", len(got))
		}
		r.expect(":\n\n", time.Now(), heartbeat) // what was stuck was written only now
	})(t)
}

func TestACheckpointTakesThePlaceOfTheNextHeartbeatWhereTheLastEventIsOld(t *testing.T) {
	over(t, func(t *testing.T, w way) {
		r := newRig(t, w, engine.Config{}) // its last event has number 7
		r.serve()
		start := time.Now()
		r.engine.Checkpoint(7, text(20, "too early\n\n"), true)
		r.expect(":\n\n", start, heartbeat)
		start = time.Now()
		r.engine.Checkpoint(8, text(20, "checkpoint\n\n"), false)
		r.expect("checkpoint\n\n", start, heartbeat)
		start = time.Now()
		r.expect(":\n\n", start, heartbeat) // its last is 20 now
		synctest.Wait()
		if u := r.Usage(); u.Last != 20 || u.Events != 0 {
			t.Errorf("%+v", u)
		}
		if c := r.engine.Counts(); c.Checkpoints.Load() != 1 || c.Beats.Load() != 2 {
			t.Errorf("%d checkpoints, %d beats", c.Checkpoints.Load(), c.Beats.Load())
		}
	}, byConn, byResponse)
}

func TestACheckpointIsWrittenNowWhereItIsAskedFor(t *testing.T) {
	over(t, func(t *testing.T, w way) {
		r := newRig(t, w, engine.Config{})
		r.serve()
		r.settle()
		start := time.Now()
		r.engine.Checkpoint(8, text(20, "checkpoint\n\n"), true)
		if got := r.read(12); got != "checkpoint\n\n" {
			t.Errorf("got %q", got)
		}
		r.took(start, 0)
		r.engine.Checkpoint(8, text(21, "again\n\n"), true) // its last is 20 now
		r.post(text(22, "event\n\n"))
		if got := r.read(7); got != "event\n\n" {
			t.Errorf("got %q", got)
		}
	}, byConn, byResponse, bySocket)
}

func TestACheckpointNeverOvertakesAnEvent(t *testing.T) {
	over(t, func(t *testing.T, w way) {
		r := newRig(t, w, engine.Config{})
		r.serve()
		r.stick()
		r.post(text(8, "event\n\n"))
		r.engine.Checkpoint(9, text(20, "checkpoint\n\n"), true)
		r.settle()
		r.read(2 * pipe)
		start := time.Now()
		r.expect("event\n\n", start, 0)
		r.expect("checkpoint\n\n", start, heartbeat) // it is given only where nothing else is queued
		synctest.Wait()
		if u := r.Usage(); u.Last != 20 || u.Events != 1 {
			t.Errorf("%+v", u)
		}
	}, byConn, byResponse)
}

func TestAStreamWithAnOldCursorBeginsWithTheCheckpoint(t *testing.T) {
	for _, queued := range []bool{false, true} {
		over(t, func(t *testing.T, w way) {
			r := newRig(t, w, engine.Config{})
			r.engine.Checkpoint(8, text(20, "checkpoint\n\n"), false)
			want := "checkpoint\n\n"
			if queued {
				r.post(text(8, "event\n\n"))
				want = "event\n\n"
			}
			r.settle()
			r.serve()
			if got := r.read(len(want)); got != want {
				t.Errorf("got %q", got)
			}
		}, byConn, byResponse, bySocket)
	}
}
