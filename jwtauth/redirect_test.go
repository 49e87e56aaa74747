package jwtauth_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tidings-sse/tidings/jwtauth"
)

func TestAJWKSetIsFetchedOnlyFromWhereItsURLMayPoint(t *testing.T) {
	k := pairs(t)["P-256"]
	keys := set(t, jwk(t, k.public, map[string]any{"kid": "1"}))
	mux := http.NewServeMux()
	srv := httptest.NewTLSServer(mux)
	defer srv.Close()
	mux.HandleFunc("/jwks.json", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, keys) })
	for from, to := range map[string]string{
		"/1": "/jwks.json", "/2": "/1", "/3": "https://example.com/2", "/4": "/3", "/round": "/round",
		"/plain": "http://example.com/jwks.json", "/user": "https://a:b@example.com/jwks.json",
		"/inside": "https://127.0.0.1/jwks.json", "/inside6": "http://[::1]/jwks.json", "/local": "http://localhost/jwks.json",
	} {
		mux.Handle(from, http.RedirectHandler(to, http.StatusFound))
	}
	tok := token(t, jwt.SigningMethodES256, k.private, claims(map[string]any{"iss": "https://login.example", "aud": "tidings"}), "kid", "1")
	own := func(_ *http.Request, via []*http.Request) error {
		if len(via) > 1 {
			return errors.New("once is enough")
		}
		return nil
	}
	for _, c := range []struct {
		from  string
		check func(*http.Request, []*http.Request) error
		want  string // "" is the keys
	}{
		{"/jwks.json", nil, ""}, {"/1", nil, ""}, {"/3", nil, ""},
		{"/4", nil, "more than 3 redirects"}, {"/round", nil, "more than 3 redirects"},
		{"/plain", nil, "may not come from"}, {"/user", nil, "may not come from"},
		{"/inside", nil, "this machine"}, {"/inside6", nil, "this machine"}, {"/local", nil, "this machine"},
		{"/1", own, ""}, {"/2", own, "once is enough"}, {"/plain", own, "may not come from"},
	} {
		transport := srv.Client().Transport.(*http.Transport).Clone()
		transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, srv.Listener.Addr().String())
		}
		a := authorizer(t, jwtauth.Options{
			JWKSURL: "https://example.com" + c.from, Client: &http.Client{Transport: transport, CheckRedirect: c.check},
			Issuer: "https://login.example", Audience: []string{"tidings"}, Logger: slog.New(slog.DiscardHandler),
		})
		_, err := a.Verify(t.Context(), tok)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", c.from, err, c.want)
		}
		transport.CloseIdleConnections()
	}
}
