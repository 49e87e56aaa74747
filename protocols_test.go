package tidings_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/sse"
)

// A behaviour is what every protocol has to do, whichever of the engine's writers carries it.
type behaviour struct {
	name string
	// exact says that it is about time: it runs in a bubble only.
	exact bool
	// socket says that it is about what kernels do: it runs on sockets only.
	socket bool
	// costly says that it runs on sockets once for each writer and kind of socket.
	costly bool
	opts   tidings.Options
	log    *tidings.MemoryOptions // nil is the default
	// set changes the site before it serves.
	set func(*site)
	run func(*testing.T, *site)
}

func TestEveryProtocolBehavesAlikeInMemory(t *testing.T) {
	for _, p := range protocols {
		for _, b := range behaviours {
			if b.socket || !p.inMemory() {
				continue
			}
			t.Run(p.name+"/"+b.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { b.run(t, p.serveInMemory(t, b.options(t), b.configure)) })
			})
		}
	}
}

func TestEveryProtocolBehavesAlikeOverASocket(t *testing.T) {
	for _, p := range protocols {
		for _, b := range behaviours {
			if b.exact || b.costly && p.again {
				continue
			}
			t.Run(p.name+"/"+b.name, func(t *testing.T) {
				t.Parallel()
				b.run(t, p.serveTCP(t, b.options(t), b.configure))
			})
		}
	}
}

func (b behaviour) options(t testing.TB) *tidings.Options {
	o := b.opts
	if b.log != nil {
		o.Broker = memoryLog(t, b.log)
	}
	return &o
}

func (b behaviour) configure(s *site) {
	if b.set != nil {
		b.set(s)
	}
}

var behaviours = slices.Concat(headBehaviours, wireBehaviours, silenceBehaviours, slowBehaviours, stalledBehaviours, endBehaviours)

