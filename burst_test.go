package tidings_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/sse"
)

func TestABurstAtFullSpeedReachesEveryReadingConnectionInOrderAndEndsOnlyTheStalledOne(t *testing.T) {
	for _, p := range protocols {
		if p.again {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			const connections, senders, each = 50, 100, burst / 100
			s := p.serveTCP(t, &tidings.Options{
				HeartbeatInterval: 5 * time.Minute, ConnectionTimeout: 10 * time.Minute, DrainWindow: time.Millisecond,
			})
			s.patience = 5 * time.Minute
			stalled := s.another()
			if p.version != "HTTP/2.0" { // where the stream's window does that
				shrinkFirst(stalled, 4<<10)
			}
			stalled.open(t, "clientId=stalled")
			got := make([][]byte, connections)
			var readers, sending sync.WaitGroup
			for i := range got {
				r := bufio.NewReader(s.get(t, "").Body)
				for line := ""; line != "\n"; { // to the end of the greeting
					var err error
					if line, err = r.ReadString('\n'); err != nil {
						t.Fatal(err)
					}
				}
				readers.Go(func() { got[i], _ = io.ReadAll(r) })
			}
			eventually(t, "all are registered", func() bool { return s.hub.Stats().Connections == connections+1 })
			for sender := range senders {
				sending.Go(func() {
					for i := range each {
						if _, err := s.hub.Broadcast(t.Context(), "", [2]int{sender, i}); err != nil {
							t.Error(err)
						}
					}
				})
			}
			sending.Wait()
			// How much a kernel, or an HTTP/2 client, takes without reading is more than the burst, with the race detector.
			filler := tidings.Text(strings.Repeat("x", 512<<10))
			for range 24 {
				if _, err := s.hub.NotifyClient(t.Context(), "stalled", "", filler); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "the stalled stream has ended", func() bool { return s.hub.Stats().Disconnected[tidings.ReasonSlow] == 1 })
			if err := s.hub.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
			readers.Wait()
			stats := s.hub.Stats()
			if d := stats.Disconnected; d[tidings.ReasonDrained] != connections || d[tidings.ReasonSlow] != 1 || len(d) != 2 {
				t.Errorf("disconnected: %v", d)
			}
			t.Logf("%d deliveries in %d writes", stats.Delivered, stats.Writes)
			most := stats.Delivered
			if p.hijacked() {
				most /= 3 // HTTP/2 puts the frames of its streams together further down, where it isn't counted
			}
			if stats.Writes > most {
				t.Errorf("%d deliveries took %d writes", stats.Delivered, stats.Writes)
			}
			// All streams are the same bytes but for their notice.
			first, _, ok := bytes.Cut(got[0], []byte("retry: "))
			if !ok {
				t.Fatalf("there is no notice: %.100q", got[0])
			}
			for i, b := range got {
				if !bytes.HasPrefix(b, first) {
					t.Errorf("connection %d got something else: %d bytes, not %d", i, len(b), len(first))
				}
			}
			var next [senders]int
			n := 0
			for e, err := range sse.NewDecoder(bytes.NewReader(first), nil).Events() {
				var at [2]int
				if err := errors.Join(err, json.Unmarshal([]byte(e.Data), &at)); err != nil {
					t.Fatal(err)
				}
				if at[1] != next[at[0]] {
					t.Fatalf("sender %d: %d came when %d was due", at[0], at[1], next[at[0]])
				}
				next[at[0]]++
				n++
			}
			if n != burst {
				t.Errorf("%d events of %d", n, burst)
			}
		})
	}
}
