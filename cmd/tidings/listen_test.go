package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// fields splits a line that listen printed.
func fields(t testing.TB, line string) (typ, id, data string) {
	t.Helper()
	f := strings.Split(line, "\t")
	if len(f) != 3 {
		t.Fatalf("the line is %q", line)
	}
	return f[0], f[1], f[2]
}

func TestWhatIsSentIsHeard(t *testing.T) {
	url, _ := serve(t)
	t.Setenv("TIDINGS_URL", url)
	bob := begin(t, "listen", "--user", "bob", "--topic", "news", "--topic", "a,b")
	asJSON := begin(t, "listen", "--client", "c1", "--session", "s1", "--json")
	awaitConnections(t, url, 2)
	for _, args := range [][]string{
		{"--type", "new-message", "--user", "bob", `{"text":"<hi>"}`},
		{"--type", "news", "--topic", "news", "--text", "two\nlines \x1b[31m\u202e"},
		{"--type", "comma", "--topic", "a,b", "1"},
		{"--client", "c1", "--session", "s1", `{"text":"<hi>"}`},
		{"--client", "c1", "--text", "two\nlines"},
		{"--client", "c1", "--text", ""},
	} {
		if out := run(t, "", append([]string{"send"}, args...)...); out.code != exitOK || !strings.Contains(out.stdout, "to 1 connection") {
			t.Fatalf("%q: %+v", args, out)
		}
	}
	for _, want := range [][2]string{{"new-message", `{"text":"<hi>"}`}, {"news", `two\nlines \x1b[31m\u202e`}, {"comma", "1"}} {
		if typ, id, data := fields(t, bob.line()); typ != want[0] || id == "" || data != want[1] {
			t.Errorf("got %s %s %s, want %s", typ, id, data, want)
		}
	}
	for _, want := range []string{`"data":{"text":"<hi>"}}`, `"data":"two\nlines"}`, `"data":""}`} {
		if line := asJSON.line(); !strings.HasPrefix(line, `{"type":"message","id":"`) || !strings.HasSuffix(line, want) {
			t.Errorf("got %s, want %s", line, want)
		}
	}
	for _, c := range []*command{bob, asJSON} {
		if code := c.stop(); code != exitOK {
			t.Errorf("Ctrl-C ended it with %d: %s", code, c.stderr.String())
		}
		if notes := c.stderr.String(); !strings.HasPrefix(notes, "# tidings.connected {") {
			t.Errorf("its notes are %q", notes)
		}
	}
}

func TestListenResumesWhereItsStreamEnded(t *testing.T) {
	url, _ := serve(t, "--retry-interval", "100ms")
	t.Setenv("TIDINGS_URL", url)
	c := begin(t, "listen", "--user", "bob", "--count", "200")
	awaitConnections(t, url, 1)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: within}
	// Events go on while the stream is ended, again and again.
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for i := range 200 {
			if i%50 == 25 {
				req, _ := http.NewRequest(http.MethodDelete, url+"/api/sse/connections?userId=bob", nil)
				if res, err := client.Do(req); err == nil {
					_ = res.Body.Close()
				}
			}
			res, err := client.Post(url+"/api/sse/send", "application/json", strings.NewReader(fmt.Sprintf(`{"data":%d,"target":{"userId":"bob"}}`, i)))
			if err != nil {
				t.Errorf("send %d: %v", i, err)
				return
			}
			_ = res.Body.Close()
		}
	}()
	for i := range 200 {
		if _, _, data := fields(t, c.line()); data != fmt.Sprint(i) {
			t.Fatalf("event %d is %s: %s", i, data, c.stderr.String())
		}
	}
	if code := c.end(); code != exitOK {
		t.Errorf("it ended with %d: %s", code, c.stderr.String())
	}
	<-sent
	notes := c.stderr.String()
	if !strings.Contains(notes, `"resume":"complete"`) || strings.Contains(notes, `"resume":"gap"`) || !strings.Contains(notes, `# tidings.disconnected {"reason":"kicked"`) || !strings.Contains(notes, "reconnecting in") {
		t.Errorf("its notes are %s", notes)
	}
}

func TestListenIsToldOfAGapWhenTheServerWasRestarted(t *testing.T) {
	url, server := serve(t, "--retry-interval", "100ms")
	c := begin(t, "listen", "--user", "bob", "--url", url)
	awaitConnections(t, url, 1)
	if code := server.stop(); code != exitOK {
		t.Fatalf("the server ended with %d: %s", code, server.stderr.String())
	}
	eventually(t, "it can't connect", func() bool { return strings.Contains(c.stderr.String(), "nothing listens at") })
	again := begin(t, "serve", "--addr", strings.TrimPrefix(url, "http://"), "--drain-window", "50ms")
	again.line()
	again.line()
	awaitConnections(t, url, 1)
	if out := run(t, "", "send", "--url", url, "--user", "bob", "1"); out.code != exitOK {
		t.Fatalf("got %+v", out)
	}
	c.line()
	if notes := c.stderr.String(); !strings.Contains(notes, `"reason":"drained"`) || !strings.Contains(notes, `# tidings.gap {"reason":"epoch"`) {
		t.Errorf("its notes are %s", notes)
	}
}

