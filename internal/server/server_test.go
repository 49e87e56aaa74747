package server_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tidings-sse/tidings/internal/server"
)

// http2Client speaks HTTP/2 without TLS, by prior knowledge.
func http2Client(t testing.TB) *http.Client {
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: &p}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: within}
}

func TestEachRouteAnswers(t *testing.T) {
	r := start(t, config(t))
	for _, c := range []struct {
		request, contentType string
		status               int
		body                 string
	}{
		{"GET /healthz", "text/plain; charset=utf-8", http.StatusOK, "ok\n"},
		{"GET /healthz?verbose", "text/plain; charset=utf-8", http.StatusOK, "\naccept-failures: 0\nsilent-closed: 0\n"},
		{"GET /readyz", "text/plain; charset=utf-8", http.StatusOK, "ready\n"},
		{"GET /sse-demo", "text/html; charset=utf-8", http.StatusOK, "<html"},
		{"GET /sse-demo/main.js", "text/javascript; charset=utf-8", http.StatusOK, "import"},
		{"GET /api/sse/stats", "application/json", http.StatusOK, `"connections":0`},
		{"GET /api/sse/openapi.json", "application/json", http.StatusOK, "{"},
		{"GET /", "text/html; charset=utf-8", http.StatusTemporaryRedirect, "/sse-demo"},
		{"GET /nothing", "application/problem+json", http.StatusNotFound, "/nothing"},
		{"GET /api", "application/problem+json", http.StatusNotFound, "/api"},
		{"GET /api/sse/nothing", "application/problem+json", http.StatusNotFound, "/api/sse/nothing"},
		{"GET /sse-demo/nothing", "application/problem+json", http.StatusNotFound, ""},
		{"POST /", "application/problem+json", http.StatusMethodNotAllowed, "POST"},
		{"POST /api/sse", "application/problem+json", http.StatusMethodNotAllowed, "POST"},
		{"GET /api/sse/send", "application/problem+json", http.StatusMethodNotAllowed, "GET"},
		{"DELETE /healthz", "application/problem+json", http.StatusMethodNotAllowed, "DELETE"},
		{"POST /readyz", "application/problem+json", http.StatusMethodNotAllowed, "POST"},
		{"PUT /sse-demo", "application/problem+json", http.StatusMethodNotAllowed, ""},
	} {
		res, body := r.raw(t, c.request+" HTTP/1.1", "Host: localhost")
		if res.StatusCode != c.status || res.Header.Get("Content-Type") != c.contentType || !strings.Contains(body, c.body) {
			t.Errorf("%s: got %d %s: %.200s", c.request, res.StatusCode, res.Header.Get("Content-Type"), body)
		}
		if c.status == http.StatusMethodNotAllowed && res.Header.Get("Allow") == "" {
			t.Errorf("%s: there is no Allow header", c.request)
		}
	}
	for _, odd := range []string{"OPTIONS *", "CONNECT localhost:80", "GET //api//sse", "GET /%2e%2e/", "BREW /coffee"} {
		if res, _ := r.raw(t, odd+" HTTP/1.1", "Host: localhost"); res.StatusCode >= http.StatusInternalServerError {
			t.Errorf("%s: got %d", odd, res.StatusCode)
		}
	}
}

