package tidings_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidings-sse/tidings"
)

var slowBehaviours = []behaviour{
	{
		name: "a client that stops reading is closed as slow, and the others get everything at once",
		opts: tidings.Options{MaxQueuedEvents: 64, HeartbeatInterval: 30 * time.Second},
		// On a socket the kernel takes more than a test should write.
		exact: true,
		run: func(t *testing.T, s *site) {
			s.open(t, "clientId=stalled")
			reads := s.open(t, "clientId=reads")
			start := time.Now()
			arrived := make(chan error, 1)
			const n = 1500 // 6 MB: an HTTP/2 client of Go's takes 4 MB without reading
			go func() {
				for i := range n {
					if e := reads.next(t); !strings.HasPrefix(e.Data, fmt.Sprintf("%d ", i)) {
						arrived <- fmt.Errorf("event %d is %.20q", i, e.Data)
						return
					}
				}
				arrived <- nil
			}()
			filler := strings.Repeat("x", 4096)
			for i := range n {
				send(t, s.hub, fmt.Sprintf("%d %s", i, filler))
			}
			if err := <-arrived; err != nil {
				t.Error(err)
			}
			if took := time.Since(start); took > 300*time.Millisecond {
				t.Errorf("the others were %v late", took)
			}
			// net/http lets TLS try for 5 s to say goodbye to a client that doesn't read.
			eventually(t, "the stalled stream has ended", func() bool { return s.hub.Stats().Disconnected[tidings.ReasonSlow] == 1 })
			if took := time.Since(start); took > 6*time.Second {
				t.Errorf("it was closed after %v", took)
			}
			if r := send(t, s.hub, "x"); r.Matched != 1 {
				t.Errorf("%d are left", r.Matched)
			}
		},
	},
	{
		name:  "a write that makes no progress for the ConnectionTimeout ends the stream as slow",
		exact: true,
		opts:  tidings.Options{HeartbeatInterval: 10 * time.Second, ConnectionTimeout: time.Minute},
		run: func(t *testing.T, s *site) {
			s.open(t, "clientId=stalled")
			filler := strings.Repeat("x", 1<<20)
			for range 8 { // the client's own buffers take some; more would be over the bytes that may be queued
				if _, err := s.hub.NotifyClient(t.Context(), "stalled", "", tidings.Text(filler)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Millisecond)
			}
			eventually(t, "the stream ends", func() bool {
				time.Sleep(time.Second)
				return s.hub.Stats().Connections == 0
			})
			synctest.Wait()
			if d := s.hub.Stats().Disconnected; d[tidings.ReasonSlow] != 1 {
				t.Errorf("disconnected: %v", d)
			}
		},
	},
}

// Row 12, on sockets: what the kernel queues for a client that doesn't read is bounded too.
func TestAClientThatStopsReadingASocketIsClosedAloneAndHoldsNobodyUp(t *testing.T) {
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			o, ended := endings(tidings.Options{MaxQueuedEvents: 64, MaxQueuedBytes: 256 << 10})
			s := p.serveTCP(t, o)
			if p.version != "HTTP/2.0" { // where the stream's window does that
				shrinkFirst(s, 4<<10)
			}
			s.open(t, "clientId=stalled")
			reading := make([]*stream, 3)
			for i := range reading {
				reading[i] = s.open(t, "clientId=reads")
			}
			const n, most = 400, 4 // events, and how many of them the others may be behind
			ahead := make([]chan bool, len(reading))
			var others sync.WaitGroup
			for k, st := range reading {
				ahead[k] = make(chan bool, most)
				others.Go(func() {
					for i := range n {
						for e, err := range st.Events() {
							if err != nil || !strings.HasPrefix(e.Data, strconv.Itoa(i)+" ") {
								t.Errorf("event %d: %.20q, %v", i, e.Data, err)
							}
							break
						}
						<-ahead[k]
					}
				})
			}
			filler := strings.Repeat("x", 32<<10)
			var slowest time.Duration
			for i := range n {
				start := time.Now()
				send(t, s.hub, fmt.Sprint(i, " ", filler))
				slowest = max(slowest, time.Since(start))
				for _, c := range ahead {
					c <- true
				}
			}
			others.Wait()
			if slowest > 5*time.Second {
				t.Errorf("a send took %v", slowest)
			}
			e := await(t, ended)
			if e.ClientID != "stalled" || e.reason != tidings.ReasonSlow || e.err == nil {
				t.Errorf("%s ended: %s, %v", e.ClientID, e.reason, e.err)
			}
			if r := send(t, s.hub, "x"); r.Matched != len(reading) {
				t.Errorf("%d connections are left", r.Matched)
			}
		})
	}
}

