package load_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidings-sse/tidings/internal/load"
)

// plain is an SSE server of a few lines: it writes to each connection what its script says.
type plain struct {
	url string
	mu  sync.Mutex
	got []*http.Request
}

// served answers each request with what script writes, and closes the connection when script returns.
func served(t testing.TB, script func(r *http.Request, w net.Conn)) *plain {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &plain{url: "http://" + l.Addr().String()}
	var wg sync.WaitGroup
	conns := map[net.Conn]bool{}
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			conns[c] = true
			p.mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				r, err := http.ReadRequest(bufio.NewReader(c))
				if err != nil {
					return
				}
				p.mu.Lock()
				p.got = append(p.got, r)
				p.mu.Unlock()
				script(r, c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		for c := range conns {
			_ = c.Close()
		}
		p.mu.Unlock()
		wg.Wait()
	})
	return p
}

func (p *plain) requests() []*http.Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*http.Request{}, p.got...)
}

const chunkedHead = streamHead + "Transfer-Encoding: chunked\r\n\r\n"

// stamped is an event in a chunk.
func stamped(class load.Class, seq, key uint64) string {
	s := load.Stamp{Seq: seq, Class: class, Key: key, Intended: time.Now().UnixNano()}
	return chunk(fmt.Sprintf("data: %s\nid: e%d\n\n", load.AppendPayload(nil, s, 110), seq))
}

// staysOpen reads until the client closes the connection.
func staysOpen(c net.Conn) { _, _ = c.Read(make([]byte, 1)) }

func TestWhatIsLostTwiceOrLateIsSeen(t *testing.T) {
	for name, x := range map[string]struct {
		keys             []uint64
		sent             uint64
		lost, twice, ooo int64
	}{
		"whole":               {[]uint64{1, 2, 3, 4}, 4, 0, 0, 0},
		"the first lost":      {[]uint64{3, 4}, 4, 2, 0, 0},
		"one in the middle":   {[]uint64{1, 2, 4, 5}, 5, 1, 0, 0},
		"the last lost":       {[]uint64{1, 2}, 4, 2, 0, 0},
		"one twice":           {[]uint64{1, 2, 2, 3}, 3, 0, 1, 0},
		"swapped":             {[]uint64{1, 3, 2, 4}, 4, 0, 0, 1},
		"late and lost":       {[]uint64{1, 5, 3, 6}, 6, 2, 0, 1},
		"late and then twice": {[]uint64{1, 4, 2, 3, 3, 2}, 4, 0, 2, 2},
	} {
		for _, portable := range []bool{false, true} {
			for _, class := range []load.Class{load.Broadcast, load.ToUser} {
				srv := served(t, func(_ *http.Request, c net.Conn) {
					var b strings.Builder
					b.WriteString(chunkedHead)
					for _, k := range x.keys {
						b.WriteString(stamped(class, k, k))
					}
					_, _ = c.Write([]byte(b.String()))
					staysOpen(c)
				})
				c := opened(t, load.Config{URL: srv.url + "/", Connections: 3, Users: 1, Portable: portable})
				if err := c.WaitDeliveries(soon(t), int64(3*len(x.keys))); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				ledger := load.NewLedger()
				ledger.Set(0, class, 0, x.sent)
				r := c.Report(ledger)
				if r.Lost != 3*x.lost || r.Duplicated != 3*x.twice || r.Reordered != 3*x.ooo {
					t.Errorf("%s, %v: %d lost, %d duplicated, %d reordered on three streams", name, class, r.Lost, r.Duplicated, r.Reordered)
				}
				_ = c.Close()
			}
		}
	}
}

func TestAStreamMayBeginWithWhateverComesFirst(t *testing.T) {
	if missing, late, twice := load.Verdicts(true, 5, 6, 8, 7, 4, 8); missing != 0 || late != 2 || twice != 1 {
		t.Errorf("%d missing, %d late, %d twice", missing, late, twice)
	}
	if missing, _, _ := load.Verdicts(false, 5, 6); missing != 4 {
		t.Errorf("%d missing", missing)
	}
}