func TestAnEventReachesAStreamOverBothProtocols(t *testing.T) {
	r := start(t, config(t))
	one := r.listen(t, "userId=bob")
	client := http2Client(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.StreamURL()+"?userId=bob", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	buf := make([]byte, 4<<10)
	if _, err := res.Body.Read(buf); err != nil || res.ProtoMajor != 2 {
		t.Fatalf("%s: %v", res.Proto, err)
	}
	post, err := client.Post(r.StreamURL()+"/send", "application/json", strings.NewReader(`{"type":"greeting","data":"hi","target":{"userId":"bob"}}`))
	if err != nil {
		t.Fatal(err)
	}
	receipt, err := io.ReadAll(post.Body)
	if post.Body.Close(); err != nil || !strings.Contains(string(receipt), `"id"`) {
		t.Fatalf("%s: %v", receipt, err)
	}
	one.await("event: greeting")
	n, err := res.Body.Read(buf)
	if err != nil || !strings.HasPrefix(string(buf[:n]), "event: greeting\n") {
		t.Errorf("over HTTP/2: %q, %v", buf[:n], err)
	}
}

func TestAHeaderThatComesAByteAtATimeIsNotWaitedFor(t *testing.T) {
	const timeout = 200 * time.Millisecond
	r := start(t, config(t), func(s *server.Server) { s.WithReadHeaderTimeout(timeout) })
	conn := r.dial(t)
	began := time.Now()
	pace := time.NewTicker(timeout / 10)
	defer pace.Stop()
	closed := make(chan error, 1)
	go func() { _, err := io.Copy(io.Discard, conn); closed <- err }()
	for i := 0; ; i++ {
		select {
		case <-closed:
			if took := time.Since(began); took < timeout/2 {
				t.Errorf("it was closed after %v already", took)
			}
			return
		case <-pace.C:
			const request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
			b := byte('a')
			if i < len(request) {
				b = request[i]
			}
			_, _ = conn.Write([]byte{b})
		}
		if time.Since(began) > within {
			t.Fatal("it was not closed")
		}
	}
}

func TestABodyIsNotWaitedForLongerThanItsTime(t *testing.T) {
	w := &deadlineRecorder{ResponseWriter: httptest.NewRecorder()}
	before := time.Now()
	server.Bounded(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/api/sse/send", nil))
	if got := w.deadline.Sub(before); got < server.BodyWithin || got > server.BodyWithin+within {
		t.Errorf("the deadline is in %v, want %v", got, server.BodyWithin)
	}
}

type deadlineRecorder struct {
	http.ResponseWriter
	deadline time.Time
}

func (d *deadlineRecorder) SetReadDeadline(t time.Time) error { d.deadline = t; return nil }

func TestTheHTTPServerIsSetUpForStreams(t *testing.T) {
	cfg := config(t)
	h := start(t, cfg).HTTP()
	switch {
	case h.ReadHeaderTimeout <= 0 || h.IdleTimeout <= 0 || h.MaxHeaderBytes <= 0:
		t.Errorf("there are no bounds: %+v", h)
	case h.WriteTimeout != 0 || h.ReadTimeout != 0:
		t.Errorf("streams would be cut: %+v", h)
	case !h.Protocols.HTTP1() || !h.Protocols.UnencryptedHTTP2():
		t.Errorf("it speaks %v", h.Protocols)
	case h.HTTP2.SendPingTimeout <= 0 || h.HTTP2.PingTimeout <= 0:
		t.Error("HTTP/2 is not probed")
	case h.HTTP2.SendPingTimeout+h.HTTP2.PingTimeout >= time.Duration(cfg.ConnectionTimeout):
		t.Errorf("a dead HTTP/2 peer is found after %v + %v", h.HTTP2.SendPingTimeout, h.HTTP2.PingTimeout)
	}
}

func TestAnHTTP2PeerThatAnswersNoPingIsClosedWithinTheConnectionTimeout(t *testing.T) {
	cfg := config(t)
	const timeout = 2 * time.Second
	cfg.HeartbeatInterval, cfg.ConnectionTimeout = server.Duration(timeout/10), server.Duration(timeout)
	r := start(t, cfg)
	conn := r.dial(t)
	// The preface, empty settings, and a request for a stream: HEADERS with END_STREAM and END_HEADERS, by HPACK's
	// static table (GET, http) and two literals (:path, :authority).
	block := []byte{0x82, 0x86, 0x04, byte(len("/api/sse"))}
	block = append(append(block, "/api/sse"...), 0x01, byte(len("localhost")))
	block = append(block, "localhost"...)
	hello := append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(4, 0, 0, nil)...)
	if _, err := conn.Write(append(hello, frame(1, 0x5, 1, block)...)); err != nil {
		t.Fatal(err)
	}
	var heard strings.Builder
	began := time.Now()
	_, err := io.Copy(&heard, conn)
	took := time.Since(began)
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		t.Fatal("it was not closed")
	}
	if !strings.Contains(heard.String(), "tidings.connected") {
		t.Fatalf("there was no stream: %q", heard.String())
	}
	// Generous for a busy machine; without pings it would be open until the test ends.
	if took < timeout/2 || took > timeout+within/2 {
		t.Errorf("it was closed after %v", took)
	}
}

