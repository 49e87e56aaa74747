package server_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"go.uber.org/goleak"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/internal/server"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// within bounds what has no reason to take long, on a machine that is busy.
const within = 20 * time.Second

// logBuffer keeps what was logged.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// config returns the defaults, on a free port.
func config(t testing.TB) *server.Config {
	t.Helper()
	cfg := &server.Config{}
	if err := kong.ApplyDefaults(cfg); err != nil {
		t.Fatal(err)
	}
	cfg.Addr = "127.0.0.1:0"
	return cfg
}

// running is a server that is running.
type running struct {
	*server.Server
	log  *logBuffer
	stop func() error // may be called more than once
}

// start runs a server that ends with the test.
func start(t testing.TB, cfg *server.Config, adjust ...func(*server.Server)) *running {
	t.Helper()
	log := &logBuffer{}
	srv, err := server.New(t.Context(), cfg, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range adjust {
		f(srv)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	r := &running{Server: srv, log: log, stop: sync.OnceValue(func() error {
		cancel()
		return <-ended
	})}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("the server did not stop in order: %v", err)
		}
	})
	return r
}

// dial connects to the server.
func (r *running) dial(t testing.TB) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", r.Addr().String(), within)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// raw sends a request as it is written, and returns the answer with its body read.
func (r *running) raw(t testing.TB, line string, headers ...string) (*http.Response, string) {
	t.Helper()
	conn := r.dial(t)
	defer conn.Close()
	if _, err := io.WriteString(conn, line+"\r\n"+strings.Join(headers, "\r\n")+"\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(line, " ")
	res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%s %q: %v", line, headers, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %q: %v", line, headers, err)
	}
	return res, string(body)
}

// get is raw for an ordinary request.
func (r *running) get(t testing.TB, path string, headers ...string) (*http.Response, string) {
	t.Helper()
	return r.raw(t, "GET "+path+" HTTP/1.1", append([]string{"Host: localhost"}, headers...)...)
}

// problem reads a problem document, and fails the test for anything else.
func problem(t testing.TB, res *http.Response, body string) tidings.Problem {
	t.Helper()
	var p tidings.Problem
	if ct := res.Header.Get("Content-Type"); ct != "application/problem+json" {
		t.Fatalf("the answer is %d %s: %s", res.StatusCode, ct, body)
	}
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	if p.Status != res.StatusCode || p.Title == "" || p.Detail == "" || p.Hint == "" || !strings.HasPrefix(p.Type, "urn:tidings:") {
		t.Errorf("the document of a %d lacks something: %s", res.StatusCode, body)
	}
	return p
}

// A stream is a connection that listens.
type stream struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
}

// listen opens a stream over HTTP/1.1.
func (r *running) listen(t testing.TB, query string) *stream {
	t.Helper()
	s := &stream{t: t, conn: r.dial(t)}
	s.in = bufio.NewReader(s.conn)
	if _, err := io.WriteString(s.conn, "GET /api/sse?"+query+" HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	s.await("tidings.connected")
	return s
}

// await reads up to the line that has the text, and fails the test where the stream ends before it.
func (s *stream) await(text string) string {
	s.t.Helper()
	for {
		line, err := s.in.ReadString('\n')
		if strings.Contains(line, text) {
			return line
		}
		if err != nil {
			s.t.Fatalf("waiting for %q: %v", text, err)
		}
	}
}

// rest reads to the end of the connection.
func (s *stream) rest() string {
	s.t.Helper()
	b, err := io.ReadAll(s.in)
	if err != nil {
		s.t.Fatalf("after %q: %v", b, err)
	}
	return string(b)
}
