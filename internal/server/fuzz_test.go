package server_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/tidings-sse/tidings/internal/server"
)

// Whatever proxies and clients write, the address is one that stands there, and no trusted one has another behind it.
func FuzzForwarded(f *testing.F) {
	f.Add("203.0.113.7, 10.0.0.1", false)
	f.Add("[2001:db8::7]:80,x", false)
	f.Add(`for="[2001:db8::7]:80";proto=https, for=10.0.0.1`, true)
	f.Add(`for=unknown;FOR="1.1.1.1"`, true)
	f.Add(", ,", false)
	cfg := config(f)
	cfg.TrustedProxy = []string{"10.0.0.0/8", "127.0.0.1"}
	f.Fuzz(func(t *testing.T, value string, forwarded bool) {
		header := "X-Forwarded-For"
		cfg.TrustedProxyHeader = "x-forwarded-for"
		if forwarded {
			header, cfg.TrustedProxyHeader = "Forwarded", "forwarded"
		}
		got := ""
		front, err := server.NewProxies(cfg, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.RemoteAddr }))
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = "127.0.0.1:1"
		r.Header[header] = []string{value}
		front.ServeHTTP(nil, r)
		if got == "127.0.0.1:1" {
			return
		}
		ip, err := netip.ParseAddr(got)
		if err != nil {
			t.Fatalf("%q is from %q", value, got)
		}
		if !forwarded && !strings.ContainsAny(value, ",") && ip.Is4() && !strings.Contains(value, ip.String()) {
			t.Errorf("%q is from %s, which doesn't stand there", value, ip)
		}
		if again := httptest.NewRequest(http.MethodGet, "/", nil); true {
			again.RemoteAddr = "203.0.113.9:1" // who is not trusted is believed nothing
			again.Header[header] = []string{value}
			front.ServeHTTP(nil, again)
			if got != "203.0.113.9:1" {
				t.Errorf("%q is believed from anybody: %s", value, got)
			}
		}
	})
}

// An origin is let in only if it is, as a whole, one that is allowed or that of the Host.
func FuzzOrigin(f *testing.F) {
	f.Add("events.example.com", "https://events.example.com")
	f.Add("events.example.com:8443", "https://app.example.com")
	f.Add("events.example.com", "https://events.example.com.evil.com")
	f.Add("localhost", "null")
	f.Add("[::1]:80", "http://[::1]:80")
	cfg := authenticated(f)
	cfg.AllowOrigin = []string{"https://app.example.com"}
	f.Fuzz(func(t *testing.T, host, origin string) {
		let := false
		door, err := server.NewDoor(cfg, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { let = true }))
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodGet, "/api/sse", nil)
		r.Host = host
		r.Header["Origin"] = []string{origin}
		w := httptest.NewRecorder()
		door.ServeHTTP(w, r)
		if !let {
			if w.Code != http.StatusForbidden && w.Code != http.StatusBadRequest || w.Header().Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("Host %q, Origin %q: %d %v", host, origin, w.Code, w.Header())
			}
			return
		}
		u, err := url.Parse(origin)
		if err != nil || u.User != nil || u.Path != "" || !strings.EqualFold(origin, "https://app.example.com") && !strings.EqualFold(u.Host, host) {
			t.Errorf("Host %q lets the Origin %q in", host, origin)
		}
		if _, _, err := net.SplitHostPort(host); err != nil && strings.ContainsAny(host, "@/\\ ,") {
			t.Errorf("the Host %q is let in", host)
		}
	})
}
