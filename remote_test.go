package tidings_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidings-sse/tidings"
)

// answers is a server that gives the answers one after another and keeps what it was sent.
type answers struct {
	script []func(w http.ResponseWriter)

	mu     sync.Mutex
	bodies []map[string]any
	heads  []http.Header
}

func (a *answers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var m map[string]any
	_ = json.Unmarshal(body, &m)
	a.mu.Lock()
	n := len(a.bodies)
	a.bodies, a.heads = append(a.bodies, m), append(a.heads, r.Header.Clone())
	a.mu.Unlock()
	a.script[min(n, len(a.script)-1)](w)
}

// RoundTrip serves a request in the process, so that pauses take no time in a bubble.
func (a *answers) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	rec := httptest.NewRecorder()
	a.ServeHTTP(rec, r)
	if rec.Code == statusBroken {
		return nil, errors.New("connection reset by peer")
	}
	return rec.Result(), nil
}

// statusBroken stands for no answer at all.
const statusBroken = 999

func receipt(w http.ResponseWriter) {
	_, _ = io.WriteString(w, `{"id":"1a-1.0-0","matched":1,"scope":"node"}`)
}

func broken(w http.ResponseWriter) { w.WriteHeader(statusBroken) }

func problem(status int, typ string, header ...string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		(&tidings.Problem{Type: "urn:tidings:" + typ, Status: status, Detail: "because", Hint: "do this"}).ServeHTTP(w, nil)
	}
}

