package server_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/tidings-sse/tidings/internal/server"
)

func TestOnlyTheServersOwnNamesAreAnswered(t *testing.T) {
	cfg := config(t)
	cfg.AllowHost = []string{"app.example.com", "Upper.Example."}
	r := start(t, cfg)
	for status, hosts := range map[int][]string{
		http.StatusOK: {
			"127.0.0.1", "127.0.0.1:8080", "127.8.8.8", "10.1.2.3:80", "[::1]", "[::1]:8080", "[2001:db8::1]:80", "[::ffff:127.0.0.1]:1",
			"localhost", "localhost:8080", "LocalHost:8080", "localhost.", "localhost.:8080",
			"app.localhost", "evil.localhost:8080", "a.b.LOCALHOST",
			"app.example.com", "app.example.com:8080", "APP.example.COM.", "upper.example:65535",
		},
		http.StatusMisdirectedRequest: {
			"evil.com", "evil.com:8080", "evil.com.", "localhost.evil.com", "localhost.evil.com:8080", "127.0.0.1.nip.io", "127.0.0.1.nip.io:8080",
			"127.0.0.1.", "127.1", "127.0.0.1.1", "2130706433", "0x7f.0.0.1", "0x7f000001", "0177.0.0.1",
			"notlocalhost", "localhost-evil", "foo.localhost.evil.com", "localhostt", "local", "localhost.localdomain",
			"sub.app.example.com", "example.com", "app.example.com.evil.com", "upper.example.com",
		},
		http.StatusBadRequest: {
			"", "localhost:", "localhost:0", "localhost:99999", "localhost:-1", "localhost:+80", "localhost:http", "localhost:80:80",
			"user@localhost", "user:pw@localhost", "localhost..", ".localhost", "a..localhost", ".", ":8080",
			"[::1", "::1", "[::1]8080", "[::1]:", "[127.0.0.1]", "[localhost]", "[]", "[fe80::1%25eth0]", "[::1%25lo]:80",
			"localhost/x", "localhost,evil.com", "localhost evil.com", "localhost\\evil.com", "localhost?x", "localhost#x", "loc\u0430lhost", "*",
			strings.Repeat("a.", 200) + "localhost",
		},
	} {
		for _, host := range hosts {
			res, body := r.raw(t, "GET /healthz HTTP/1.1", "Host: "+host)
			if res.StatusCode != status {
				t.Errorf("Host %q: got %d, want %d: %s", host, res.StatusCode, status, body)
			}
			if status == http.StatusMisdirectedRequest {
				if p := problem(t, res, body); p.Field != "Host" || p.Type != "urn:tidings:misdirected" {
					t.Errorf("Host %q: %+v", host, p)
				}
			}
		}
	}
	t.Run("also in a request line, which wins over the header", func(t *testing.T) {
		if res, body := r.raw(t, "GET http://evil.com/healthz HTTP/1.1", "Host: localhost"); res.StatusCode != http.StatusMisdirectedRequest {
			t.Errorf("got %d: %s", res.StatusCode, body)
		}
	})
	t.Run("also without a Host, over HTTP/1.0", func(t *testing.T) {
		if res, body := r.raw(t, "GET /healthz HTTP/1.0", "X: y"); res.StatusCode != http.StatusBadRequest {
			t.Errorf("got %d: %s", res.StatusCode, body)
		}
	})
	t.Run("also over HTTP/2", func(t *testing.T) {
		client := http2Client(t)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.URL()+"/healthz", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "evil.com"
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusMisdirectedRequest || res.ProtoMajor != 2 {
			t.Errorf("got %s over %s", res.Status, res.Proto)
		}
	})
}

// everyRoute lists a request for each route, and some that have none.
var everyRoute = []string{
	"GET /", "GET /api/sse", "GET /api/sse?clientId=a", "POST /api/sse/send", "GET /api/sse/connections", "DELETE /api/sse/connections?clientId=a",
	"GET /api/sse/stats", "GET /api/sse/openapi.json", "GET /api/sse/", "GET /healthz", "HEAD /readyz", "GET /sse-demo", "GET /sse-demo/", "GET /nothing",
	"OPTIONS /api/sse", "OPTIONS *", "PUT /api/sse", "TRACE /",
}

