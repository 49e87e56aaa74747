package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/tidings-sse/tidings/sse"
)

// A listener is a client: it reads a stream, and when it breaks, goes on at the next node from where it was.
type listener struct {
	name  string
	nodes []*node
	stop  func()

	mu      sync.Mutex
	events  []got
	at      map[string]bool // data of events
	last    string          // event ID
	gaps    int
	resumes map[string]int // streams, by what connected said
}

// got is an event as it came.
type got struct{ data, id string }

func listen(name string, at int, nodes []*node) *listener {
	ctx, cancel := context.WithCancel(context.Background())
	l := &listener{name: name, nodes: nodes, at: map[string]bool{}, resumes: map[string]int{}}
	done := make(chan struct{})
	l.stop = func() { cancel(); <-done }
	go func() {
		defer close(done)
		c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		for ; ctx.Err() == nil; at++ {
			_ = l.stream(ctx, c, nodes[at%len(nodes)].addr)
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}()
	return l
}

// stream reads one stream to its end.
func (l *listener) stream(ctx context.Context, c *http.Client, addr string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/api/sse?clientId=chaos", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", sse.ContentType)
	l.mu.Lock()
	if l.last != "" {
		req.Header.Set("Last-Event-ID", l.last)
	}
	l.mu.Unlock()
	res, err := c.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", res.Status)
	}
	for e, err := range sse.NewDecoder(res.Body, nil).Events() {
		if err != nil {
			return err
		}
		l.take(e)
	}
	return nil
}

func (l *listener) take(e sse.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.ID != "" {
		l.last = e.ID
	}
	switch {
	case e.Type == "tidings.gap":
		l.gaps++
	case e.Type == "tidings.connected":
		var c struct{ Resume string }
		_ = json.Unmarshal([]byte(e.Data), &c)
		l.resumes[c.Resume]++
	case strings.HasPrefix(e.Type, "tidings."):
	default:
		data := strings.Trim(e.Data, `"`)
		l.events = append(l.events, got{data, e.ID})
		l.at[data] = true
	}
}

// lacks says what of the events hasn't come.
func (l *listener) lacks(acked map[string]string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	missing := 0
	example := ""
	for data := range acked {
		if !l.at[data] {
			missing++
			example = data
		}
	}
	if missing > 0 {
		return fmt.Errorf("%d of %d are missing, %s among them", missing, len(acked), example)
	}
	return nil
}

// all returns what came so far, and how many gaps were told.
func (l *listener) all() ([]got, int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.events, l.gaps
}

// connected waits until the listener has a stream.
func (l *listener) connected() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.resumes) == 0 {
		return fmt.Errorf("%s has no stream yet", l.name)
	}
	return nil
}

// resumed waits until that many streams were resumed with nothing missing.
func (l *listener) resumed(n int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.resumes["complete"] < n {
		return fmt.Errorf("its streams began with %v", l.resumes)
	}
	return nil
}
