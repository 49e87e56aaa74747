package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// Each way of the page, as its requests are.
func TestAPageGetsInByEachWay(t *testing.T) {
	handler, hub, err := newHandler(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(handler)
	t.Cleanup(func() {
		if err := hub.Close(); err != nil {
			t.Error(err)
		}
		srv.Close()
	})
	do := func(method, path, token, cookie string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, srv.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		if cookie != "" {
			req.Header.Set("Cookie", cookie)
		}
		res, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = res.Body.Close() })
		return res
	}
	var got struct{ Token, Ticket string }
	decode := func(res *http.Response) {
		t.Helper()
		if err := json.NewDecoder(res.Body).Decode(&got); err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %v", res.Status, err)
		}
	}
	decode(do("POST", "/token", "", ""))
	session := do("POST", "/api/sse/session", got.Token, "")
	decode(do("POST", "/api/sse/tickets", got.Token, ""))
	cookie := session.Cookies()[0]
	for way, res := range map[string]*http.Response{
		"header": do("GET", "/api/sse", got.Token, ""),
		"cookie": do("GET", "/api/sse", "", cookie.Name+"="+cookie.Value),
		"ticket": do("GET", "/api/sse?ticket="+got.Ticket, "", ""),
	} {
		b := make([]byte, 200)
		n, err := res.Body.Read(b)
		if err != nil && err != io.EOF || res.StatusCode != http.StatusOK || !strings.Contains(string(b[:n]), "tidings.connected") {
			t.Errorf("%s: %s %q %v", way, res.Status, b[:n], err)
		}
	}
	for _, path := range []string{"/api/sse", "/api/sse?userId=user123", "/api/sse?ticket=x", "/api/sse/stats"} {
		if res := do("GET", path, "", ""); res.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s with nothing: %s", path, res.Status)
		}
	}
}
