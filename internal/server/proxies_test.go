package server_test

import (
	"bufio"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidings-sse/tidings/internal/server"
)

func TestTheClientsAddressIsTakenFromTrustedProxiesOnly(t *testing.T) {
	for _, c := range []struct {
		name    string
		trusted []string
		header  string // the one that the configuration names
		lines   []string
		want    string // "" is the peer's
	}{
		{"nobody is trusted", nil, "", []string{"X-Forwarded-For: 203.0.113.7"}, ""},
		{"another one is trusted", []string{"10.0.0.0/8"}, "", []string{"X-Forwarded-For: 203.0.113.7"}, ""},
		{"the peer is", []string{"127.0.0.1"}, "", []string{"X-Forwarded-For: 203.0.113.7"}, "203.0.113.7"},
		{"by its network", []string{"127.0.0.0/8"}, "", []string{"X-Forwarded-For: 203.0.113.7"}, "203.0.113.7"},
		{"it says nothing", []string{"127.0.0.1"}, "", nil, ""},
		{"what the client wrote is farther away", []string{"127.0.0.1"}, "", []string{"X-Forwarded-For: 1.1.1.1, 203.0.113.7"}, "203.0.113.7"},
		{"in a header of its own", []string{"127.0.0.1"}, "", []string{"X-Forwarded-For: 1.1.1.1", "X-Forwarded-For: 203.0.113.7"}, "203.0.113.7"},
		{"two proxies", []string{"127.0.0.1", "10.0.0.0/8"}, "", []string{"X-Forwarded-For: 1.1.1.1,203.0.113.7 , 10.1.2.3"}, "203.0.113.7"},
		{"one in between is not trusted", []string{"127.0.0.1"}, "", []string{"X-Forwarded-For: 203.0.113.7, 10.1.2.3"}, "10.1.2.3"},
		{"all are proxies", []string{"127.0.0.1", "10.0.0.0/8"}, "", []string{"X-Forwarded-For: 10.0.0.1, 10.0.0.2"}, "10.0.0.1"},
		{"nonsense is the nearest", []string{"127.0.0.1"}, "", []string{"X-Forwarded-For: 203.0.113.7, unknown"}, ""},
		{"nonsense is behind a proxy", []string{"127.0.0.1", "10.0.0.0/8"}, "", []string{"X-Forwarded-For: x, 10.0.0.2"}, "10.0.0.2"},
		{"with a port", []string{"127.0.0.1"}, "", []string{"X-Forwarded-For: 203.0.113.7:1234"}, "203.0.113.7"},
		{"IPv6", []string{"127.0.0.1"}, "", []string{"X-Forwarded-For: 2001:db8::7"}, "2001:db8::7"},
		{"IPv6 with brackets and a port", []string{"127.0.0.1"}, "", []string{"X-Forwarded-For: [2001:db8::7]:1234"}, "2001:db8::7"},
		{"IPv4 in IPv6", []string{"127.0.0.1"}, "", []string{"X-Forwarded-For: ::ffff:203.0.113.7"}, "203.0.113.7"},
		{"the other header is the client's", []string{"127.0.0.1"}, "", []string{"Forwarded: for=1.1.1.1"}, ""},
		{"and the other way round", []string{"127.0.0.1"}, "forwarded", []string{"X-Forwarded-For: 1.1.1.1"}, ""},
		{"RFC 7239", []string{"127.0.0.1"}, "forwarded", []string{`Forwarded: for=1.1.1.1, For="203.0.113.7:80";proto=https;by=10.0.0.1`}, "203.0.113.7"},
		{"RFC 7239 with IPv6", []string{"127.0.0.1"}, "forwarded", []string{`Forwarded: proto=https;for="[2001:db8::7]:4711"`}, "2001:db8::7"},
		{"RFC 7239, with separators in what is quoted", []string{"127.0.0.1"}, "forwarded", []string{`Forwarded: for=203.0.113.7;by="a, b; for=1.1.1.1, c"`}, "203.0.113.7"},
		{"RFC 7239, with a quote in what is quoted", []string{"127.0.0.1"}, "forwarded", []string{`Forwarded: for=1.1.1.1, ext="\", for=2.2.2.2;\\";for=203.0.113.7`}, "203.0.113.7"},
		{"RFC 7239, with a quote left open in a line of the client's", []string{"127.0.0.1"}, "forwarded", []string{`Forwarded: for="1.1.1.1`, `Forwarded: for=203.0.113.7`}, "203.0.113.7"},
		{"RFC 7239, with a quote left open", []string{"127.0.0.1"}, "forwarded", []string{`Forwarded: for=1.1.1.1;x=", for=203.0.113.7`}, ""},
		{"RFC 7239, with a quote that a proxy's closes", []string{"127.0.0.1"}, "forwarded", []string{`Forwarded: for=1.1.1.1;x=", for="203.0.113.7:80";by="b"`}, ""},
		{"RFC 7239, with a quote that is no value", []string{"127.0.0.1"}, "forwarded", []string{`Forwarded: for=1.1.1.1;", for="203.0.113.7"`}, ""},
		{"RFC 7239, hidden", []string{"127.0.0.1"}, "forwarded", []string{`Forwarded: for=_hidden`}, ""},
		{"RFC 7239 without a for", []string{"127.0.0.1"}, "forwarded", []string{`Forwarded: proto=https`}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := authenticated(t)
			cfg.TrustedProxy = c.trusted
			if c.header != "" {
				cfg.TrustedProxyHeader = c.header
			}
			r := start(t, cfg)
			s := &stream{t: t, conn: r.dial(t)}
			s.in = bufio.NewReader(s.conn)
			head := append([]string{"GET /api/sse HTTP/1.1", "Host: localhost", "Authorization: Bearer " + mint(t, nil)}, c.lines...)
			if _, err := s.conn.Write([]byte(strings.Join(head, "\r\n") + "\r\n\r\n")); err != nil {
				t.Fatal(err)
			}
			s.await("tidings.connected")
			var page struct{ Connections []struct{ RemoteAddr string } }
			for deadline := time.Now().Add(within); len(page.Connections) == 0; { // it is registered behind its greeting
				_, body := r.get(t, "/api/sse/connections", "Authorization: Bearer "+adminKey)
				if err := json.Unmarshal([]byte(body), &page); err != nil || time.Now().After(deadline) {
					t.Fatalf("%v: %s", err, body)
				}
			}
			got := page.Connections[0].RemoteAddr
			if want := c.want; want == "" && !strings.HasPrefix(got, "127.0.0.1:") || want != "" && got != want {
				t.Errorf("the address is %s, want %s", got, want)
			}
		})
	}
}

