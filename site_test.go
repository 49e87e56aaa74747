package tidings_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/internal/memnet"
)

// A protocol is one way for a stream to come from the handler to the client.
type protocol struct {
	name    string
	version string // as the client sees it
	tls     bool
	network string                          // of its sockets; empty is "tcp"
	listen  func(net.Listener) net.Listener // what stands around the listener; nil is nothing
	wrap    func(http.Handler) http.Handler // what stands before the hub; nil is nothing
	// truncated reports whether err is how a client of this protocol sees a stream that ended without its end.
	truncated func(err error) bool
	again     bool // it has the same writer on the same kind of socket as another one
}

// hijacked reports whether the hub takes the connection over.
func (p protocol) hijacked() bool { return p.wrap == nil && p.version != "HTTP/2.0" }

// inMemory reports whether the protocol is one of its own without a socket.
func (p protocol) inMemory() bool { return p.network == "" && p.listen == nil }

// protocols are all of them: every writer of the engine, with and without TLS.
var protocols = []protocol{
	// Without chunks and without a length, nothing tells a truncated HTTP/1.0 response from a whole one.
	{name: "HTTP 1.0", version: "HTTP/1.0", truncated: func(err error) bool { return err == nil }, again: true},
	{name: "HTTP 1.1", version: "HTTP/1.1", truncated: unexpectedEOF},
	{name: "HTTP 1.1 unix", version: "HTTP/1.1", network: "unix", truncated: unexpectedEOF},
	{name: "HTTP 1.1 limited", version: "HTTP/1.1", listen: limit, truncated: unexpectedEOF},
	{name: "HTTP 1.1 TLS", version: "HTTP/1.1", tls: true, truncated: unexpectedEOF},
	{name: "HTTP 1.1 not hijackable", version: "HTTP/1.1", wrap: hideHijacker, truncated: unexpectedEOF},
	{name: "HTTP 1.1 encoded", version: "HTTP/1.1", wrap: encode, truncated: unexpectedEOF, again: true},
	{name: "HTTP 1.1 TLS not hijackable", version: "HTTP/1.1", tls: true, wrap: hideHijacker, truncated: unexpectedEOF, again: true},
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

// limit stands for a listener that counts its connections: they are sockets, but not the types that package net has.
func limit(l net.Listener) net.Listener { return limited{l} }

type limited struct{ net.Listener }

func (l limited) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return struct{ net.Conn }{c}, nil
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
	// transport returns another transport like the client's, but for HTTP/1.0.
	transport func() *http.Transport
	// patience is how long a client waits for the server. In a bubble the heartbeats would go on for ever.
	patience time.Duration
	exact    bool // in a bubble: times are exact
}

// serveInMemory serves a hub over memnet: in a synctest bubble.
func (p protocol) serveInMemory(t testing.TB, o *tidings.Options, configure ...func(*site)) *site {
	l := memnet.Listen(64 << 10)
	return p.serve(t, l, l.DialContext, o, append(configure, func(s *site) { s.patience, s.exact = time.Hour, true })...)
}

// serveTCP serves a hub on a socket: of the loopback interface, or of the file system.
func (p protocol) serveTCP(t testing.TB, o *tidings.Options, configure ...func(*site)) *site {
	t.Helper()
	l := p.socket(t)
	return p.serve(t, l, onlyTo(net.Dialer{}, l.Addr()), o, append(configure, func(s *site) { s.patience = 30 * time.Second })...)
}

// socket listens on a new address of the protocol's network. What stands around the listener is not there yet.
func (p protocol) socket(t testing.TB) net.Listener {
	t.Helper()
	network, address := "tcp", "127.0.0.1:0"
	if p.network == "unix" {
		dir, err := os.MkdirTemp("", "t") // the test's own directory may be too long a name for a socket
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		network, address = p.network, filepath.Join(dir, "s")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// choose makes the protocol the only one.
func (p protocol) choose(ps *http.Protocols) {
	switch {
	case p.version == "HTTP/2.0" && p.tls:
		ps.SetHTTP2(true)
	case p.version == "HTTP/2.0":
		ps.SetUnencryptedHTTP2(true)
	default:
		ps.SetHTTP1(true)
	}
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
	var clientTLS *tls.Config
	if p.tls {
		cert, pool := certificate(t)
		s.base = "https://memory"
		s.server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}
		clientTLS = &tls.Config{RootCAs: pool, ServerName: "memory"}
		s.dial = func(ctx context.Context) (net.Conn, error) {
			c, err := dial(ctx, "tcp", "memory:443")
			if err != nil {
				return nil, err
			}
			return tls.Client(c, clientTLS), nil
		}
	}
	s.transport = func() *http.Transport {
		tr := &http.Transport{DialContext: dial, Protocols: new(http.Protocols), DisableCompression: true, TLSClientConfig: clientTLS.Clone()}
		p.choose(tr.Protocols)
		return tr
	}
	p.choose(s.server.Protocols)
	transport := s.transport()
	s.client = &http.Client{Transport: transport}
	if p.version == "HTTP/1.0" {
		s.client.Transport = http10{s.dial}
	}
	for _, c := range configure {
		c(s)
	}
	if p.listen != nil {
		l = p.listen(l)
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

// named returns the protocols with these names.
func named(t testing.TB, names ...string) []protocol {
	t.Helper()
	var ps []protocol
	for _, p := range protocols {
		if slices.Contains(names, p.name) {
			ps = append(ps, p)
		}
	}
	if len(ps) != len(names) {
		t.Fatalf("there are %d protocols of %q", len(ps), names)
	}
	return ps
}

func handlerFor(p protocol, h http.Handler) http.Handler {
	if p.wrap != nil {
		return p.wrap(h)
	}
	return h
}
