package tidings_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidings-sse/tidings"
)

func TestEveryConnectionIsAnnouncedOnceAndThenItsEnd(t *testing.T) {
	for _, p := range named(t, "HTTP 1.1", "HTTP 1.1 not hijackable", "HTTP 2 h2c") {
		t.Run(p.name, func(t *testing.T) {
			var mu sync.Mutex
			calls := make(map[string]string) // "c" and "d" for each call, by connection
			record := func(c tidings.Connection, call string) {
				mu.Lock()
				defer mu.Unlock()
				calls[c.ConnectionID] += call
				if c.ClientID == "" || c.ConnectedAt.IsZero() || c.RemoteAddr == "" {
					t.Errorf("%s: %+v", call, c)
				}
			}
			s := p.serveTCP(t, &tidings.Options{
				DrainWindow: 10 * time.Millisecond,
				OnConnect: func(c tidings.Connection) {
					time.Sleep(time.Duration(len(c.ClientID)%3) * time.Millisecond) // some end before this has returned
					record(c, "c")
				},
				OnDisconnect: func(c tidings.Connection, _ tidings.Reason, _ error) { record(c, "d") },
			})
			const n = 200
			var clients sync.WaitGroup
			for i := range n {
				clients.Go(func() {
					st := decode(s.get(t, fmt.Sprint("clientId=", strings.Repeat("x", 1+i%7))))
					st.greet(t)
					switch i % 3 {
					case 0:
						st.close()
					case 1: // one of several that may end it
						_, _ = s.hub.Disconnect(tidings.Target{ClientID: st.connected.ConnectionID})
						st.close()
					}
				})
			}
			clients.Wait()
			if err := s.hub.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
			for id, c := range calls {
				if c != "cd" {
					t.Errorf("%s: %q", id, c)
				}
			}
			// Streams that were drained before they were registered were never connected.
			if connected := s.hub.Stats().Connected["none"]; uint64(len(calls)) != connected || connected < n/3 {
				t.Errorf("%d of %d connections were announced, %d counted", len(calls), n, connected)
			}
		})
	}
}

func TestAHookThatBlocksHoldsUpNothingButClose(t *testing.T) {
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				var gone atomic.Int32
				s := p.serveInMemory(t, &tidings.Options{
					HeartbeatInterval: time.Second,
					OnConnect:         func(tidings.Connection) { <-release },
					OnDisconnect: func(tidings.Connection, tidings.Reason, error) {
						<-release
						gone.Add(1)
					},
				})
				st := s.open(t, "clientId=a")
				go func() {
					time.Sleep(1500 * time.Millisecond)
					send(t, s.hub, "x")
				}()
				if e := st.next(t); e.Data != "x" || len(st.comments) != 1 {
					t.Errorf("%+v after %d heartbeats", e, len(st.comments))
				}
				start := time.Now()
				if _, err := s.hub.Disconnect(tidings.Target{ClientID: "a"}); err != nil {
					t.Error(err)
				}
				if _, err := st.rest(); !s.truncated(err) || time.Since(start) != 100*time.Millisecond {
					t.Errorf("it ended after %v: %v", time.Since(start), err)
				}
				s.open(t, "clientId=b") // others come and go meanwhile
				closed := make(chan struct{})
				go func() {
					defer close(closed)
					_ = s.hub.Close()
				}()
				synctest.Wait()
				select {
				case <-closed:
					t.Error("Close has returned before the hooks")
				default:
				}
				if gone.Load() != 0 {
					t.Error("OnDisconnect was called before OnConnect had returned")
				}
				close(release)
				<-closed
				if gone.Load() != 2 {
					t.Errorf("OnDisconnect has returned %d times", gone.Load())
				}
			})
		})
	}
}

func TestAHookMayUseTheHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub *tidings.Hub
		var left atomic.Int32
		s := named(t, "HTTP 1.1")[0].serveInMemory(t, &tidings.Options{
			OnConnect: func(c tidings.Connection) {
				for range hub.Connections(tidings.Target{}) {
				}
				if r, err := hub.NotifyClient(context.Background(), c.ClientID, "welcome", c.ClientID); err != nil || r.Matched != 1 {
					t.Errorf("%+v, %v", r, err)
				}
			},
			OnDisconnect: func(c tidings.Connection, _ tidings.Reason, _ error) {
				if r, err := hub.NotifyClient(context.Background(), c.ClientID, "gone", nil); err != nil || r.Matched != 0 {
					t.Errorf("%+v, %v", r, err)
				}
				left.Add(1)
			},
		})
		hub = s.hub
		st := s.open(t, "clientId=a")
		if e := st.next(t); e.Type != "welcome" || e.Data != `"a"` {
			t.Errorf("%+v", e)
		}
		st.close()
		synctest.Wait()
		if left.Load() != 1 {
			t.Error("OnDisconnect was not called")
		}
	})
}

func TestARoomThatWasLeftIsGivenToTheNext(t *testing.T) {
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := p.serveInMemory(t, &tidings.Options{MaxConnections: 2})
				a := s.open(t, "")
				s.open(t, "")
				refused := func() bool {
					resp := s.get(t, "", "Accept", "*/*")
					if resp.StatusCode == http.StatusOK {
						_ = resp.Body.Close()
					}
					return resp.StatusCode == http.StatusServiceUnavailable
				}
				if !refused() {
					t.Error("there was room for a third")
				}
				a.close()
				synctest.Wait()
				if refused() {
					t.Error("there was no room after one had left")
				}
				if s.hub.Stats().Refused["full"] != 1 {
					t.Errorf("refused: %v", s.hub.Stats().Refused)
				}
			})
		})
	}
}

