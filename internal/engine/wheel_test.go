package engine_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/tidings-sse/tidings/internal/engine"
)

// A stream of the wheel is looked at once, at most two steps before it is due and never after it, if the wheel is turned
// as often as it says.
func TestAWheelHasEachStreamLookedAtWhenItIsDue(t *testing.T) {
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(uint64(seed), 0))
	for range 20 {
		interval := time.Duration(1 + rnd.Int64N(int64(time.Minute)))
		w := engine.NewWheel(interval)
		now := time.Duration(rnd.Int64N(int64(time.Hour)))
		w.Turn(now, nil)
		due := make(map[*engine.Stream]time.Duration)
		var out []*engine.Stream // streams that are not in it
		for range 50 {
			out = append(out, new(engine.Stream))
		}
		add := func() {
			if len(out) == 0 {
				return
			}
			i := rnd.IntN(len(out))
			s := out[i]
			out = slices.Delete(out, i, i+1)
			due[s] = now + min(interval, 2*w.Step()+time.Duration(rnd.Int64N(int64(interval))))
			w.Add(s, due[s])
		}
		var jumped time.Duration // how far the clock has gone past when the wheel should have been turned
		look := func(s *engine.Stream) {
			at, in := due[s]
			if !in {
				t.Fatal("a stream that is not in the wheel is looked at")
			}
			if d := at - now; d > 2*w.Step() || d < -jumped {
				t.Fatalf("it is looked at %v before it is due; a step is %v, and the clock has jumped %v", d, w.Step(), jumped)
			}
			delete(due, s)
			out = append(out, s)
			if jumped == 0 && rnd.IntN(2) == 0 { // as a loop does: it goes on to when it is due next, which may be soon
				again := now + w.Step() + time.Duration(rnd.Int64N(int64(interval)))
				out, due[s] = out[:len(out)-1], again
				w.Add(s, again)
			}
		}
		for range 2000 {
			switch rnd.IntN(4) {
			case 0:
				add()
			case 1:
				for s := range due { // any
					w.Remove(s)
					w.Remove(s) // it isn't in it any more
					delete(due, s)
					out = append(out, s)
					break
				}
			case 2:
				now += time.Duration(rnd.Int64N(int64(w.Step()))) / 4
				turnDue(w, now, &jumped, look)
			case 3:
				next, ok := w.Next()
				if ok != (len(due) > 0) {
					t.Fatalf("%d streams are in it, and there is a next turn: %v", len(due), ok)
				}
				if now = max(now, next); rnd.IntN(10) == 0 {
					jumped = time.Duration(rnd.Int64N(int64(3 * interval)))
					now += jumped
				}
				turnDue(w, now, &jumped, look)
			}
			if w.Len() != len(due) {
				t.Fatalf("%d streams, want %d", w.Len(), len(due))
			}
		}
	}
}

// turnDue turns the wheel, and checks nothing but what look does: the clock may have passed the next turn by as much as it
// moved since.
func turnDue(w *engine.Wheel, now time.Duration, jumped *time.Duration, look func(*engine.Stream)) {
	if next, ok := w.Next(); ok && now > next {
		*jumped = max(*jumped, now-next)
	}
	w.Turn(now, look)
	*jumped = 0
}

func TestAWheelWithoutStreamsHasNoNextTurn(t *testing.T) {
	w := engine.NewWheel(time.Minute)
	if at, ok := w.Next(); ok {
		t.Errorf("it is at %v", at)
	}
	s := new(engine.Stream)
	w.Add(s, time.Minute)
	if at, ok := w.Next(); !ok || at > time.Minute || at < time.Minute-2*w.Step() {
		t.Errorf("it is at %v, %v", at, ok)
	}
	w.Remove(s)
	if at, ok := w.Next(); ok {
		t.Errorf("it is at %v", at)
	}
}

func TestAStreamThatIsNotDueYetIsLookedAtAgainAFewStepsLater(t *testing.T) {
	w := engine.NewWheel(64 * time.Second)
	now, due := time.Duration(0), 64*time.Second
	w.Add(new(engine.Stream), due)
	looks := 0
	for range 200 {
		var ok bool
		if now, ok = w.Next(); !ok {
			break
		}
		w.Turn(now, func(s *engine.Stream) {
			if looks++; looks < 4 {
				due += time.Duration(looks) * 7 * time.Second
				w.Add(s, due)
			}
		})
		if now < due-2*w.Step() && looks == 4 {
			t.Errorf("the last look was at %v, and due at %v", now, due)
		}
	}
	if looks != 4 || now > due {
		t.Errorf("%d looks until %v, the last due at %v", looks, now, due)
	}
}

func TestATimelineGivesWhatIsDueInOrder(t *testing.T) {
	var tl engine.Timeline
	if _, ok := tl.Next(); ok {
		t.Error("an empty one has something due")
	}
	streams := make([]*engine.Stream, 100)
	for i := range streams {
		streams[i] = new(engine.Stream)
		tl.Add(streams[i], time.Duration(i/2))
	}
	got := 0
	for now := time.Duration(0); now < 60; now += 7 {
		tl.Expire(now, func(s *engine.Stream) {
			if s != streams[got] || time.Duration(got/2) > now {
				t.Errorf("stream %d is out of its turn at %d", got, now)
			}
			got++
		})
		if next, ok := tl.Next(); ok && (next != now+1 || got != int(2*now+2)) {
			t.Errorf("the next after %d is %d; %d were given", now, next, got)
		}
	}
	if _, ok := tl.Next(); ok || got != len(streams) {
		t.Errorf("%d were given", got)
	}
}
