package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/golang-jwt/jwt/v5"
)

// The door, in a browser, with the program behind a reverse proxy that also serves the page: as it is on the internet.

const (
	doorSecret = "the-secret-of-the-browser-tests-0123456789"
	doorKey    = "an-api-key-of-the-browser-tests-0123456789"
)

// doorPage has a token from its back end, and connects in each way that it is told to. It keeps what it gets.
const doorPage = `<!doctype html>
<meta charset="utf-8">
<link rel="icon" href="data:,">
<title>The door</title>
<script type="module">
import { fetchStream } from '/fetch-stream.js';
window.got = { cookie: [], ticket: [], header: [] };
const token = async () => (await fetch('/token', { method: 'POST' })).text();
const post = async (path) => (await fetch(path, { method: 'POST', headers: { Authorization: 'Bearer ' + await token() } })).json();
const keep = (way) => (e) => window.got[way].push(e.type === 'note' ? JSON.parse(e.data) : e.type + ' ' + (JSON.parse(e.data).resume || JSON.parse(e.data).reason));
const types = ['tidings.connected', 'tidings.disconnected', 'tidings.gap', 'tidings.unavailable', 'note'];
const listen = (way, url) => {
  const es = new EventSource(url);
  for (const type of types) es.addEventListener(type, keep(way));
  es.onerror = () => { if (es.readyState === EventSource.CLOSED) window.got[way].push('closed for good'); };
};
window.renew = () => post('/api/sse/session');
window.start = {
  cookie: async () => { await window.renew(); listen('cookie', '/api/sse'); },
  ticket: async () => { listen('ticket', '/api/sse?ticket=' + (await post('/api/sse/tickets')).ticket); },
  header: async () => { fetchStream('/api/sse', token, (e) => { if (types.includes(e.type)) keep('header')(e); }); },
};
window.ready = true;
</script>
`

// front is the reverse proxy, with the page, in front of the program.
type front struct {
	program *process
	addr    string // of the proxy
	life    time.Duration
}

// openFront starts the program with authentication and the proxy. Tokens are good for so long.
func openFront(t *testing.T, life time.Duration, flags ...string) *front {
	t.Helper()
	p := run(t, append([]string{"--jwt-secret", doorSecret, "--api-key", doorKey, "--retry-interval", "300ms", "--trusted-proxy", "127.0.0.1"}, flags...)...)
	f := &front{program: p, life: life}
	script, err := os.ReadFile("../examples/browser/fetch-stream.js")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	upstream := &url.URL{Scheme: "http", Host: p.addr}
	mux.Handle("/api/", &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(upstream)
		r.Out.Host = r.In.Host
		r.SetXForwarded()
	}, ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }})
	serveText := func(contentType, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			_, _ = io.WriteString(w, text)
		}
	}
	mux.HandleFunc("GET /{$}", serveText("text/html; charset=utf-8", doorPage))
	mux.HandleFunc("GET /fetch-stream.js", serveText("text/javascript; charset=utf-8", string(script)))
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, f.token(t)) })
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	f.addr = srv.Listener.Addr().String()
	return f
}

func (f *front) token(t testing.TB) string {
	s, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "alice", "exp": time.Now().Add(f.life).Unix()}).SignedString([]byte(doorSecret))
	if err != nil {
		t.Error(err)
	}
	return s
}

// note sends a numbered event to the page's user.
func (f *front) note(t *testing.T, n int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+f.program.addr+"/api/sse/send",
		strings.NewReader(fmt.Sprintf(`{"type":"note","data":%d,"target":{"userId":"alice"}}`, n)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+doorKey)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("sending: %s", res.Status)
	}
}

