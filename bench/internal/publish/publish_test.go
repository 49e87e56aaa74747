package publish_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidings-sse/tidings/bench/internal/control"
	"github.com/tidings-sse/tidings/bench/internal/publish"
	"github.com/tidings-sse/tidings/internal/load"
)

func TestTheSameScheduleIsPublishedEachTime(t *testing.T) {
	for _, c := range []control.Publish{
		{Kind: control.Broadcast, Count: 101, Publishers: 2, Size: 110, Pub: 3},
		{Kind: control.Unicast, Count: 1001, Publishers: 8, Users: 7, Size: 110, Pub: 5},
	} {
		once, again := sends(t, c), sends(t, c)
		if len(once) != c.Count {
			t.Errorf("%s: %d different events, want %d", c, len(once), c.Count)
		}
		for e := range once {
			if !again[e] {
				t.Errorf("%s: %+v was published once and not again", c, e)
			}
			if e.pub < c.Pub || e.pub >= c.Pub+c.Publishers || (e.user == "") != (c.Kind == control.Broadcast) {
				t.Errorf("%s: %+v was published", c, e)
			}
		}
	}
}

// An event is one that was published, without its time.
type event struct {
	user string
	pub  int
	seq  uint64
	key  uint64
}

func sends(t *testing.T, c control.Publish) map[event]bool {
	t.Helper()
	var mu sync.Mutex
	sent := map[event]bool{}
	done, err := publish.Run(t.Context(), c, func(_ context.Context, user string, data []byte) error {
		s, ok := load.ReadPayload(data)
		if !ok || len(data) != c.Size {
			t.Errorf("%s is not stamped, or not of %d bytes", data, c.Size)
		}
		mu.Lock()
		defer mu.Unlock()
		sent[event{user, s.Publisher, s.Seq, s.Key}] = true
		return nil
	})
	if err != nil || done.Count != c.Count {
		t.Fatalf("%s: %+v, %v", c, done, err)
	}
	return sent
}

func TestEventsAreDueAtTheRateHoweverLongEachTakes(t *testing.T) {
	var due []int64
	c := control.Publish{Kind: control.Broadcast, Count: 5, Rate: 1000, Publishers: 1, Size: 110}
	if _, err := publish.Run(t.Context(), c, func(_ context.Context, _ string, data []byte) error {
		s, _ := load.ReadPayload(data)
		due = append(due, s.Intended)
		until := time.Now().Add(3 * time.Millisecond)
		for time.Now().Before(until) {
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for n, at := range due {
		if got := at - due[0]; got != int64(n)*int64(time.Millisecond) {
			t.Errorf("event %d was due after %v", n, time.Duration(got))
		}
	}
}

func TestTheFirstErrorEndsAllPublishers(t *testing.T) {
	full := errors.New("it is full")
	c := control.Publish{Kind: control.Broadcast, Count: 1_000_000, Publishers: 4, Size: 110, Beside: 1000}
	done, err := publish.Run(t.Context(), c, func(_ context.Context, _ string, data []byte) error {
		if strings.Contains(string(data), `"s":3,"p":2,`) {
			return full
		}
		return nil
	})
	if !errors.Is(err, full) || done.Count >= c.Count {
		t.Errorf("%+v, %v", done, err)
	}
}

func TestNoEventIsSentBeforeItIsDue(t *testing.T) {
	c := control.Publish{Kind: control.Broadcast, Count: 20, Rate: 500, Publishers: 2, Size: 110}
	if _, err := publish.Run(t.Context(), c, func(_ context.Context, _ string, data []byte) error {
		if s, _ := load.ReadPayload(data); time.Now().UnixNano() < s.Intended {
			t.Errorf("%s was sent early", data)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
