package tidings_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
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
	opts  tidings.Options
	// set changes the site before it serves.
	set func(*site)
	run func(*testing.T, *site)
}

func TestEveryProtocolBehavesAlike(t *testing.T) {
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			for _, b := range behaviours {
				t.Run(b.name, func(t *testing.T) {
					var set []func(*site)
					if b.set != nil {
						set = append(set, b.set)
					}
					t.Run("in memory", func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) { b.run(t, p.serveInMemory(t, &b.opts, set...)) })
					})
					if !b.exact {
						t.Run("over a socket", func(t *testing.T) { b.run(t, p.serveTCP(t, &b.opts, set...)) })
					}
				})
			}
		})
	}
}

var behaviours = []behaviour{
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
		name:  "heartbeats come only where the stream was idle",
		exact: true,
		opts:  tidings.Options{HeartbeatInterval: 30 * time.Second},
		run: func(t *testing.T, s *site) {
			st := s.open(t, "")
			start := time.Now()
			go func() {
				for _, at := range []time.Duration{75, 80, 100, 125} { // seconds
					time.Sleep(time.Until(start.Add(at * time.Second)))
					send(t, s.hub, "x")
				}
				time.Sleep(40 * time.Second)
				send(t, s.hub, "last")
			}()
			for st.next(t).Data != "last" {
			}
			var got []time.Duration
			for _, c := range st.comments {
				got = append(got, c.Sub(start).Round(time.Second)/time.Second)
			}
			if want := []time.Duration{30, 60, 155}; !slices.Equal(got, want) {
				t.Errorf("heartbeats after %d seconds, want %d", got, want)
			}
		},
	},
	{
		name:  "the server's own timeouts don't end a stream",
		exact: true,
		opts:  tidings.Options{HeartbeatInterval: time.Second},
		set: func(s *site) {
			s.server.ReadTimeout = 200 * time.Millisecond
			s.server.ReadHeaderTimeout = 100 * time.Millisecond
			s.server.WriteTimeout = 200 * time.Millisecond
			s.server.IdleTimeout = 200 * time.Millisecond
		},
		run: func(t *testing.T, s *site) {
			st := s.open(t, "")
			go func() {
				time.Sleep(10*time.Second + time.Millisecond)
				send(t, s.hub, "still here")
			}()
			if e := st.next(t); e.Data != "still here" {
				t.Errorf("got %+v", e)
			}
			if len(st.comments) != 10 {
				t.Errorf("%d heartbeats in 10 s", len(st.comments))
			}
		},
	},
	{
		name: "the server's own timeouts don't end a stream, in real time",
		opts: tidings.Options{HeartbeatInterval: 100 * time.Millisecond},
		set: func(s *site) {
			s.server.ReadTimeout = 100 * time.Millisecond
			s.server.WriteTimeout = 100 * time.Millisecond
		},
		run: func(t *testing.T, s *site) {
			st := s.open(t, "")
			time.AfterFunc(250*time.Millisecond, func() { _, _ = s.hub.Broadcast(t.Context(), "", 1) })
			st.next(t)
		},
	},
	{
		name: "a drain writes what is queued, says so, and ends the stream truncated",
		opts: tidings.Options{DrainWindow: 50 * time.Millisecond},
		run: func(t *testing.T, s *site) {
			endsWith(t, s, tidings.ReasonDrained, func() {
				if err := s.hub.Shutdown(t.Context()); err != nil {
					t.Error(err)
				}
			})
		},
	},
	{
		name: "Disconnect writes what is queued, says so, and ends the stream truncated",
		run: func(t *testing.T, s *site) {
			endsWith(t, s, tidings.ReasonKicked, func() {
				if n, err := s.hub.Disconnect(tidings.Target{UserID: "u"}); n != 1 || err != nil {
					t.Errorf("Disconnect: %d, %v", n, err)
				}
			})
		},
	},
	{
		name: "a grant that expires says so, and ends the stream truncated",
		opts: tidings.Options{Authorizer: tidings.AuthorizerFunc(func(*http.Request, tidings.Action) (tidings.Grant, error) {
			return tidings.Grant{UserID: "u", Expires: time.Now().Add(500 * time.Millisecond)}, nil
		})},
		run: func(t *testing.T, s *site) {
			start := time.Now()
			ended := endsWith(t, s, tidings.ReasonExpired, func() {})
			if took := ended.Sub(start); s.exact && took != 600*time.Millisecond {
				t.Errorf("it ended after %v", took)
			}
		},
	},
	{
		name: "Close ends the stream at once, truncated and without a notice",
		run: func(t *testing.T, s *site) {
			st := s.open(t, "")
			start := time.Now()
			if err := s.hub.Close(); err != nil {
				t.Fatal(err)
			}
			es, err := st.rest()
			// An abort is a reset where there is a socket.
			if len(es) > 0 || !s.truncated(err) && s.exact || s.version != "HTTP/1.0" && err == nil {
				t.Errorf("it ended with %v, %v", es, err)
			}
			if took := time.Since(start); s.exact && took != 0 {
				t.Errorf("it ended after %v", took)
			}
			if n := s.hub.Stats().Disconnected[tidings.ReasonStopped]; n != 1 {
				t.Errorf("%d streams were stopped", n)
			}
		},
	},
	{
		name: "a client that goes away is noticed at once",
		run: func(t *testing.T, s *site) {
			st := s.open(t, "clientId=a")
			start := time.Now()
			st.close()
			eventually(t, "the client has gone", func() bool { return s.hub.Stats().Connections == 0 })
			if took := time.Since(start); s.exact && took > 10*time.Millisecond {
				t.Errorf("it took %v", took)
			}
			eventually(t, "it is counted as closed", func() bool { return s.hub.Stats().Disconnected[tidings.ReasonClosed] == 1 })
			if r, err := s.hub.NotifyClient(t.Context(), "a", "", nil); err != nil || r.Matched != 0 {
				t.Errorf("%+v, %v", r, err)
			}
		},
	},
	{
		name: "a client that stops reading is closed as slow, and the others get everything at once",
		opts: tidings.Options{MaxQueuedEvents: 64, HeartbeatInterval: 30 * time.Second},
		// On a socket the kernel takes more than a test should write.
		exact: true,
		run: func(t *testing.T, s *site) {
			s.open(t, "clientId=stalled")
			reads := s.open(t, "clientId=reads")
			start := time.Now()
			arrived := make(chan error, 1)
			const n = 1500 // 6 MB: an HTTP/2 client of Go's takes 4 MB without reading
			go func() {
				for i := range n {
					if e := reads.next(t); !strings.HasPrefix(e.Data, fmt.Sprintf("%d ", i)) {
						arrived <- fmt.Errorf("event %d is %.20q", i, e.Data)
						return
					}
				}
				arrived <- nil
			}()
			filler := strings.Repeat("x", 4096)
			for i := range n {
				send(t, s.hub, fmt.Sprintf("%d %s", i, filler))
			}
			if err := <-arrived; err != nil {
				t.Error(err)
			}
			if took := time.Since(start); took > 300*time.Millisecond {
				t.Errorf("the others were %v late", took)
			}
			// net/http lets TLS try for 5 s to say goodbye to a client that doesn't read.
			eventually(t, "the stalled stream has ended", func() bool { return s.hub.Stats().Disconnected[tidings.ReasonSlow] == 1 })
			if took := time.Since(start); took > 6*time.Second {
				t.Errorf("it was closed after %v", took)
			}
			if r := send(t, s.hub, "x"); r.Matched != 1 {
				t.Errorf("%d are left", r.Matched)
			}
		},
	},
	{
		name:  "a write that makes no progress for the ConnectionTimeout ends the stream as slow",
		exact: true,
		opts:  tidings.Options{HeartbeatInterval: 10 * time.Second, ConnectionTimeout: time.Minute},
		run: func(t *testing.T, s *site) {
			s.open(t, "clientId=stalled")
			filler := strings.Repeat("x", 1<<20)
			for range 8 { // the client's own buffers take some; more would be over the bytes that may be queued
				if _, err := s.hub.NotifyClient(t.Context(), "stalled", "", tidings.Text(filler)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Millisecond)
			}
			eventually(t, "the stream ends", func() bool {
				time.Sleep(time.Second)
				return s.hub.Stats().Connections == 0
			})
			synctest.Wait()
			if d := s.hub.Stats().Disconnected; d[tidings.ReasonSlow] != 1 {
				t.Errorf("disconnected: %v", d)
			}
		},
	},
	{
		name: "a stream that can't be served for now is a stream that says so and ends truncated",
		opts: tidings.Options{MaxConnections: 1},
		run: func(t *testing.T, s *site) {
			s.open(t, "")
			for _, accept := range []string{"text/event-stream", "text/html, Text/Event-Stream; q=0.9;charset=utf-8 , */*"} {
				resp := s.get(t, "", "Accept", accept)
				st := decode(resp)
				e := st.next(t)
				said := time.Now()
				es, err := st.rest()
				if took := time.Since(said); took < 50*time.Millisecond || s.exact && took != 100*time.Millisecond {
					t.Errorf("the end came %v after the notice", took)
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

// endsWith ends a stream of the user u while it has events queued, and checks how the client sees that. It returns when the stream
// ended.
func endsWith(t *testing.T, s *site, want tidings.Reason, end func()) time.Time {
	t.Helper()
	st := s.open(t, "userId=u")
	const n = 20
	for i := range n {
		send(t, s.hub, fmt.Sprint(i))
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		end()
	}()
	for i := range n {
		if e := st.next(t); e.Data != fmt.Sprint(i) {
			t.Errorf("event %d: %+v", i, e)
		}
	}
	before := st.LastEventID()
	e := st.next(t)
	said := time.Now()
	if e.Type != "tidings.disconnected" || !strings.Contains(e.Data, `"reason":"`+string(want)+`"`) {
		t.Errorf("the notice is %+v", e)
	}
	if st.LastEventID() != before {
		t.Error("the notice moved the cursor")
	}
	if retry, _ := st.Retry(); retry < 1500*time.Millisecond || retry > 4500*time.Millisecond {
		t.Errorf("retry: %v", retry)
	}
	es, err := st.rest()
	at := time.Now()
	if took := at.Sub(said); took < 50*time.Millisecond || s.exact && took != 100*time.Millisecond {
		t.Errorf("the end came %v after the notice", took)
	}
	if len(es) != 0 || !s.truncated(err) {
		t.Errorf("it ended with %v, %v", es, err)
	}
	<-ended
	eventually(t, "the hub knows", func() bool { return s.hub.Stats().Disconnected[want] == 1 })
	return at
}

func TestABurstAtFullSpeedReachesEveryReadingConnectionInOrder(t *testing.T) {
	for _, p := range protocols {
		switch p.name {
		case "HTTP 1.0", "HTTP 1.1 encoded", "HTTP 1.1 TLS not hijackable": // the same writer as another
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			const connections, senders, each = 50, 100, burst / 100
			s := p.serveTCP(t, &tidings.Options{
				HeartbeatInterval: 5 * time.Minute, ConnectionTimeout: 10 * time.Minute, DrainWindow: time.Millisecond,
			})
			s.patience = 5 * time.Minute
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
			eventually(t, "all are registered", func() bool { return s.hub.Stats().Connections == connections })
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
			if err := s.hub.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
			readers.Wait()
			if d := s.hub.Stats().Disconnected; d[tidings.ReasonDrained] != connections {
				t.Errorf("disconnected: %v", d)
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
