package tidings_test

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tidings-sse/tidings"
)

// FuzzNDJSON: whatever lines are sent, each that isn't blank is answered in its place, with a receipt or a problem, up to one
// that ends the reading; and the same line as the only event of a request is answered alike.
func FuzzNDJSON(f *testing.F) {
	for _, seed := range []string{
		"{}\n", "{}", "\n\n{}\r\n", "{}\n{\n{}\n", `{"type":"x","target":{"userId":"u"}}` + "\n" + `{"target":{}}`, strings.Repeat(" ", 3000) + "\n{}\n", "null\n[]\n\"a\"\n", "\xff\n", "{}\x00\n",
	} {
		f.Add([]byte(seed))
	}
	const limit = 2000
	hub := apiHub(f, tidings.Options{Authorizer: tidings.TrustQuery{}, MaxEventBytes: limit})
	f.Cleanup(func() { _ = hub.Close() })
	api := hub.API()
	f.Fuzz(func(t *testing.T, body []byte) {
		if bytes.Contains(body, []byte("dempotencyKey")) || bytes.Contains(body, []byte(`\u`)) {
			return // a key that was used answers otherwise the second time
		}
		r := httptest.NewRequest("POST", "/api/sse/send", bytes.NewReader(body))
		r.Header.Set("Content-Type", apiNDJSON)
		w := apiRecord(api, r)
		if w.Code != 200 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		answers := bytes.Split(bytes.TrimSuffix(w.Body.Bytes(), []byte("\n")), []byte("\n"))
		if len(answers) == 1 && len(answers[0]) == 0 {
			answers = nil
		}
		n := 0
		for line := range bytes.SplitSeq(body, []byte("\n")) {
			line = bytes.TrimRight(line, "\r")
			if len(bytes.TrimSpace(line)) == 0 && len(line) <= limit {
				continue
			}
			if n == len(answers) {
				t.Fatalf("line %d, %q, has no answer", n, line)
			}
			var a struct {
				ID     string
				Status int
			}
			if err := json.Unmarshal(answers[n], &a); err != nil || (a.ID == "") == (a.Status == 0) {
				t.Fatalf("line %d, %q, is answered with %s: %v", n, line, answers[n], err)
			}
			n++
			if len(line) > limit {
				if a.Status != 413 {
					t.Errorf("a line of %d bytes is answered with %s", len(line), answers[n-1])
				}
				break
			}
			one := httptest.NewRequest("POST", "/api/sse/send", bytes.NewReader(line))
			one.Header.Set("Content-Type", apiJSON)
			if w := apiRecord(api, one); (w.Code == 200) != (a.ID != "") || w.Code != 200 && w.Code != a.Status {
				t.Errorf("%q alone is answered with %d %s, and as a line with %s", line, w.Code, w.Body, answers[n-1])
			}
		}
		if n != len(answers) {
			t.Errorf("%d lines have %d answers", n, len(answers))
		}
	})
}
