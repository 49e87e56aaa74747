package main

import (
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/sse"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A program is the whole of it, served.
type program struct {
	hub *tidings.Hub
	srv *httptest.Server
}

func serve(t *testing.T) *program {
	t.Helper()
	server, hub, err := newServer()
	if err != nil {
		t.Fatal(err)
	}
	p := &program{hub: hub, srv: httptest.NewServer(server.Handler)}
	t.Cleanup(p.srv.Close)
	t.Cleanup(func() { _ = hub.Close() })
	return p
}

// A browser keeps cookies.
type browser struct {
	*program
	client *http.Client
}

func (p *program) browser(t *testing.T) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{p, &http.Client{Transport: p.srv.Client().Transport, Jar: jar}}
}

func (b *browser) do(t *testing.T, method, path string, form url.Values, header ...string) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, method, b.srv.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := b.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

func (b *browser) post(t *testing.T, path, field, value string) {
	t.Helper()
	if res := b.do(t, http.MethodPost, path, url.Values{field: {value}}); res.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(res.Body)
		t.Fatalf("POST %s was answered %d: %s", path, res.StatusCode, body)
	}
}

// listen opens a stream, and returns a function that returns all events up to now.
func (b *browser) listen(t *testing.T) (received func() []string) {
	t.Helper()
	res := b.do(t, http.MethodGet, "/api/sse", nil)
	if res.StatusCode != http.StatusOK {
		t.Fatalf("the stream was answered %d", res.StatusCode)
	}
	events := sse.NewDecoder(res.Body, nil)
	for e, err := range events.Events() {
		if err != nil || e.Type != "tidings.connected" {
			t.Fatalf("the stream begins with %+v, %v", e, err)
		}
		break
	}
	return func() (got []string) {
		t.Helper()
		// Events are in one order for everyone: what was sent before this one has arrived before it.
		if _, err := b.hub.Broadcast(t.Context(), "end", nil); err != nil {
			t.Fatal(err)
		}
		for e, err := range events.Events() {
			if err != nil {
				t.Fatal(err)
			}
			if e.Type == "end" {
				return got
			}
			got = append(got, e.Type+" "+e.Data)
		}
		t.Fatal("the stream ended")
		return nil
	}
}

func check(t *testing.T, who string, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s got %q, want %q", who, got, want)
	}
}

func TestEachUserGetsTheirOwnEventsOnly(t *testing.T) {
	p := serve(t)
	alice, phone, bob := p.browser(t), p.browser(t), p.browser(t)
	alice.post(t, "/login", "user", "alice")
	phone.post(t, "/login", "user", "alice")
	bob.post(t, "/login", "user", "bob")
	aliceGot, phoneGot, bobGot := alice.listen(t), phone.listen(t), bob.listen(t)
	alice.post(t, "/notes", "text", "buy milk")
	bob.post(t, "/notes", "text", "<b>feed the cat</b>")
	check(t, "alice", aliceGot(), `new-note "buy milk"`)
	check(t, "alice's phone", phoneGot(), `new-note "buy milk"`)
	check(t, "bob", bobGot(), `new-note "<b>feed the cat</b>"`)
}

func TestWithoutASessionThereIsNoStream(t *testing.T) {
	p := serve(t)
	b := p.browser(t)
	for _, test := range []struct {
		name   string
		header []string
	}{
		{"no cookie", nil},
		{"a cookie that was made up", []string{"Cookie", "session=alice"}},
		{"an empty cookie", []string{"Cookie", "session="}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := b.do(t, http.MethodGet, "/api/sse", nil, test.header...).StatusCode; got != http.StatusUnauthorized {
				t.Errorf("the stream was answered %d, want 401", got)
			}
			if got := b.do(t, http.MethodGet, "/api/sse?userId=alice", nil, test.header...).StatusCode; got != http.StatusUnauthorized {
				t.Errorf("the stream that claims a user was answered %d, want 401", got)
			}
			if got := b.do(t, http.MethodPost, "/notes", url.Values{"text": {"hi"}}, test.header...).StatusCode; got != http.StatusUnauthorized {
				t.Errorf("the note was answered %d, want 401", got)
			}
		})
	}
}

func TestNobodyCanLogInAsNobody(t *testing.T) {
	b := serve(t).browser(t)
	b.post(t, "/login", "user", "")
	if got := b.do(t, http.MethodGet, "/api/sse", nil).StatusCode; got != http.StatusUnauthorized {
		t.Errorf("the stream was answered %d, want 401", got)
	}
}

func TestAQueryCantClaimAnotherUser(t *testing.T) {
	b := serve(t).browser(t)
	b.post(t, "/login", "user", "alice")
	for query, want := range map[string]int{
		"userId=alice":  http.StatusOK,
		"userId=bob":    http.StatusForbidden,
		"sessionId=one": http.StatusForbidden,
		"topic=orders":  http.StatusForbidden,
	} {
		if got := b.do(t, http.MethodGet, "/api/sse?"+query, nil).StatusCode; got != want {
			t.Errorf("with %s the stream was answered %d, want %d", query, got, want)
		}
	}
}

func TestTheCookieIsHiddenFromScriptsAndFromOtherSites(t *testing.T) {
	b := serve(t).browser(t)
	cookies := b.do(t, http.MethodPost, "/login", url.Values{"user": {"alice"}}).Cookies()
	if len(cookies) != 1 || !cookies[0].HttpOnly || cookies[0].SameSite != http.SameSiteLaxMode || len(cookies[0].Value) < 26 {
		t.Errorf("login set %v", cookies)
	}
	header := []string{"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"}
	for _, path := range []string{"/login", "/notes"} {
		if got := b.do(t, http.MethodPost, path, url.Values{"user": {"mallory"}, "text": {"hi"}}, header...).StatusCode; got != http.StatusForbidden {
			t.Errorf("POST %s from another site was answered %d, want 403", path, got)
		}
	}
}

func TestThePageIsServed(t *testing.T) {
	res := serve(t).browser(t).do(t, http.MethodGet, "/", nil)
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK || !strings.Contains(string(body), `new EventSource('/api/sse')`) {
		t.Errorf("the page was answered %d %q, %v", res.StatusCode, body, err)
	}
}

// What the program does after its signal.
func TestItStopsWithStreamsOpen(t *testing.T) {
	p := serve(t)
	b := p.browser(t)
	b.post(t, "/login", "user", "alice")
	stream := b.do(t, http.MethodGet, "/api/sse", nil)
	if err := p.hub.Shutdown(t.Context()); err != nil {
		t.Errorf("the hub: %v", err)
	}
	if err := p.srv.Config.Shutdown(t.Context()); err != nil {
		t.Errorf("the server: %v", err)
	}
	rest, err := io.ReadAll(stream.Body)
	if err == nil || !strings.Contains(string(rest), "event: tidings.disconnected\n") {
		t.Errorf("the stream ended with %v, after %q", err, rest)
	}
}
