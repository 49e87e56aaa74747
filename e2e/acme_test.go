package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"

	"github.com/tidings-sse/tidings/internal/natstest"
)

// The program gets a certificate by itself, from an authority that is Let's Encrypt's own for tests.
func TestACertificateIsObtainedByACMEAndKept(t *testing.T) {
	addr := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: natstest.FreePort(t)} // the authority must know it first
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	t.Setenv("PEBBLE_WFE_NONCEREJECT", "0")
	quiet := log.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	authority := ca.New(quiet, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {Description: "the default"}})
	front := wfe.New(quiet, store, va.New(quiet, 5002, addr.Port, false, "", store), authority, []string{"pebble.example"}, false, false, 1, 1)
	var orders atomic.Int64
	handler := front.Handler()
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/order-plz" {
			orders.Add(1)
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	trusted := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(trusted, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", trusted)
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority.GetRootCert(0).PEM()) {
		t.Fatal("the authority has no root")
	}
	dir := t.TempDir()
	for _, start := range []string{"first", "second"} {
		p := run(t, "--addr", addr.String(), "--jwt-secret", doorSecret, "--acme-domain", "localhost", "--acme-dir", dir, "--acme-ca", srv.URL+"/dir")
		var (
			conn *tls.Conn
			err  error
		)
		for deadline := time.Now().Add(2 * within); ; time.Sleep(50 * time.Millisecond) {
			if conn, err = tls.Dial("tcp", p.addr, &tls.Config{RootCAs: roots, ServerName: "localhost"}); err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s start: still no certificate: %v", start, err)
			}
		}
		if state := conn.ConnectionState(); state.Version < tls.VersionTLS12 || state.PeerCertificates[0].DNSNames[0] != "localhost" {
			t.Errorf("%s start: %+v", start, state.PeerCertificates[0].DNSNames)
		}
		_ = conn.Close()
		p.stop(t)
	}
	if n := orders.Load(); n != 1 {
		t.Errorf("%d certificates were ordered", n)
	}
}