func TestListenBeginsAfterTheEventItIsTold(t *testing.T) {
	url, _ := serve(t)
	t.Setenv("TIDINGS_URL", url)
	var ids []string
	for i := range 3 {
		out := run(t, "", "send", "--user", "bob", fmt.Sprint(i))
		ids = append(ids, strings.Fields(out.stdout)[1])
	}
	out := run(t, "", "listen", "--user", "bob", "--last-event-id", ids[0], "--count", "2")
	if want := fmt.Sprintf("message\t%s\t1\nmessage\t%s\t2\n", ids[1], ids[2]); out.code != exitOK || out.stdout != want {
		t.Errorf("got %+v, want %q", out, want)
	}
}

func TestListenEndsWhenItsTimeIsOver(t *testing.T) {
	url, _ := serve(t)
	if out := run(t, "", "listen", "--url", url, "--for", "50ms"); out.code != exitOK || out.stdout != "" {
		t.Errorf("got %+v", out)
	}
	if out := run(t, "", "listen", "--url", url, "--for", "50ms", "--count", "1"); out.code != exitFailed || !strings.Contains(out.stderr, "0 of 1 events had come when 50ms were over") {
		t.Errorf("got %+v", out)
	}
	c := begin(t, "listen", "--url", url, "--count", "1")
	awaitConnections(t, url, 1)
	if code := c.stop(); code != exitFailed || !strings.Contains(c.stderr.String(), "0 of 1 events had come when it was interrupted") {
		t.Errorf("it was interrupted: %d, %s", code, c.stderr.String())
	}
}

func TestListenFailsWhenThereNeverWasAStream(t *testing.T) {
	url, _ := script(t, status(http.StatusServiceUnavailable))
	for want, args := range map[string][]string{
		"1ms were over, and there never was a stream: ":                     {"--url", url, "--for", "1ms"},
		"300ms were over, and there never was a stream: nothing listens at": {"--url", "http://127.0.0.1:1", "--for", "300ms"},
	} {
		if out := run(t, "", append([]string{"listen"}, args...)...); out.code != exitFailed || !strings.Contains(out.stderr, want) {
			t.Errorf("%q: %+v", args, out)
		}
	}
}

func TestVerboseShowsHeartbeats(t *testing.T) {
	url, _ := serve(t, "--heartbeat-interval", "20ms")
	verbose, quiet := begin(t, "listen", "--url", url, "-v"), begin(t, "listen", "--url", url)
	awaitConnections(t, url, 2)
	eventually(t, "heartbeats show", func() bool { return strings.Count(verbose.stderr.String(), "# heartbeat\n") > 2 })
	for _, c := range []*command{verbose, quiet} {
		if code := c.stop(); code != exitOK {
			t.Errorf("it ended with %d", code)
		}
	}
	if notes := quiet.stderr.String(); strings.Contains(notes, "heartbeat") {
		t.Errorf("without -v: %s", notes)
	}
}