func TestLimitsOfAnAddressCountTheClientsBehindATrustedProxy(t *testing.T) {
	cfg := authenticated(t)
	cfg.TrustedProxy, cfg.MaxConnectionsPerIP = []string{"127.0.0.1"}, 1
	r := start(t, cfg)
	open := func(from string) *stream {
		s := &stream{t: t, conn: r.dial(t)}
		s.in = bufio.NewReader(s.conn)
		if _, err := s.conn.Write([]byte("GET /api/sse HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nX-Forwarded-For: " + from + "\r\nAuthorization: Bearer " + mint(t, nil) + "\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		return s
	}
	open("203.0.113.1").await("tidings.connected")
	open("203.0.113.2").await("tidings.connected")
	open("203.0.113.1").await(`"ip-full"`)
	open("9.9.9.9, 203.0.113.1").await(`"ip-full"`)
}

func TestProxiesThatAreEverybodyAreRefusedAtTheStart(t *testing.T) {
	for _, v := range []string{"", "*", "0.0.0.0/0", "::/0", "proxy.example", "10.0.0.0/33", "10.0.0.1:80"} {
		cfg := config(t)
		cfg.TrustedProxy = []string{v}
		if _, err := server.New(t.Context(), cfg, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "--trusted-proxy") {
			t.Errorf("%q: %v", v, err)
		}
	}
}

func TestWithAuthenticationAProxyMayStandInFront(t *testing.T) {
	r := start(t, authenticated(t))
	res, body := r.get(t, "/api/sse/stats", "X-Forwarded-For: 10.0.0.1", "X-Forwarded-Proto: https", "Via: 1.1 proxy", "Authorization: Bearer "+adminKey)
	if res.StatusCode != http.StatusOK {
		t.Errorf("%s: %s", res.Status, body)
	}
}
