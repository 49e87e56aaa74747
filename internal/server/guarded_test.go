package server_test

import (
	"bufio"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tidings-sse/tidings/internal/server"
)

// What the door does where there is authentication.

func TestWithAuthenticationOnlyAllowedOriginsAreAnswered(t *testing.T) {
	cfg := authenticated(t)
	cfg.AllowOrigin = []string{"https://app.example.com", "http://localhost:3000"}
	r := start(t, cfg)
	cookie := "Cookie: __Host-tidings=" + r.session(t, mint(t, jwt.MapClaims{"send": "*"}))
	const host = "events.example.com"
	for _, c := range []struct {
		origin  string
		allowed bool
	}{
		{"https://app.example.com", true}, {"http://localhost:3000", true}, {"http://" + host, true}, {"https://" + host, true},
		{"http://localhost", false}, {"http://127.0.0.1:3000", false}, {"https://evil.com", false}, {"null", false}, {"", false}, {"*", false},
		{"https://sub.app.example.com", false}, {"https://app.example.com.evil.com", false}, {"http://app.example.com", false},
		{"https://" + host + ":8443", false}, {"https://" + host + ".evil.com", false}, {"https://evil.com@" + host, false}, {"file://" + host, false},
	} {
		for _, call := range []string{"GET /api/sse/openapi.json", "POST /api/sse/send", "POST /api/sse/session", "DELETE /api/sse/session", "POST /api/sse/tickets", "GET /api/sse/stats"} {
			res, body := r.raw(t, call+" HTTP/1.1", "Host: "+host, "Origin: "+c.origin, cookie, "Content-Length: 0")
			if got := res.StatusCode != http.StatusForbidden || !strings.Contains(body, "origin"); got != c.allowed {
				t.Errorf("%s from %q: %s %s", call, c.origin, res.Status, body)
			}
			if allow, creds := res.Header.Get("Access-Control-Allow-Origin"), res.Header.Get("Access-Control-Allow-Credentials"); c.allowed && (allow != c.origin || creds != "true") || !c.allowed && (allow != "" || creds != "") {
				t.Errorf("%s from %q: Access-Control-Allow-Origin %q, -Credentials %q", call, c.origin, allow, creds)
			}
		}
		if !c.allowed {
			res, body := r.raw(t, "GET /api/sse HTTP/1.1", "Host: "+host, "Origin: "+c.origin, "Accept: text/event-stream", cookie)
			if res.StatusCode != http.StatusForbidden {
				t.Errorf("a stream from %q: %s %s", c.origin, res.Status, body)
			}
		}
	}
	if _, body := r.get(t, "/api/sse/stats", "Authorization: Bearer "+adminKey); !strings.Contains(body, `"connected":{}`) || !strings.Contains(body, `"refused":{}`) {
		t.Errorf("the hub has seen refused requests: %s", body)
	}
}

func TestWhatAPageOfTheSameSiteOrAnotherSendsUnseenIsRefused(t *testing.T) {
	r := start(t, authenticated(t))
	cookie := "Cookie: __Host-tidings=" + r.session(t, mint(t, jwt.MapClaims{"send": "*"}))
	for _, c := range []struct {
		method, site, mode string
		refused            bool
	}{
		{"POST", "cross-site", "no-cors", true}, {"POST", "cross-site", "navigate", true}, {"POST", "same-site", "no-cors", true},
		{"DELETE", "cross-site", "cors", true}, {"GET", "cross-site", "no-cors", true}, {"GET", "same-origin", "cors", false},
		{"POST", "same-origin", "cors", false}, {"POST", "none", "navigate", false}, {"POST", "", "", false}, {"GET", "cross-site", "navigate", true},
		{"GET", "same-site", "no-cors", true}, {"GET", "same-site", "navigate", true}, {"GET", "none", "navigate", false},
	} {
		path := "/api/sse/send"
		if c.method == "GET" {
			path = "/api/sse/openapi.json"
		}
		headers := []string{"Host: events.example.com", cookie, "Content-Type: application/json", "Content-Length: 2"}
		if c.site != "" {
			headers = append(headers, "Sec-Fetch-Site: "+c.site, "Sec-Fetch-Mode: "+c.mode)
		}
		res, body := r.raw(t, c.method+" "+path+" HTTP/1.1", append(headers, "\r\n{}")...)
		if refused := res.StatusCode == http.StatusForbidden && strings.Contains(body, "another site"); refused != c.refused {
			t.Errorf("%+v: %s %s", c, res.Status, body)
		}
	}
}