var headBehaviours = []behaviour{
	{
		name: "the head is that of a live stream, and what middleware set is kept",
		set: func(s *site) {
			inner := s.server.Handler
			s.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Access-Control-Allow-Origin", "https://example.com")
				w.Header().Add("Set-Cookie", "a=1")
				w.Header().Add("Set-Cookie", "b=2")
				w.Header().Set("Content-Length", "7") // a mistake of somebody's that must not end the stream
				inner.ServeHTTP(w, r)
			})
		},
		run: func(t *testing.T, s *site) {
			resp := s.get(t, "")
			if resp.StatusCode != http.StatusOK || resp.Proto != s.version {
				t.Errorf("%s %s", resp.Proto, resp.Status)
			}
			for name, want := range map[string][]string{
				"Content-Type":                {"text/event-stream"},
				"Cache-Control":               {"no-cache, no-transform"},
				"X-Accel-Buffering":           {"no"},
				"Content-Length":              nil,
				"Access-Control-Allow-Origin": {"https://example.com"},
				"Set-Cookie":                  {"a=1", "b=2"},
			} {
				if got := resp.Header.Values(name); !slices.Equal(got, want) {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			if resp.Header.Get("Date") == "" {
				t.Error("there is no Date")
			}
			if resp.ContentLength != -1 {
				t.Errorf("the length is %d", resp.ContentLength)
			}
			if chunked := slices.Equal(resp.TransferEncoding, []string{"chunked"}); chunked != (s.version == "HTTP/1.1") {
				t.Errorf("transfer encoding: %q", resp.TransferEncoding)
			}
		},
	},
	{
		name: "the greeting comes at once, before there is any event",
		run: func(t *testing.T, s *site) {
			start := time.Now()
			st := s.open(t, "clientId=a")
			if took := time.Since(start); s.exact && took > 10*time.Millisecond {
				t.Errorf("it took %v", took)
			}
			if st.connected.ClientID != "a" || st.connected.ConnectionID == "" || st.connected.Resume != "none" {
				t.Errorf("greeting: %+v", st.connected)
			}
			if st.LastEventID() == "" {
				t.Error("there is no cursor to come back with")
			}
			if st.retry < 1500*time.Millisecond || st.retry > 4500*time.Millisecond {
				t.Errorf("retry: %v", st.retry)
			}
		},
	},
	{
		name: "events arrive in order and whole, whatever their size",
		opts: tidings.Options{MaxQueuedBytes: 64 << 20}, // the client decodes slowly under the race detector
		run: func(t *testing.T, s *site) {
			st := s.open(t, "")
			sizes := []int{0, 1, 100, 4096, 70_000, 1 << 20} // bytes
			var want []sse.Event
			sent := make(chan error, 1)
			go func() {
				for i := range 100 {
					size := sizes[i%5]
					if i == 50 {
						size = sizes[5]
					}
					text := fmt.Sprint(i)
					text += strings.Repeat("é\n"+strings.Repeat("-", 47), max(0, size-len(text))/50)
					r, err := s.hub.Broadcast(t.Context(), "numbered", tidings.Text(text))
					if err != nil {
						sent <- err
						return
					}
					want = append(want, sse.Event{Type: "numbered", Data: text, ID: r.ID})
				}
				sent <- nil
			}()
			var got []sse.Event
			for range 100 {
				got = append(got, st.next(t))
			}
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
			for i := range got {
				if got[i] != want[i] {
					t.Fatalf("event %d has %d bytes, id %s; want %d bytes, id %s", i, len(got[i].Data), got[i].ID, len(want[i].Data), want[i].ID)
				}
			}
		},
	},
	{
		name: "a stream that can't be served for now is a stream that says so and ends truncated",
		opts: tidings.Options{MaxConnections: 1},
		run: func(t *testing.T, s *site) {
			s.open(t, "")
			for _, accept := range []string{"text/event-stream", "text/html, Text/Event-Stream; q=0.9;charset=utf-8 , */*"} {
				start := time.Now()
				resp := s.get(t, "", "Accept", accept)
				st := decode(resp)
				e := st.next(t)
				said := time.Now()
				es, err := st.rest()
				if took := time.Since(said); s.exact && took != 100*time.Millisecond {
					t.Errorf("the end came %v after the notice", took)
				}
				if took := time.Since(start); took < 100*time.Millisecond { // a busy machine may read both at once
					t.Errorf("the end came %v after the request", took)
				}
				if resp.StatusCode != http.StatusOK || e.Type != "tidings.unavailable" || !strings.Contains(e.Data, `"reason":"full"`) || e.ID != "" || len(es) != 0 || !s.truncated(err) {
					t.Errorf("%s: %s, %+v, %v, %v", accept, resp.Status, e, es, err)
				}
				if retry, ok := st.Retry(); !ok || retry < 1500*time.Millisecond || retry > 4500*time.Millisecond {
					t.Errorf("retry: %v", retry)
				}
				if s.version == "HTTP/1.1" && resp.Header.Get("Connection") != "" {
					t.Error("Node.js takes a truncated body behind Connection: close for a whole one")
				}
			}
			// The first refusal over HTTP/2 comes on the connection of the stream that is served.
			want := 3
			if s.version == "HTTP/2.0" {
				want = 2
			}
			if n := len(s.dialed.all()); n != want {
				t.Errorf("%d connections, want %d: a refused client must not stay with this server", n, want)
			}
			if stats := s.hub.Stats(); stats.Refused["full"] != 2 || stats.Connected["none"] > 1 || stats.Connections != 1 {
				t.Errorf("stats: %+v", stats)
			}
		},
	},
	{
		name: "who does not ask for an event stream by name is refused with a problem document",
		opts: tidings.Options{Authorizer: tidings.AuthorizerFunc(func(*http.Request, tidings.Action) (tidings.Grant, error) {
			return tidings.Grant{}, errors.New("the session store is down")
		})},
		run: func(t *testing.T, s *site) {
			for _, accept := range []string{"*/*", "text/*", "application/json, text/event-streams", ""} {
				resp := s.get(t, "", "Accept", accept)
				if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" ||
					resp.Header.Get("Content-Type") != "application/problem+json" {
					t.Errorf("%q: %s %v", accept, resp.Status, resp.Header)
				}
				if s.version == "HTTP/1.1" && !resp.Close {
					t.Error("the connection is kept")
				}
			}
			st := decode(s.get(t, ""))
			es, err := st.rest()
			if len(es) != 1 || es[0].Type != "tidings.unavailable" || !strings.Contains(es[0].Data, `"authorizer"`) || !s.truncated(err) {
				t.Errorf("%+v, %v", es, err)
			}
			if stats := s.hub.Stats(); stats.Refused["authorizer"] != 5 || len(stats.Connected) != 0 {
				t.Errorf("stats: %+v", stats)
			}
		},
	},
	{
		name: "a stream that can never be served is refused with its status",
		opts: tidings.Options{Authorizer: tidings.AuthorizerFunc(func(r *http.Request, _ tidings.Action) (tidings.Grant, error) {
			return tidings.Grant{}, &tidings.DeniedError{Unauthenticated: r.Header.Get("Authorization") == "", Reason: "no"}
		})},
		run: func(t *testing.T, s *site) {
			for _, c := range []struct {
				query  string
				header []string
				status int
			}{
				{"", nil, http.StatusUnauthorized},
				{"", []string{"Authorization", "x"}, http.StatusForbidden},
				{"clientId=%00", nil, http.StatusBadRequest},
			} {
				resp := s.get(t, c.query, c.header...)
				if resp.StatusCode != c.status || resp.Header.Get("Content-Type") != "application/problem+json" {
					t.Errorf("%+v: %s", c, resp.Status)
				}
			}
		},
	},
}
