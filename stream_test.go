package tidings_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/internal/memnet"
	"github.com/tidings-sse/tidings/sse"
)

// A protocol is one way for a stream to come from the handler to the client.
type protocol struct {
	name    string
	version string // as the client sees it
	tls     bool
	wrap    func(http.Handler) http.Handler // what stands before the hub; nil is nothing
	// truncated reports whether err is how a client of this protocol sees a stream that ended without its end.
	truncated func(err error) bool
}

// hijacked reports whether the hub takes the connection over.
func (p protocol) hijacked() bool { return p.wrap == nil && p.version != "HTTP/2.0" }

// protocols are all of them: both writers of the engine, with and without TLS.
var protocols = []protocol{
	// Without chunks and without a length, nothing tells a truncated HTTP/1.0 response from a whole one.
	{name: "HTTP 1.0", version: "HTTP/1.0", truncated: func(err error) bool { return err == nil }},
	{name: "HTTP 1.1", version: "HTTP/1.1", truncated: unexpectedEOF},
	{name: "HTTP 1.1 TLS", version: "HTTP/1.1", tls: true, truncated: unexpectedEOF},
	{name: "HTTP 1.1 not hijackable", version: "HTTP/1.1", wrap: hideHijacker, truncated: unexpectedEOF},
	{name: "HTTP 1.1 encoded", version: "HTTP/1.1", wrap: encode, truncated: unexpectedEOF},
	{name: "HTTP 1.1 TLS not hijackable", version: "HTTP/1.1", tls: true, wrap: hideHijacker, truncated: unexpectedEOF},
	{name: "HTTP 2 h2c", version: "HTTP/2.0", truncated: streamReset},
	{name: "HTTP 2 TLS", version: "HTTP/2.0", tls: true, truncated: streamReset},
}

func unexpectedEOF(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }

func streamReset(err error) bool {
	return err != nil && strings.Contains(err.Error(), "stream error") && strings.Contains(err.Error(), "INTERNAL_ERROR")
}

// plainWriter hides everything that an http.ResponseWriter may do beyond writing, but for Unwrap.
type plainWriter struct{ http.ResponseWriter }

func (w plainWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func hideHijacker(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(plainWriter{w}, r) })
}

// encode stands for a middleware that compresses: the body must pass through it, though the connection could be taken.
func encode(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "identity")
		h.ServeHTTP(w, r)
	})
}

// A site is a hub behind an http.Server, and a client of it.
type site struct {
	protocol
	hub    *tidings.Hub
	server *http.Server
	client *http.Client
	base   string
	dial   func(context.Context) (net.Conn, error) // with TLS, if the protocol has it
	dialed *dials
	// patience is how long a client waits for the server. In a bubble the heartbeats would go on for ever.
	patience time.Duration
	exact    bool // in a bubble: times are exact
}

// serveInMemory serves a hub over memnet: in a synctest bubble.
func (p protocol) serveInMemory(t testing.TB, o *tidings.Options, configure ...func(*site)) *site {
	l := memnet.Listen(64 << 10)
	return p.serve(t, l, l.DialContext, o, append(configure, func(s *site) { s.patience, s.exact = time.Hour, true })...)
}

// serveTCP serves a hub on a socket of the loopback interface.
func (p protocol) serveTCP(t testing.TB, o *tidings.Options, configure ...func(*site)) *site {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return p.serve(t, l, onlyTo(net.Dialer{}, l.Addr()), o, append(configure, func(s *site) { s.patience = 30 * time.Second })...)
}

// dials are the connections that a client has made, below TLS.
type dials struct {
	mu    sync.Mutex
	conns []net.Conn
}

func (d *dials) add(c net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.conns = append(d.conns, c)
}

func (d *dials) all() []net.Conn {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.conns)
}

// onlyTo dials one address, whatever is asked for.
func onlyTo(d net.Dialer, addr net.Addr) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		return d.DialContext(ctx, addr.Network(), addr.String())
	}
}

