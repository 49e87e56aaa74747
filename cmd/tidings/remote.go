package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"

	"github.com/tidings-sse/tidings"
)

// remote is the server that a command talks to.
type remote struct {
	URL string `env:"TIDINGS_URL" default:"http://127.0.0.1:8080" help:"The server. A path is a prefix that its paths have, behind a proxy say."`
	CA  string `name:"ca" env:"TIDINGS_CA" placeholder:"FILE" help:"PEM file with the certificates of who signs the server's. Default: none; the system's are used."`
}

// roots returns the certificates that the server's must be signed by; nil for the system's.
func (r *remote) roots() (*x509.CertPool, error) {
	if r.CA == "" {
		return nil, nil
	}
	text, err := os.ReadFile(r.CA)
	if err != nil {
		return nil, fmt.Errorf("--ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("--ca %s holds no certificate: give a PEM file, which has lines like -----BEGIN CERTIFICATE-----", r.CA)
	}
	return pool, nil
}

// transport returns what makes the requests. Close its idle connections.
func (r *remote) transport() (*http.Transport, error) {
	roots, err := r.roots()
	if err != nil {
		return nil, err
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	return t, nil
}

// stream returns the URL of the server's stream, which the rest of its API is under.
func (r *remote) stream() (string, error) {
	const path = "/api/sse"
	u, err := url.Parse(r.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("--url %q is not a server's URL: write one like http://127.0.0.1:8080", r.URL)
	}
	return strings.TrimSuffix(strings.TrimSuffix(u.String(), "/"), path) + path, nil
}

// shown returns the URL without a password.
func (r *remote) shown() string {
	u, err := url.Parse(r.URL)
	if err != nil {
		return "the URL"
	}
	return u.Redacted()
}

// credential is what a command presents to the server.
type credential struct {
	Token string `env:"TIDINGS_TOKEN" placeholder:"TOKEN" help:"A token or an API key, where the server asks for one. It is seen in the list of processes: prefer the variable. Default: none."`
}

// present puts the credential into a request's header.
func (c credential) present(h http.Header) {
	if c.Token != "" {
		h.Set("Authorization", "Bearer "+c.Token)
	}
}

// explain says what to do about a server that can't be reached, or that asks who is there.
func (r *remote) explain(err error) error {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("nothing listens at %s: start it with tidings serve, or name another server with --url", r.shown())
	}
	if errors.Is(err, http.ErrSchemeMismatch) {
		return fmt.Errorf("the server at %s doesn't speak TLS: write http:// in --url", r.shown())
	}
	if _, unknown := errors.AsType[x509.UnknownAuthorityError](err); unknown {
		return fmt.Errorf("%w: if that authority is yours, give its certificate with --ca", err)
	}
	if p, ok := errors.AsType[*tidings.Problem](err); ok && p.Status == http.StatusUnauthorized {
		return fmt.Errorf("%w (what is presented is in TIDINGS_TOKEN, or --token)", err)
	}
	return err
}

// problemIn reads the problem document of an answer that is not 200, or makes one of an answer that has none.
func problemIn(res *http.Response) *tidings.Problem {
	const most = 64 << 10 // bytes of a document that are read
	p := &tidings.Problem{}
	t, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	body, err := io.ReadAll(io.LimitReader(res.Body, most))
	if err != nil || t != "application/problem+json" || json.Unmarshal(body, p) != nil || p.Detail == "" {
		p = &tidings.Problem{Detail: fmt.Sprintf("the answer was %s: is it a Tidings server?", res.Status)}
		if res.StatusCode == http.StatusBadRequest && toldOfTLS(body) {
			p = &tidings.Problem{Detail: "the server speaks TLS", Hint: "write https:// in its URL"}
		}
	}
	p.Status = res.StatusCode
	return p
}

// toldOfTLS reports whether an answer says, as net/http and nginx do, that the request should have been made over TLS.
func toldOfTLS(answer []byte) bool {
	return bytes.Contains(answer, []byte("HTTP request to an HTTPS server")) || bytes.Contains(answer, []byte("HTTP request was sent to HTTPS port"))
}
