package natsbroker_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidings-sse/tidings/internal/natstest"
	"github.com/tidings-sse/tidings/natsbroker"
)

// connect opens a log on a server, and closes it when the test ends.
func connect(t testing.TB, o natsbroker.ConnectOptions) *natsbroker.Broker {
	t.Helper()
	if o.Logger == nil {
		o.Logger = quiet()
	}
	b, err := natsbroker.Connect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// admin returns what an operator has.
func admin(t testing.TB, url string) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func wantRefusal(t *testing.T, o natsbroker.ConnectOptions, words ...string) {
	t.Helper()
	o.Logger = quiet()
	b, err := natsbroker.Connect(t.Context(), o)
	if err == nil {
		_ = b.Close()
		t.Error("it connected")
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("got %v\nwant it to say %q", err, w)
		}
	}
}

func TestWhatIsThereIsCheckedAtTheStart(t *testing.T) {
	bin := natsServer(t)
	t.Run("nobody there", func(t *testing.T) {
		wantRefusal(t, natsbroker.ConnectOptions{URL: "nats://user:pass@127.0.0.1:1"}, "no NATS server answers", "xxxxx@127.0.0.1:1")
	})
	t.Run("not a URL", func(t *testing.T) {
		wantRefusal(t, natsbroker.ConnectOptions{URL: "http://127.0.0.1:4222"}, "URL", "nats://127.0.0.1:4222")
		wantRefusal(t, natsbroker.ConnectOptions{URL: ""}, "URL")
		wantRefusal(t, natsbroker.ConnectOptions{URL: "nats://h", Replicas: 2}, "Replicas")
		wantRefusal(t, natsbroker.ConnectOptions{URL: "nats://h", CredentialsFile: "absent"}, "CredentialsFile")
	})
	t.Run("no JetStream", func(t *testing.T) {
		s := natstest.Start(t, bin, natstest.Config{More: "# no jetstream\n"})
		wantRefusal(t, natsbroker.ConnectOptions{URL: s.URL()}, "no JetStream", "-js")
	})
	t.Run("small messages", func(t *testing.T) {
		s := natstest.Start(t, bin, natstest.Config{More: "max_payload: 64KB\n"})
		wantRefusal(t, natsbroker.ConnectOptions{URL: s.URL()}, "max_payload")
	})
	t.Run("permissions", func(t *testing.T) {
		s := natstest.Start(t, bin, natstest.Config{More: `authorization { users: [ { user: a, password: b, permissions: { publish: ["tidings.>"], subscribe: ["_INBOX.>"] } } ] }` + "\n"})
		wantRefusal(t, natsbroker.ConnectOptions{URL: s.URL(), User: "a", Password: "b"}, "permission", "$JS.API.>", "tidings.>")
		wantRefusal(t, natsbroker.ConnectOptions{URL: s.URL(), User: "a", Password: "wrong"}, "credentials")
	})
	t.Run("the permissions that it asks for are enough", func(t *testing.T) {
		s := natstest.Start(t, bin, natstest.Config{More: `authorization { users: [ { user: a, password: b, permissions: { publish: ["tidings.>", "$JS.API.>", "_INBOX.>"], subscribe: ["tidings.>", "_INBOX.>"] } } ] }` + "\n"})
		b := connect(t, natsbroker.ConnectOptions{URL: s.URL(), User: "a", Password: "b"})
		stored := store(t, b, 0, 3)
		follow(t, b, stored[0].Position).wants(stored[1:]...)
		sameRecords(t, read(t, b), stored)
	})
	s := natstest.Start(t, bin, natstest.Config{})
	t.Run("too few servers for the replicas", func(t *testing.T) {
		wantRefusal(t, natsbroker.ConnectOptions{URL: s.URL(), Replicas: 3, Options: natsbroker.Options{Stream: "r3"}}, "replicas")
	})
	js := admin(t, s.URL())
	t.Run("somebody else's stream", func(t *testing.T) {
		if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "theirs", Subjects: []string{"theirs.log"}}); err != nil {
			t.Fatal(err)
		}
		wantRefusal(t, natsbroker.ConnectOptions{URL: s.URL(), Options: natsbroker.Options{Stream: "theirs"}}, "not one of Tidings", "choose another name")
	})
	t.Run("other settings are named, and neither changed nor purged", func(t *testing.T) {
		o := natsbroker.ConnectOptions{URL: s.URL(), Options: natsbroker.Options{Stream: "ours"}}
		b := connect(t, o)
		stored := store(t, b, 0, 3)
		o.MaxAge, o.MaxEvents = time.Hour, 1
		wantRefusal(t, o, "max_age is 24h0m0s, not 1h0m0s", "nats stream edit ours --max-msgs=1 --max-age=1h0m0s")
		sameRecords(t, read(t, b), stored)
	})
	t.Run("an operator may change limits of a log that is in use", func(t *testing.T) {
		b := connect(t, natsbroker.ConnectOptions{URL: s.URL(), Options: natsbroker.Options{Stream: "edited"}})
		stored := store(t, b, 0, 3)
		st, err := js.Stream(t.Context(), "edited")
		if err != nil {
			t.Fatal(err)
		}
		c := st.CachedInfo().Config
		c.MaxMsgs = 2
		if _, err := js.UpdateStream(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		sameRecords(t, read(t, b), stored[1:])
		follow(t, b, stored[1].Position).wants(stored[2])
	})
	t.Run("a stream that discards new messages", func(t *testing.T) {
		o := natsbroker.ConnectOptions{URL: s.URL(), Options: natsbroker.Options{Stream: "new"}}
		connect(t, o)
		st, err := js.Stream(t.Context(), "new")
		if err != nil {
			t.Fatal(err)
		}
		c := st.CachedInfo().Config
		c.Discard = jetstream.DiscardNew
		if _, err := js.UpdateStream(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		wantRefusal(t, o, "discards new messages")
	})
}

func TestAVersionOfNATSThatIsTooOldIsRefused(t *testing.T) {
	for version, good := range map[string]bool{"2.11.9": false, "1.4.1": false, "": false, "2.12.0": true, "2.15.2": true, "3.0.0-beta": true} {
		if err := natsbroker.CheckVersion(version); (err == nil) != good {
			t.Errorf("%q: %v", version, err)
		}
	}
}
