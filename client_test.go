package tidings_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/sse"
)

// http10 is the transport of an HTTP/1.0 client, which net/http doesn't have: one request a connection.
type http10 struct {
	dial func(context.Context) (net.Conn, error)
}

func (h http10) RoundTrip(r *http.Request) (*http.Response, error) {
	conn, err := h.dial(r.Context())
	if err != nil {
		return nil, err
	}
	var head bytes.Buffer
	fmt.Fprintf(&head, "%s %s HTTP/1.0\r\nHost: %s\r\n", r.Method, r.URL.RequestURI(), r.URL.Host)
	_ = r.Header.Write(&head)
	head.WriteString("\r\n")
	stop := context.AfterFunc(r.Context(), func() { _ = conn.Close() })
	if _, err = conn.Write(head.Bytes()); err == nil {
		var resp *http.Response
		if resp, err = http.ReadResponse(bufio.NewReader(conn), r); err == nil {
			resp.Body = http10Body{resp.Body, conn, stop}
			return resp, nil
		}
	}
	stop()
	_ = conn.Close()
	return nil, err
}

type http10Body struct {
	io.ReadCloser
	conn net.Conn
	stop func() bool
}

func (b http10Body) Close() error {
	b.stop()
	return b.conn.Close()
}

// get makes a request and returns the response, which is closed with the test.
func (s *site) get(t testing.TB, query string, header ...string) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), s.patience)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+"/api/sse?"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := s.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// A stream is an open stream as a client sees it. It is for one goroutine.
type stream struct {
	*sse.Decoder
	resp      *http.Response
	connected connected
	comments  []time.Time // when each came
	retry     time.Duration
}

// connected is the data of tidings.connected.
type connected struct {
	ClientID     string
	ConnectionID string
	Resume       string
}

// open opens a stream, reads its greeting, and returns when it is registered.
func (s *site) open(t testing.TB, query string, header ...string) *stream {
	t.Helper()
	st := decode(s.get(t, query, header...))
	if st.resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(st.resp.Body)
		t.Fatalf("status %s: %s", st.resp.Status, body)
	}
	st.greet(t)
	eventually(t, "the stream is registered", func() bool {
		for range s.hub.Connections(tidings.Target{ClientID: st.connected.ConnectionID}) {
			return true
		}
		return false
	})
	return st
}

func decode(resp *http.Response) *stream {
	st := &stream{resp: resp}
	st.Decoder = sse.NewDecoder(resp.Body, &sse.DecoderOptions{OnComment: func(string) {
		st.comments = append(st.comments, time.Now())
	}})
	return st
}

func (st *stream) greet(t testing.TB) {
	t.Helper()
	e := st.next(t)
	if e.Type != "tidings.connected" {
		t.Fatalf("the stream began with %+v", e)
	}
	if err := json.Unmarshal([]byte(e.Data), &st.connected); err != nil {
		t.Fatal(err)
	}
	st.retry, _ = st.Retry()
}

// next returns the next event.
func (st *stream) next(t testing.TB) sse.Event {
	t.Helper()
	for e, err := range st.Events() {
		if err != nil {
			t.Fatalf("the stream ended: %v", err)
		}
		return e
	}
	t.Fatal("the stream ended")
	return sse.Event{}
}

// rest returns the events up to the stream's end, and how it ended.
func (st *stream) rest() (es []sse.Event, err error) {
	for e, err := range st.Events() {
		if err != nil {
			return es, err
		}
		es = append(es, e)
	}
	return es, nil
}

// close ends the stream as a client does that goes away.
func (st *stream) close() { _ = st.resp.Body.Close() }

// eventually waits for a condition that becomes true without anything that could be waited for.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came true that %s", what)
		}
	}
}

// send broadcasts a text and returns its receipt.
func send(t testing.TB, hub *tidings.Hub, text string) tidings.Receipt {
	t.Helper()
	ctx := context.WithoutCancel(t.Context()) // a test may be over as soon as the text has arrived
	r, err := hub.Broadcast(ctx, "", tidings.Text(text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// An ending is what OnDisconnect was told.
type ending struct {
	tidings.Connection
	reason tidings.Reason
	err    error
	at     time.Time
}

// endings returns options whose OnDisconnect goes to the channel, which is large enough for the tests that use it.
func endings(o tidings.Options) (*tidings.Options, chan ending) {
	ch := make(chan ending, 10_000)
	o.OnDisconnect = func(c tidings.Connection, r tidings.Reason, err error) { ch <- ending{c, r, err, time.Now()} }
	return &o, ch
}

// await returns the next ending.
func await(t testing.TB, ch chan ending) ending {
	t.Helper()
	select {
	case e := <-ch:
		return e
	case <-time.After(40 * time.Second):
		t.Fatal("no connection ended")
		return ending{}
	}
}

// dialRaw opens a connection to the site and sends the request as it is.
func (s *site) dialRaw(t testing.TB, request string) net.Conn {
	t.Helper()
	conn, err := s.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(s.patience))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	return conn
}

const (
	request10 = "GET /api/sse?clientId=a HTTP/1.0\r\nHost: memory\r\nAccept: text/event-stream\r\n\r\n"
	request11 = "GET /api/sse?clientId=a HTTP/1.1\r\nHost: memory\r\nAccept: text/event-stream\r\n\r\n"
)

// readHead reads the head of a response and returns its lines.
func readHead(t testing.TB, r *bufio.Reader) []string {
	t.Helper()
	var lines []string
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("the head ended after %q: %v", lines, err)
		}
		line = strings.TrimSuffix(line, "\r\n")
		if line == "" {
			return lines
		}
		lines = append(lines, line)
	}
}

// readChunk reads a chunk (RFC 9112, section 7.1) to the letter, and returns its data.
func readChunk(t testing.TB, r *bufio.Reader) string {
	t.Helper()
	line, err := r.ReadString('\n')
	if err != nil {
		t.Fatalf("size of a chunk: %v", err)
	}
	var size int
	if _, err := fmt.Sscanf(line, "%x\r\n", &size); err != nil || line != fmt.Sprintf("%x\r\n", size) {
		t.Fatalf("size of a chunk: %q, %v", line, err)
	}
	b := make([]byte, size+2)
	if _, err := io.ReadFull(r, b); err != nil || !bytes.HasSuffix(b, []byte("\r\n")) {
		t.Fatalf("chunk of %d: %q, %v", size, b, err)
	}
	return string(b[:size])
}

// retryLine takes the retry line from the beginning of a stream, and the value of its id line out of it.
func splitGreeting(t testing.TB, block string) (retry, id, rest string) {
	t.Helper()
	retry, rest, ok := strings.Cut(block, "\n")
	if !ok || !strings.HasPrefix(retry, "retry: ") {
		t.Fatalf("the stream begins with %q", block)
	}
	rest, id, ok = strings.Cut(rest, "\nid: ")
	if !ok {
		t.Fatalf("the greeting has no id: %q", block)
	}
	return retry, strings.TrimSuffix(id, "\n\n"), rest
}

// readUntil reads up to and with the text.
func readUntil(t testing.TB, r *bufio.Reader, text string) {
	t.Helper()
	var got strings.Builder
	for !strings.HasSuffix(got.String(), text) {
		b, err := r.ReadByte()
		if err != nil {
			t.Fatalf("after %q: %v", got.String(), err)
		}
		got.WriteByte(b)
	}
}
