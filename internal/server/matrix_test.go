package server_test

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tidings-sse/tidings/internal/server"
)

const (
	jwtSecret = "the secret of the tests, longer than 32 characters"
	apiKey    = "billing-key-for-tests-0123456789"
	adminKey  = "admin-key-for-tests-0123456789abc"
)

// authenticated is a configuration with every kind of credential.
func authenticated(t testing.TB) *server.Config {
	t.Helper()
	cfg := config(t)
	cfg.JWTSecret, cfg.APIKey, cfg.AdminKey = []string{jwtSecret}, []string{"billing:" + apiKey}, []string{adminKey}
	return cfg
}

// mint signs a token. Claims that are nil are left out.
func mint(t testing.TB, claims jwt.MapClaims) string {
	t.Helper()
	c := jwt.MapClaims{"sub": "alice", "sid": "a1", "exp": time.Now().Add(time.Hour).Unix()}
	maps.Copy(c, claims)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	s, err := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString([]byte(jwtSecret))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A credential is a way to present something, and what that may do: told here apart from the code that decides it.
type credential struct {
	name   string
	header string // a line; "" for none
	query  string // of a stream; "" for none
	known  bool   // it is valid, so that what it may not do is 403 and not 401

	listens bool     // as alice, in session a1
	topics  []string // that it may listen to
	anyone  bool     // it may send to all
	sendTo  []string // or to these: conditions, as userId=alice
	manages bool
}

func credentials(t testing.TB, r *running) []credential {
	t.Helper()
	plain := mint(t, nil)
	hears := mint(t, jwt.MapClaims{"topics": []string{"news", "orders.*"}})
	self := mint(t, jwt.MapClaims{"send": []string{"self"}, "topics": "*"})
	topic := mint(t, jwt.MapClaims{"send": []string{"topic:orders.*", "session:b1"}})
	anyone := mint(t, jwt.MapClaims{"send": "*"})
	bearer := func(s string) string { return "Authorization: Bearer " + s }
	cookie := func(token string) string { return "Cookie: __Host-tidings=" + r.session(t, token) }
	old := mint(t, jwt.MapClaims{"exp": time.Now().Add(-time.Hour).Unix(), "send": "*"})
	forged := plain[:strings.LastIndexByte(plain, '.')+1] + "AAAA"
	none := "eyJhbGciOiJub25lIn0." + strings.Split(anyone, ".")[1] + "."
	cs := []credential{
		{name: "nothing"},
		{name: "garbage", header: bearer("garbage")},
		{name: "basic", header: "Authorization: Basic YTpi"},
		{name: "an expired token", header: bearer(old)},
		{name: "a forged token", header: bearer(forged)},
		{name: "alg none", header: bearer(none)},
		{name: "a token in the query", query: "access_token=" + anyone},
		{name: "a forged cookie", header: "Cookie: __Host-tidings=AAAA.AAAA"},
		{name: "a token as a cookie", header: "Cookie: __Host-tidings=" + plain},
		{name: "a forged ticket", query: "ticket=AAAA.AAAA"},
		{name: "a token as a ticket", query: "ticket=" + plain},
		{name: "another API key", header: bearer(apiKey[1:])},
		{name: "API key", header: bearer(apiKey), known: true, anyone: true},
		{name: "admin key", header: bearer(adminKey), known: true, anyone: true, manages: true},
	}
	for _, c := range []struct {
		name, token string
		may         credential
	}{
		{"plain", plain, credential{}},
		{"with topics", hears, credential{topics: []string{"news", "orders.*"}}},
		{"to self", self, credential{topics: []string{"*"}, sendTo: []string{"userId=alice"}}},
		{"to topics", topic, credential{sendTo: []string{"topic=orders.*", "sessionId=b1"}}},
		{"to anyone", anyone, credential{anyone: true}},
	} {
		c.may.known, c.may.listens = true, true
		for _, as := range []string{"token", "cookie", "ticket"} {
			may := c.may
			switch may.name = as + " " + c.name; as {
			case "token":
				may.header = bearer(c.token)
			case "cookie":
				may.header = cookie(c.token)
			case "ticket":
				may.query = "ticket=" + r.ticket(t, c.token)
			}
			cs = append(cs, may)
		}
	}
	return cs
}

// post posts nothing with a token, and returns the answer.
func (r *running) post(t testing.TB, path, token string) (*http.Response, string) {
	t.Helper()
	return r.raw(t, "POST "+path+" HTTP/1.1", "Host: localhost", "Authorization: Bearer "+token, "Content-Length: 0")
}

func (r *running) session(t testing.TB, token string) string {
	t.Helper()
	res, body := r.post(t, "/api/sse/session", token)
	if res.StatusCode != http.StatusOK || len(res.Cookies()) != 1 {
		t.Fatalf("a session: %s %s", res.Status, body)
	}
	return res.Cookies()[0].Value
}

func (r *running) ticket(t testing.TB, token string) string {
	t.Helper()
	res, body := r.post(t, "/api/sse/tickets", token)
	_, rest, found := strings.Cut(body, `"ticket":"`)
	ticket, _, closed := strings.Cut(rest, `"`)
	if res.StatusCode != http.StatusOK || !found || !closed {
		t.Fatalf("a ticket: %s %s", res.Status, body)
	}
	return ticket
}

// A target is conditions, as field=value.
type target []string

func (t target) json() string {
	var fields []string
	for _, c := range t {
		k, v, _ := strings.Cut(c, "=")
		fields = append(fields, fmt.Sprintf("%q:%q", k, v))
	}
	return "{" + strings.Join(fields, ",") + "}"
}

func (t target) has(field string) bool {
	return slices.ContainsFunc(t, func(c string) bool { return strings.HasPrefix(c, field+"=") })
}

// label reports whether it is a client id that nothing vouches for.
func (t target) label() bool {
	return t.has("clientId") && !t.has("userId") && !t.has("sessionId") && !slices.ContainsFunc(t, func(c string) bool { return strings.HasPrefix(c, "clientId=~") })
}

// allowed reports whether one of the rights, single conditions, is among the target's.
func (t target) allowed(rights []string) bool {
	for _, right := range rights {
		for _, c := range t {
			if prefix, any := strings.CutSuffix(right, "*"); c == right || any && strings.HasPrefix(c, prefix) {
				return true
			}
		}
	}
	return false
}

// targets are every combination of these values.
func targets() (all []target) {
	all = []target{nil}
	for _, values := range [][]string{
		{"clientId=tab", "clientId=~AAAAAAAAAAAAAAAAAAAAAAAAAA"}, {"userId=alice", "userId=bob"}, {"sessionId=a1", "sessionId=b1"},
		{"topic=news", "topic=orders.eu", "topic=orders"},
	} {
		for _, t := range slices.Clone(all) {
			for _, v := range values {
				all = append(all, append(slices.Clone(t), v))
			}
		}
	}
	return all
}

// client keeps connections, so that thousands of requests don't need as many ports.
func (r *running) client(t testing.TB) func(method, path, header, contentType, body string) int {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return func(method, path, header, contentType, body string) int {
		req, err := http.NewRequestWithContext(t.Context(), method, r.URL()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if name, value, ok := strings.Cut(header, ": "); ok {
			req.Header.Set(name, value)
		}
		if contentType != "" {
			req.Header.Set("Content-Type", contentType)
		}
		res, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") {
			return res.StatusCode // it has no end
		}
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		if contentType == "application/x-ndjson" && res.StatusCode == http.StatusOK {
			var status int
			if i := strings.Index(string(b), `"status":`); i >= 0 {
				_, _ = fmt.Sscanf(string(b[i:]), `"status":%d`, &status)
				return status
			}
		}
		if res.StatusCode == http.StatusUnauthorized && !strings.HasPrefix(res.Header.Get("WWW-Authenticate"), "Bearer") {
			t.Errorf("%s %s: 401 with WWW-Authenticate %q", method, path, res.Header.Get("WWW-Authenticate"))
		}
		return res.StatusCode
	}
}

// Every call, with every kind of credential, for every target, answers what these rules say, which are written here once
// more and in another way than in the code.
func TestTheAuthorizationMatrix(t *testing.T) {
	r := start(t, authenticated(t))
	do := r.client(t)
	count := 0
	want := func(c credential, what string, got, want int) {
		t.Helper()
		if count++; got != want {
			t.Errorf("%s, %s: got %d, want %d", c.name, what, got, want)
		}
	}
	// unless returns the status where the credential may, or may not.
	unless := func(c credential, may bool, ok int) int {
		switch {
		case !c.known || c.query != "": // a ticket is for streams
			return http.StatusUnauthorized
		case !may:
			return http.StatusForbidden
		}
		return ok
	}
	with := func(path string, c credential, query ...string) string {
		if c.query != "" {
			query = append(query, c.query)
		}
		if len(query) == 0 {
			return path
		}
		return path + "?" + strings.Join(query, "&")
	}
	all := targets()
	for _, c := range credentials(t, r) {
		// Streams: every claim to be somebody, and every topic.
		for _, tt := range all {
			if slices.Contains(tt, "clientId=~AAAAAAAAAAAAAAAAAAAAAAAAAA") {
				continue // refused whoever asks
			}
			status := http.StatusOK
			switch {
			case !c.known:
				status = http.StatusUnauthorized
			case !c.listens,
				slices.Contains(tt, "userId=bob"), slices.Contains(tt, "sessionId=b1"),
				tt.has("topic") && !tt.allowed(prefixed("topic=", c.topics)):
				status = http.StatusForbidden
			}
			want(c, "listen "+tt.json(), do("GET", with("/api/sse", c, tt...), c.header, "", ""), status)
		}
		sender := c.anyone || len(c.sendTo) > 0
		for _, tt := range all {
			body := `{"target":` + tt.json() + `}`
			if len(tt) == 0 {
				body = `{}`
			}
			status := unless(c, sender, http.StatusOK)
			if status == http.StatusOK && tt.label() {
				status = http.StatusBadRequest
			} else if status == http.StatusOK && !c.anyone && !tt.allowed(c.sendTo) {
				status = http.StatusForbidden
			}
			want(c, "send "+body, do("POST", with("/api/sse/send", c), c.header, "application/json", body), status)
			want(c, "send as a line "+body, do("POST", with("/api/sse/send", c), c.header, "application/x-ndjson", body+"\n"), status)
			if len(tt) == 0 {
				continue
			}
			// The same target among several, and as an exclusion.
			several := `{"targets":[{"userId":"alice"},` + tt.json() + `]}`
			status = unless(c, sender, http.StatusOK)
			if status == http.StatusOK && tt.label() {
				status = http.StatusBadRequest
			} else if status == http.StatusOK && !c.anyone && !(tt.allowed(c.sendTo) && target{"userId=alice"}.allowed(c.sendTo)) {
				status = http.StatusForbidden
			}
			want(c, "send "+several, do("POST", with("/api/sse/send", c), c.header, "application/json", several), status)
			excluding := `{"target":{"userId":"alice"},"exclude":` + tt.json() + `}`
			status = unless(c, sender, http.StatusOK)
			if status == http.StatusOK && tt.label() {
				status = http.StatusBadRequest
			} else if status == http.StatusOK && !c.anyone && !(target{"userId=alice"}).allowed(c.sendTo) {
				status = http.StatusForbidden
			}
			want(c, "send "+excluding, do("POST", with("/api/sse/send", c), c.header, "application/json", excluding), status)
		}
		for _, tt := range all {
			query := strings.Join(tt, "&")
			want(c, "list "+query, do("GET", with("/api/sse/connections", c, tt...), c.header, "", ""), manage(c, c.query != "", http.StatusOK))
			status := http.StatusOK
			if len(tt) == 0 || tt.label() {
				status = http.StatusBadRequest
			}
			want(c, "disconnect "+query, do("DELETE", with("/api/sse/connections", c, tt...), c.header, "", ""), manage(c, c.query != "", status))
			status = http.StatusBadRequest
			if (tt.has("userId") || tt.has("sessionId")) && !tt.has("clientId") && !tt.has("topic") {
				status = http.StatusOK
			}
			past := append(slices.Clone(tt), "refuseUntil=2020-01-01T00:00:00Z") // refuses nobody
			want(c, "refuse "+query, do("DELETE", with("/api/sse/connections", c, past...), c.header, "", ""), manage(c, c.query != "", status))
		}
		want(c, "stats", do("GET", with("/api/sse/stats", c), c.header, "", ""), manage(c, c.query != "", http.StatusOK))
		want(c, "the description", do("GET", with("/api/sse/openapi.json", c), c.header, "", ""), http.StatusOK)
		want(c, "health", do("GET", with("/healthz", c), c.header, "", ""), http.StatusOK)
		// Sessions and tickets are made of tokens, and of nothing else.
		status := http.StatusUnauthorized
		if strings.HasPrefix(c.name, "token ") {
			status = http.StatusOK
		}
		want(c, "session", do("POST", with("/api/sse/session", c), c.header, "", ""), status)
		want(c, "ticket", do("POST", with("/api/sse/tickets", c), c.header, "", ""), status)
	}
	t.Logf("%d combinations", count)
	if count < 20_000 {
		t.Errorf("only %d combinations were tried", count)
	}
}

// manage returns the answer to a call that needs the admin key. inQuery is a credential in the query: it is not looked at,
// and where it makes the query's parameters unknown, that comes later.
func manage(c credential, inQuery bool, ok int) int {
	switch {
	case !c.known || inQuery:
		return http.StatusUnauthorized
	case !c.manages:
		return http.StatusForbidden
	}
	return ok
}

func prefixed(prefix string, values []string) (out []string) {
	for _, v := range values {
		out = append(out, prefix+v)
	}
	return out
}

// What a cursor is a place for is a place in the log, and not a permission: what is replayed is decided anew.
func TestReplayedEventsAreAuthorizedAgain(t *testing.T) {
	r := start(t, authenticated(t))
	do := r.client(t)
	send := func(body string) {
		t.Helper()
		if status := do("POST", "/api/sse/send", "Authorization: Bearer "+apiKey, "application/json", body); status != http.StatusOK {
			t.Fatalf("%s: %d", body, status)
		}
	}
	open := func(token, query, cursor string) *stream {
		t.Helper()
		s := &stream{t: t, conn: r.dial(t)}
		s.in = bufio.NewReader(s.conn)
		_, err := io.WriteString(s.conn, "GET /api/sse?"+query+" HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nAuthorization: Bearer "+token+"\r\nLast-Event-ID: "+cursor+"\r\n\r\n")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	alice, bob := mint(t, jwt.MapClaims{"topics": "news"}), mint(t, jwt.MapClaims{"sub": "bob", "sid": "b1", "topics": "*"})
	s := open(bob, "", "")
	s.await("tidings.connected")
	first := strings.TrimSpace(strings.TrimPrefix(s.await("id: "), "id: "))
	for i, body := range []string{
		`"target":{"userId":"bob"}`, `"target":{"sessionId":"b1"}`, `"target":{"userId":"bob","clientId":"tab"}`, `"target":{"topic":"private"}`,
		`"target":{"userId":"alice","sessionId":"b1"}`, `"exclude":{"userId":"alice"}`, `"targets":[{"userId":"bob"},{"topic":"private"}]`,
	} {
		send(fmt.Sprintf(`{"type":"secret-%d",%s}`, i, body))
	}
	send(`{"type":"for-alice","target":{"userId":"alice"}}`)
	send(`{"type":"for-all"}`)
	for _, cursor := range []string{first, strings.TrimSpace(strings.TrimPrefix(s.await("id: "), "id: "))} {
		theirs := open(alice, "clientId=tab&topic=news", cursor)
		theirs.await(`"resume":"complete"`)
		if line := theirs.await("event: "); !strings.Contains(line, "for-alice") {
			t.Errorf("alice resumed from bob's cursor with %s", line)
		}
		if line := theirs.await("event: "); !strings.Contains(line, "for-all") {
			t.Errorf("and then %s", line)
		}
	}
	// A topic that the token no longer allows is not replayed, either: the stream is refused.
	if line := open(alice, "topic=private", first).await("HTTP/1.1"); !strings.Contains(line, "403") {
		t.Errorf("a topic that is not alice's: %s", line)
	}
}
