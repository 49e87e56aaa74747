package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A flood by those who may do nothing, and what it costs those who may: the delay of 1,000 live streams. The delays are only
// logged, since what else runs on the machine decides about them; make flood, on an idle machine, compares them.

const (
	floodEnv     = "TIDINGS_FLOOD" // set: the delays are compared, in phases that are long enough for it
	floodStreams = 1000
	floodEvery   = 50 * time.Millisecond // between two events to all streams
)

// A flooding is how long each kind of flood lasts, and of how many connections the largest is.
type flooding struct {
	phase    time.Duration
	halfOpen int
	compared bool
}

func floodingOf(env string) flooding {
	if env == "" {
		return flooding{phase: 2 * time.Second, halfOpen: 5000}
	}
	return flooding{phase: 4 * time.Second, halfOpen: 10_000, compared: true}
}

// delays are how long events took from their sender to a stream.
type delays struct {
	mu  sync.Mutex
	all []time.Duration
}

func (d *delays) add(v time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = append(d.all, v)
}

// await waits until n have come since the last take.
func (d *delays) await(t *testing.T, n int) {
	t.Helper()
	enough := func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.all) >= n
	}
	for deadline := time.Now().Add(within); !enough(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("no more events arrive")
		}
	}
}

// take returns the 99th percentile of what came since the last call, and how many came.
func (d *delays) take() (p99 time.Duration, n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	slices.Sort(d.all)
	if n = len(d.all); n > 0 {
		p99 = d.all[n*99/100]
	}
	d.all = nil
	return p99, n
}

func TestAFloodOfTheUnauthenticatedEndsNoLiveStream(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SKIPPED: the memory of a process is read from /proc, which is Linux: run it there")
	}
	size := floodingOf(os.Getenv(floodEnv))
	p := run(t, "--jwt-secret", doorSecret, "--api-key", doorKey, "--log-level", "error")
	f := &front{program: p, life: time.Hour}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	var d delays
	var open atomic.Int64
	head := "GET /api/sse HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + f.token(t) + "\r\n\r\n"
	for range floodStreams {
		conn, err := net.Dial("tcp", p.addr)
		if err != nil {
			t.Fatal(err)
		}
		context.AfterFunc(ctx, func() { _ = conn.Close() })
		if _, err := io.WriteString(conn, head); err != nil {
			t.Fatal(err)
		}
		running.Go(func() {
			lines := bufio.NewReaderSize(conn, 1024)
			for {
				line, err := lines.ReadSlice('\n')
				if err != nil {
					open.Add(-1)
					return
				}
				if bytes.HasPrefix(line, []byte("data: {\"clientId")) {
					open.Add(1)
				} else if sent, ok := bytes.CutPrefix(line, []byte("data: ")); ok {
					if ns, err := strconv.ParseInt(string(bytes.TrimSpace(sent)), 10, 64); err == nil {
						d.add(time.Duration(time.Now().UnixNano() - ns))
					}
				}
			}
		})
	}
	deadline := time.Now().Add(within)
	for open.Load() < floodStreams {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d streams are open", open.Load(), floodStreams)
		}
		runtime.Gosched()
	}
	running.Go(func() { f.publish(ctx, t) })
	time.Sleep(size.phase / 2) // until everything is warm
	d.take()
	before := residentKB(t, p)
	time.Sleep(size.phase)
	d.await(t, floodStreams)
	calm, n := d.take()
	t.Logf("calm: p99 %v of %d, %d MiB", calm, n, before>>10)
	for _, kind := range []struct {
		name string
		run  func(ctx context.Context, t *testing.T, addr string) (done int64)
	}{{"bad tokens", floodTokens}, {"oversized", floodOversized}, {"slowloris", floodSlow}, {"half-open", size.silent}} {
		during, stop := context.WithTimeout(ctx, size.phase)
		done := kind.run(during, t, p.addr)
		<-during.Done()
		stop()
		d.await(t, floodStreams)
		p99, n := d.take()
		t.Logf("%s (%d): p99 %v of %d, %d MiB", kind.name, done, p99, n, residentKB(t, p)>>10)
		if size.compared && p99 > 2*calm {
			t.Errorf("%s: p99 %v of %d, which was %v", kind.name, p99, n, calm)
		}
	}
	if !size.compared {
		t.Logf("the delays are not compared: make flood does, with %s set", floodEnv)
	}
	if open.Load() != floodStreams {
		t.Errorf("%d of %d streams are left", open.Load(), floodStreams)
	}
	most := before*3/2 + 32<<10
	for deadline := time.Now().Add(60 * time.Second); residentKB(t, p) > most; time.Sleep(time.Second) {
		if time.Now().After(deadline) {
			t.Fatalf("a minute after, it has %d MiB, and had %d", residentKB(t, p)>>10, before>>10)
		}
	}
	t.Logf("after: %d MiB", residentKB(t, p)>>10)
}

