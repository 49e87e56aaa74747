package server_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidings-sse/tidings/internal/server"
)

// certificate writes a new certificate for 127.0.0.1, and returns it.
func certificate(t testing.TB, certFile, keyFile string, until time.Time) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: until,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestTLSIsServedFromFiles(t *testing.T) {
	dir := t.TempDir()
	cfg := authenticated(t)
	cfg.TLSCert, cfg.TLSKey = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	pool := x509.NewCertPool()
	pool.AddCert(certificate(t, cfg.TLSCert, cfg.TLSKey, time.Now().Add(time.Hour)))
	r := start(t, cfg)
	if !strings.HasPrefix(r.StreamURL(), "https://127.0.0.1:") {
		t.Errorf("the stream is at %s", r.StreamURL())
	}
	for _, version := range []string{"HTTP/1.1", "HTTP/2.0"} {
		protocols := new(http.Protocols)
		protocols.SetHTTP1(version == "HTTP/1.1")
		protocols.SetHTTP2(version == "HTTP/2.0")
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, Protocols: protocols}
		defer transport.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.StreamURL(), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+mint(t, nil))
		res, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		line := make([]byte, 200)
		n, err := res.Body.Read(line)
		if res.Proto != version || !bytes.Contains(line[:n], []byte("tidings.connected")) {
			t.Errorf("%s: %s, %q, %v", version, res.Proto, line[:n], err)
		}
		_ = res.Body.Close()
	}
	if _, err := tls.Dial("tcp", r.Addr().String(), &tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	conn := r.dial(t)
	if _, err := io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(conn); !bytes.Contains(b, []byte("400 Bad Request")) {
		t.Errorf("a plain request is answered with %q", b)
	}
}

func TestAChangedCertificateIsServedAndABrokenOneIsNot(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	first := certificate(t, certFile, keyFile, time.Now().Add(time.Hour))
	log := &logBuffer{}
	certs, err := server.NewCertificates(certFile, keyFile, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	serves := func(want *x509.Certificate) {
		t.Helper()
		certs.LookAgain()
		got, err := certs.Get()
		if err != nil || !got.Leaf.Equal(want) {
			t.Errorf("another certificate is served: %v", err)
		}
	}
	serves(first)
	second := certificate(t, certFile, keyFile, time.Now().Add(2*time.Hour))
	serves(second)
	if err := os.WriteFile(certFile, []byte("half a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	serves(second)
	if err := os.Remove(certFile); err != nil {
		t.Fatal(err)
	}
	serves(second)
	certificate(t, certFile, keyFile, time.Now().Add(-time.Hour))
	serves(second)
	if n := strings.Count(log.String(), "earlier one is still served"); n != 3 {
		t.Errorf("it was said %d times: %s", n, log)
	}
	serves(second) // and not said again
	if n := strings.Count(log.String(), "earlier one is still served"); n != 3 {
		t.Errorf("it was said %d times: %s", n, log)
	}
	third := certificate(t, certFile, keyFile, time.Now().Add(time.Hour))
	serves(third)
}

func TestTLSThatIsNotWholeIsRefusedAtTheStart(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	expired, expiredKey := filepath.Join(dir, "old.pem"), filepath.Join(dir, "old-key.pem")
	certificate(t, cert, key, time.Now().Add(time.Hour))
	certificate(t, expired, expiredKey, time.Now().Add(-time.Hour))
	for says, set := range map[string]func(*server.Config){
		"belong together":  func(c *server.Config) { c.TLSCert = cert },
		"no such file":     func(c *server.Config) { c.TLSCert, c.TLSKey = cert, filepath.Join(dir, "none") },
		"expired on":       func(c *server.Config) { c.TLSCert, c.TLSKey = expired, expiredKey },
		"does not match":   func(c *server.Config) { c.TLSCert, c.TLSKey = cert, expiredKey },
		"needs --acme-dir": func(c *server.Config) { c.ACMEDomain = []string{"a.example"} },
		"choose where": func(c *server.Config) {
			c.TLSCert, c.TLSKey, c.ACMEDomain, c.ACMEDir = cert, key, []string{"a.example"}, dir
		},
		"are for --acme-domain":    func(c *server.Config) { c.ACMEEmail = "a@example.com" },
		"private key does not mat": func(c *server.Config) { c.TLSCert, c.TLSKey = cert, expiredKey },
	} {
		cfg := config(t)
		set(cfg)
		if _, err := server.New(t.Context(), cfg, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want %q", err, says)
		}
	}
}