func TestADrainIsSpreadOverItsWindowAndEventsGoOn(t *testing.T) {
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const n, window = 20, 4 * time.Second
				o, ended := endings(tidings.Options{DrainWindow: window})
				s := p.serveInMemory(t, o)
				for range n {
					st := s.open(t, "")
					go func() { _, _ = st.rest() }()
				}
				start := time.Now()
				go func() {
					time.Sleep(window / 2)
					r := send(t, s.hub, "x")
					if r.Matched < n/3 || r.Matched > n*2/3 {
						t.Errorf("%d of %d are left in the middle of the window", r.Matched, n)
					}
					resp := s.get(t, "", "Accept", "*/*")
					if resp.StatusCode != http.StatusServiceUnavailable {
						t.Errorf("a new stream is answered with %s", resp.Status)
					}
				}()
				if err := s.hub.Shutdown(t.Context()); err != nil {
					t.Error(err)
				}
				if took := time.Since(start); took < window*9/10 || took > window+time.Second {
					t.Errorf("the drain took %v", took)
				}
				for i := range n {
					e := await(t, ended)
					due := window * time.Duration(i) / n
					if at := e.at.Sub(start) - 100*time.Millisecond; e.reason != tidings.ReasonDrained || at < due-100*time.Millisecond || at > due+100*time.Millisecond {
						t.Errorf("stream %d ended after %v, %s; due after %v", i, at, e.reason, due)
					}
				}
				if _, err := s.hub.Broadcast(t.Context(), "", 1); !errors.Is(err, tidings.ErrClosed) || !errors.Is(err, tidings.ErrNotStored) {
					t.Errorf("a send after Shutdown: %v", err)
				}
			})
		})
	}
}

func TestAShutdownIsNotLongerThanItsContext(t *testing.T) {
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o, ended := endings(tidings.Options{DrainWindow: time.Hour})
				s := p.serveInMemory(t, o)
				for range 3 {
					s.open(t, "")
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				start := time.Now()
				if err := s.hub.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Shutdown: %v", err)
				}
				if took := time.Since(start); took != time.Second {
					t.Errorf("it took %v", took)
				}
				reasons := make(map[tidings.Reason]int)
				for range 3 {
					reasons[await(t, ended).reason]++
				}
				if reasons[tidings.ReasonDrained] != 1 || reasons[tidings.ReasonStopped] != 2 {
					t.Errorf("reasons: %v", reasons)
				}
			})
		})
	}
}

func TestADrainDoesNotWaitForAClientThatDoesNotRead(t *testing.T) {
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o, ended := endings(tidings.Options{DrainWindow: time.Second, MaxQueuedBytes: 1 << 30})
				s := p.serveInMemory(t, o)
				s.open(t, "")
				for range 10 {
					send(t, s.hub, strings.Repeat("x", 1<<20))
				}
				start := time.Now()
				if err := s.hub.Shutdown(t.Context()); err != nil {
					t.Error(err)
				}
				if took := time.Since(start); took < 5*time.Second || took > 11*time.Second {
					t.Errorf("it took %v", took)
				}
				if e := await(t, ended); e.reason != tidings.ReasonDrained {
					t.Errorf("it ended: %s, %v", e.reason, e.err)
				}
			})
		})
	}
}

func TestCloseLeavesNothingRunning(t *testing.T) {
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			s := p.serveTCP(t, &tidings.Options{HeartbeatInterval: time.Millisecond})
			for i := range 20 {
				s.open(t, fmt.Sprint("clientId=", i))
			}
			stop := make(chan struct{})
			var sending sync.WaitGroup
			sending.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						_, _ = s.hub.Broadcast(t.Context(), "", "x")
					}
				}
			})
			eventually(t, "events flow", func() bool { return s.hub.Stats().Delivered > 1000 })
			if err := s.hub.Close(); err != nil {
				t.Error(err)
			}
			close(stop)
			sending.Wait()
			// A timer that fires at this moment is only on its way to find that its stream has ended.
			eventually(t, "nothing of the hub runs", func() bool { return len(hubGoroutines()) == 0 })
			if err := s.hub.Close(); err != nil {
				t.Errorf("a second Close: %v", err)
			}
			if err := s.hub.Shutdown(t.Context()); !errors.Is(err, tidings.ErrClosed) {
				t.Errorf("Shutdown after Close: %v", err)
			}
			resp := s.get(t, "", "Accept", "*/*")
			if resp.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("a stream after Close: %s", resp.Status)
			}
		})
	}
}

// hubGoroutines returns the stacks of the goroutines that run the library's code, but for handlers that have ended their
// stream and are on their way out of net/http.
func hubGoroutines() (stacks []string) {
	buf := make([]byte, 4<<20)
	for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(g, "tidings-sse/tidings") && !strings.Contains(g, "tidings_test.") &&
			!strings.Contains(g, "net/http.(*conn).serve") && !strings.Contains(g, "runHandler") {
			stacks = append(stacks, g)
		}
	}
	return stacks
}