// publish sends the time to all streams, until ctx ends.
func (f *front) publish(ctx context.Context, t *testing.T) {
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	for tick := time.NewTicker(floodEvery); ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			tick.Stop()
			return
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+f.program.addr+"/api/sse/send", strings.NewReader(fmt.Sprintf(`{"data":%d}`, time.Now().UnixNano())))
		if err != nil {
			t.Error(err)
			return
		}
		req.Header.Set("Authorization", "Bearer "+doorKey)
		req.Header.Set("Content-Type", "application/json")
		res, err := transport.RoundTrip(req)
		if err != nil {
			if ctx.Err() == nil {
				t.Error(err)
			}
			return
		}
		if res.StatusCode != http.StatusOK {
			t.Errorf("sending: %s", res.Status)
		}
		_ = res.Body.Close()
	}
}

// flood sends what stands there, at a rate, on connections that are kept while the server keeps them.
func flood(ctx context.Context, t *testing.T, addr, request string, perSecond int, want string) (done int64) {
	const workers = 10
	var n atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			tick := time.NewTicker(time.Second * workers / time.Duration(perSecond))
			defer tick.Stop()
			var conn net.Conn
			var in *bufio.Reader
			for {
				select {
				case <-tick.C:
				case <-ctx.Done():
					if conn != nil {
						_ = conn.Close()
					}
					return
				}
				if conn == nil {
					var err error
					if conn, err = net.Dial("tcp", addr); err != nil {
						t.Error(err)
						return
					}
					in = bufio.NewReader(conn)
				}
				_, _ = io.WriteString(conn, request) // the server may hang up in the middle of it
				res, err := http.ReadResponse(in, nil)
				if err == nil {
					if !strings.HasPrefix(res.Status, want) {
						t.Errorf("answered with %s, want %s", res.Status, want)
					}
					_, err = io.Copy(io.Discard, res.Body)
					n.Add(1)
				}
				if err != nil || res.Close {
					_ = conn.Close()
					conn = nil
				}
			}
		})
	}
	wg.Wait()
	return n.Load()
}

func floodTokens(ctx context.Context, t *testing.T, addr string) int64 {
	forged := (&front{life: time.Hour}).token(t)
	forged = forged[:len(forged)-10] + "AAAAAAAAAA"
	return flood(ctx, t, addr, "GET /api/sse HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nAuthorization: Bearer "+forged+"\r\n\r\n", 2000, "401")
}

func floodOversized(ctx context.Context, t *testing.T, addr string) int64 {
	return flood(ctx, t, addr, "GET /api/sse HTTP/1.1\r\nHost: localhost\r\nX-Long: "+strings.Repeat("x", 1<<20)+"\r\n\r\n", 50, "431")
}

// floodSlow sends its headers a byte at a time.
func floodSlow(ctx context.Context, t *testing.T, addr string) int64 {
	const connections = 500
	var conns []net.Conn
	for range connections {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Error(err)
			return 0
		}
		defer conn.Close()
		conns = append(conns, conn)
	}
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	head := "GET /api/sse HTTP/1.1\r\nHost: localhost\r\nX-Slow: " + strings.Repeat("x", 1000)
	for i := 0; ; i++ {
		for _, conn := range conns {
			_, _ = conn.Write([]byte{head[i]})
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return connections
		}
	}
}

// silent connects and says nothing. It takes half of its time to connect: its own work is done by the processors that the
// server has.
func (size flooding) silent(ctx context.Context, t *testing.T, addr string) (done int64) {
	const together = 10
	tick := time.NewTicker(size.phase / 2 / time.Duration(size.halfOpen/together))
	defer tick.Stop()
	for i := range size.halfOpen {
		if i%together == 0 {
			<-tick.C
		}
		conn, err := net.DialTimeout("tcp", addr, within)
		if err != nil {
			t.Errorf("after %d connections: %v", done, err)
			break
		}
		defer conn.Close()
		done++
	}
	<-ctx.Done()
	return done
}

// residentKB returns the memory of the process, in KiB.
func residentKB(t *testing.T, p *process) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	var kb int
	if _, err := fmt.Sscan(rest, &kb); err != nil {
		t.Fatal(err)
	}
	return kb
}