func TestEveryRouteIsBehindTheDoor(t *testing.T) {
	r := start(t, config(t))
	for _, route := range everyRoute {
		for header, want := range map[string]int{
			"Host: evil.com": http.StatusMisdirectedRequest,
			"Host: localhost\r\nX-Forwarded-For: 10.0.0.1": http.StatusForbidden,
			"Host: localhost\r\nOrigin: https://evil.com":  http.StatusForbidden,
		} {
			res, body := r.raw(t, route+" HTTP/1.1", header, "Accept: text/event-stream", "Access-Control-Request-Method: GET")
			if res.StatusCode != want {
				t.Errorf("%s with %q: got %d, want %d: %s", route, header, res.StatusCode, want, body)
			}
			if v := res.Header.Get("Vary"); v != "Origin" {
				t.Errorf("%s with %q: Vary is %q", route, header, v)
			}
			for name := range res.Header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("%s with %q: a refused request got %s", route, header, name)
				}
			}
		}
	}
	if _, body := r.get(t, "/api/sse/stats"); !strings.Contains(body, `"connected":{}`) || !strings.Contains(body, `"refused":{}`) {
		t.Errorf("the hub has seen refused requests: %s", body)
	}
}

func TestWhatAProxyForwardsIsRefused(t *testing.T) {
	r := start(t, config(t))
	headers := []string{
		"Forwarded: for=10.0.0.1", "X-Forwarded-For: 10.0.0.1", "X-Forwarded-For: 127.0.0.1", "X-Forwarded-For:", "x-forwarded-host: localhost",
		"X-FORWARDED-PROTO: https", "X-Forwarded-Port: 443", "X-Forwarded-Server: a", "X-Forwarded: for=a", "X-Real-IP: 127.0.0.1", "Via: 1.1 proxy",
		"X-Client-IP: 10.0.0.1", "True-Client-IP: 10.0.0.1", "CF-Connecting-IP: 10.0.0.1",
	}
	for _, h := range headers {
		res, body := r.get(t, "/api/sse", h, "Accept: text/event-stream")
		if res.StatusCode != http.StatusForbidden {
			t.Errorf("%s: got %d: %s", h, res.StatusCode, body)
			continue
		}
		name, _, _ := strings.Cut(h, ":")
		if p := problem(t, res, body); !strings.EqualFold(p.Field, name) {
			t.Errorf("%s: the document names %s", h, p.Field)
		}
	}
	if n := strings.Count(r.log.String(), "msg=refused"); n != len(headers) {
		t.Errorf("%d refusals were logged, of %d", n, len(headers))
	}
	cfg := config(t)
	cfg.Insecure = true
	open := start(t, cfg)
	for _, h := range headers {
		if res, body := open.get(t, "/healthz", h); res.StatusCode != http.StatusOK {
			t.Errorf("insecure, %s: got %d: %s", h, res.StatusCode, body)
		}
	}
}

