package server_test

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/tidings-sse/tidings/internal/server"
)

func TestMetricsAndProfilesAreOnAnAddressOfTheirOwn(t *testing.T) {
	cfg := authenticated(t)
	cfg.AdminAddr = ":0"
	r := start(t, cfg)
	if !strings.HasPrefix(r.AdminURL(), "http://127.0.0.1:") {
		t.Fatalf("without a host it is at %s", r.AdminURL())
	}
	get := func(path, host, header string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.AdminURL()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if host != "" {
			req.Host = host
		}
		if name, value, ok := strings.Cut(header, ": "); ok {
			req.Header.Set(name, value)
		}
		transport := &http.Transport{}
		defer transport.CloseIdleConnections()
		res, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(b)
	}
	r.get(t, "/api/sse?userId=bob", "Authorization: Bearer "+mint(t, nil))
	status, body := get("/metrics", "", "")
	for _, line := range []string{
		"tidings_connections 0", "tidings_ready 1", `tidings_refused_total{reason="forbidden"} 1`, "tidings_sent_total 0", "go_goroutines ", "tidings_accept_failures_total 0", "tidings_max_connections ",
	} {
		if status != http.StatusOK || !strings.Contains(body, "\n"+line) {
			t.Errorf("%d, without %s:\n%s", status, line, body)
		}
	}
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/goroutine?debug=1", "/debug/pprof/heap?debug=1", "/healthz", "/readyz"} {
		if status, body := get(path, "", ""); status != http.StatusOK {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	for what, c := range map[string][2]string{
		"a name that was pointed here": {"evil.example", ""},
		"a page":                       {"", "Origin: http://localhost:3000"},
		"what another site embeds":     {"", "Sec-Fetch-Site: cross-site"},
	} {
		if status, _ := get("/debug/pprof/heap", c[0], c[1]); status != http.StatusForbidden {
			t.Errorf("%s: %d", what, status)
		}
	}
	for _, path := range []string{"/metrics", "/debug/pprof/", "/debug/pprof/heap"} {
		if res, body := r.get(t, path, "Authorization: Bearer "+adminKey); res.StatusCode != http.StatusNotFound {
			t.Errorf("%s on the server's own address: %s %s", path, res.Status, body)
		}
	}
}

func TestMetricsBeyondLoopbackNeedTheAdminKey(t *testing.T) {
	cfg := config(t)
	cfg.JWTSecret = []string{jwtSecret}
	cfg.AdminAddr = "0.0.0.0:0"
	if _, err := server.New(t.Context(), cfg, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "TIDINGS_ADMIN_KEY") {
		t.Errorf("without one: %v", err)
	}
	cfg = authenticated(t)
	cfg.AdminAddr = "0.0.0.0:0"
	r := start(t, cfg)
	at := strings.Replace(r.AdminURL(), "localhost", "127.0.0.1", 1)
	for key, want := range map[string]int{"": 401, apiKey: 403, adminKey: 200} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		if key != "" {
			req.Header.Set("Authorization", "Bearer "+key)
		}
		transport := &http.Transport{}
		res, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		transport.CloseIdleConnections()
		if res.StatusCode != want {
			t.Errorf("with %q: %s", key, res.Status)
		}
	}
}
