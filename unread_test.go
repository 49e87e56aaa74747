package tidings_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/tidings-sse/tidings"
)

// Row 14.
func TestWhatAClientSendsAfterItsRequestIsIgnoredUpToABound(t *testing.T) {
	const bound = 4 << 10
	for _, p := range named(t, "HTTP 1.0", "HTTP 1.1", "HTTP 1.1 unix", "HTTP 1.1 limited", "HTTP 1.1 TLS") {
		request := request11
		if p.version == "HTTP/1.0" {
			request = request10
		}
		for _, c := range []struct {
			name string
			with int // bytes that come with the request
			then int // bytes that come later
		}{
			{"with the request", 1000, 0},
			{"later", 0, bound},
			{"both", 1000, bound - 1000},
		} {
			t.Run(p.name+" "+c.name, func(t *testing.T) {
				o, ended := endings(tidings.Options{})
				s := p.serveTCP(t, o)
				conn := s.dialRaw(t, request+strings.Repeat("x", c.with))
				r := bufio.NewReader(conn)
				readHead(t, r)
				eventually(t, "the stream is registered", func() bool { return s.hub.Stats().Connections == 1 })
				if _, err := conn.Write(bytes.Repeat([]byte("y"), c.then)); err != nil {
					t.Fatal(err)
				}
				for i := range 3 {
					send(t, s.hub, "x")
					readUntil(t, r, "data: x\n")
					if len(ended) > 0 {
						t.Fatalf("after event %d: %+v", i, <-ended)
					}
				}
				if _, err := conn.Write([]byte("z")); err != nil {
					t.Fatal(err)
				}
				if c.with+c.then < bound {
					if _, err := conn.Write(bytes.Repeat([]byte("z"), bound-c.with-c.then)); err != nil {
						t.Fatal(err)
					}
				}
				if e := await(t, ended); e.reason != tidings.ReasonLost || e.err == nil || !strings.Contains(e.err.Error(), "4096 bytes") {
					t.Errorf("it ended: %s, %v", e.reason, e.err)
				}
			})
		}
	}
}

// Row 14, where net/http keeps the connection: what it doesn't read it doesn't hold either.
func TestWhatAClientSendsAfterItsRequestDoesNotEndAStreamThatCantBeHijacked(t *testing.T) {
	s := named(t, "HTTP 1.1 not hijackable")[0].serveTCP(t, nil)
	conn := s.dialRaw(t, request11+strings.Repeat("x", 2000))
	r := bufio.NewReader(conn)
	readHead(t, r)
	_ = conn.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
	_, _ = conn.Write(make([]byte, 16<<20)) // blocks: nobody reads it
	send(t, s.hub, "still here")
	readUntil(t, r, "data: still here\n")
}

func TestASecondRequestOnAStreamsConnectionIsNeverAnswered(t *testing.T) {
	for _, p := range protocols {
		if p.version != "HTTP/1.1" {
			continue
		}
		for _, together := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, together %t", p.name, together), func(t *testing.T) {
				t.Parallel()
				s := p.serveTCP(t, nil)
				second := strings.Replace(request11, "clientId=a", "clientId=second", 1)
				first := request11
				if together {
					first += second
				}
				conn := s.dialRaw(t, first)
				r := bufio.NewReader(conn)
				readHead(t, r)
				eventually(t, "the stream is registered", func() bool { return s.hub.Stats().Connections == 1 })
				if !together {
					if _, err := io.WriteString(conn, second); err != nil {
						t.Fatal(err)
					}
				}
				send(t, s.hub, "x")
				readUntil(t, r, "data: x\n")
				if _, err := s.hub.Disconnect(tidings.Target{ClientID: "a"}); err != nil {
					t.Fatal(err)
				}
				// What was sent and never read may make the end a reset.
				rest, _ := io.ReadAll(r)
				if bytes.Contains(rest, []byte("HTTP/1.1")) || bytes.Contains(rest, []byte("second")) {
					t.Errorf("the rest of the connection is %q", rest)
				}
				eventually(t, "the stream has ended", func() bool { return s.hub.Stats().Connections == 0 })
				if c := s.hub.Stats().Connected["none"]; c != 1 {
					t.Errorf("%d streams were begun", c)
				}
			})
		}
	}
}
