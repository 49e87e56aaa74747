package natsbroker_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/internal/natstest"
	"github.com/tidings-sse/tidings/natsbroker"
)

func TestALogWhoseServersRefuseTheCredentialsForAWhileIsFollowedAgain(t *testing.T) {
	const right, wrong = "authorization { user: tidings, password: right }", "authorization { user: tidings, password: wrong }"
	s := natstest.Start(t, natsServer(t), natstest.Config{More: right})
	url := strings.Replace(s.URL(), "//", "//tidings:right@", 1)
	b := connect(t, natsbroker.ConnectOptions{URL: url})
	state(t, b)
	stored := store(t, b, 0, 2)
	f := follow(t, b, tidings.Position{})
	f.wants(stored...)
	s.Stop()
	refuses := natstest.Start(t, natsServer(t), natstest.Config{Dir: s.Dir, Port: s.Port, More: wrong})
	eventually(t, "it is refused again and again", func() error {
		if n := strings.Count(refuses.Log(), "authentication error"); n < 4 {
			return fmt.Errorf("%d times: %s", n, refuses.Log())
		}
		return nil
	})
	refuses.Stop()
	s.Run()
	s.Await()
	r := keyed(2, "k")
	eventually(t, "an append that succeeds", func() error {
		as, err := b.Append(bounded(t), []tidings.Record{r})
		if err == nil {
			r.Position, r.Nonce = as[0].Position, as[0].Nonce
		}
		return err
	})
	f.wants(r)
}

// A lockedBuffer is what a log is written to while a test looks at it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestAConnectionThatEndsForGoodLeavesOpenWhatWasHandedOverAndIsLogged(t *testing.T) {
	s := natstest.Start(t, natsServer(t), natstest.Config{})
	var log lockedBuffer
	b := connect(t, natsbroker.ConnectOptions{URL: s.URL(), Options: natsbroker.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}})
	state(t, b)
	store(t, b, 0, 1)
	s.Pause()
	before := b.Published()
	failed := make(chan error, 1)
	go func() {
		_, err := b.Append(bounded(t), []tidings.Record{record(1)})
		failed <- err
	}()
	eventually(t, "the record is handed over", func() error {
		if n := b.Published(); n == before {
			return fmt.Errorf("%d messages, as before", n)
		}
		return nil
	})
	b.Drop()
	if err := <-failed; err == nil || errors.Is(err, tidings.ErrNotStored) || !errors.Is(err, tidings.ErrUnavailable) {
		t.Errorf("what was handed over: %v", err)
	}
	if _, err := b.Append(bounded(t), []tidings.Record{record(2)}); !errors.Is(err, tidings.ErrNotStored) || !errors.Is(err, tidings.ErrUnavailable) {
		t.Errorf("what was not: %v", err)
	}
	eventually(t, "it is logged", func() error {
		if !strings.Contains(log.String(), "level=ERROR") {
			return errors.New(log.String())
		}
		return nil
	})
	s.Resume()
}
