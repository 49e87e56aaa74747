package server_test

import (
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/tidings-sse/tidings/internal/server"
)

// admin asks for a path at the second address. host and header, a line, may be empty.
func (r *running) admin(t testing.TB, path, host, header string) (status int, body string) {
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

func TestTheMetricsHaveTheLogsCountsWhereItCounts(t *testing.T) {
	cfg := config(t)
	cfg.AdminAddr = ":0"
	_, memory := start(t, cfg).admin(t, "/metrics", "", "")
	if !strings.Contains(memory, "\ntidings_connections 0") || strings.Contains(memory, "tidings_log_") {
		t.Errorf("of a log in memory:\n%s", memory)
	}
	cfg = config(t)
	cfg.AdminAddr, cfg.DataDir = ":0", filepath.Join(t.TempDir(), "log")
	r := start(t, cfg)
	if status := r.client(t)("POST", "/api/sse/send", "", "application/json", `{}`); status != http.StatusOK {
		t.Fatalf("a send: %d", status)
	}
	_, body := r.admin(t, "/metrics", "", "")
	for _, line := range []string{
		"log_disconnects_total 0", "log_reconnects_total 0", "log_restarts_total 0", "log_appends_total 1", "log_events_total 1",
		"log_messages_total 1", `log_append_errors_total{stored="no"} 0`, `log_append_errors_total{stored="unknown"} 0`,
	} {
		if !strings.Contains(body, "\ntidings_"+line+"\n") {
			t.Errorf("without %s:\n%s", line, body)
		}
	}
	if !strings.Contains(body, "\ntidings_log_behind_messages ") { // 0, a moment after the send has returned
		t.Errorf("without log_behind_messages:\n%s", body)
	}
	for _, quantile := range []string{"0.5", "0.99", "1"} {
		_, rest, _ := strings.Cut(body, `tidings_log_append_seconds{quantile="`+quantile+`"} `)
		value, _, _ := strings.Cut(rest, "\n")
		if seconds, err := strconv.ParseFloat(value, 64); err != nil || seconds <= 0 || seconds > 60 {
			t.Errorf("the append took %q s", value)
		}
	}
}

func TestMetricsAndProfilesAreOnAnAddressOfTheirOwn(t *testing.T) {
	cfg := authenticated(t)
	cfg.AdminAddr = ":0"
	r := start(t, cfg)
	if !strings.HasPrefix(r.AdminURL(), "http://127.0.0.1:") {
		t.Fatalf("without a host it is at %s", r.AdminURL())
	}
	get := func(path, host, header string) (int, string) {
		t.Helper()
		return r.admin(t, path, host, header)
	}
	r.get(t, "/api/sse?userId=bob", "Authorization: Bearer "+mint(t, nil))
	status, body := get("/metrics", "", "")
	for _, line := range []string{
		"tidings_connections 0", "tidings_ready 1", `tidings_refused_total{reason="forbidden"} 1`, "tidings_sent_total 0", "go_goroutines ", "tidings_accept_failures_total 0", "tidings_silent_closed_total 0", "tidings_max_connections ",
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
