package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// limited starts the program with a limit on open files that it can't raise.
func limited(t *testing.T, files int, args ...string) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return startCommand(t, append([]string{"/bin/sh", "-c", fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, files), exe, "serve", "--addr", "127.0.0.1:0"}, args...)...)
}

// A caller keeps one connection to the process for all its requests.
type caller struct {
	t    *testing.T
	p    *process
	conn net.Conn
	in   *bufio.Reader
}

func (p *process) caller(t *testing.T) *caller {
	t.Helper()
	conn := p.dial(t)
	return &caller{t, p, conn, bufio.NewReader(conn)}
}

func (p *process) dial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", strings.TrimPrefix(p.url, "http://"), within)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// do makes a request and returns the answer with its body read.
func (c *caller) do(method, path, body string) (int, string) {
	c.t.Helper()
	_ = c.conn.SetDeadline(time.Now().Add(within))
	_, err := fmt.Fprintf(c.conn, "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", method, path, len(body), body)
	if err != nil {
		c.t.Fatal(err)
	}
	res, err := http.ReadResponse(c.in, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// number returns a line of /healthz?verbose.
func (c *caller) number(name string) int {
	c.t.Helper()
	status, body := c.do("GET", "/healthz?verbose", "")
	_, rest, ok := strings.Cut(body, "\n"+name+": ")
	text, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.Atoi(text)
	if status != http.StatusOK || !strings.HasPrefix(body, "ok\n") || !ok || err != nil {
		c.t.Fatalf("there is no %s: %d %q", name, status, body)
	}
	return n
}

// until reads up to a line that has the text.
func until(t *testing.T, r *bufio.Reader, text string) {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("waiting for %q: %q, %v", text, line, err)
		}
		if strings.Contains(line, text) {
			return
		}
	}
}

const askStream = "GET /api/sse HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"

// Row 29.
func TestWhenOpenFilesRunOutTheLogSaysSoAndStreamsGoOn(t *testing.T) {
	p := limited(t, 64)
	began := time.Now()
	live := p.stream(t)
	call := p.caller(t)
	if n := call.number("accept-failures"); n != 0 {
		t.Errorf("%d accepts have failed already", n)
	}
	fill, waits := p.fill(t)
	late := p.dial(t)
	if _, err := io.WriteString(late, askStream); err != nil {
		t.Fatal(err)
	}
	// The server tries again, and the log doesn't repeat it.
	before := call.number("accept-failures")
	eventually(t, "it has tried more often", func() bool { return call.number("accept-failures") >= before+3 })
	if status, body := call.do("GET", "/readyz", ""); status != http.StatusServiceUnavailable || !strings.Contains(body, "too many open files") {
		t.Errorf("/readyz: %d %s", status, body)
	}
	for i := range 3 {
		if status, body := call.do("POST", "/api/sse/send", fmt.Sprintf(`{"data":"event %d"}`, i)); status != http.StatusOK || !strings.Contains(body, `"matched":1,`) {
			t.Errorf("send: %d %s", status, body)
		}
		until(t, live, fmt.Sprintf("event %d", i))
	}
	_ = late.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if n, err := late.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection that there is no room for: %d bytes, %v", n, err)
	}
	// One gives way: the stream gets the last open file that there is, and is served by it alone.
	_ = waits.Close()
	_ = fill[0].Close()
	_ = late.SetReadDeadline(time.Now().Add(within))
	lateStream := bufio.NewReader(late)
	until(t, lateStream, "tidings.connected")
	eventually(t, "it is registered", func() bool {
		_, body := call.do("POST", "/api/sse/send", `{"data":"the last one"}`)
		return strings.Contains(body, `"matched":2,`)
	})
	until(t, live, "the last one")
	until(t, lateStream, "the last one")
	for _, c := range fill {
		_ = c.Close()
	}
	p.stream(t) // there is room again
	eventually(t, "it is ready again", func() bool { status, _ := call.do("GET", "/readyz", ""); return status == http.StatusOK })
	if status, body := call.do("POST", "/api/sse/send", `{"data":"again"}`); status != http.StatusOK {
		t.Errorf("send: %d %s", status, body)
	}
	until(t, live, "again")
	until(t, lateStream, "again")

	log := p.stderr.String()
	most := 1 + int(time.Since(began)/(10*time.Second))
	if n := strings.Count(log, "can't be accepted"); n > most || !strings.Contains(log, "LimitNOFILE") || !strings.Contains(log, "too many open files") || strings.Contains(log, "net/http") {
		t.Errorf("the log says it %d times, want %d at most:\n%s", n, most, log)
	}
}

// fill takes all open files of the process, by a connection each, and returns these, and one more that waits.
func (p *process) fill(t *testing.T) (taken []net.Conn, waits net.Conn) {
	t.Helper()
	for range 200 {
		c := p.dial(t)
		if _, err := io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		full := false
		eventually(t, "it is answered, or the log says why not", func() bool {
			_ = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
			if n, _ := c.Read(make([]byte, 1)); n > 0 {
				return true
			}
			full = strings.Contains(p.stderr.String(), "can't be accepted")
			return full
		})
		if full {
			return taken, c
		}
		taken = append(taken, c)
	}
	t.Fatalf("%d connections don't fill it", len(taken))
	return nil, nil
}

func TestStreamsThatOpenFilesHaveNoRoomForAreRefusedAsFull(t *testing.T) {
	const files, most = 160, 80
	p := limited(t, files)
	call := p.caller(t)
	if limit, streams := call.number("open-files-limit"), call.number("max-connections"); limit != files || streams != most {
		t.Errorf("the limit is %d, and %d streams are allowed", limit, streams)
	}
	for range most {
		c := p.dial(t)
		if _, err := io.WriteString(c, askStream); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(within))
		until(t, bufio.NewReader(c), "tidings.connected")
	}
	for range 2 * files {
		c := p.dial(t)
		if _, err := io.WriteString(c, askStream); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(within))
		r := bufio.NewReader(c)
		until(t, r, "tidings.unavailable")
		until(t, r, `"reason":"full"`)
		_ = c.Close()
	}
	if n := call.number("accept-failures"); n != 0 {
		t.Errorf("%d accepts have failed", n)
	}
	log := p.stderr.String()
	if !strings.Contains(log, fmt.Sprintf(`msg="limit on open files" limit=%d`, files)) || !strings.Contains(log, fmt.Sprintf("wanted=100000 streams=%d limit=%d", most, files)) || !strings.Contains(log, "LimitNOFILE") {
		t.Errorf("the log doesn't say so:\n%s", log)
	}
}

func TestALimitOnOpenFilesThatIsLargeEnoughIsNoReasonToWarn(t *testing.T) {
	p := limited(t, 400, "--max-connections", "300")
	if n := p.caller(t).number("max-connections"); n != 300 {
		t.Errorf("%d streams are allowed", n)
	}
	if log := p.stderr.String(); strings.Contains(log, "WARN") {
		t.Errorf("the log:\n%s", log)
	}
}
