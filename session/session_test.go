package session_test

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/session"
)

var secret = bytes.Repeat([]byte("secret. "), 4)

// tokens grants what stands under the bearer.
type tokens map[string]tidings.Grant

func (g tokens) Authorize(r *http.Request, _ tidings.Action) (tidings.Grant, error) {
	token, err := tidings.Bearer(r)
	if err != nil {
		return tidings.Grant{}, err
	}
	if token == "down" {
		return tidings.Grant{}, errors.New("the store at db-7 is down")
	}
	granted, ok := g[token]
	if !ok {
		return tidings.Grant{}, &tidings.DeniedError{Unauthenticated: true, Reason: "next says no"}
	}
	return granted, nil
}

func sessions(t testing.TB, next tidings.Authorizer, secrets ...[]byte) *session.Sessions {
	t.Helper()
	if len(secrets) == 0 {
		secrets = [][]byte{secret}
	}
	s, err := session.New(next, &session.Options{Secrets: secrets})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func answer(h http.Handler, method, path string, header ...string) *http.Response {
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

type given struct{ UserID, SessionID, Ticket, Expires string }

// give has a cookie or a ticket made of a token.
func give(t testing.TB, s *session.Sessions, path, token string) (given, *http.Cookie) {
	t.Helper()
	res := answer(s, http.MethodPost, path, "Authorization", "Bearer "+token)
	var g given
	if b, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK || json.Unmarshal(b, &g) != nil {
		t.Fatalf("%s: %s %s", path, res.Status, b)
	}
	for _, c := range res.Cookies() {
		return g, c
	}
	return g, nil
}

// stream is a request for a stream.
func stream(query string, cookie *http.Cookie, header ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/api/sse?"+query, nil)
	if cookie != nil {
		r.Header.Set("Cookie", cookie.Name+"="+cookie.Value)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

func wantDenied(t testing.TB, what string, err error, unauthenticated bool, says string) {
	t.Helper()
	d, ok := errors.AsType[*tidings.DeniedError](err)
	if !ok || d.Unauthenticated != unauthenticated || !strings.Contains(d.Reason, says) {
		t.Errorf("%s: got %v, want a denial that says %q", what, err, says)
	}
}

func full() tidings.Grant {
	return tidings.Grant{
		UserID: "u", SessionID: "s", Topics: []string{"a", "b.*"}, SendTo: []tidings.Target{{UserID: "u"}, {Topic: "b.*"}},
		Name: "n", Expires: time.Now().Add(time.Hour).Truncate(time.Millisecond),
	}
}

func TestACookieAndATicketGrantWhatTheirTokenDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := full()
		s := sessions(t, tokens{"good": want})
		g, c := give(t, s, "/api/sse/session", "good")
		if c.Name != "__Host-tidings" || !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || c.MaxAge != 3600 {
			t.Errorf("the cookie is %s", c)
		}
		if g.UserID != "u" || g.SessionID != "s" || g.Ticket != "" || g.Expires != want.Expires.UTC().Format(time.RFC3339) {
			t.Errorf("%+v", g)
		}
		tick, none := give(t, s, "/api/sse/tickets", "good")
		if none != nil || tick.Ticket == "" {
			t.Errorf("%+v, %v", tick, none)
		}
		for name, r := range map[string]*http.Request{"cookie": stream("", c), "ticket": stream("ticket="+tick.Ticket, nil)} {
			got, err := s.Authorize(r, tidings.Listen)
			if err != nil || !got.Expires.Equal(want.Expires) {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
			if got.Expires = want.Expires; !reflect.DeepEqual(got, want) {
				t.Errorf("%s: got %+v, want %+v", name, got, want)
			}
		}
		if _, err := s.Authorize(stream("", c), tidings.Send); err != nil {
			t.Errorf("send by cookie: %v", err)
		}
		_, err := s.Authorize(stream("", c), tidings.Manage)
		wantDenied(t, "manage by cookie", err, false, "admin key")
		_, err = s.Authorize(stream("ticket="+tick.Ticket, nil), tidings.Send)
		wantDenied(t, "send by ticket", err, true, "next says no")
	})
}

func TestATicketsFirstUseSetsTheCookieWithWhichItsURLGoesOnWorking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sessions(t, tokens{"good": full(), "other": {UserID: "other", Expires: time.Now().Add(time.Hour)}})
		tick, _ := give(t, s, "/api/sse/tickets", "good")
		_, others := give(t, s, "/api/sse/session", "other")
		hub, err := tidings.New(&tidings.Options{Authorizer: s, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		if err := hub.Close(); err != nil { // what is looked at is the head, which a refusal has, too
			t.Fatal(err)
		}
		url := "/api/sse?ticket=" + tick.Ticket
		res := answer(s.Stream(hub), http.MethodGet, url)
		if len(res.Cookies()) != 1 || res.Cookies()[0].Name != session.CookieName {
			t.Fatalf("the first use sets %v", res.Cookies())
		}
		mine := res.Cookies()[0]
		time.Sleep(time.Minute)
		if _, err := s.Authorize(stream("ticket="+tick.Ticket, mine), tidings.Listen); err != nil {
			t.Errorf("after a minute, with its cookie: %v", err)
		}
		_, err = s.Authorize(stream("ticket="+tick.Ticket, nil), tidings.Listen)
		wantDenied(t, "after a minute, without", err, true, "has expired")
		_, err = s.Authorize(stream("ticket="+tick.Ticket, others), tidings.Listen)
		wantDenied(t, "after a minute, with another user's", err, true, "has expired")
		if res := answer(s.Stream(hub), http.MethodGet, url); len(res.Cookies()) != 0 {
			t.Errorf("an expired ticket sets %v", res.Cookies())
		}
		time.Sleep(time.Hour)
		_, err = s.Authorize(stream("ticket="+tick.Ticket, mine), tidings.Listen)
		wantDenied(t, "after the token's time", err, true, "has expired")
	})
}

func TestAPageOfAnotherOriginOpensNoStreamAndGetsNoCookie(t *testing.T) {
	s, err := session.New(tokens{"good": full()}, &session.Options{Secrets: [][]byte{secret}, Origins: []string{"https://App.example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	tick, _ := give(t, s, "/api/sse/tickets", "good")
	reached := false
	h := s.Stream(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	for _, c := range []struct {
		name    string
		header  []string
		allowed bool
	}{
		{"a program", nil, true},
		{"a page of the server", []string{"Sec-Fetch-Site", "same-origin"}, true},
		{"an address that was typed", []string{"Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "navigate"}, true},
		{"an old browser, a page of the server", []string{"Origin", "https://example.com"}, true},
		{"an allowed page", []string{"Sec-Fetch-Site", "same-site", "Origin", "https://app.example.com"}, true},
		{"an allowed page in an old browser", []string{"Origin", "https://app.example.com"}, true},
		{"a token", []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://other.example", "Authorization", "Bearer good"}, true},
		{"an image in a page of the same site", []string{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "no-cors"}, false},
		{"an image in a page of another site", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"}, false},
		{"a link", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}, false},
		{"a link in the same site", []string{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "navigate"}, false},
		{"another page", []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://other.example"}, false},
		{"another page in an old browser", []string{"Origin", "https://other.example"}, false},
		{"a sandboxed page", []string{"Origin", "null"}, false},
	} {
		reached = false
		res := answer(h, http.MethodGet, "https://example.com/api/sse?ticket="+tick.Ticket, c.header...)
		if reached != c.allowed || len(res.Cookies()) == 1 != c.allowed || !c.allowed && res.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %s, reached %t, cookies %v", c.name, res.Status, reached, res.Cookies())
		}
	}
	reached = false
	if answer(h, http.MethodOptions, "https://example.com/api/sse", "Origin", "https://other.example"); !reached {
		t.Error("a browser's question whether it may send a token is not passed on")
	}
	for _, o := range []string{"*", "app.example.com", "https://app.example.com/", "null"} {
		if _, err := session.New(tokens{}, &session.Options{Secrets: [][]byte{secret}, Origins: []string{o}}); err == nil || !strings.Contains(err.Error(), "Origins[0]") {
			t.Errorf("%q: %v", o, err)
		}
	}
}

func TestNothingOutlivesItsToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		soon, later := time.Now().Add(10*time.Second), time.Now().Add(time.Hour)
		s := sessions(t, tokens{"hour": {UserID: "u", Expires: later}, "short": {UserID: "u", Expires: soon}, "endless": {UserID: "u"}})
		tick, _ := give(t, s, "/api/sse/tickets", "short")
		_, c := give(t, s, "/api/sse/session", "short")
		brief, _ := give(t, s, "/api/sse/tickets", "hour")
		if g, err := s.Authorize(stream("ticket="+brief.Ticket, nil), tidings.Listen); err != nil || !g.Expires.Equal(later) {
			t.Errorf("a ticket's stream lasts as long as its token, not as the ticket: %+v, %v", g, err)
		}
		time.Sleep(10*time.Second - time.Millisecond)
		if _, err := s.Authorize(stream("", c), tidings.Listen); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Millisecond)
		_, err := s.Authorize(stream("", c), tidings.Listen)
		wantDenied(t, "the cookie", err, true, "has expired")
		_, err = s.Authorize(stream("ticket="+tick.Ticket, nil), tidings.Listen)
		wantDenied(t, "the ticket", err, true, "has expired")
		if res := answer(s, http.MethodPost, "/api/sse/session", "Authorization", "Bearer short"); res.StatusCode != 401 {
			t.Errorf("a session of an expired token: %s", res.Status)
		}
		_, c = give(t, s, "/api/sse/session", "endless")
		if g, err := s.Authorize(stream("", c), tidings.Listen); err != nil || time.Until(g.Expires) > 12*time.Hour || time.Until(g.Expires) < 12*time.Hour-time.Second {
			t.Errorf("of an endless token: %+v, %v", g, err)
		}
	})
}

func TestWhatIsForgedOrMisplacedIsRefused(t *testing.T) {
	s := sessions(t, tokens{"good": full()})
	tick, _ := give(t, s, "/api/sse/tickets", "good")
	_, c := give(t, s, "/api/sse/session", "good")
	other := sessions(t, tokens{"good": full()}, bytes.Repeat([]byte("another "), 4))
	foreign, _ := give(t, other, "/api/sse/tickets", "good")
	_, foreignCookie := give(t, other, "/api/sse/session", "good")
	swap := func(value string) *http.Cookie { return &http.Cookie{Name: session.CookieName, Value: value} }
	for name, r := range map[string]*http.Request{
		"a ticket as a cookie":      stream("", swap(tick.Ticket)),
		"a cookie as a ticket":      stream("ticket="+c.Value, nil),
		"another server's cookie":   stream("", foreignCookie),
		"another server's ticket":   stream("ticket="+foreign.Ticket, nil),
		"a changed cookie":          stream("", swap("A"+c.Value[1:])),
		"a cookie without its mac":  stream("", swap(strings.Split(c.Value, ".")[0]+".")),
		"an empty cookie":           stream("", swap("")),
		"two cookies":               stream("", c, "Cookie", session.CookieName+"=x"),
		"two tickets":               stream("ticket="+tick.Ticket+"&ticket="+tick.Ticket, nil),
		"an empty ticket":           stream("ticket=", nil),
		"a ticket beside a token":   stream("ticket="+tick.Ticket, nil, "Authorization", "Bearer good"),
		"a bad ticket, good cookie": stream("ticket=x", c),
	} {
		_, err := s.Authorize(r, tidings.Listen)
		wantDenied(t, name, err, true, "")
	}
	// A token wins over a cookie: it is what the request's program chose.
	if g, err := s.Authorize(stream("", swap("x"), "Authorization", "Bearer good"), tidings.Listen); err != nil || g.UserID != "u" {
		t.Errorf("a token beside a bad cookie: %+v, %v", g, err)
	}
}

func TestSecretsRotate(t *testing.T) {
	old, next := bytes.Repeat([]byte("old "), 8), bytes.Repeat([]byte("next"), 8)
	_, c := give(t, sessions(t, tokens{"good": full()}, old), "/api/sse/session", "good")
	both := sessions(t, tokens{"good": full()}, next, old)
	if _, err := both.Authorize(stream("", c), tidings.Listen); err != nil {
		t.Error(err)
	}
	_, c = give(t, both, "/api/sse/session", "good")
	if _, err := sessions(t, tokens{}, next).Authorize(stream("", c), tidings.Listen); err != nil {
		t.Error(err)
	}
}

func TestOnlyATokenMakesASession(t *testing.T) {
	s := sessions(t, tokens{"good": full(), "huge": {UserID: "u", Topics: []string{strings.Repeat("x", 5000)}}})
	_, c := give(t, s, "/api/sse/session", "good")
	for _, path := range []string{"/api/sse/session", "/api/sse/tickets"} {
		for name, want := range map[string]struct {
			status int
			header []string
		}{
			"nothing":        {401, nil},
			"a cookie":       {401, []string{"Cookie", c.Name + "=" + c.Value}},
			"another token":  {401, []string{"Authorization", "Bearer other"}},
			"the store down": {503, []string{"Authorization", "Bearer down"}},
			"too many lists": {400, []string{"Authorization", "Bearer huge"}},
		} {
			res := answer(s, http.MethodPost, path, want.header...)
			b, _ := io.ReadAll(res.Body)
			if res.StatusCode != want.status || len(res.Cookies()) != 0 || res.Header.Get("Content-Type") != "application/problem+json" || strings.Contains(string(b), "db-7") {
				t.Errorf("%s with %s: %s %s", path, name, res.Status, b)
			}
		}
		if res := answer(s, http.MethodGet, path); res.StatusCode != 405 || !strings.Contains(res.Header.Get("Allow"), "POST") {
			t.Errorf("GET %s: %s", path, res.Status)
		}
	}
	res := answer(s, http.MethodDelete, "/api/sse/session")
	if res.StatusCode != 204 || len(res.Cookies()) != 1 || res.Cookies()[0].MaxAge != -1 || res.Cookies()[0].Value != "" {
		t.Errorf("the end of a session: %s, %v", res.Status, res.Cookies())
	}
}

func TestSecretsThatAreShortAreRefused(t *testing.T) {
	for _, o := range []*session.Options{nil, {}, {Secrets: [][]byte{[]byte("short")}}, {Secrets: [][]byte{secret}, MaxAge: -1}} {
		if _, err := session.New(tokens{}, o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}

// Whatever is presented as a cookie or a ticket is refused, but for what was signed with the secret, for this purpose.
func FuzzCookie(f *testing.F) { fuzz(f, "cookie") }
func FuzzTicket(f *testing.F) { fuzz(f, "ticket") }

func fuzz(f *testing.F, purpose string) {
	s := sessions(f, tokens{"good": full()})
	tick, _ := give(f, s, "/api/sse/tickets", "good")
	_, c := give(f, s, "/api/sse/session", "good")
	for _, seed := range []string{tick.Ticket, c.Value, ".", "e30.AAAA"} {
		f.Add(seed)
	}
	key, err := hkdf.Key(sha256.New, secret, nil, "tidings "+purpose+" 1", sha256.Size)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, value string) {
		r := httptest.NewRequest(http.MethodGet, "/api/sse", nil)
		if purpose == "ticket" {
			q := r.URL.Query()
			q.Set(session.TicketParameter, value)
			r.URL.RawQuery = q.Encode()
		} else {
			r.Header["Cookie"] = []string{session.CookieName + "=" + value}
		}
		g, err := s.Authorize(r, tidings.Listen)
		if err != nil {
			wantDenied(t, value, err, true, "")
			return
		}
		if purpose == "cookie" {
			value = r.CookiesNamed(session.CookieName)[0].Value // without what is around it
		}
		body, sum, _ := strings.Cut(value, ".")
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(body))
		if sum != base64.RawURLEncoding.EncodeToString(mac.Sum(nil)) {
			t.Errorf("%q grants %+v", value, g)
		}
	})
}