func frame(kind, flags byte, stream uint32, payload []byte) []byte {
	n := len(payload)
	b := []byte{byte(n >> 16), byte(n >> 8), byte(n), kind, flags}
	return append(binary.BigEndian.AppendUint32(b, stream), payload...)
}

func TestAHeaderThatIsTooLargeIs431(t *testing.T) {
	r := start(t, config(t))
	const far = 1 << 20
	conn := r.dial(t)
	go func() {
		_, _ = fmt.Fprintf(conn, "GET /api/sse HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: %s\r\n\r\n", strings.Repeat("a", far))
	}()
	status := make([]byte, len("HTTP/1.1 431"))
	if _, err := io.ReadFull(conn, status); err != nil || string(status) != "HTTP/1.1 431" {
		t.Errorf("got %q, %v", status, err)
	}
}

func TestEveryTopicThatIsAllowedFitsIntoARequest(t *testing.T) {
	r := start(t, config(t))
	var query strings.Builder
	for i := range 100 {
		fmt.Fprintf(&query, "&topic=%s", strings.Repeat("%C3%A9", 120)+fmt.Sprint(i))
	}
	r.listen(t, query.String()[1:])
}

func TestItRefusesToListenBeyondLoopback(t *testing.T) {
	for _, addr := range []string{":0", "0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[2001:db8::1]:0", "10.0.0.1:8080", "[::ffff:10.0.0.1]:0"} {
		cfg := config(t)
		cfg.Addr = addr
		_, err := server.New(t.Context(), cfg, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), "refusing to listen on "+addr) || !strings.Contains(err.Error(), "--insecure") || !strings.Contains(err.Error(), "--addr 127.0.0.1") {
			t.Errorf("%s: got %v", addr, err)
		}
	}
	for _, addr := range []string{"localhost:0", "127.0.0.1:0", "127.5.5.5:0"} {
		cfg := config(t)
		cfg.Addr = addr
		if r := start(t, cfg); !r.Addr().(*net.TCPAddr).IP.IsLoopback() {
			t.Errorf("%s: it listens on %s", addr, r.Addr())
		}
	}
}

func TestANameIsLoopbackOnlyIfAllItsAddressesAre(t *testing.T) {
	for _, c := range []struct {
		addresses string
		chosen    string
		loopback  bool
	}{
		{"127.0.0.1", "127.0.0.1", true},
		{"::1 127.0.0.1", "127.0.0.1", true},
		{"::1", "::1", true},
		{"::ffff:127.0.0.1", "127.0.0.1", true},
		{"127.0.0.1 10.0.0.1", "127.0.0.1", false},
		{"10.0.0.1 127.0.0.1", "10.0.0.1", false},
		{"2001:db8::1 127.0.0.1", "127.0.0.1", false},
		{"::1 2001:db8::1", "::1", false},
		{"0.0.0.0", "0.0.0.0", false},
	} {
		var ips []netip.Addr
		for _, a := range strings.Fields(c.addresses) {
			ips = append(ips, netip.MustParseAddr(a))
		}
		if chosen, loopback := server.Choose(ips); chosen.String() != c.chosen || loopback != c.loopback {
			t.Errorf("%s: got %s, %v", c.addresses, chosen, loopback)
		}
	}
}

