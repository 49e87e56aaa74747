package web_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/tidings-sse/tidings/internal/web"
)

const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
	"img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func do(t *testing.T, h http.Handler, method, target string, header ...string) (*http.Response, string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	res := w.Result()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

// paths lists the URL path of every file of the demo.
func paths(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("demo")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		if e.Name() == "index.html" {
			all = append(all, "/sse-demo")
		} else {
			all = append(all, "/sse-demo/"+e.Name())
		}
	}
	return all
}

func TestEveryFileOfTheDemoIsServedWithItsTypeAndHeaders(t *testing.T) {
	demo := web.Demo()
	types := map[string]string{
		"":     "text/html; charset=utf-8",
		".css": "text/css; charset=utf-8",
		".js":  "text/javascript; charset=utf-8",
		".svg": "image/svg+xml",
	}
	for _, p := range paths(t) {
		res, body := do(t, demo, "GET", p)
		if res.StatusCode != http.StatusOK || body == "" {
			t.Errorf("GET %s: %s, %d bytes", p, res.Status, len(body))
		}
		for name, want := range map[string]string{
			"Content-Type":            types[path.Ext(p)],
			"Content-Security-Policy": policy,
			"X-Content-Type-Options":  "nosniff",
			"Referrer-Policy":         "no-referrer",
			"Cache-Control":           "no-cache",
		} {
			if got := res.Header.Get(name); got != want {
				t.Errorf("GET %s: %s is %q, want %q", p, name, got, want)
			}
		}
	}
}

func TestAnUnchangedFileIsNotSentAgain(t *testing.T) {
	demo := web.Demo()
	seen := map[string]string{}
	for _, p := range paths(t) {
		res, _ := do(t, demo, "GET", p)
		etag := res.Header.Get("ETag")
		if !regexp.MustCompile(`^"[0-9a-f]{24}"$`).MatchString(etag) {
			t.Errorf("GET %s: ETag is %q, want a quoted hash", p, etag)
		}
		if other, ok := seen[etag]; ok {
			t.Errorf("%s and %s share the ETag %s", p, other, etag)
		}
		seen[etag] = p
		res, body := do(t, demo, "GET", p, "If-None-Match", etag)
		if res.StatusCode != http.StatusNotModified || body != "" {
			t.Errorf("GET %s with its ETag: %s, %d bytes, want 304 and none", p, res.Status, len(body))
		}
	}
}

func TestHeadAnswersWithoutABody(t *testing.T) {
	res, body := do(t, web.Demo(), "HEAD", "/sse-demo")
	if res.StatusCode != http.StatusOK || body != "" || res.Header.Get("ETag") == "" {
		t.Errorf("HEAD /sse-demo: %s, %d bytes, ETag %q", res.Status, len(body), res.Header.Get("ETag"))
	}
}

func TestOtherMethodsAreRefused(t *testing.T) {
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS"} {
		res, body := do(t, web.Demo(), method, "/sse-demo")
		if res.StatusCode != http.StatusMethodNotAllowed || res.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %s, Allow %q", method, res.Status, res.Header.Get("Allow"))
		}
		wantProblem(t, res, body)
	}
}

func TestUnknownPathsAreNotFound(t *testing.T) {
	for _, p := range []string{"/sse-demo/none.js", "/sse-demo/index.html", "/sse-demo/../web.go", "/sse-demo/demo/main.js", "/sse-demox", "/"} {
		res, body := do(t, web.Demo(), "GET", p)
		if res.StatusCode != http.StatusNotFound {
			t.Errorf("GET %s: %s, want 404", p, res.Status)
		}
		wantProblem(t, res, body)
	}
}

func TestATrailingSlashLeadsToThePage(t *testing.T) {
	res, _ := do(t, web.Demo(), "GET", "/sse-demo/")
	if res.StatusCode != http.StatusPermanentRedirect || res.Header.Get("Location") != "/sse-demo" {
		t.Errorf("GET /sse-demo/: %s to %q", res.Status, res.Header.Get("Location"))
	}
}

