package chaos

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// fill sends n events of 200 bytes for everyone, and returns the id of the one before the last few.
func fill(b testing.TB, n *node, events, last int) (id string) {
	b.Helper()
	line := fmt.Appendf(nil, `{"type":"n","data":"%s"}`+"\n", strings.Repeat("x", 198))
	for sent := 0; sent < events; {
		batch := min(10_000, events-sent)
		res, err := client.Post("http://"+n.addr+"/api/sse/send", "application/x-ndjson", bytes.NewReader(bytes.Repeat(line, batch)))
		if err != nil {
			b.Fatal(err)
		}
		for answers := bufio.NewScanner(res.Body); answers.Scan(); {
			rest, ok := strings.CutPrefix(answers.Text(), `{"id":"`)
			if !ok {
				b.Fatalf("the answer is %s", answers.Text())
			}
			if sent++; sent == events-last {
				id, _, _ = strings.Cut(rest, `"`)
			}
		}
		_ = res.Body.Close()
	}
	return id
}

// resident returns the memory of a process, and the most that it had, in MiB.
func (n *node) resident(b testing.TB) (now, most float64) {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var kb float64
		if _, err := fmt.Sscanf(line, "VmRSS: %f kB", &kb); err == nil {
			now = kb / 1024
		}
		if _, err := fmt.Sscanf(line, "VmHWM: %f kB", &kb); err == nil {
			most = kb / 1024
		}
	}
	return now, most
}

// BenchmarkStart is how long a node takes until it is ready, with 1,000,000 events retained.
func BenchmarkStart(b *testing.B) {
	built.get(b)
	n := newNode(b, "node", "--data-dir", filepath.Join(b.TempDir(), "log"))
	n.ready()
	fill(b, n, 1_000_000, 1)
	var most float64
	for b.Loop() {
		b.StopTimer()
		n.kill()
		b.StartTimer()
		n.start()
		n.ready()
		b.StopTimer()
		_, m := n.resident(b)
		most = max(most, m)
		b.StartTimer()
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/start")
	b.ReportMetric(most, "MiB")
}

// BenchmarkResume is how long 5,000 clients take to be resumed with 100 events each, from the start of a node that was
// killed.
func BenchmarkResume(b *testing.B) {
	const clients, events = 5000, 100
	built.get(b)
	n := newNode(b, "node", "--data-dir", filepath.Join(b.TempDir(), "log"))
	n.ready()
	id := fill(b, n, 10_000, events)
	for b.Loop() {
		b.StopTimer()
		n.kill()
		b.StartTimer()
		n.start()
		n.ready()
		var wg sync.WaitGroup
		failed := make(chan error, clients)
		for range clients {
			wg.Go(func() {
				if err := resume(n.addr, id, events); err != nil {
					failed <- err
				}
			})
		}
		wg.Wait()
		select {
		case err := <-failed:
			b.Fatalf("%d of %d failed: %v", len(failed)+1, clients, err)
		default:
		}
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/resume")
}

// resume connects with a cursor, and reads until the events are there.
func resume(addr, id string, events int) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(within))
	fmt.Fprintf(c, "GET /api/sse HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nLast-Event-ID: %s\r\n\r\n", id)
	seen := 0
	for lines := bufio.NewScanner(c); lines.Scan(); {
		switch line := lines.Text(); {
		case line == "event: tidings.gap", strings.HasPrefix(line, "HTTP/1.1 ") && line != "HTTP/1.1 "+fmt.Sprint(http.StatusOK)+" OK":
			return fmt.Errorf("it was answered %s", line)
		case line == "event: n":
			if seen++; seen == events {
				return nil
			}
		}
	}
	return errors.New("the stream ended before everything had come")
}
