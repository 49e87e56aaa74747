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
	floodEnv     = "TIDINGS_FLOOD" // set: the delays are compared, in as many rounds as that takes
	floodStreams = 1000
	floodEvery   = 50 * time.Millisecond // between two events to all streams
)

// A flooding is how the flood is measured.
type flooding struct {
	compared bool
	rounds   int           // of calm and flood, in turn
	phase    time.Duration // of each, about; a flood, and its end, is within one
	silent   int           // connections of the largest kind
}

func floodingOf(env string) flooding {
	if env == "" {
		return flooding{rounds: 1, phase: 2 * time.Second, silent: 5000}
	}
	return flooding{compared: true, rounds: 5, phase: 4 * time.Second, silent: 10_000}
}

// floods are what someone without a credential can do.
func (size flooding) floods() []flood {
	return []flood{
		{"tokens", 2000, 4000, "requests with a forged token, answered with 401"},
		{"oversized", 50, 100, "requests with a header of 1 MiB, answered with 431"},
		{"slow", 500, 500, "connections that send their header a byte at a time"},
		{"silent", size.silent, int64(size.silent), "connections that send nothing"},
	}
}

type flood struct {
	kind  string // of e2e/flooder
	n     int    // requests a second, or connections
	least int64  // done, for it to be one
	of    string
}

// delays are how long events took from their sender to a stream.
type delays struct {
	mu    sync.Mutex
	since time.Time // what was sent earlier does not count
	all   []time.Duration
}

func (d *delays) add(sent time.Time, v time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !sent.Before(d.since) {
		d.all = append(d.all, v)
	}
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

// take returns the 99th percentile of what came since the last call, and how many came. What was sent before it does not
// count as coming after it.
func (d *delays) take() (p99 time.Duration, n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	slices.Sort(d.all)
	if n = len(d.all); n > 0 {
		p99 = d.all[n*99/100]
	}
	d.all, d.since = nil, time.Now()
	return p99, n
}

func TestAFloodOfTheUnauthenticatedEndsNoLiveStream(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SKIPPED: what a process uses is read from /proc, which is Linux: run it there")
	}
	size := floodingOf(os.Getenv(floodEnv))
	flooderProgram.built(t) // before anything is measured
	r := &floodRig{p: run(t, "--jwt-secret", doorSecret, "--api-key", doorKey, "--log-level", "error")}
	f := &front{program: r.p, life: time.Hour}
	forged := f.token(t)
	forged = forged[:len(forged)-10] + "AAAAAAAAAA"
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	r.listen(ctx, t, &running, f.token(t))
	running.Go(func() { f.publish(ctx, t) })
	r.measure(t, func() { time.Sleep(size.phase / 2) }) // until everything is warm
	before, files := residentKB(t, r.p), openFiles(t, r.p)
	for _, flood := range size.floods() {
		var calm, during []time.Duration
		for range size.rounds {
			eventually(t, "the connections of the flood before are closed", func() bool { return openFiles(t, r.p) <= files+10 })
			peace := r.measure(t, func() { time.Sleep(size.phase) })
			var did flooded
			war := r.measure(t, func() {
				did = startFlooder(t, r.p.addr, flood, size.phase*3/4, forged).end(t)
				time.Sleep(size.phase / 4) // what its end costs is a part of it
			})
			memory := residentKB(t, r.p)
			calm, during = append(calm, peace.p99), append(during, war.p99)
			t.Logf("%-9s calm %v; flood %v, %d MiB, of %+v", flood.kind, peace, war, memory>>10, did)
			if len(did.Wrong) > 0 || did.Failed > 0 {
				t.Errorf("%s: %d connections failed, and these answers were not expected: %q", flood.kind, did.Failed, did.Wrong)
			}
			if size.compared && did.Done < flood.least {
				t.Errorf("%s: that was no flood: %d %s, and there should be %d", flood.kind, did.Done, flood.of, flood.least)
			}
		}
		slices.Sort(calm)
		slices.Sort(during)
		t.Logf("%-9s medians of p99: calm %v, flood %v", flood.kind, calm[size.rounds/2], during[size.rounds/2])
		if size.compared && during[size.rounds/2] > 2*calm[size.rounds/2] {
			t.Errorf("%s: the median of p99 is %v, and was %v", flood.kind, during[size.rounds/2], calm[size.rounds/2])
		}
	}
	if !size.compared {
		t.Logf("the delays are not compared: make flood does, with %s set", floodEnv)
	}
	if open := r.open.Load(); open != floodStreams {
		t.Errorf("%d of %d streams are left", open, floodStreams)
	}
	most := before*3/2 + 32<<10
	for deadline := time.Now().Add(60 * time.Second); residentKB(t, r.p) > most; time.Sleep(time.Second) {
		if time.Now().After(deadline) {
			t.Fatalf("a minute after, it has %d MiB, and had %d", residentKB(t, r.p)>>10, before>>10)
		}
	}
	t.Logf("after: %d MiB, before: %d", residentKB(t, r.p)>>10, before>>10)
}

// floodRig is a program with live streams, whose delays are measured.
type floodRig struct {
	p    *process
	open atomic.Int64 // streams
	d    delays
}

// listen opens the streams, and returns when they are open. They end with ctx.
func (r *floodRig) listen(ctx context.Context, t *testing.T, running *sync.WaitGroup, token string) {
	t.Helper()
	head := "GET /api/sse HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + token + "\r\n\r\n"
	for range floodStreams {
		conn, err := net.Dial("tcp", r.p.addr)
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
					r.open.Add(-1)
					return
				}
				if bytes.HasPrefix(line, []byte("data: {\"clientId")) {
					r.open.Add(1)
				} else if sent, ok := bytes.CutPrefix(line, []byte("data: ")); ok {
					if ns, err := strconv.ParseInt(string(bytes.TrimSpace(sent)), 10, 64); err == nil {
						at := time.Unix(0, ns)
						r.d.add(at, time.Since(at))
					}
				}
			}
		})
	}
	eventually(t, "all streams are open", func() bool { return r.open.Load() == floodStreams })
}

// measured is what happened in a phase.
type measured struct {
	p99             time.Duration
	n               int           // events that arrived
	server, clients time.Duration // of processors, of the program and of this process
}

func (m measured) String() string {
	return fmt.Sprintf("p99 %v of %d, processors %v server, %v clients", m.p99, m.n, m.server, m.clients)
}

// measure measures while phase runs, and until some events came.
func (r *floodRig) measure(t *testing.T, phase func()) (m measured) {
	t.Helper()
	r.d.take()
	server, clients := processors(t, strconv.Itoa(r.p.cmd.Process.Pid)), processors(t, "self")
	phase()
	r.d.await(t, floodStreams)
	m.p99, m.n = r.d.take()
	m.server, m.clients = processors(t, strconv.Itoa(r.p.cmd.Process.Pid))-server, processors(t, "self")-clients
	return m
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

// processors returns what a process has used of processors.
func processors(t *testing.T, pid string) time.Duration {
	t.Helper()
	b, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ") // the name may hold spaces
	fields := strings.Fields(rest)
	var ticks int
	for _, f := range fields[11:13] { // utime and stime, the 14th and the 15th: proc(5)
		n, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond // USER_HZ is 100 for every program
}

// openFiles counts a process's descriptors.
func openFiles(t *testing.T, p *process) int {
	t.Helper()
	names, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}
