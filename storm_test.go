package tidings_test

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidings-sse/tidings"
)

// A full server, on sockets: those it serves don't notice how many it refuses, and all get in when there is room.
func TestAStormOfRefusedStreamsHoldsUpNobodyAndAllGetInWhenThereIsRoom(t *testing.T) {
	const room, storm, rounds = 20, 300, 30
	s := named(t, "HTTP 1.1")[0].serveTCP(t, &tidings.Options{MaxConnections: room, RetryInterval: 200 * time.Millisecond})
	s.patience = 2 * time.Minute
	files := openFiles(t)

	// Who is served reads all events, in order and without delay.
	var served, clients sync.WaitGroup
	arrived := make(chan int, room) // the number of an event, from each one
	for range room {
		st := s.open(t, "userId=served")
		served.Go(func() {
			defer st.close()
			for i := range rounds {
				for e, err := range st.Events() {
					if err != nil || e.Data != fmt.Sprint("event ", i) {
						t.Errorf("event %d: %+v, %v", i, e, err)
						return
					}
					break
				}
				arrived <- i
			}
		})
	}

	var refusals, got atomic.Int64
	for range storm {
		clients.Go(func() {
			for {
				st := decode(s.get(t, ""))
				e := st.next(t)
				if e.Type == "tidings.connected" {
					got.Add(1)
					st.close()
					return
				}
				if e.Type != "tidings.unavailable" || !strings.Contains(e.Data, `"full"`) {
					t.Errorf("a client that there is no room for got %+v", e)
				}
				refusals.Add(1)
				if es, err := st.rest(); len(es) > 0 || !s.truncated(err) {
					t.Errorf("its stream goes on with %+v, and ends with %v", es, err)
				}
				retry, _ := st.Retry()
				time.Sleep(retry)
			}
		})
	}
	eventually(t, "the storm has begun", func() bool { return refusals.Load() > storm })
	var slowest time.Duration
	for i := range rounds {
		start := time.Now()
		if r, err := s.hub.NotifyUser(t.Context(), "served", "", tidings.Text(fmt.Sprint("event ", i))); err != nil || r.Matched != room {
			t.Fatalf("%+v, %v", r, err)
		}
		for range room {
			<-arrived
		}
		slowest = max(slowest, time.Since(start))
	}
	refused := refusals.Load()
	served.Wait() // they leave
	clients.Wait()
	if got.Load() != storm || refused < storm {
		t.Errorf("%d of %d got in, after %d refusals", got.Load(), storm, refused)
	}
	if slowest > 5*time.Second { // on a machine that is busy; a queue of the refused would be a matter of all of them
		t.Errorf("an event took %v to reach all who are served", slowest)
	}
	t.Logf("%d streams were refused; an event took at most %v to reach all %d", refusals.Load(), slowest, room)
	if n := s.hub.Stats().Refused["full"]; n != uint64(refusals.Load()) {
		t.Errorf("%d refusals are counted, of %d", n, refusals.Load())
	}
	eventually(t, "all have gone", func() bool {
		streams, _, _ := s.hub.Rooms()
		return streams == 0
	})
	s.client.CloseIdleConnections()
	pollers := runtime.GOMAXPROCS(0) // one a loop, opened for its first socket
	eventually(t, "all descriptors are closed", func() bool { return openFiles(t) <= files+pollers })
}
