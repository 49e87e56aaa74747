package tidings_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidings-sse/tidings"
)

func TestTheCursorOfAnIdleConnectionNeverFallsOutOfHistory(t *testing.T) {
	// Others' events turn history over, slower and faster than heartbeats come, while a page is sent nothing. At any
	// time it may be cut, and come back with the cursor it has: that must be no gap.
	for name, c := range map[string]struct {
		every time.Duration // between others' events
		bytes int           // of their data
		log   tidings.MemoryOptions
		away  time.Duration // how long a page may be away: a quarter of history
		cuts  int
	}{
		"by events, in 2 s":   {every: time.Millisecond, log: tidings.MemoryOptions{MaxEvents: 2000}, cuts: 8},
		"by events, in 5 s":   {every: 50 * time.Millisecond, log: tidings.MemoryOptions{MaxEvents: 100}, away: time.Second, cuts: 100},
		"by events, in 20 s":  {every: 200 * time.Millisecond, log: tidings.MemoryOptions{MaxEvents: 100}, away: 5 * time.Second, cuts: 100},
		"by events, in 100 s": {every: time.Second, log: tidings.MemoryOptions{MaxEvents: 100}, away: 25 * time.Second, cuts: 100},
		"by bytes, in 20 s":   {every: 200 * time.Millisecond, bytes: 10_000, log: tidings.MemoryOptions{MaxBytes: 100 * 10_261}, away: 5 * time.Second, cuts: 100},
		"by age, in 2 min":    {every: time.Second, log: tidings.MemoryOptions{MaxAge: 2 * time.Minute}, away: 30 * time.Second, cuts: 100},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := c.log
				site := joinServe(t, tidings.Options{Broker: memoryLog(t, &o)})
				data := tidings.Text(strings.Repeat("x", c.bytes))
				stop, stopped := make(chan struct{}), make(chan struct{})
				defer func() {
					close(stop)
					<-stopped
				}()
				go func() {
					defer close(stopped)
					for tick := time.NewTicker(c.every); ; {
						select {
						case <-tick.C:
							joinSend(t, site.hub, tidings.Event{Data: data, Target: user("other")})
						case <-stop:
							return
						}
					}
				}()
				idle := site.tab(t, "userId=idle")
				idle.open()
				ended := make(chan struct{})
				read := func() {
					defer close(ended)
					for {
						if _, err := idle.next(); err != nil {
							return
						}
					}
				}
				go read()
				for n := range c.cuts {
					stays := 2 * time.Second
					if c.away > 0 {
						stays = 4 * c.away * time.Duration(n%17+1) / 10 // up to 1.7 histories
					}
					time.Sleep(stays + time.Duration(n)*time.Millisecond)
					idle.cut()
					<-ended
					time.Sleep(c.away)
					if r := idle.open(); r != "complete" {
						t.Fatalf("cut %d, after %d checkpoints: the resume is %q, of %q", n, idle.checkpoints, r, idle.gaps)
					}
					if n%3 == 0 { // a page that comes anew is anywhere between two rounds of the hub's housekeeping
						idle.cut()
						idle.from("").open()
					}
					ended = make(chan struct{})
					go read()
				}
				idle.cut()
				<-ended
				if idle.checkpoints == 0 {
					t.Error("there was no checkpoint")
				}
				idle.wants()
			})
		})
	}
}

func TestACheckpointIsWrittenInsteadOfAHeartbeatAndOnlyWhereTheCursorIsOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		site := joinServe(t, tidings.Options{})
		page := site.tab(t, "userId=u")
		page.open()
		// Nothing is sent to anyone: heartbeats alone.
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for {
				if _, err := page.next(); err != nil {
					return
				}
			}
		}()
		time.Sleep(10*time.Minute + time.Second)
		if s := site.hub.Stats(); s.Checkpoints != 0 || s.Heartbeats != 20 {
			t.Errorf("%d checkpoints and %d heartbeats in ten minutes of silence, want 0 and 20", s.Checkpoints, s.Heartbeats)
		}
		for range 100 {
			site.to(t, user("other"), "x")
		}
		time.Sleep(30 * time.Second)
		if s := site.hub.Stats(); s.Checkpoints != 1 || s.Heartbeats != 20 {
			t.Errorf("%d checkpoints and %d heartbeats after others' events, want 1 and 20", s.Checkpoints, s.Heartbeats)
		}
		time.Sleep(10 * time.Minute)
		if s := site.hub.Stats(); s.Checkpoints != 1 || s.Heartbeats != 40 {
			t.Errorf("%d checkpoints and %d heartbeats after ten more minutes, want 1 and 40", s.Checkpoints, s.Heartbeats)
		}
		page.cut()
		<-ended
		if want := site.hub.Stats().History.LastID; page.cursor != want {
			t.Errorf("the cursor is %q, want the newest, %q", page.cursor, want)
		}
	})
}

func TestACheckpointNeverPassesAnEventThatIsQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const events = 40
		site := joinServe(t, tidings.Options{Broker: memoryLog(t, &tidings.MemoryOptions{MaxEvents: 200})})
		page := site.tab(t, "userId=u")
		page.open()
		page.from(page.cursor)
		text := func(n int) string { return fmt.Sprint(n, strings.Repeat("x", 10_000)) }
		for n := range events { // far more than the connection takes
			site.to(t, user("u"), text(n))
		}
		for range 25 { // the page reads nothing, and others' events turn history over
			for range 20 {
				site.to(t, user("other"), "x")
			}
			time.Sleep(2 * time.Second)
		}
		if n := site.hub.Stats().Checkpoints; n > 0 {
			t.Errorf("%d checkpoints to a page that has not read its events", n)
		}
		// tab.take fails the test if an id comes before a smaller one.
		for n := range events {
			if e := page.read(); e.Data != text(n) {
				t.Fatalf("event %d is %.20q of type %s", n, e.Data, e.Type)
			}
		}
		for page.checkpoints == 0 {
			page.read()
		}
	})
}
