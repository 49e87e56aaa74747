package tidings_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidings-sse/tidings"
)

func TestHTTP11GetsOneChunkAFrameAndNoFinalChunk(t *testing.T) {
	for _, p := range protocols {
		if p.version != "HTTP/1.1" {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			s := p.serveTCP(t, nil)
			conn := s.dialRaw(t, request11)
			r := bufio.NewReader(conn)
			head := readHead(t, r)
			if head[0] != "HTTP/1.1 200 OK" || !slices.Contains(head, "Transfer-Encoding: chunked") {
				t.Errorf("head: %q", head)
			}
			greeting := readChunk(t, r)
			_, before, rest := splitGreeting(t, greeting)
			if want := `event: tidings.connected` + "\n" + `data: {"clientId":"a","connectionId":"`; !strings.HasPrefix(rest, want) {
				t.Errorf("greeting: %q", rest)
			}
			receipt := send(t, s.hub, "héllo\nworld")
			if before == receipt.ID {
				t.Errorf("the greeting acknowledged %s", receipt.ID)
			}
			block := "data: héllo\ndata: world\nid: " + receipt.ID + "\n\n"
			want := fmt.Sprintf("%x\r\n%s\r\n", len(block), block)
			got := make([]byte, len(want))
			if _, err := io.ReadFull(r, got); err != nil || string(got) != want {
				t.Errorf("on the wire: %q, %v; want %q", got, err, want)
			}
			if n, err := s.hub.Disconnect(tidings.Target{ClientID: "a"}); n != 1 || err != nil {
				t.Fatalf("Disconnect: %d, %v", n, err)
			}
			end, err := io.ReadAll(r)
			if err != nil {
				t.Errorf("the end was not a FIN: %v", err)
			}
			if !bytes.HasSuffix(end, []byte("\n\n\r\n")) || bytes.HasSuffix(end, []byte("0\r\n\r\n")) {
				t.Errorf("the stream ended with %q: it must be truncated after the notice", end)
			}
		})
	}
}

func TestHTTP10GetsTheBareStream(t *testing.T) {
	for _, wrap := range []func(http.Handler) http.Handler{nil, hideHijacker} {
		p := protocols[0]
		p.wrap = wrap
		t.Run(fmt.Sprintf("hijacked %t", p.hijacked()), func(t *testing.T) {
			s := p.serveTCP(t, nil)
			conn := s.dialRaw(t, request10)
			r := bufio.NewReader(conn)
			head := readHead(t, r)
			if head[0] != "HTTP/1.0 200 OK" || slices.ContainsFunc(head, func(l string) bool {
				return strings.HasPrefix(l, "Transfer-Encoding:") || strings.HasPrefix(l, "Content-Length:")
			}) {
				t.Errorf("head: %q", head)
			}
			var greeting strings.Builder
			for !strings.HasSuffix(greeting.String(), "\n\n") {
				b, err := r.ReadByte()
				if err != nil {
					t.Fatal(err)
				}
				greeting.WriteByte(b)
			}
			splitGreeting(t, greeting.String())
			receipt := send(t, s.hub, "hello")
			want := "data: hello\nid: " + receipt.ID + "\n\n"
			got := make([]byte, len(want))
			if _, err := io.ReadFull(r, got); err != nil || string(got) != want {
				t.Errorf("on the wire: %q, %v; want %q", got, err, want)
			}
			if _, err := s.hub.Disconnect(tidings.Target{ClientID: "a"}); err != nil {
				t.Fatal(err)
			}
			if end, err := io.ReadAll(r); err != nil || !strings.HasPrefix(string(end), "retry: ") || !strings.HasSuffix(string(end), "\n\n") {
				t.Errorf("the stream ended with %q, %v", end, err)
			}
		})
	}
}

func TestHTTP10WithKeepAliveEndsWithItsStream(t *testing.T) {
	s := protocols[0].serveTCP(t, nil)
	conn := s.dialRaw(t, strings.Replace(request10, "\r\n\r\n", "\r\nConnection: keep-alive\r\n\r\n", 1))
	r := bufio.NewReader(conn)
	if head := readHead(t, r); slices.Contains(head, "Connection: keep-alive") {
		t.Errorf("head: %q", head)
	}
	eventually(t, "the stream is registered", func() bool { return s.hub.Stats().Connections == 1 })
	if _, err := s.hub.Disconnect(tidings.Target{ClientID: "a"}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); err != nil {
		t.Error(err)
	}
}

func TestRetryIsJitteredAroundTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const interval = 4 * time.Second
		s := protocols[1].serveInMemory(t, &tidings.Options{RetryInterval: interval})
		var low, high, sum time.Duration
		const n = 200
		for i := range n {
			st := s.open(t, "")
			if i == 0 {
				low, high = st.retry, st.retry
			}
			low, high, sum = min(low, st.retry), max(high, st.retry), sum+st.retry
			st.close()
		}
		if low < interval/2 || high > interval*3/2 {
			t.Errorf("retry from %v to %v", low, high)
		}
		if mean := sum / n; high-low < interval/2 || mean < interval*3/4 || mean > interval*5/4 {
			t.Errorf("retry from %v to %v, on average %v: it is not spread over the whole range", low, high, mean)
		}
	})
}

func TestAHeartbeatIsACommentThatIsSentOnlyWhereNothingElseWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := protocols[1].serveInMemory(t, &tidings.Options{HeartbeatInterval: 30 * time.Second})
		conn := s.dialRaw(t, request11)
		r := bufio.NewReader(conn)
		readHead(t, r)
		readChunk(t, r)
		start := time.Now()
		for i := range 3 {
			c := readChunk(t, r)
			if silent := time.Since(start); c != ":\n\n" || silent < 29*time.Second || silent > 30*time.Second {
				t.Errorf("heartbeat %d after %v: %q", i, silent, c)
			}
			start = time.Now()
		}
		for range 10 { // two every 50 s: each puts the next heartbeat off
			time.Sleep(25 * time.Second)
			send(t, s.hub, "x")
			if c := readChunk(t, r); !strings.HasPrefix(c, "data: x\n") {
				t.Errorf("after %v: %q", time.Since(start), c)
			}
		}
		last := time.Now()
		c := readChunk(t, r)
		if silent := time.Since(last); c != ":\n\n" || silent < 29*time.Second || silent > 30*time.Second {
			t.Errorf("%v after the last event: %q", silent, c)
		}
		if n := s.hub.Stats().Heartbeats; n != 4 {
			t.Errorf("%d heartbeats were counted", n)
		}
	})
}