func TestWhatIsInDoubtIsNoLoss(t *testing.T) {
	srv := served(t, func(_ *http.Request, c net.Conn) {
		_, _ = c.Write([]byte(chunkedHead + stamped(load.Broadcast, 1, 1) + stamped(load.Broadcast, 3, 3)))
		staysOpen(c)
	})
	c := opened(t, load.Config{URL: srv.url, Connections: 1})
	if err := c.WaitDeliveries(soon(t), 2); err != nil {
		t.Fatal(err)
	}
	ledger := load.NewLedger()
	ledger.Set(0, load.Broadcast, 0, 4)
	ledger.Doubt(load.Stamp{Key: 2}, 0)
	if n := c.Missing(ledger); n != 1 {
		t.Errorf("%d are missing", n)
	}
	ledger.Doubt(load.Stamp{Key: 4}, 0)
	if n := c.Missing(ledger); n != 0 {
		t.Errorf("%d are missing", n)
	}
}

func TestEventsOfAnEarlierRunAreNotChecked(t *testing.T) {
	old := load.AppendPayload(nil, load.Stamp{Seq: 900, Key: 900, Intended: 5}, 110)
	srv := served(t, func(_ *http.Request, c net.Conn) {
		_, _ = c.Write([]byte(chunkedHead + chunk("data: "+string(old)+"\n\n") + stamped(load.Broadcast, 1, 1)))
		staysOpen(c)
	})
	c := opened(t, load.Config{URL: srv.url, Connections: 1})
	if err := c.WaitDeliveries(soon(t), 1); err != nil {
		t.Fatal(err)
	}
	if r := c.Report(nil); !r.Whole() || r.Stale != 1 {
		t.Errorf("%+v", r)
	}
}

func TestAStreamThatEndsComesBackWithItsCursor(t *testing.T) {
	for _, portable := range []bool{false, true} {
		srv := served(t, func(r *http.Request, c net.Conn) {
			if r.Header.Get("Last-Event-ID") == "" { // cut off within the second event
				e := stamped(load.Broadcast, 2, 2)
				_, _ = c.Write([]byte(chunkedHead + chunk("retry: 1\n\n") + stamped(load.Broadcast, 1, 1) + e[:len(e)-3]))
				return
			}
			_, _ = c.Write([]byte(chunkedHead + stamped(load.Broadcast, 2, 2)))
			staysOpen(c)
		})
		c := opened(t, load.Config{URL: srv.url + "/?n={n}", Connections: 2, Portable: portable, Header: http.Header{"X-Who": {"u{n}"}}})
		if err := c.WaitDeliveries(soon(t), 4); err != nil {
			t.Fatalf("%v: %+v", err, c.Report(nil))
		}
		if r := c.Report(nil); !r.Whole() || r.Disconnects != 2 || r.Reconnects != 2 {
			t.Errorf("%+v", r)
		}
		for _, r := range srv.requests() {
			if id := r.Header.Get("Last-Event-ID"); id != "" && id != "e1" {
				t.Errorf("it came back with %q", id)
			}
			if n := r.URL.Query().Get("n"); r.Header.Get("X-Who") != "u"+n || r.Header.Get("Accept") != "text/event-stream" {
				t.Errorf("%v", r.Header)
			}
		}
		_ = c.Close()
	}
}

func TestStreamsThatCanNotBeOpenedAreGivenUpByKind(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	answering := func(s string) string {
		return served(t, func(_ *http.Request, c net.Conn) { _, _ = c.Write([]byte(s)) }).url
	}
	silent := served(t, func(_ *http.Request, c net.Conn) { staysOpen(c) }).url
	for kind, url := range map[string]string{
		"connection refused":       "http://" + closed.Addr().String(),
		"status 404":               answering("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
		"not an event stream":      answering("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi"),
		"compressed":               answering(streamHead + "Content-Encoding: br\r\n\r\n"),
		"ended before it was open": answering(""),
		"timeout":                  silent,
		"unavailable":              answering(chunkedHead + chunk("retry: 1\nevent: tidings.unavailable\ndata: {}\n\n")),
	} {
		for _, portable := range []bool{false, true} {
			c := opened(t, load.Config{URL: url, Connections: 2, ConnectAttempts: 2, ConnectTimeout: 200 * time.Millisecond, Retry: time.Millisecond, Portable: portable})
			if r := c.Report(nil); r.Connected != 0 || r.GivenUp != 2 || r.ConnectErrors[kind] < 2 || len(r.ConnectErrors) != 1 {
				t.Errorf("%s, portable %v: %d open, %d given up, %v", kind, portable, r.Connected, r.GivenUp, r.ConnectErrors)
			}
			_ = c.Close()
		}
	}
}