func TestInsecureListensAnywhereAndSaysSo(t *testing.T) {
	cfg := config(t)
	cfg.Addr, cfg.Insecure = "0.0.0.0:0", true
	r := start(t, cfg)
	if !strings.HasPrefix(r.DemoURL(), "http://localhost:") {
		t.Errorf("the demo is said to be at %s", r.DemoURL())
	}
	if res, body := r.get(t, "/healthz", "X-Forwarded-For: 10.0.0.1"); res.StatusCode != http.StatusOK {
		t.Errorf("got %d: %s", res.StatusCode, body)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if log := r.log.String(); !strings.Contains(log, "level=WARN") || !strings.Contains(log, "--insecure") {
		t.Errorf("there is no warning: %s", log)
	}
}

func TestAnAddressThatCantBeListenedOnSaysWhatToDo(t *testing.T) {
	taken := start(t, config(t)).Addr().String()
	for addr, want := range map[string]string{
		taken:                     "in use by another program",
		"127.0.0.1":               "is not HOST:PORT",
		"8080":                    "is not HOST:PORT",
		"::1:8080":                "is not HOST:PORT",
		"127.0.0.1:":              "no usable port",
		"127.0.0.1:99999":         "no usable port",
		"127.0.0.1:nosuchservice": "no usable port",
		"no-such-name.invalid:0":  "has no address here",
	} {
		cfg := config(t)
		cfg.Addr = addr
		if _, err := server.New(t.Context(), cfg, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", addr, err, want)
		}
	}
	cfg := config(t)
	cfg.Addr, cfg.Insecure = "192.0.2.1:0", true
	if _, err := server.New(t.Context(), cfg, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "not an address of this machine") {
		t.Errorf("got %v", err)
	}
}

func TestItStopsInOrder(t *testing.T) {
	cfg := config(t)
	cfg.DrainWindow = server.Duration(2 * time.Second)
	r := start(t, cfg)
	s := r.listen(t, "clientId=a")
	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	// The only stream is ended at the end of the window. Until then the server answers, and says that it isn't ready.
	for {
		res, body := r.get(t, "/readyz")
		if res.StatusCode == http.StatusServiceUnavailable {
			if !strings.Contains(body, "shutting down") {
				t.Errorf("it isn't ready: %s", body)
			}
			break
		}
	}
	if res, body := r.get(t, "/healthz"); res.StatusCode != http.StatusOK {
		t.Errorf("while it drains, it is %d: %s", res.StatusCode, body)
	}
	if res, body := r.get(t, "/api/sse", "Accept: */*"); res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("while it drains, a new stream is %d: %s", res.StatusCode, body)
	}
	if rest := s.rest(); !strings.Contains(rest, "event: tidings.disconnected\n") || !strings.Contains(rest, `"reason":"drained"`) || strings.HasSuffix(rest, "0\r\n\r\n") {
		t.Errorf("the stream ended with %q", rest)
	}
	if err := <-stopped; err != nil {
		t.Errorf("it stopped with %v", err)
	}
	if _, err := net.DialTimeout("tcp", r.Addr().String(), within); err == nil {
		t.Error("it still listens")
	}
	log := r.log.String()
	for _, want := range []string{"msg=listening", "msg=stopping", "reason=drained", "msg=stopped"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q: %s", want, log)
		}
	}
}

func TestItDoesNotWaitForConnectionsThatNothingWasAskedOn(t *testing.T) {
	t.Parallel()
	srv := start(t, config(t))
	unused := srv.dial(t)
	srv.get(t, "/healthz") // connections are accepted in order: the other one is there
	if err := srv.stop(); err != nil {
		t.Error(err)
	}
	if n, err := unused.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes came", n)
	}
}

func TestWhatNetHTTPLogsIsAValue(t *testing.T) {
	r := start(t, config(t))
	_, _ = r.HTTP().ErrorLog.Writer().Write([]byte("odd request\nlevel=ERROR msg=forged\n"))
	if log := r.log.String(); !strings.Contains(log, `level=WARN msg=net/http error="odd request\nlevel=ERROR msg=forged"`) {
		t.Errorf("got %s", log)
	}
}

func TestAnIntervalThatCantWorkIsRefused(t *testing.T) {
	cfg := config(t)
	cfg.HeartbeatInterval = cfg.ConnectionTimeout
	if _, err := server.New(t.Context(), cfg, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "--heartbeat-interval") {
		t.Errorf("got %v", err)
	}
}