// port returns the port of host:port.
func port(t testing.TB, addr string) string {
	t.Helper()
	_, p, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestBrowserEachWayToCarryATokenConnectsResumesAndOutlivesARenewal(t *testing.T) {
	browser := startBrowser(t)
	for _, way := range []string{"cookie", "ticket", "header"} {
		t.Run(way, func(t *testing.T) {
			f := openFront(t, 3*time.Second)
			cutter := newProxy(t, f.addr)
			b := newTab(t, browser, nil)
			b.do(t, chromedp.Navigate("http://localhost:"+port(t, cutter.addr)+"/"))
			b.until(t, "the page is ready", "window.ready")
			value[bool](t, b, fmt.Sprintf("(window.start.%s(), true)", way))
			has := func(what string) string { return fmt.Sprintf("window.got.%s.includes(%s)", way, what) }
			b.until(t, "it is connected", has("'tidings.connected none'"))
			f.note(t, 1)
			b.until(t, "it gets an event", has("1"))

			// The connection is lost, and an event is sent meanwhile.
			cutter.block()
			cutter.cut()
			f.note(t, 2)
			cutter.unblock()
			b.until(t, "it resumes", has("'tidings.connected complete'"))
			b.until(t, "it gets what it missed", has("2"))

			// The token is over. With a renewed one it comes back.
			if way != "header" { // which has a new token for each connection
				value[bool](t, b, "(window.keeping = setInterval(window.renew, 700), true)")
			}
			b.until(t, "it is ended with its token", has("'tidings.disconnected expired'"))
			f.note(t, 3)
			b.until(t, "it gets what came meanwhile", has("3"))
			f.note(t, 4)
			b.until(t, "it goes on", has("4"))
			notes := value[string](t, b, fmt.Sprintf("window.got.%s.filter((x) => typeof x === 'number').join()", way))
			if notes != "1,2,3,4" {
				t.Errorf("the notes are %s", notes)
			}
			if all := value[string](t, b, fmt.Sprintf("window.got.%s.join('; ')", way)); strings.Contains(all, "gap") || strings.Contains(all, "for good") {
				t.Errorf("it got %s", all)
			}
		})
	}
}

// foreignPage tries what a page of another origin could.
const foreignPage = `<!doctype html>
<meta charset="utf-8">
<link rel="icon" href="data:,">
<title>Another site</title>
<script>
window.got = [];
const target = new URLSearchParams(location.search).get('target');
const es = new EventSource(target + '/api/sse', { withCredentials: true });
es.onopen = () => window.got.push('a stream');
es.onerror = () => { window.streamEnded = es.readyState === EventSource.CLOSED; };
const image = new Image();
image.onload = () => window.got.push('an image');
image.onerror = () => { window.imageEnded = true; };
image.src = target + '/api/sse';
fetch(target + '/api/sse/openapi.json', { credentials: 'include' }).then(() => window.got.push('an answer'), () => { window.fetchEnded = true; });
fetch(target + '/api/sse/session', { method: 'DELETE', credentials: 'include' }).then(() => window.got.push('a delete'), () => { window.deleteEnded = true; });
fetch(target + '/api/sse/send', { method: 'POST', mode: 'no-cors', credentials: 'include', body: '{}' }).finally(() => { window.postEnded = true; });
</script>
`

func TestBrowserAPageOfAnotherOriginGetsNothing(t *testing.T) {
	browser := startBrowser(t)
	f := openFront(t, time.Minute)
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, foreignPage)
	}))
	t.Cleanup(other.Close)

	// The user is logged in: a page of the server's own has the cookie, in the same browser.
	own := newTab(t, browser, nil)
	own.do(t, chromedp.Navigate("http://localhost:"+port(t, f.addr)+"/"))
	own.until(t, "the page is ready", "window.ready")
	value[bool](t, own, "(window.start.cookie(), true)")
	own.until(t, "it is connected", "window.got.cookie.includes('tidings.connected none')")

	target := "http://localhost:" + port(t, f.addr)
	for name, host := range map[string]string{"of the same site": "localhost", "of another site": "127.0.0.1"} {
		t.Run(name, func(t *testing.T) {
			b := newTab(t, browser, nil)
			b.do(t, chromedp.Navigate("http://"+net.JoinHostPort(host, port(t, other.Listener.Addr().String()))+"/?target="+url.QueryEscape(target)))
			b.until(t, "all of it has ended", "window.streamEnded && window.imageEnded && window.fetchEnded && window.deleteEnded && window.postEnded")
			if got := value[string](t, b, "window.got.join()"); got != "" {
				t.Errorf("it got %s", got)
			}
		})
	}
	f.note(t, 1)
	own.until(t, "the user's own page goes on", "window.got.cookie.includes(1)")
	if log := f.program.log.String(); strings.Count(log, "msg=connected") != 1 || strings.Count(log, "msg=refused") < 8 {
		t.Errorf("another origin was let in, or was not refused:\n%s", log)
	}
}

func TestBrowserAReboundNameGetsNothing(t *testing.T) {
	browser := startBrowser(t, chromedp.Flag("host-resolver-rules", "MAP rebound.example 127.0.0.1"))
	for _, c := range []struct {
		name  string
		flags []string
		want  string // of a fetch of the same origin, as the page's own would be
	}{
		{"open", nil, "421"},
		{"authenticated", []string{"--jwt-secret", doorSecret}, "401"},
		{"authenticated, with its names", []string{"--jwt-secret", doorSecret, "--allow-host", "app.example"}, "421"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := run(t, c.flags...)
			b := newTab(t, browser, nil)
			// The page is the server's own answer, under the other name: its scripts are of that origin.
			b.do(t, chromedp.Navigate("http://rebound.example:"+port(t, p.addr)+"/healthz"))
			if origin := value[string](t, b, "location.origin"); origin != "http://rebound.example:"+port(t, p.addr) {
				t.Fatalf("the page is of %s", origin)
			}
			value[bool](t, b, `(fetch('/api/sse', {headers: {Accept: 'text/event-stream'}}).then((r) => { window.status_ = String(r.status); }), true)`)
			b.until(t, "it is answered", "window.status_")
			if got := value[string](t, b, "window.status_"); got != c.want {
				t.Errorf("a stream is answered with %s, want %s", got, c.want)
			}
			if log := p.log.String(); strings.Contains(log, "msg=connected") {
				t.Errorf("it was let in:\n%s", log)
			}
		})
	}
}