func TestOnlyAllowedOriginsAreAnswered(t *testing.T) {
	cfg := config(t)
	cfg.AllowOrigin = []string{"https://app.example.com", "http://dev.example:3000", "chrome-extension://abcdef"}
	r := start(t, cfg)
	for _, origin := range []string{
		"http://localhost", "http://localhost:3000", "https://localhost:3000", "http://LOCALHOST:3000", "http://x.localhost:5173", "http://localhost.:3000",
		"http://127.0.0.1", "http://127.0.0.1:8080", "http://127.9.9.9", "https://[::1]:3000", "http://[::ffff:127.0.0.1]",
		"https://app.example.com", "http://dev.example:3000", "chrome-extension://abcdef",
	} {
		res, body := r.get(t, "/api/sse/stats", "Origin: "+origin)
		if res.StatusCode != http.StatusOK {
			t.Errorf("%s: got %d: %s", origin, res.StatusCode, body)
		}
		if got := res.Header.Get("Access-Control-Allow-Origin"); got != origin {
			t.Errorf("%s: Access-Control-Allow-Origin is %q", origin, got)
		}
		if got := res.Header.Get("Access-Control-Allow-Credentials"); got != "" {
			t.Errorf("%s: Access-Control-Allow-Credentials is %q", origin, got)
		}
	}
	for _, origin := range []string{
		"null", "", "*", "https://evil.com", "http://evil.com:8080", "http://localhost.evil.com", "http://evil-localhost", "http://127.0.0.1.nip.io", "http://127.0.0.1.",
		"http://localhost@evil.com", "http://evil.com@localhost", "http://user:pw@localhost:3000", "http://localhost:3000/", "http://localhost/path", "http://localhost?x",
		"http://localhost:3000 http://evil.com", "http://localhost,http://evil.com", "http://localhost:", "http://localhost:0", "http://localhost:x",
		"http://192.168.0.1", "http://10.0.0.1:8080", "http://0.0.0.0:8080", "http://[::2]", "http://[::]", "http://[::1", "http://127.1", "http://2130706433",
		"localhost", "//localhost", "ftp://localhost", "file://", "file://localhost", "javascript:alert(1)", "ws://localhost",
		"http://app.example.com", "https://app.example.com:444", "https://app.example.com.evil.com", "https://sub.app.example.com", "https://app.example.com.",
		"http://dev.example", "chrome-extension://other",
	} {
		res, body := r.get(t, "/api/sse", "Accept: text/event-stream", "Origin: "+origin)
		if res.StatusCode != http.StatusForbidden {
			t.Errorf("Origin %q: got %d: %s", origin, res.StatusCode, body)
			continue
		}
		problem(t, res, body)
		if got, ok := res.Header["Access-Control-Allow-Origin"]; ok {
			t.Errorf("Origin %q: it was refused and reflected: %q", origin, got)
		}
	}
	if res, _ := r.get(t, "/healthz", "Origin: http://localhost", "Origin: https://evil.com"); res.StatusCode != http.StatusForbidden {
		t.Errorf("two Origin headers: got %d", res.StatusCode)
	}
	if res, _ := r.get(t, "/healthz"); res.Header.Get("Vary") != "Origin" || res.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("without an Origin: %v", res.Header)
	}
}