func TestWithAuthenticationAnyHostIsAnsweredUnlessSomeAreNamed(t *testing.T) {
	r := start(t, authenticated(t))
	if res, body := r.raw(t, "GET /healthz HTTP/1.1", "Host: events.example.com"); res.StatusCode != http.StatusOK {
		t.Errorf("%s: %s", res.Status, body)
	}
	// A name that was pointed here has no cookie of ours, so its page is nobody.
	if res, body := r.raw(t, "GET /api/sse HTTP/1.1", "Host: evil.com", "Origin: http://evil.com", "Accept: text/event-stream"); res.StatusCode != http.StatusUnauthorized {
		t.Errorf("by a rebound name: %s %s", res.Status, body)
	}
	cfg := authenticated(t)
	cfg.AllowHost = []string{"events.example.com"}
	named := start(t, cfg)
	for host, want := range map[string]int{"events.example.com": 200, "127.0.0.1": 200, "localhost": 200, "evil.com": 421, "evil.com@x": 400} {
		if res, body := named.raw(t, "GET /healthz HTTP/1.1", "Host: "+host); res.StatusCode != want {
			t.Errorf("%s: %s %s", host, res.Status, body)
		}
	}
}

func TestWithAuthenticationItListensBeyondLoopback(t *testing.T) {
	for name, set := range map[string]func(*server.Config){
		"a secret":     func(c *server.Config) { c.JWTSecret = []string{jwtSecret} },
		"an API key":   func(c *server.Config) { c.APIKey = []string{apiKey} },
		"an admin key": func(c *server.Config) { c.AdminKey = []string{adminKey} },
	} {
		cfg := config(t)
		cfg.Addr = "0.0.0.0:0"
		set(cfg)
		r := start(t, cfg)
		for path, want := range map[string]int{"/api/sse": 401, "/api/sse?userId=u": 401, "/api/sse/stats": 401, "/api/sse/connections": 401, "/sse-demo": 404, "/": 404, "/healthz": 200} {
			if res, body := r.get(t, path); res.StatusCode != want {
				t.Errorf("%s: %s: %s %s", name, path, res.Status, body)
			}
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	}
}

func TestSecretsThatCouldBeGuessedAreRefusedAtTheStart(t *testing.T) {
	for says, set := range map[string]func(*server.Config){
		"--jwt-secret has 6 characters":     func(c *server.Config) { c.JWTSecret = []string{"secret"} },
		"1 of them different":               func(c *server.Config) { c.JWTSecret = []string{strings.Repeat("a", 64)} },
		"--session-secret has 5 characters": func(c *server.Config) { c.JWTSecret, c.SessionSecret = []string{jwtSecret}, []string{"short"} },
		"--api-key: api-key-1 has 5":        func(c *server.Config) { c.APIKey = []string{"short"} },
		"--api-key: billing has 5":          func(c *server.Config) { c.APIKey = []string{"billing:short"} },
		"--admin-key: ":                     func(c *server.Config) { c.AdminKey = []string{"a b:" + adminKey} },
		"of another key":                    func(c *server.Config) { c.APIKey, c.AdminKey = []string{apiKey}, []string{apiKey} },
		"--jwt-issuer is not given":         func(c *server.Config) { c.JWKSURL = "https://login.example/jwks.json" },
		"--jwt-audience is not given":       func(c *server.Config) { c.JWKSURL, c.JWTIssuer = "https://login.example/jwks.json", "x" },
		`--jwks-url "http://login.example/"`: func(c *server.Config) {
			c.JWKSURL, c.JWTAnyAudience, c.JWTAnyIssuer = "http://login.example/", true, true
		},
		"--jwt-key-file: open nowhere.pem: n": func(c *server.Config) { c.JWTKeyFile = []string{"nowhere.pem"} },
	} {
		cfg := config(t)
		set(cfg)
		_, err := server.New(t.Context(), cfg, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want %q", err, says)
		}
		for _, secret := range []string{"secret\"", apiKey, adminKey} {
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("the error holds a secret: %v", err)
			}
		}
	}
}

