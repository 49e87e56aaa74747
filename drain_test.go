package tidings_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/sse"
)

// Row 24.
func TestADrainInMidBroadcastSendsWholeFramesAndLosesNothing(t *testing.T) {
	const each, window = 6, 500 * time.Millisecond // connections of each protocol
	// What is sent at full speed while all are away is more than the defaults let a stream resume over.
	log := tidings.NewMemoryBroker(&tidings.MemoryOptions{MaxEvents: 1 << 20, MaxBytes: 1 << 30})
	defer log.Close()
	var first, second []*site
	for _, p := range protocols {
		first = append(first, p.serveTCP(t, &tidings.Options{Broker: log, DrainWindow: window}))
	}
	// One hub is drained; the other protocols' sites serve it too.
	draining := first[0].hub
	for _, s := range first[1:] {
		_ = s.hub.Close()
		s.server.Handler = handlerFor(s.protocol, draining)
	}
	for _, p := range protocols {
		second = append(second, p.serveTCP(t, &tidings.Options{Broker: log, MaxReplayEvents: 1 << 20, MaxReplayBytes: 1 << 30}))
	}

	var sent, resent int // numbers of events, by this goroutine's count and by the second hub
	stop, sending := make(chan struct{}), make(chan struct{})
	hub := draining
	go func() {
		defer close(sending)
		for ; ; sent++ {
			select {
			case <-stop:
				return
			default:
			}
			_, err := hub.Broadcast(t.Context(), "", fmt.Sprint(sent, strings.Repeat(" x", 100)))
			if errors.Is(err, tidings.ErrNotStored) && errors.Is(err, tidings.ErrClosed) && hub == draining {
				hub = second[0].hub
				resent = sent
				sent--
			} else if err != nil {
				t.Errorf("send %d: %v", sent, err)
				return
			}
		}
	}()

	type client struct {
		from  int // number of the first event it got
		next  int
		ended time.Time
	}
	clients := make([]client, each*len(protocols))
	var opened, over sync.WaitGroup
	drained := make(chan struct{})
	for i := range clients {
		opened.Add(1)
		over.Go(func() {
			c, s := &clients[i], first[i/each]
			c.from = -1
			take := func(e sse.Event) bool {
				text, _, _ := strings.Cut(strings.Trim(e.Data, `"`), " ")
				n, err := strconv.Atoi(text)
				if c.from < 0 {
					c.from, c.next = n, n
				}
				if err != nil || n != c.next {
					t.Errorf("client %d got %.40q when %d was due", i, e.Data, c.next)
					return false
				}
				c.next++
				return true
			}
			tail := new(tailReader)
			resp := s.get(t, "")
			tail.Reader = resp.Body
			st := &stream{Decoder: sse.NewDecoder(tail, nil), resp: resp}
			st.greet(t)
			opened.Done()
			notice := false
			es, err := st.rest()
			c.ended = time.Now()
			for _, e := range es {
				if notice = e.Type == "tidings.disconnected"; notice {
					break
				}
				if !take(e) {
					return
				}
			}
			if !notice || !s.truncated(err) || !bytes.HasSuffix(tail.last, []byte("\n\n")) {
				t.Errorf("client %d (%s): notice %t, %v, the last bytes are %q", i, s.name, notice, err, tail.last)
			}
			<-drained
			again := decode(second[i/each].get(t, "", "Last-Event-ID", st.LastEventID()))
			again.greet(t)
			if again.connected.Resume != "complete" {
				t.Errorf("client %d resumed: %+v", i, again.connected)
			}
			for e, err := range again.Events() {
				if err != nil {
					t.Errorf("client %d after its resume: %v", i, err)
				}
				if e.Type == "end" || err != nil || !take(e) {
					return
				}
			}
		})
	}
	opened.Wait()
	eventually(t, "all are registered", func() bool { return draining.Stats().Connections == len(clients) })
	start := time.Now()
	if err := draining.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	took := time.Since(start)
	eventually(t, "events go through the other hub", func() bool { return second[0].hub.Stats().Sent > 100 })
	close(stop)
	<-sending
	close(drained)
	eventually(t, "all have come back", func() bool {
		n := 0
		for _, s := range second {
			n += s.hub.Stats().Connections
		}
		return n == len(clients)
	})
	if _, err := second[0].hub.Broadcast(t.Context(), "end", nil); err != nil {
		t.Error(err)
	}
	over.Wait()

	for i, c := range clients {
		if c.from > resent || c.next != sent {
			t.Errorf("client %d got events %d to %d, of %d to %d", i, c.from, c.next, 0, sent)
		}
	}
	// How far apart the ends are is asserted where time is exact; a busy machine may see the first ones late, and none early.
	last := slices.MaxFunc(clients, func(a, b client) int { return a.ended.Compare(b.ended) }).ended.Sub(start)
	if last < window/2 || took < window/2 {
		t.Errorf("the last stream ended after %v, the drain took %v: it must be spread over %v", last, took, window)
	}
	if resent < 100 {
		t.Errorf("only %d events were accepted until the end of the drain", resent)
	}
}

// tailReader keeps the last bytes that went through it.
type tailReader struct {
	io.Reader
	last []byte
}

func (r *tailReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.last = append(r.last, b[:n]...)
	r.last = r.last[max(0, len(r.last)-16):]
	return n, err
}
