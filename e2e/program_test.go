package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/sse"
)

// Programs that are built once for the tests that run them.
var (
	program        = binary{source: "../cmd/tidings"} // as it is shipped
	flooderProgram = binary{source: "./flooder"}
	browserExample = binary{source: "../examples/browser"}
)

type binary struct {
	source string // its package, from here
	once   sync.Once
	dir    string
	path   string
	err    error
}

// built returns the path of the program.
func (b *binary) built(t testing.TB) string {
	t.Helper()
	b.once.Do(func() {
		if b.dir, b.err = os.MkdirTemp("", "tidings-e2e-"); b.err != nil {
			return
		}
		b.path = filepath.Join(b.dir, filepath.Base(b.source))
		if out, err := exec.Command("go", "build", "-o", b.path, b.source).CombinedOutput(); err != nil {
			b.err = fmt.Errorf("building %s: %w\n%s", b.source, err, out)
		}
	})
	if b.err != nil {
		t.Fatal(b.err)
	}
	return b.path
}

func (b *binary) remove() error {
	if b.dir == "" {
		return nil
	}
	return os.RemoveAll(b.dir)
}

// process is a running "tidings serve".
type process struct {
	addr   string // host:port
	cmd    *exec.Cmd
	log    lockedBuffer
	exited chan struct{} // closed once err is set
	err    error
}

// run starts "tidings serve" on a free port, and returns when it listens. It ends with the test at the latest.
func run(t testing.TB, flags ...string) *process {
	t.Helper()
	p := &process{exited: make(chan struct{})}
	p.cmd = exec.Command(program.built(t), append([]string{"serve", "--addr", "127.0.0.1:0"}, flags...)...)
	for _, env := range os.Environ() {
		if !strings.HasPrefix(env, "TIDINGS_") {
			p.cmd.Env = append(p.cmd.Env, env)
		}
	}
	p.cmd.Stderr = &p.log
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	for p.addr == "" && lines.Scan() {
		if url, ok := strings.CutPrefix(lines.Text(), "Stream: http"); ok {
			p.addr = strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(url, "s"), "://"), "/api/sse")
		}
	}
	go func() {
		defer close(p.exited)
		_, _ = io.Copy(io.Discard, stdout)
		p.err = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.stop(t)
		if t.Failed() {
			t.Logf("the program's log:\n%s", p.log.String())
		}
	})
	if p.addr == "" {
		t.Fatalf("the program did not say where it listens: %v", lines.Err())
	}
	return p
}

// stop asks the process to end, if it has not, and waits until it has.
func (p *process) stop(t testing.TB) {
	t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-p.exited:
	case <-timer.C:
		t.Errorf("the program has not ended after %v", within)
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
	if p.err != nil {
		t.Errorf("the program ended with %v", p.err)
	}
}

// lockedBuffer is a buffer that may be read while it is written to.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestSIGTERMInMidBroadcastEndsStreamsBetweenFramesAndTheProgramInOrder(t *testing.T) {
	const (
		listeners = 40
		window    = 500 * time.Millisecond
	)
	p := run(t, "--drain-window", window.String(), "--retry-interval", "1s")

	// Each listener reads its stream to the end, as it stands on the wire behind HTTP's own framing.
	var (
		got      [listeners][]byte
		ends     [listeners]error
		reading  sync.WaitGroup
		received atomic.Int64 // bytes
	)
	for i := range listeners {
		conn, err := net.Dial("tcp", p.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET /api/sse?clientId=listener-%d HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", i, p.addr)
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		begun := make(chan struct{})
		reading.Go(func() {
			buf := make([]byte, 4096)
			for {
				n, err := res.Body.Read(buf)
				if got[i] == nil && n > 0 {
					close(begun)
				}
				got[i] = append(got[i], buf[:n]...)
				received.Add(int64(n))
				if err != nil {
					ends[i] = err
					return
				}
			}
		})
		<-begun
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	remote, err := tidings.NewRemote("http://"+p.addr+"/api/sse", &tidings.RemoteOptions{Client: &http.Client{Transport: transport}, Tries: 1})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "all are online", func() bool {
		r, err := remote.Broadcast(t.Context(), "probe", 0)
		if err != nil {
			t.Fatal(err)
		}
		return r.Matched == listeners
	})

	var sending sync.WaitGroup
	acknowledged := 0
	sending.Go(func() {
		pad := strings.Repeat("x", 3000)
		for n := 1; ; n++ {
			if _, err := remote.Broadcast(t.Context(), "count", map[string]any{"number": n, "pad": pad}); err != nil {
				return
			}
			acknowledged = n
		}
	})
	eventually(t, "the broadcast is under way", func() bool { return received.Load() > listeners*20*3000 })
	asked := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-p.exited
	took := time.Since(asked)
	reading.Wait()
	sending.Wait()
	if p.err != nil {
		t.Errorf("the program ended with %v, want exit code 0", p.err)
	}
	if took > window+5*time.Second {
		t.Errorf("the program took %v to end, with a drain window of %v", took, window)
	}
	fewest, most := acknowledged, 0
	for i := range got {
		n, err := counted(got[i])
		switch {
		case err != nil:
			t.Errorf("listener %d: %v", i, err)
		case n > acknowledged+1: // the last one may have been sent while its answer was lost
			t.Errorf("listener %d got %d events, %d were acknowledged", i, n, acknowledged)
		case !errors.Is(ends[i], io.ErrUnexpectedEOF):
			t.Errorf("listener %d: its stream ended with %v, want a truncated body", i, ends[i])
		}
		fewest, most = min(fewest, n), max(most, n)
	}
	t.Logf("%d events were acknowledged; the streams ended after %d to %d of them, and the program %v after SIGTERM", acknowledged, fewest, most, took.Round(time.Millisecond))
}

// counted returns how many numbered events a stream holds. It must hold them whole, from the first on and without a gap,
// and end with the notice that says when to come back.
func counted(stream []byte) (n int, err error) {
	if !bytes.HasSuffix(stream, []byte("\n\n")) {
		return 0, fmt.Errorf("it ends in the middle of a frame: %.200q", stream[max(0, len(stream)-200):])
	}
	last := sse.Event{}
	for e, err := range sse.NewDecoder(bytes.NewReader(stream), nil).Events() {
		if err != nil {
			return n, err
		}
		last = e
		if e.Type != "count" {
			continue
		}
		got, err := numberIn(e.Data)
		if err != nil {
			return n, err
		}
		if got != n+1 {
			return n, fmt.Errorf("event %d follows event %d", got, n)
		}
		n++
	}
	if last.Type != "tidings.disconnected" || !strings.Contains(last.Data, `"drained"`) {
		return n, fmt.Errorf("its last event is %+v, want the notice", last)
	}
	return n, nil
}