func TestNoCredentialIsLogged(t *testing.T) {
	cfg := authenticated(t)
	cfg.QueryToken = true
	r := start(t, cfg)
	token := mint(t, nil)
	session, ticket := r.session(t, token), r.ticket(t, token)
	forged := token[:len(token)-8] + "AAAAAAAA"
	for _, path := range []string{"/api/sse?access_token=" + forged, "/api/sse?ticket=" + ticket + "x", "/api/sse?userId=bob&access_token=" + token, "/api/sse?ticket=" + ticket + "&userId=bob", "/none?access_token=" + token, "/api/sse?x=%zz&access_token=" + token} {
		res, body := r.get(t, path, "Accept: text/event-stream")
		if res.StatusCode < 400 || strings.Contains(body, forged) || strings.Contains(body, ticket) || strings.Contains(body, token) {
			t.Errorf("%s: %s %s", path, res.Status, body)
		}
	}
	r.get(t, "/api/sse?userId=bob", "Cookie: __Host-tidings="+session)
	r.get(t, "/api/sse", "Authorization: Bearer "+apiKey+"x", "Origin: https://evil.com")
	res, body := r.raw(t, "DELETE /api/sse/connections?userId=u HTTP/1.1", "Host: localhost", "Authorization: Bearer "+adminKey)
	if res.StatusCode != http.StatusOK {
		t.Fatalf("%s %s", res.Status, body)
	}
	log := r.log.String()
	for what, secret := range map[string]string{"token": token, "forged token": forged, "cookie": session, "ticket": ticket, "API key": apiKey, "admin key": adminKey, "secret": jwtSecret} {
		if strings.Contains(log, secret) {
			t.Errorf("the %s is in the log:\n%s", what, log)
		}
	}
	if !strings.Contains(log, "by=admin-key-1") {
		t.Errorf("who disconnected is not in the log by name:\n%s", log)
	}
}

// A stream ends when its token does, and the renewed credential resumes it with all that came meanwhile.
func TestAStreamEndsWithItsTokenAndResumesWithTheNext(t *testing.T) {
	r := start(t, authenticated(t))
	do := r.client(t)
	send := func(what string) {
		t.Helper()
		if status := do("POST", "/api/sse/send", "Authorization: Bearer "+apiKey, "application/json", `{"text":"`+what+`","target":{"userId":"alice"}}`); status != http.StatusOK {
			t.Fatal(status)
		}
	}
	open := func(header, cursor string) *stream {
		t.Helper()
		s := &stream{t: t, conn: r.dial(t)}
		s.in = bufio.NewReader(s.conn)
		if _, err := s.conn.Write([]byte("GET /api/sse HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n" + header + "\r\nLast-Event-ID: " + cursor + "\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		return s
	}
	for _, as := range []string{"token", "cookie"} {
		t.Run(as, func(t *testing.T) {
			present := func(token string) string {
				if as == "cookie" {
					return "Cookie: __Host-tidings=" + r.session(t, token)
				}
				return "Authorization: Bearer " + token
			}
			exp := time.Now().Add(2 * time.Second).Unix()
			header := present(mint(t, jwt.MapClaims{"exp": exp}))
			s := open(header, "")
			s.await("tidings.connected")
			send("before")
			s.await("data: before")
			id := strings.TrimSpace(strings.TrimPrefix(s.await("id: "), "id: "))
			s.await("tidings.disconnected")
			if line := s.await("data: "); !strings.Contains(line, `"expired"`) {
				t.Errorf("it ended with %s", line)
			}
			if late := time.Since(time.Unix(exp, 0)); late < 0 || late > within/2 {
				t.Errorf("it ended %v after its exp", late)
			}
			s.rest()
			if line := open(header, id).await("HTTP/1.1"); !strings.Contains(line, "401") {
				t.Errorf("with the old one: %s", line)
			}
			send("meanwhile")
			again := open(present(mint(t, nil)), id)
			again.await(`"resume":"complete"`)
			again.await("data: meanwhile")
		})
	}
}