func wantProblem(t *testing.T, res *http.Response, body string) {
	t.Helper()
	if got := res.Header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type is %q, want a problem document", got)
	}
	if got := res.Header.Get("Content-Security-Policy"); got != policy {
		t.Errorf("Content-Security-Policy is %q", got)
	}
	var doc struct {
		Type, Title, Detail string
		Status              int
	}
	if err := json.Unmarshal([]byte(body), &doc); err != nil {
		t.Fatalf("problem document %q: %v", body, err)
	}
	if !strings.HasPrefix(doc.Type, "urn:tidings:") || doc.Title == "" || doc.Detail == "" || doc.Status != res.StatusCode {
		t.Errorf("problem document lacks something: %s", body)
	}
}

var (
	reference = regexp.MustCompile(`(?:href|src)="([^"]*)"`)
	imported  = regexp.MustCompile(`(?:from|import) '([^']*)'`)
	cssURL    = regexp.MustCompile(`url\(\s*["']?([^"')]*)`)
	elsewhere = regexp.MustCompile(`(?i)\b(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}`)
	comment   = regexp.MustCompile(`(?m)^\s*//.*$`)
)

func TestEverythingThePageRefersToExists(t *testing.T) {
	demo := web.Demo()
	served := map[string]bool{}
	for _, p := range paths(t) {
		served[p] = true
	}
	used := map[string]bool{"/sse-demo": true}
	use := func(in, p string) {
		used[p] = true
		if !served[p] {
			t.Errorf("%s refers to %s, which is not served", in, p)
		}
	}
	for p := range served {
		_, body := do(t, demo, "GET", p)
		switch path.Ext(p) {
		case "":
			for _, m := range reference.FindAllStringSubmatch(body, -1) {
				switch ref := m[1]; {
				case strings.HasPrefix(ref, "#"):
					if !strings.Contains(body, `id="`+ref[1:]+`"`) {
						t.Errorf("%s refers to %s, which is not on the page", p, ref)
					}
				case strings.HasPrefix(ref, "/api/sse/"): // the server's, not ours
				default:
					use(p, ref)
				}
			}
		case ".js":
			for _, m := range imported.FindAllStringSubmatch(body, -1) {
				if !strings.HasPrefix(m[1], "./") {
					t.Errorf("%s imports %s, which is no file beside it", p, m[1])
					continue
				}
				use(p, path.Join(path.Dir(p), m[1]))
			}
		case ".css":
			for _, m := range cssURL.FindAllStringSubmatch(body, -1) {
				if !strings.HasPrefix(m[1], "data:") {
					use(p, path.Join(path.Dir(p), m[1]))
				}
			}
		}
	}
	for p := range served {
		if !used[p] {
			t.Errorf("%s is served, but nothing refers to it", p)
		}
	}
}

func TestThePageHasNoInlineScriptOrStyleAndNothingFromElsewhere(t *testing.T) {
	demo := web.Demo()
	_, page := do(t, demo, "GET", "/sse-demo")
	for what, re := range map[string]string{
		"an inline script":   `(?is)<script[^>]*>\s*[^<\s]`,
		"a style element":    `(?i)<style`,
		"a style attribute":  `(?i)\sstyle\s*=`,
		"an event attribute": `(?i)\son[a-z]+\s*=`,
		"a javascript: URL":  `(?i)javascript:`,
	} {
		if found := regexp.MustCompile(re).FindString(page); found != "" {
			t.Errorf("the page has %s: %q", what, found)
		}
	}
	for _, p := range paths(t) {
		_, body := do(t, demo, "GET", p)
		body = strings.ReplaceAll(body, "http://www.w3.org/2000/svg", "") // a namespace: never fetched
		if path.Ext(p) == ".js" {
			body = comment.ReplaceAllString(body, "")
		}
		if found := elsewhere.FindString(body); found != "" {
			t.Errorf("%s refers to another host: %s", p, found)
		}
		if strings.Contains(body, "innerHTML") || strings.Contains(body, "insertAdjacentHTML") {
			t.Errorf("%s makes markup of text", p)
		}
	}
}