func (p protocol) serve(t testing.TB, l net.Listener, dial func(context.Context, string, string) (net.Conn, error), o *tidings.Options, configure ...func(*site)) *site {
	opts := tidings.Options{Authorizer: tidings.TrustQuery{}, Logger: slog.New(slog.DiscardHandler)}
	if o != nil {
		opts = *o
		if opts.Authorizer == nil {
			opts.Authorizer = tidings.TrustQuery{}
		}
		if opts.Logger == nil {
			opts.Logger = slog.New(slog.DiscardHandler)
		}
	}
	hub, err := tidings.New(&opts)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	var handler http.Handler = hub
	if p.wrap != nil {
		handler = p.wrap(hub)
	}
	mux.Handle("/api/sse", handler)
	s := &site{protocol: p, hub: hub, base: "http://memory", dialed: new(dials)}
	bare := dial
	dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := bare(ctx, network, address)
		if err == nil {
			s.dialed.add(c)
		}
		return c, err
	}
	s.server = &http.Server{
		Handler:   mux,
		Protocols: new(http.Protocols),
		ErrorLog:  log.New(failing{t}, "", 0),
	}
	s.dial = func(ctx context.Context) (net.Conn, error) { return dial(ctx, "tcp", "memory:80") }
	transport := &http.Transport{DialContext: dial, Protocols: new(http.Protocols), DisableCompression: true}
	switch {
	case p.version == "HTTP/2.0" && p.tls:
		s.server.Protocols.SetHTTP2(true)
		transport.Protocols.SetHTTP2(true)
	case p.version == "HTTP/2.0":
		s.server.Protocols.SetUnencryptedHTTP2(true)
		transport.Protocols.SetUnencryptedHTTP2(true)
	default:
		s.server.Protocols.SetHTTP1(true)
		transport.Protocols.SetHTTP1(true)
	}
	if p.tls {
		cert, pool := certificate(t)
		s.base = "https://memory"
		s.server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool}
		s.dial = func(ctx context.Context) (net.Conn, error) {
			c, err := dial(ctx, "tcp", "memory:443")
			if err != nil {
				return nil, err
			}
			return tls.Client(c, &tls.Config{RootCAs: pool, ServerName: "memory"}), nil
		}
	}
	s.client = &http.Client{Transport: transport}
	if p.version == "HTTP/1.0" {
		s.client.Transport = http10{s.dial}
	}
	for _, c := range configure {
		c(s)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		if p.tls {
			_ = s.server.ServeTLS(l, "", "")
		} else {
			_ = s.server.Serve(l)
		}
	}()
	t.Cleanup(func() {
		if err := hub.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		_ = s.server.Close()
		<-served
		transport.CloseIdleConnections()
		for _, c := range s.dialed.all() {
			_ = c.Close() // one whose peer has vanished never learns that the server closed
		}
	})
	return s
}

// failing makes a test fail with what net/http logs: a panic, a second head, a write after the handler returned.
type failing struct{ testing.TB }

func (f failing) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("TLS handshake error")) {
		return len(b), nil // a client that dialed twice, and needed one
	}
	f.Errorf("net/http logged: %s", b)
	return len(b), nil
}

// certificate returns a certificate for the host "memory", and a pool that trusts it.
var certificate = func() func(testing.TB) (tls.Certificate, *x509.CertPool) {
	make1 := sync.OnceValues(func() (tls.Certificate, error) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return tls.Certificate{}, err
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1),
			DNSNames:     []string{"memory"},
			NotBefore:    time.Unix(0, 0), // a bubble's clock begins in the year 2000
			NotAfter:     time.Unix(1<<32, 0),
			KeyUsage:     x509.KeyUsageDigitalSignature, IsCA: true, BasicConstraintsValid: true,
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		if err != nil {
			return tls.Certificate{}, err
		}
		leaf, err := x509.ParseCertificate(der)
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
	})
	return func(t testing.TB) (tls.Certificate, *x509.CertPool) {
		cert, err := make1()
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AddCert(cert.Leaf)
		return cert, pool
	}
}()

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

func TestHTTP11GetsOneChunkAFrameAndNoFinalChunk(t *testing.T) {
	p := protocols[1]
	for _, wrap := range []func(http.Handler) http.Handler{nil, hideHijacker} {
		p.wrap = wrap
		t.Run(fmt.Sprintf("hijacked %t", p.hijacked()), func(t *testing.T) {
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
			if c := readChunk(t, r); c != ":\n\n" || time.Since(start) != time.Duration(i+1)*30*time.Second {
				t.Errorf("after %v: %q", time.Since(start), c)
			}
		}
		for range 10 { // two every 50 s: each puts the next heartbeat off
			time.Sleep(25 * time.Second)
			send(t, s.hub, "x")
			if c := readChunk(t, r); !strings.HasPrefix(c, "data: x\n") {
				t.Errorf("after %v: %q", time.Since(start), c)
			}
		}
		last := time.Now()
		if c := readChunk(t, r); c != ":\n\n" || time.Since(last) != 30*time.Second {
			t.Errorf("%v after the last event: %q", time.Since(last), c)
		}
		if n := s.hub.Stats().Heartbeats; n != 4 {
			t.Errorf("%d heartbeats were counted", n)
		}
	})
}