// script is a server that answers each request with the next of its answers, and the last one for ever.
func script(t testing.TB, answers ...http.HandlerFunc) (url string, requests *atomic.Int32) {
	t.Helper()
	requests = &atomic.Int32{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answers[min(int(requests.Add(1)), len(answers))-1](w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL, requests
}

// events answers with a stream that ends after its text.
func events(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		_, _ = w.Write([]byte(text))
	}
}

// status answers with a problem document.
func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"type":"urn:tidings:x","title":"X","status":%d,"detail":"the detail of %d","hint":"the hint"}`, code, code)
	}
}

func TestARefusalForGoodEndsListening(t *testing.T) {
	for _, c := range []struct {
		answer http.HandlerFunc
		want   string
	}{
		{status(http.StatusBadRequest), "the detail of 400: the hint"},
		{status(http.StatusForbidden), "the detail of 403: the hint"},
		{status(http.StatusMisdirectedRequest), "the detail of 421: the hint"},
		{http.NotFound, "404 Not Found: is it a Tidings server?"},
		{func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, "204"},
		{func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }, "no event stream"},
		{events("data: " + strings.Repeat("a", 5<<20) + "\n\n"), "larger than"},
	} {
		url, requests := script(t, c.answer)
		out := run(t, "", "listen", "--url", url)
		if out.code != exitFailed || !strings.Contains(out.stderr, c.want) || requests.Load() != 1 {
			t.Errorf("want %q after one request: got %+v after %d", c.want, out, requests.Load())
		}
	}
	url, _ := serve(t)
	if out := run(t, "", "listen", "--url", url, "--client", "~x"); out.code != exitFailed || !strings.Contains(out.stderr, "choose another one") {
		t.Errorf("got %+v", out)
	}
	for _, flag := range []string{"--client", "--user", "--session", "--topic", "--last-event-id"} {
		if out := run(t, "", "listen", "--url", url, flag, ""); out.code != exitUsage || !strings.Contains(out.stderr, flag+" is empty") {
			t.Errorf("%s: got %+v", flag, out)
		}
	}
}

func TestARefusalForNowIsTriedAgain(t *testing.T) {
	first := events("retry: 1\ndata: 1\nid: one\n\n")
	for _, code := range []int{http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable} {
		cursor := make(chan string, 1)
		url, _ := script(t, first, status(code), func(w http.ResponseWriter, r *http.Request) {
			cursor <- r.Header.Get("Last-Event-ID")
			events("data: 2\nid: two\n\n")(w, r)
		})
		out := run(t, "", "listen", "--url", url, "--count", "2")
		if out.code != exitOK || out.stdout != "message\tone\t1\nmessage\ttwo\t2\n" || !strings.Contains(out.stderr, fmt.Sprintf("the detail of %d", code)) {
			t.Errorf("%d: got %+v", code, out)
		}
		if got := <-cursor; got != "one" {
			t.Errorf("%d: it came back with %q", code, got)
		}
	}
}

func TestListenWaitsAsLongAsItIsTold(t *testing.T) {
	wait := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "1")
		status(http.StatusServiceUnavailable)(w, r)
	}
	url, _ := script(t, events("retry: 1\n\n"), wait, events("data: 1\n\n"))
	began := time.Now()
	if out := run(t, "", "listen", "--url", url, "--count", "1"); out.code != exitOK || time.Since(began) < time.Second {
		t.Errorf("after %v: %+v", time.Since(began), out)
	}
	url, requests := script(t, events("retry: 3600000\n\n"))
	c := begin(t, "listen", "--url", url)
	eventually(t, "it waits", func() bool { return strings.Contains(c.stderr.String(), "reconnecting in 1h0m0s") })
	if code := c.stop(); code != exitOK || requests.Load() != 1 {
		t.Errorf("after %d requests it ended with %d: %s", requests.Load(), code, c.stderr.String())
	}
}

func TestASilentStreamIsGivenUp(t *testing.T) {
	silent := func(head bool) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if head {
				events("retry: 1\n:\n\n")(w, r)
				_ = http.NewResponseController(w).Flush()
			}
			<-r.Context().Done()
		}
	}
	for _, head := range []bool{true, false} {
		url, _ := script(t, events("retry: 1\n\n"), silent(head), events("data: 1\n\n"))
		out := run(t, "", "listen", "--url", url, "--count", "1", "--timeout", "100ms")
		if out.code != exitOK || !strings.Contains(out.stderr, "nothing came for too long") {
			t.Errorf("head %v: got %+v", head, out)
		}
	}
	// What comes, if only a comment, keeps the stream.
	busy := func(w http.ResponseWriter, r *http.Request) {
		events("")(w, r)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for range 20 {
			<-tick.C
			_, _ = w.Write([]byte(":\n\n"))
			_ = http.NewResponseController(w).Flush()
		}
		events("data: 1\n\n")(w, r)
	}
	url, requests := script(t, busy)
	if out := run(t, "", "listen", "--url", url, "--count", "1", "--timeout", "700ms"); out.code != exitOK || requests.Load() != 1 {
		t.Errorf("after %d requests: %+v", requests.Load(), out)
	}
}

func TestATornEventIsNeitherPrintedNorAcknowledged(t *testing.T) {
	cursor := make(chan string, 1)
	url, _ := script(t, events("retry: 1\ndata: 1\nid: one\n\ndata: 2\nid: two\n"), func(w http.ResponseWriter, r *http.Request) {
		cursor <- r.Header.Get("Last-Event-ID")
		events("data: 2\nid: two\n\n")(w, r)
	})
	if out := run(t, "", "listen", "--url", url, "--count", "2"); out.code != exitOK || out.stdout != "message\tone\t1\nmessage\ttwo\t2\n" {
		t.Errorf("got %+v", out)
	}
	if got := <-cursor; got != "one" {
		t.Errorf("it came back with %q", got)
	}
}

func TestWhatIsPrintedCantDriveATerminal(t *testing.T) {
	for in, want := range map[string]string{
		"plain é 世界 🎉":         "plain é 世界 🎉",
		"a\tb\nc\rd":           `a\tb\nc\rd`,
		"\x1b]0;title\x07\x7f": `\x1b]0;title\a\x7f`,
		"\u009b31m":            `\u009b31m`,
		"\u202e\u2066\u2028":   `\u202e\u2066\u2028`,
		"\x00":                 `\x00`,
	} {
		if got := printable(in); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}
