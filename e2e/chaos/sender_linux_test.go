package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"
)

// Senders send numbered events with keys, and try each for as long as patience says, at one node after the other.
type senders struct {
	nodes    []*node
	patience time.Duration
	pause    time.Duration // between two events of one sender
	wg       sync.WaitGroup
	stop     context.CancelFunc

	mu      sync.Mutex
	acked   map[string]string // data to id
	gaveUp  map[string]bool
	retried int
	longest time.Duration // that an event took
}

func startSenders(nodes []*node, n int, pause, patience time.Duration) *senders {
	ctx, stop := context.WithCancel(context.Background())
	s := &senders{nodes: nodes, patience: patience, pause: pause, stop: stop, acked: map[string]string{}, gaveUp: map[string]bool{}}
	for i := range n {
		s.wg.Go(func() { s.run(ctx, i) })
	}
	return s
}

func (s *senders) run(ctx context.Context, sender int) {
	c := &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}
	defer c.CloseIdleConnections()
	next := time.Now()
	for n := 0; ctx.Err() == nil; n++ {
		s.send(c, fmt.Sprintf("%d-%d", sender, n), sender)
		if s.pause > 0 {
			next = next.Add(s.pause)
			if d := time.Until(next); d > 0 {
				select {
				case <-time.After(d):
				case <-ctx.Done():
				}
			} else if d < -time.Second {
				next = time.Now() // what was missed is not made up for
			}
		}
	}
}

func (s *senders) send(c *http.Client, name string, at int) {
	began := time.Now()
	body, _ := json.Marshal(map[string]any{"type": "n", "data": name, "idempotencyKey": name})
	for try := 0; ; try++ {
		id, err := post(c, s.nodes[(at+try)%len(s.nodes)].addr, body)
		s.mu.Lock()
		if err == nil {
			s.acked[name] = id
			s.longest = max(s.longest, time.Since(began))
			s.mu.Unlock()
			return
		}
		s.retried++
		if time.Since(began) > s.patience {
			s.gaveUp[name] = true
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		time.Sleep(50 * time.Millisecond) // it is what a sender does
	}
}

func post(c *http.Client, addr string, body []byte) (id string, _ error) {
	res, err := c.Post("http://"+addr+"/api/sse/send", "application/json", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return "", err
	}
	var receipt struct {
		ID string `json:"id"`
	}
	if res.StatusCode != http.StatusOK || json.Unmarshal(b, &receipt) != nil || receipt.ID == "" {
		return "", fmt.Errorf("%d %s", res.StatusCode, b)
	}
	return receipt.ID, nil
}

// end stops the senders, each after its event.
func (s *senders) end() {
	s.stop()
	s.wg.Wait()
}

func (s *senders) counts() (acked, gaveUp, retried int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.acked), len(s.gaveUp), s.retried
}

// wantAll holds what listeners got against what was acknowledged: all of it, once, and the same for all, in one order.
func (s *senders) wantAll(t *testing.T, ls ...*listener) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	lost, twice, others := 0, 0, 0
	for _, l := range ls {
		eventually(t, l.name+" has everything that was acknowledged", func() error {
			return l.lacks(s.acked)
		})
	}
	var first []got
	for i, l := range ls {
		events, gaps := l.all()
		seen := map[string]bool{}
		last := map[string]int{}
		for _, e := range events {
			if seen[e.data] {
				twice++
				t.Errorf("%s got %s twice", l.name, e.data)
			}
			seen[e.data] = true
			id, acked := s.acked[e.data]
			switch {
			case acked && id != e.id:
				t.Errorf("%s got %s with the id %s; its sender was told %s", l.name, e.data, e.id, id)
			case !acked && !s.gaveUp[e.data]:
				t.Errorf("%s got %s, which nobody sent", l.name, e.data)
			case !acked:
				others++
			}
			var sender, n int
			if _, err := fmt.Sscanf(e.data, "%d-%d", &sender, &n); err != nil {
				t.Errorf("%s got %q", l.name, e.data)
			}
			if key := fmt.Sprint(sender); last[key] > n+1 {
				t.Errorf("%s got %s after number %d of the same sender", l.name, e.data, last[key]-1)
			} else {
				last[key] = n + 1
			}
		}
		for data := range s.acked {
			if !seen[data] {
				lost++
			}
		}
		if gaps > 0 {
			t.Errorf("%s was told of %d gaps", l.name, gaps)
		}
		if i == 0 {
			first = events
			continue
		}
		for j := range min(len(first), len(events)) {
			if first[j] != events[j] {
				t.Errorf("event %d of %s is %v, and of %s %v", j, ls[0].name, first[j], l.name, events[j])
				break
			}
		}
	}
	say(t, "%d events acknowledged, %d given up after %v of trying (%d of them arrived), %d tries more than one; the longest took %v; %d listeners: %d lost, %d twice",
		len(s.acked), len(s.gaveUp), s.patience, others/max(1, len(ls)), s.retried, s.longest.Round(time.Millisecond), len(ls), lost, twice)
}
