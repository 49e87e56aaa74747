package servers

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"time"

	"github.com/tidings-sse/tidings"
)

// StreamPath is where a server's streams are.
const StreamPath = "/api/sse"

// Protocol is what a server's streams are spoken in.
type Protocol string

// The protocols.
const (
	HTTP1    Protocol = "http1"     // HTTP/1.1
	HTTP1TLS Protocol = "http1-tls" // HTTP/1.1 over TLS
	HTTP2TLS Protocol = "http2-tls" // HTTP/2 over TLS
	H2C      Protocol = "h2c"       // HTTP/2 without TLS, by prior knowledge
)

// Listen serves on a free port of loopback, until the process ends, and returns its address. Every server has the same
// net/http server, which is that of "tidings serve", and the same listener.
func Listen(ctx context.Context, h http.Handler, p Protocol) (string, <-chan error, error) {
	lc := net.ListenConfig{Control: tidings.ListenControl(nil), KeepAlive: -1}
	ln, err := lc.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		Protocols:         new(http.Protocols),
		HTTP2:             &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	served := make(chan error, 1) // the error is for whoever still wants to know
	switch p {
	case HTTP1:
		server.Protocols.SetHTTP1(true)
	case H2C:
		server.Protocols.SetUnencryptedHTTP2(true)
	case HTTP1TLS, HTTP2TLS:
		server.Protocols.SetHTTP1(p == HTTP1TLS)
		server.Protocols.SetHTTP2(p == HTTP2TLS)
		cert, err := selfSigned()
		if err != nil {
			return "", nil, err
		}
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}
		go func() { served <- server.ServeTLS(ln, "", "") }()
		return ln.Addr().String(), served, nil
	default:
		return "", nil, fmt.Errorf("there is no protocol %q", p)
	}
	go func() { served <- server.Serve(ln) }()
	return ln.Addr().String(), served, nil
}

// selfSigned returns a certificate that nobody should trust.
func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
