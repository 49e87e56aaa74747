package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/sse"
)

func TestEventsSentDuringALongReplayArriveBehindItOnce(t *testing.T) {
	const (
		missed = 1500 // events of 8 KiB: 12 MiB, more than all the buffers on the way
		during = 100
	)
	s := serve(t, tidings.Options{HoldBytes: 1 << 20})
	sent := 0
	send := func(n, size int) (matched int) {
		t.Helper()
		pad := strings.Repeat("x", size)
		for range n {
			sent++
			r, err := s.hub.NotifyClient(t.Context(), "slow", "note", map[string]any{"number": sent, "pad": pad})
			if err != nil {
				t.Fatal(err)
			}
			matched += r.Matched
		}
		return matched
	}

	first := connect(t, s, "")
	cursor := first.next(t).ID
	first.close()
	eventually(t, "it is gone", func() bool { return s.hub.Stats().Connections == 0 })
	send(missed, 8<<10)

	second := connect(t, s, cursor)
	if e := second.next(t); e.Type != "tidings.connected" || !strings.Contains(e.Data, `"complete"`) || e.ID != "" {
		t.Fatalf("the stream began with %+v", e)
	}
	// It reads no further for now, so that the replay is stuck.
	if n := send(during, 100); n != 0 || s.hub.Stats().Connections != 0 {
		t.Fatalf("%d events were queued for it: it is not in the middle of its replay", n)
	}
	for n := 1; n <= missed+during; n++ {
		e := second.next(t)
		if got, err := numberIn(e.Data); err != nil || got != n {
			t.Fatalf("event %d came as number %d, %v", got, n, err)
		}
	}
	eventually(t, "it is online", func() bool { return s.hub.Stats().Connections == 1 })
	if n := send(1, 1); n != 1 {
		t.Errorf("%d connections matched, want 1", n)
	}
	if got, err := numberIn(second.next(t).Data); err != nil || got != sent {
		t.Errorf("event %d came behind the replay, want %d, %v", got, sent, err)
	}
}

// slowStream is a stream that is read an event at a time.
type slowStream struct {
	conn net.Conn
	next func(*testing.T) sse.Event
}

// connect opens a stream as the client "slow", whose buffers are small.
func connect(t *testing.T, s *server, lastEventID string) *slowStream {
	t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.(*net.TCPConn).SetReadBuffer(16 << 10); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(4 * within)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET /api/sse?clientId=slow&lastEventId=%s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", lastEventID, s.addr)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	dec := sse.NewDecoder(res.Body, nil)
	return &slowStream{conn: conn, next: func(t *testing.T) sse.Event {
		t.Helper()
		for e, err := range dec.Events() {
			if err != nil {
				t.Fatal(err)
			}
			if e.Type == "tidings.checkpoint" {
				continue // it was silent for long, on a busy machine
			}
			return e
		}
		t.Fatal("the stream has ended")
		return sse.Event{}
	}}
}

func (s *slowStream) close() { _ = s.conn.Close() }
