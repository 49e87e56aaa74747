package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"go.uber.org/goleak"

	"github.com/tidings-sse/tidings"
)

// asProgram is the variable that makes the test binary be the program, for tests that send it signals.
const asProgram = "TIDINGS_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		_ = os.Unsetenv(asProgram) // it is no variable of the program
		main()
		return
	}
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "TIDINGS_") {
			_ = os.Unsetenv(name) // the tests set what they need
		}
	}
	goleak.VerifyTestMain(m)
}

// within bounds what has no reason to take long, on a machine that is busy.
const within = 20 * time.Second

// buffer may be written and read at once.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// outcome is what a command that has ended leaves.
type outcome struct {
	code           int
	stdout, stderr string
}

// run runs a command to its end.
func run(t testing.TB, stdin string, args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	var stdout, stderr buffer
	code := report(&stderr, Run(ctx, args, strings.NewReader(stdin), &stdout, &stderr))
	if ctx.Err() != nil {
		t.Fatalf("%q did not end: %s%s", args, stdout.String(), stderr.String())
	}
	return outcome{code, stdout.String(), stderr.String()}
}

// command is one that is running. Its stdout is read a line at a time.
type command struct {
	t      testing.TB
	lines  chan string // unbuffered: the command waits for its reader, as with a pipe
	stderr *buffer
	stop   func() int
}

// begin runs a command until the test stops it, or ends.
func begin(t testing.TB, args ...string) *command {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	c := &command{t: t, lines: make(chan string), stderr: &buffer{}}
	ended := make(chan int, 1)
	go func() {
		code := report(c.stderr, Run(ctx, args, strings.NewReader(""), w, c.stderr))
		_ = w.Close()
		ended <- code
	}()
	scanned := make(chan struct{})
	go func() {
		defer close(scanned)
		defer close(c.lines)
		for s := bufio.NewScanner(r); s.Scan(); {
			select {
			case c.lines <- s.Text():
			case <-ctx.Done():
			}
		}
	}()
	c.stop = sync.OnceValue(func() int {
		cancel()
		<-scanned
		return <-ended
	})
	t.Cleanup(func() { c.stop() })
	return c
}

// line returns the next line of stdout.
func (c *command) line() string {
	c.t.Helper()
	select {
	case line, ok := <-c.lines:
		if !ok {
			c.t.Fatalf("it ended: %s", c.stderr.String())
		}
		return line
	case <-time.After(within):
		c.t.Fatalf("there is no line after %v: %s", within, c.stderr.String())
	}
	return ""
}

// end returns the exit code of a command that ends by itself.
func (c *command) end() int {
	c.t.Helper()
	select {
	case line, ok := <-c.lines:
		if ok {
			c.t.Fatalf("there is another line: %s", line)
		}
	case <-time.After(within):
		c.t.Fatalf("it has not ended after %v: %s", within, c.stderr.String())
	}
	return c.stop()
}

// eventually waits for what can only be asked for.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(within); !holds(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("after %v, still not so: %s", within, what)
		}
	}
}

// serve starts a server, and returns its URL.
func serve(t testing.TB, args ...string) (url string, _ *command) {
	t.Helper()
	c := begin(t, append([]string{"serve", "--addr", "127.0.0.1:0", "--drain-window", "50ms"}, args...)...)
	line := c.line()
	if stream, authenticated := strings.CutPrefix(line, "Stream: "); authenticated {
		return strings.TrimSuffix(stream, "/api/sse"), c
	}
	demo, ok := strings.CutPrefix(line, "Demo: ")
	if !ok {
		t.Fatalf("it printed %q", demo)
	}
	url = strings.TrimSuffix(demo, "/sse-demo")
	if got, want := c.line(), "Stream: "+url+"/api/sse"; got != want {
		t.Fatalf("it printed %q, want %q", got, want)
	}
	return url, c
}

// closedPort returns the URL of a port that nothing listens at.
func closedPort(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return "http://" + ln.Addr().String()
}

// stats asks a server for its statistics.
func stats(t testing.TB, url string) (s tidings.Stats) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: within}
	res, err := client.Get(url + "/api/sse/stats")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

func awaitConnections(t testing.TB, url string, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d connections", n), func() bool { return stats(t, url).Connections == n })
}

func TestHelpNamesTheDefaultOfEachFlag(t *testing.T) {
	parser, err := kong.New(&cli{})
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range parser.Model.Children {
		if out := run(t, "", command.Name, "--help"); out.code != exitOK || out.stderr != "" || !strings.Contains(out.stdout, "Usage: tidings "+command.Name) {
			t.Errorf("%s --help: %+v", command.Name, out)
		}
		for _, f := range command.Flags {
			group := f.Group != nil && f.Group.Key == "target" // none of which is given has a meaning of its own
			if !f.HasDefault && !group && !strings.Contains(f.Help, "Default: ") {
				t.Errorf("%s --%s says no default: %s", command.Name, f.Name, f.Help)
			}
		}
	}
	if out := run(t, "", "--help"); out.code != exitOK || !strings.Contains(out.stdout, "serve") || !strings.Contains(out.stdout, "listen") {
		t.Errorf("--help: %+v", out)
	}
}

func TestACommandLineThatCantBeUsedEndsWith2(t *testing.T) {
	for _, args := range [][]string{{}, {"nonsense"}, {"serve", "--nonsense"}, {"serve", "extra"}, {"listen", "--count", "0"}, {"listen", "--for", "10"}, {"send", "--ttl", "-1s", "--everyone"}} {
		if out := run(t, "", args...); out.code != exitUsage || out.stdout != "" || !strings.HasPrefix(out.stderr, "tidings: ") {
			t.Errorf("%q: %+v", args, out)
		}
	}
}

func TestVersionIsOneLine(t *testing.T) {
	if out := run(t, "", "version"); out.code != exitOK || !strings.HasPrefix(out.stdout, "tidings ") || strings.Count(out.stdout, "\n") != 1 {
		t.Errorf("got %+v", out)
	}
}

func TestAnErrorIsReportedOnce(t *testing.T) {
	var stderr bytes.Buffer
	if code := report(&stderr, errors.New("tidings: send: no")); code != exitFailed || stderr.String() != "tidings: send: no\n" {
		t.Errorf("got %d, %q", code, stderr.String())
	}
}