func remoteTo(t *testing.T, a *answers, o tidings.RemoteOptions) *tidings.Remote {
	t.Helper()
	o.Client = &http.Client{Transport: a}
	r, err := tidings.NewRemote("http://tidings.test/api/sse", &o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestARemoteSendsToAHubAsTheHubItselfDoes(t *testing.T) {
	hub, err := tidings.New(&tidings.Options{Authorizer: tidings.TrustQuery{}})
	if err != nil {
		t.Fatal(err)
	}
	defer hub.Close()
	srv := httptest.NewServer(hub.API())
	defer srv.Close()
	remote, err := tidings.NewRemote(srv.URL+"/api/sse/", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	ctx := t.Context()
	for name, send := range map[string]func(n tidings.Notifier) (tidings.Receipt, error){
		"client":    func(n tidings.Notifier) (tidings.Receipt, error) { return n.NotifyClient(ctx, "c", "x", 1) },
		"user":      func(n tidings.Notifier) (tidings.Receipt, error) { return n.NotifyUser(ctx, "u", "x", 1) },
		"session":   func(n tidings.Notifier) (tidings.Receipt, error) { return n.NotifySession(ctx, "s", "x", 1) },
		"topic":     func(n tidings.Notifier) (tidings.Receipt, error) { return n.NotifyTopic(ctx, "t", "x", 1) },
		"broadcast": func(n tidings.Notifier) (tidings.Receipt, error) { return n.Broadcast(ctx, "x", tidings.Text("a\nb")) },
		"whole": func(n tidings.Notifier) (tidings.Receipt, error) {
			return n.Send(ctx, tidings.Event{
				Targets: []tidings.Target{{UserID: "u", Topic: "t"}, {ClientID: "c"}}, Exclude: tidings.Target{ClientID: "d"},
				TTL: time.Minute, CollapseKey: "k", IdempotencyKey: "once " + t.Name(),
			})
		},
	} {
		got, err := send(remote.Notifier)
		if err != nil || got.ID == "" || got.Scope != tidings.ScopeNode {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if name == "broadcast" {
			continue
		}
		local, err := send(hub.Notifier)
		if err != nil || local.Hint != got.Hint {
			t.Errorf("%s: the remote's hint is %q, the hub's %q (%v)", name, got.Hint, local.Hint, err)
		}
	}
	for name, test := range map[string]struct {
		event tidings.Event
		is    error
	}{
		"no target":     {tidings.Event{Type: "x"}, tidings.ErrNoTarget},
		"reserved type": {tidings.Event{Type: "tidings.x", Everyone: true}, tidings.ErrNotStored},
		"too large":     {tidings.Event{Data: strings.Repeat("x", 1<<20), Everyone: true}, tidings.ErrTooLarge},
		"conflict":      {tidings.Event{Data: 2, Everyone: true, IdempotencyKey: "once " + t.Name()}, tidings.ErrConflict},
		"unencodable":   {tidings.Event{Data: func() {}, Everyone: true}, tidings.ErrNotStored},
	} {
		_, fromHub := hub.Send(ctx, test.event)
		_, fromRemote := remote.Send(ctx, test.event)
		for who, err := range map[string]error{"hub": fromHub, "remote": fromRemote} {
			if !errors.Is(err, test.is) || !errors.Is(err, tidings.ErrNotStored) {
				t.Errorf("%s: the %s says %v", name, who, err)
			}
		}
	}
}

func TestARemoteTriesAgainWithTheSameKeyUntilTheServerAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &answers{script: []func(http.ResponseWriter){
			broken, problem(503, "not-stored", "Retry-After", "2"), problem(504, "unknown"), receipt,
		}}
		started := time.Now()
		r := remoteTo(t, a, tidings.RemoteOptions{Header: http.Header{"Authorization": {"Bearer x"}}})
		got, err := r.NotifyUser(t.Context(), "u", "x", 1)
		if err != nil || got.ID != "1a-1.0-0" {
			t.Fatalf("%+v, %v", got, err)
		}
		if len(a.bodies) != 4 {
			t.Fatalf("it was sent %d times", len(a.bodies))
		}
		for i, b := range a.bodies {
			if b["idempotencyKey"] == nil || b["idempotencyKey"] != a.bodies[0]["idempotencyKey"] {
				t.Errorf("try %d has the key %v, the first %v", i, b["idempotencyKey"], a.bodies[0]["idempotencyKey"])
			}
			if a.heads[i].Get("Authorization") != "Bearer x" {
				t.Errorf("try %d has no Authorization", i)
			}
		}
		if d := time.Since(started); d < 2*time.Second || d > 4*time.Second {
			t.Errorf("it took %v, with a Retry-After of 2 s", d)
		}
	})
}

func TestARemoteSaysNotStoredOnlyWhenEveryTryWas(t *testing.T) {
	for name, test := range map[string]struct {
		script []func(http.ResponseWriter)
		stored bool // may have been
		tries  int
	}{
		"never":                   {[]func(http.ResponseWriter){problem(503, "not-stored")}, false, 4},
		"the first may have been": {[]func(http.ResponseWriter){broken, problem(503, "not-stored")}, true, 4},
		"unknown":                 {[]func(http.ResponseWriter){problem(504, "unknown")}, true, 4},
		"a proxy's answer":        {[]func(http.ResponseWriter){func(w http.ResponseWriter) { w.WriteHeader(502) }}, true, 4},
		"refused":                 {[]func(http.ResponseWriter){problem(403, "forbidden")}, false, 1},
		"refused by a proxy":      {[]func(http.ResponseWriter){func(w http.ResponseWriter) { w.WriteHeader(404) }}, false, 1},
		"not a Tidings server":    {[]func(http.ResponseWriter){func(w http.ResponseWriter) { _, _ = io.WriteString(w, "<html>") }}, true, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &answers{script: test.script}
				_, err := remoteTo(t, a, tidings.RemoteOptions{}).Broadcast(t.Context(), "x", 1)
				if err == nil || errors.Is(err, tidings.ErrNotStored) == test.stored {
					t.Errorf("the error is %v", err)
				}
				if len(a.bodies) != test.tries {
					t.Errorf("it was sent %d times, not %d", len(a.bodies), test.tries)
				}
			})
		})
	}
}