func TestAPageMayUseTheServerItCameFrom(t *testing.T) {
	named := config(t)
	named.AllowHost = []string{"app.test"}
	insecure := config(t)
	insecure.Insecure = true
	for _, c := range []struct {
		cfg          *server.Config
		host, origin string
		want         int
	}{
		{named, "app.test:8080", "http://app.test:8080", http.StatusOK},
		{named, "app.test", "https://app.test", http.StatusOK},
		{named, "app.test:8080", "http://app.test:9090", http.StatusForbidden},
		{named, "localhost:8080", "http://app.test:8080", http.StatusForbidden},
		{named, "192.168.1.5:8080", "http://192.168.1.5:8080", http.StatusForbidden},
		{insecure, "192.168.1.5:8080", "http://192.168.1.5:8080", http.StatusOK},
		{insecure, "192.168.1.5:8080", "http://192.168.1.6:8080", http.StatusForbidden},
		{insecure, "192.168.1.5:8080", "https://evil.com", http.StatusForbidden},
		{insecure, "evil.com", "http://evil.com", http.StatusMisdirectedRequest},
	} {
		r := start(t, c.cfg)
		res, body := r.raw(t, "GET /healthz HTTP/1.1", "Host: "+c.host, "Origin: "+c.origin)
		if res.StatusCode != c.want {
			t.Errorf("Host %s, Origin %s, insecure %v: got %d, want %d: %s", c.host, c.origin, c.cfg.Insecure, res.StatusCode, c.want, body)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	}
}

func TestAPreflightSaysWhatAllowedOriginsMaySend(t *testing.T) {
	r := start(t, config(t))
	res, body := r.raw(t, "OPTIONS /api/sse/send HTTP/1.1", "Host: localhost", "Origin: http://localhost:3000",
		"Access-Control-Request-Method: POST", "Access-Control-Request-Headers: content-type,idempotency-key")
	if res.StatusCode != http.StatusNoContent || body != "" {
		t.Errorf("got %d %q", res.StatusCode, body)
	}
	for name, want := range map[string]string{
		"Access-Control-Allow-Origin":  "http://localhost:3000",
		"Access-Control-Allow-Methods": "POST",
		"Access-Control-Allow-Headers": "content-type,idempotency-key",
		"Vary":                         "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
	} {
		if got := res.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for method, headers := range map[string]string{
		"GET": "authorization,cache-control,last-event-id", "POST": "authorization,content-type,idempotency-key", "DELETE": "authorization",
	} {
		res, _ := r.raw(t, "OPTIONS /api/sse/send HTTP/1.1", "Host: localhost", "Origin: http://localhost:3000",
			"Access-Control-Request-Method: "+method, "Access-Control-Request-Headers: "+headers)
		if got := res.Header.Get("Access-Control-Allow-Headers"); got != headers {
			t.Errorf("%s: Access-Control-Allow-Headers is %q, want %q", method, got, headers)
		}
	}
	for _, refused := range [][]string{{"Access-Control-Request-Method: PUT"}, {"Access-Control-Request-Method: GET", "Access-Control-Request-Headers: x-custom"}} {
		res, _ := r.raw(t, "OPTIONS /api/sse HTTP/1.1", append(refused, "Host: localhost", "Origin: http://localhost:3000")...)
		if res.Header.Get("Access-Control-Allow-Methods") != "" || res.Header.Get("Access-Control-Allow-Headers") != "" {
			t.Errorf("%q: %v", refused, res.Header)
		}
	}
	if res, body := r.raw(t, "OPTIONS /api/sse/send HTTP/1.1", "Host: localhost", "Origin: http://localhost:3000"); res.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("OPTIONS that is no preflight: got %d: %s", res.StatusCode, body)
	}
}

func TestWhatAnotherSiteEmbedsIsRefusedAndALinkIsNot(t *testing.T) {
	r := start(t, config(t))
	for _, c := range []struct {
		site, mode string
		want       int
	}{
		{"cross-site", "no-cors", http.StatusForbidden},
		{"cross-site", "", http.StatusForbidden},
		{"cross-site", "navigate", http.StatusOK},
		{"same-site", "no-cors", http.StatusOK},
		{"same-origin", "cors", http.StatusOK},
		{"none", "navigate", http.StatusOK},
	} {
		res, body := r.get(t, "/sse-demo", "Sec-Fetch-Site: "+c.site, "Sec-Fetch-Mode: "+c.mode)
		if res.StatusCode != c.want {
			t.Errorf("%s %s: got %d, want %d: %s", c.site, c.mode, res.StatusCode, c.want, body)
		}
	}
}

func TestNamesAndOriginsThatNoRequestCouldMatchAreRefusedAtTheStart(t *testing.T) {
	for flag, values := range map[string][]string{
		"--allow-host":   {"", "https://app.example.com", "app.example.com:8080", "127.0.0.1", "[::1]", "*", "*.example.com", "ünïcode.example", "a b"},
		"--allow-origin": {"", "*", "null", "app.example.com", "https://app.example.com/", "https://app.example.com/x", "https://*.example.com", "https://user@app.example.com", "https://app.example.com:443", "http://app.example.com:80", "HTTPS://app.example.com", "https://"},
	} {
		for _, v := range values {
			cfg := config(t)
			if flag == "--allow-host" {
				cfg.AllowHost = []string{v}
			} else {
				cfg.AllowOrigin = []string{v}
			}
			_, err := server.New(t.Context(), cfg, slog.New(slog.DiscardHandler))
			if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%s %q is not", flag, v)) {
				t.Errorf("%s %q: got %v", flag, v, err)
			}
		}
	}
}
