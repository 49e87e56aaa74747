package tidings_test

import (
	"testing"
	"time"

	"github.com/tidings-sse/tidings"
)

var silenceBehaviours = []behaviour{
	{
		name:  "heartbeats come only where the stream was idle",
		exact: true,
		opts:  tidings.Options{HeartbeatInterval: 30 * time.Second},
		run: func(t *testing.T, s *site) {
			st := s.open(t, "")
			start := time.Now()
			go func() {
				for _, at := range []time.Duration{75, 80, 100, 125} { // seconds
					time.Sleep(time.Until(start.Add(at * time.Second)))
					send(t, s.hub, "x")
				}
				time.Sleep(40 * time.Second)
				send(t, s.hub, "last")
			}()
			for st.next(t).Data != "last" {
			}
			want := []time.Duration{30 * time.Second, 60 * time.Second, 155 * time.Second}
			if len(st.comments) != len(want) {
				t.Fatalf("%d heartbeats, want %d", len(st.comments), len(want))
			}
			for i, c := range st.comments { // at the latest, and at most a 32nd of the interval earlier, each time
				if early := want[i] - c.Sub(start); early < 0 || early > 2*time.Second {
					t.Errorf("heartbeat %d after %v, want %v", i, c.Sub(start), want[i])
				}
			}
		},
	},
	{
		name:  "the server's own timeouts don't end a stream",
		exact: true,
		opts:  tidings.Options{HeartbeatInterval: time.Second},
		set: func(s *site) {
			s.server.ReadTimeout = 200 * time.Millisecond
			s.server.ReadHeaderTimeout = 100 * time.Millisecond
			s.server.WriteTimeout = 200 * time.Millisecond
			s.server.IdleTimeout = 200 * time.Millisecond
		},
		run: func(t *testing.T, s *site) {
			st := s.open(t, "")
			go func() {
				time.Sleep(10*time.Second + time.Millisecond)
				send(t, s.hub, "still here")
			}()
			if e := st.next(t); e.Data != "still here" {
				t.Errorf("got %+v", e)
			}
			if len(st.comments) != 10 {
				t.Errorf("%d heartbeats in 10 s", len(st.comments))
			}
		},
	},
	{
		name: "the server's own timeouts don't end a stream, in real time",
		opts: tidings.Options{HeartbeatInterval: 100 * time.Millisecond},
		set: func(s *site) {
			s.server.ReadTimeout = 100 * time.Millisecond
			s.server.WriteTimeout = 100 * time.Millisecond
		},
		run: func(t *testing.T, s *site) {
			st := s.open(t, "")
			time.AfterFunc(250*time.Millisecond, func() { _, _ = s.hub.Broadcast(t.Context(), "", 1) })
			st.next(t)
		},
	},
	{
		name:   "a silent stream gets heartbeats, and one that is written to gets none, in real time",
		socket: true,
		costly: true,
		opts:   tidings.Options{HeartbeatInterval: 200 * time.Millisecond},
		run: func(t *testing.T, s *site) {
			st := s.open(t, "")
			last, longest := time.Now(), time.Duration(0)
			for range 20 {
				if time.Sleep(25 * time.Millisecond); len(st.comments) > 0 { // paces; nothing is awaited by it
					break
				}
				send(t, s.hub, "x")
				st.next(t)
				longest, last = max(longest, time.Since(last)), time.Now()
			}
			if n := len(st.comments); n > 0 && longest < 150*time.Millisecond {
				t.Errorf("%d heartbeats, where it was silent for %v at most", n, longest)
			}
			before := len(st.comments)
			eventually(t, "there were heartbeats", func() bool { return s.hub.Stats().Heartbeats >= uint64(before)+3 })
			if took := time.Since(last); took < 500*time.Millisecond {
				t.Errorf("three heartbeats in %v", took)
			}
			send(t, s.hub, "y")
			if e := st.next(t); e.Data != "y" || len(st.comments) < before+3 {
				t.Errorf("%+v after %d heartbeats", e, len(st.comments))
			}
		},
	},
	{
		name:   "an idle stream whose cursor has become old gets a checkpoint",
		costly: true,
		opts:   tidings.Options{HeartbeatInterval: 200 * time.Millisecond},
		log:    &tidings.MemoryOptions{MaxEvents: 100},
		run: func(t *testing.T, s *site) {
			st := s.open(t, "userId=idle")
			before := st.LastEventID()
			var last tidings.Receipt
			for i := range 60 { // more than a quarter of the log
				var err error
				if last, err = s.hub.NotifyUser(t.Context(), "other", "", i); err != nil {
					t.Fatal(err)
				}
			}
			e := st.next(t)
			if e.Type != "tidings.checkpoint" || e.Data != "{}" || e.ID == "" || st.LastEventID() == before {
				t.Errorf("got %+v, and the cursor is %s", e, st.LastEventID())
			}
			for i := range 60 { // the first cursor falls out of the log
				if _, err := s.hub.NotifyUser(t.Context(), "other", "", i); err != nil {
					t.Fatal(err)
				}
			}
			st.close()
			if again := s.open(t, "userId=idle", "Last-Event-ID", e.ID); again.connected.Resume != "complete" {
				t.Errorf("with the checkpoint %s, of the log's %s: resume %s", e.ID, last.ID, again.connected.Resume)
			}
		},
	},
}