func TestARemoteThatCantKnowWhatBecameOfAnEventSaysHowToSettleIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused := func(w http.ResponseWriter) {
			tidings.ProblemOf(fmt.Errorf("no majority: %w (%w)", tidings.ErrUnavailable, tidings.ErrNotStored)).ServeHTTP(w, nil)
		}
		a := &answers{script: []func(http.ResponseWriter){problem(504, "unknown"), refused}}
		_, err := remoteTo(t, a, tidings.RemoteOptions{}).Broadcast(t.Context(), "x", 1)
		key, _ := a.bodies[0]["idempotencyKey"].(string)
		if err == nil || !strings.Contains(err.Error(), "it is not known whether the event was sent") || key == "" || !strings.Contains(err.Error(), "with the idempotency key "+key) || !strings.Contains(err.Error(), "no majority") {
			t.Fatalf("the error is %v", err)
		}
		if s := strings.ToLower(err.Error()); strings.Contains(s, "nothing was sent") || strings.Contains(s, "was not sent") {
			t.Errorf("the error says both: %v", err)
		}
	})
}

func TestARemoteThatDoesNotTrustTheServerSendsNothing(t *testing.T) {
	calls := 0
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls++ }))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	remote, err := tidings.NewRemote(srv.URL+"/api/sse", &tidings.RemoteOptions{Client: &http.Client{Transport: transport}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Broadcast(t.Context(), "x", 1); !errors.Is(err, tidings.ErrNotStored) || strings.Contains(err.Error(), "not known whether") || calls > 0 {
		t.Errorf("after %d calls, got %v", calls, err)
	}
}

func TestAPageThatMentionsHTTPSIsNotTakenForTLS(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `<p>Bad request. <a href="https://proxy.example/help">Help</a></p>`)
	}))
	defer srv.Close()
	remote, err := tidings.NewRemote(srv.URL+"/api/sse", &tidings.RemoteOptions{Client: srv.Client()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Broadcast(t.Context(), "x", 1); err == nil || strings.Contains(err.Error(), "TLS") {
		t.Errorf("got %v", err)
	}
}

func TestARemoteThatSpeaksPlainlyToTLSSaysSo(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	remote, err := tidings.NewRemote(strings.Replace(srv.URL, "https:", "http:", 1)+"/api/sse", &tidings.RemoteOptions{Client: &http.Client{Transport: transport}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Broadcast(t.Context(), "x", 1); err == nil || !strings.Contains(err.Error(), "the server speaks TLS: write https:// in its URL") || !errors.Is(err, tidings.ErrNotStored) {
		t.Errorf("got %v", err)
	}
}

func TestARemoteStopsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		a := &answers{script: []func(http.ResponseWriter){problem(503, "not-stored", "Retry-After", "60")}}
		started := time.Now()
		_, err := remoteTo(t, a, tidings.RemoteOptions{}).Broadcast(ctx, "x", 1)
		if err == nil || time.Since(started) != 50*time.Millisecond {
			t.Errorf("after %v: %v", time.Since(started), err)
		}
	})
}

func TestARemoteRefusesWhatIsNotTheURLOfAStream(t *testing.T) {
	for _, base := range []string{"", "events.example.com/api/sse", "ftp://x/api/sse", "http://", "http://x/api/sse?a=b", "http://x/#f", "http://%zz/"} {
		_, err := tidings.NewRemote(base, nil)
		if e, ok := errors.AsType[*tidings.InvalidError](err); !ok || e.Field != "base" || e.Hint == "" {
			t.Errorf("%q: %v", base, err)
		}
	}
}

func TestAServerThatIsNotThereWasSentNothing(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + ln.Addr().String() + "/api/sse"
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	remote, err := tidings.NewRemote(url, &tidings.RemoteOptions{Tries: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Broadcast(t.Context(), "x", 1); !errors.Is(err, tidings.ErrNotStored) {
		t.Errorf("got %v, want an error that matches ErrNotStored", err)
	}
}
