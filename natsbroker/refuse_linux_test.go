package natsbroker_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/internal/natstest"
	"github.com/tidings-sse/tidings/natsbroker"
)

// Signing a user out is a record of the log: what becomes of it where the log is on NATS.

// node is a hub whose streams belong to whom their bearer token names.
type node struct {
	hub *tidings.Hub
	srv *httptest.Server
}

func serveHub(t testing.TB, log tidings.Broker) *node {
	t.Helper()
	hub, err := tidings.New(&tidings.Options{Broker: log, Logger: quiet(), Authorizer: tidings.AuthorizerFunc(func(r *http.Request, _ tidings.Action) (tidings.Grant, error) {
		return tidings.Grant{UserID: strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")}, nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	n := &node{hub: hub, srv: httptest.NewServer(hub)}
	t.Cleanup(n.stop)
	return n
}

// stop ends it; it may be called more than once.
func (n *node) stop() {
	_ = n.hub.Close()
	n.srv.Close()
}

// stream opens the user's stream.
func (n *node) stream(t testing.TB, user string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.srv.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+user)
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// answers waits until the user's stream is answered so.
func (n *node) answers(t testing.TB, user string, status int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s is answered %d", user, status), func() error {
		res := n.stream(t, user)
		_ = res.Body.Close()
		if res.StatusCode != status {
			return fmt.Errorf("it is %d", res.StatusCode)
		}
		return nil
	})
}

func (n *node) refuse(t testing.TB, user string, until time.Time) {
	t.Helper()
	if _, err := n.hub.Refuse(bounded(t), tidings.Target{UserID: user}, until); err != nil {
		t.Fatal(err)
	}
}

// refusals are the records of the log that refuse the user: those that a call made, and those that repeat it.
func refusals(t testing.TB, log tidings.Broker, user string) (called, repeated int) {
	t.Helper()
	for _, r := range read(t, log) {
		switch {
		case r.Type != "tidings.refuse" || !strings.Contains(string(r.Data), `"`+user+`"`):
		case strings.Contains(string(r.Data), `"repeated"`):
			repeated++
		default:
			called++
		}
	}
	return called, repeated
}

// outlive fills the log, until it holds the refusal only as a repetition.
func (n *node) outlive(t testing.TB, log tidings.Broker, user string) {
	t.Helper()
	eventually(t, "the record is dropped, and was repeated", func() error {
		for i := range 20 {
			if _, err := n.hub.Broadcast(bounded(t), "x", i); err != nil {
				return err
			}
		}
		if called, repeated := refusals(t, log, user); called > 0 || repeated == 0 {
			return fmt.Errorf("%d records of the call, %d that repeat it", called, repeated)
		}
		return nil
	})
}

func TestARefusalOutlivesItsRecordAndARestart(t *testing.T) {
	dir := t.TempDir()
	start := func() (*natsbroker.Broker, *node) {
		log, err := natsbroker.Embed(t.Context(), natsbroker.EmbedOptions{Dir: dir, Options: natsbroker.Options{MaxEvents: 200, Logger: quiet()}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = log.Close() })
		return log, serveHub(t, log)
	}
	log, n := start()
	n.answers(t, "alice", http.StatusOK)
	n.refuse(t, "alice", time.Now().Add(time.Hour))
	n.refuse(t, "mallory", time.Now().Add(time.Hour))
	n.refuse(t, "mallory", time.Now().Add(-time.Second)) // taken back
	for range 3 {
		n.answers(t, "alice", http.StatusUnauthorized)
		n.answers(t, "mallory", http.StatusOK)
		n.outlive(t, log, "alice")
		n.stop()
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
		log, n = start()
	}
	n.answers(t, "alice", http.StatusUnauthorized)
	n.answers(t, "mallory", http.StatusOK)
	n.answers(t, "bob", http.StatusOK)
}

func TestARefusalIsSeenByTheOtherNodesAndEndsTheirStreams(t *testing.T) {
	s := natstest.Start(t, natsServer(t), natstest.Config{})
	o := natsbroker.ConnectOptions{URL: s.URL(), Options: natsbroker.Options{MaxEvents: 200}}
	log := connect(t, o)
	here, there := serveHub(t, log), serveHub(t, connect(t, o))
	here.answers(t, "alice", http.StatusOK)
	there.answers(t, "alice", http.StatusOK)
	live := there.stream(t, "alice")
	defer live.Body.Close()
	here.refuse(t, "alice", time.Now().Add(time.Hour))
	here.answers(t, "alice", http.StatusUnauthorized)
	there.answers(t, "alice", http.StatusUnauthorized)
	if text, err := io.ReadAll(live.Body); err == nil || !strings.Contains(string(text), "event: tidings.disconnected\n") {
		t.Errorf("the stream on the other node ended with %v: %s", err, text)
	}
	// The node that was asked is gone; the other one repeats it for those that come later.
	here.stop()
	there.outlive(t, log, "alice")
	late := serveHub(t, connect(t, o))
	late.answers(t, "alice", http.StatusUnauthorized)
	late.answers(t, "bob", http.StatusOK)
	// Taken back on one, it is on all.
	late.refuse(t, "alice", time.Now().Add(-time.Second))
	there.answers(t, "alice", http.StatusOK)
	serveHub(t, connect(t, o)).answers(t, "alice", http.StatusOK)
}

func TestARefusalIsRepeatedInALogThatTakesTheFirstOnesPlace(t *testing.T) {
	s := natstest.Start(t, natsServer(t), natstest.Config{})
	o := natsbroker.ConnectOptions{URL: s.URL()}
	log := connect(t, o)
	n := serveHub(t, log)
	n.answers(t, "alice", http.StatusOK)
	for i := range 10 { // so that its record is far from the beginning, and would not be old in the new log
		if _, err := n.hub.Broadcast(bounded(t), "x", i); err != nil {
			t.Fatal(err)
		}
	}
	n.refuse(t, "alice", time.Now().Add(time.Hour))
	n.answers(t, "alice", http.StatusUnauthorized)
	if err := admin(t, s.URL()).DeleteStream(t.Context(), "tidings"); err != nil {
		t.Fatal(err)
	}
	repeatedThere(t, n, log, o)
}

func TestARefusalIsRepeatedInALogThatIsRestoredFromBeforeIt(t *testing.T) {
	s := natstest.Start(t, natsServer(t), natstest.Config{})
	o := natsbroker.ConnectOptions{URL: s.URL()}
	log := connect(t, o)
	store(t, log, 0, 5)
	s.Stop()
	old := t.TempDir()
	copyDir(t, s.Dir, old)
	s.Run()
	s.Await()
	state(t, log) // it is connected again
	n := serveHub(t, log)
	n.answers(t, "alice", http.StatusOK)
	for i := range 10 {
		eventually(t, "a broadcast", func() error {
			_, err := n.hub.Broadcast(bounded(t), "x", i)
			return err
		})
	}
	n.refuse(t, "alice", time.Now().Add(time.Hour))
	n.answers(t, "alice", http.StatusUnauthorized)
	s.Stop()
	if err := os.RemoveAll(s.Dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(s.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	copyDir(t, old, s.Dir)
	s.Run()
	s.Await()
	repeatedThere(t, n, log, o)
}

// repeatedThere waits until a node has repeated what it knows in a log that never had it: it still knows it, and so does a
// node that never knew the other log.
func repeatedThere(t *testing.T, n *node, log tidings.Broker, o natsbroker.ConnectOptions) {
	t.Helper()
	eventually(t, "it is repeated", func() error {
		if called, repeated := refusals(t, log, "alice"); called > 0 || repeated == 0 {
			return fmt.Errorf("%d records of the call, %d that repeat it", called, repeated)
		}
		return nil
	})
	n.answers(t, "alice", http.StatusUnauthorized)
	n.answers(t, "bob", http.StatusOK)
	late := serveHub(t, connect(t, o))
	late.answers(t, "alice", http.StatusUnauthorized)
	late.answers(t, "bob", http.StatusOK)
}