// shrinkFirst makes the first connection that a client dials one that takes few bytes, about twice the size, which are not
// read.
func shrinkFirst(s *site, size int) {
	var once sync.Once
	shrink := func(c net.Conn, err error) (net.Conn, error) {
		if err == nil {
			once.Do(func() {
				if socket, ok := c.(interface{ SetReadBuffer(int) error }); ok {
					err = socket.SetReadBuffer(size)
				}
			})
		}
		return c, err
	}
	switch tr := s.client.Transport.(type) {
	case http10:
		dial := tr.dial
		tr.dial = func(ctx context.Context) (net.Conn, error) { return shrink(dial(ctx)) }
		s.client.Transport = tr
	case *http.Transport:
		dial := tr.DialContext
		tr.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			return shrink(dial(ctx, network, address))
		}
	}
}

// A stalled client's replay is in the handler, not in the engine.
func TestCloseEndsAReplayToAClientThatDoesNotRead(t *testing.T) {
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := p.serveInMemory(t, &tidings.Options{MaxReplayBytes: 64 << 20})
				cursor := s.open(t, "")
				for range 200 {
					_, err := s.hub.NotifyUser(t.Context(), "u", "", tidings.Text(strings.Repeat("x", 64<<10)))
					if err != nil {
						t.Fatal(err)
					}
				}
				s.get(t, "userId=u", "Last-Event-ID", cursor.LastEventID()) // and reads nothing
				synctest.Wait()
				if n := s.hub.Stats().Connections; n != 1 {
					t.Fatalf("%d connections: the replay has not stalled", n)
				}
				start := time.Now()
				if err := s.hub.Close(); err != nil {
					t.Error(err)
				}
				// net/http lets TLS try for 5 s to say goodbye.
				if took := time.Since(start); took > 0 && !(p.tls && p.version == "HTTP/1.1") || took > 5*time.Second {
					t.Errorf("Close took %v", took)
				}
				if u := s.hub.Stats().Unfinished; u[tidings.ReasonStopped] != 1 {
					t.Errorf("unfinished: %v", u)
				}
			})
		})
	}
}

func TestAReplayToAClientThatDoesNotReadIsGivenUpAfterTheTimeout(t *testing.T) {
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := p.serveInMemory(t, &tidings.Options{MaxReplayBytes: 64 << 20, ConnectionTimeout: time.Minute})
				cursor := s.open(t, "")
				for range 200 {
					_, err := s.hub.NotifyUser(t.Context(), "u", "", tidings.Text(strings.Repeat("x", 64<<10)))
					if err != nil {
						t.Fatal(err)
					}
				}
				s.get(t, "userId=u", "Last-Event-ID", cursor.LastEventID())
				time.Sleep(66 * time.Second)
				if u := s.hub.Stats().Unfinished; u[tidings.ReasonSlow] != 1 || len(u) != 1 {
					t.Errorf("unfinished: %v", u)
				}
			})
		})
	}
}

func TestAQueueFreesWhatWasSupersededOrExpiredBeforeItsStreamIsSlow(t *testing.T) {
	for _, c := range []struct {
		name  string
		event func(i int) tidings.Event
		want  []string // of the last events
	}{
		{"collapsed", func(i int) tidings.Event {
			return tidings.Event{Everyone: true, CollapseKey: "k", Data: i}
		}, []string{"999", `"last"`}},
		{"expired", func(i int) tidings.Event {
			return tidings.Event{Everyone: true, TTL: 10 * time.Millisecond, Data: i}
		}, []string{`"last"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := named(t, "HTTP 1.1")[0].serveInMemory(t, &tidings.Options{MaxQueuedEvents: 20})
				st := s.open(t, "")
				send(t, s.hub, strings.Repeat("x", 1<<20)) // fills what lies between, and is not read
				for i := range 1000 {
					time.Sleep(time.Millisecond)
					if r, err := s.hub.Send(t.Context(), c.event(i)); err != nil || r.Matched != 1 {
						t.Fatalf("event %d: %+v, %v", i, r, err)
					}
				}
				time.Sleep(20 * time.Millisecond)
				if _, err := s.hub.Broadcast(t.Context(), "", "last"); err != nil {
					t.Fatal(err)
				}
				st.next(t)
				var got []string
				for len(got) == 0 || got[len(got)-1] != `"last"` {
					got = append(got, st.next(t).Data)
				}
				if !slices.Equal(got, c.want) {
					t.Errorf("got %q, want %q", got, c.want)
				}
			})
		})
	}
}
