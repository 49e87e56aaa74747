package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tidings-sse/tidings"
)

// back is a server that keeps what it was sent, and accepts it.
func back(t testing.TB) (url string, bodies func() []string) {
	t.Helper()
	got := make(chan string, 16) // more than any test sends
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got <- r.URL.Path + " " + string(b)
		_, _ = io.WriteString(w, `{"id":"1a-1.0-0","matched":1,"scope":"node"}`)
	}))
	t.Cleanup(s.Close)
	return s.URL, func() (all []string) {
		for len(got) > 0 {
			all = append(all, <-got)
		}
		return all
	}
}

func TestWhatSendIsGivenIsWhatIsSent(t *testing.T) {
	url, bodies := back(t)
	for _, c := range []struct {
		stdin string
		args  []string
		want  string
	}{
		{"", []string{"--user", "bob", `{"text": "hi"}`}, `{"data":{"text":"hi"},"target":{"userId":"bob"}}`},
		{"", []string{"--type", "a", "--client", "c", "--user", "u", "--session", "s", "--topic", "t", "1"}, `{"type":"a","data":1,"target":{"clientId":"c","userId":"u","sessionId":"s","topic":"t"}}`},
		{"", []string{"--everyone"}, `{"data":null}`},
		{"", []string{"--everyone", "--text", "plain <b>"}, `{"text":"plain <b>"}`},
		{"", []string{"--everyone", "--text", ""}, `{"text":""}`},
		{"{\"a\":\n1}\n", []string{"--everyone", "-"}, `{"data":{"a":1}}`},
		{"two\nlines\r\n", []string{"--everyone", "--text", "-"}, `{"text":"two\nlines"}`},
		{"", []string{"--everyone", "--", "-5"}, `{"data":-5}`},
		{"", []string{"--topic", "t", "--exclude-client", "me", "--ttl", "1m", "--collapse-key", "k", "true"}, `{"data":true,"target":{"topic":"t"},"exclude":{"clientId":"me"},"ttlMs":60000,"collapseKey":"k"}`},
	} {
		out := run(t, c.stdin, append([]string{"send", "--url", url, "--idempotency-key", "i"}, c.args...)...)
		want := "/api/sse/send " + strings.TrimSuffix(c.want, "}") + `,"idempotencyKey":"i"}`
		if got := bodies(); out.code != exitOK || len(got) != 1 || got[0] != want {
			t.Errorf("%q: sent %q, want %s: %+v", c.args, got, want, out)
		}
		if out.stdout != "sent 1a-1.0-0 to 1 connection\n" || out.stderr != "" {
			t.Errorf("%q: %+v", c.args, out)
		}
	}
}

func TestTheURLMayBeTheServersOrTheStreams(t *testing.T) {
	url, bodies := back(t)
	for suffix, want := range map[string]string{"": "/api/sse/send", "/": "/api/sse/send", "/api/sse": "/api/sse/send", "/api/sse/": "/api/sse/send", "/prefix": "/prefix/api/sse/send", "/prefix/": "/prefix/api/sse/send"} {
		t.Setenv("TIDINGS_URL", url+suffix)
		out := run(t, "", "send", "--everyone", "1")
		if got := bodies(); out.code != exitOK || len(got) != 1 || !strings.HasPrefix(got[0], want+" ") {
			t.Errorf("%q: %q, %+v", suffix, got, out)
		}
	}
	for _, bad := range []string{"", "127.0.0.1:8080", "ftp://127.0.0.1", "http://", "http://a?b=c", "http://a#b", "http://a b"} {
		if out := run(t, "", "send", "--everyone", "--url", bad, "1"); out.code != exitUsage || !strings.Contains(out.stderr, "--url") {
			t.Errorf("%q: %+v", bad, out)
		}
	}
}

func TestWhatNamesNobodyOrIsEmptyIsNotSent(t *testing.T) {
	url, bodies := back(t)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"1"}, "--everyone for a broadcast"},
		{[]string{"--exclude-client", "me", "1"}, "--everyone for a broadcast"},
		{[]string{"--user", "", "1"}, "--user is empty"},
		{[]string{"--user=", "1"}, "--user is empty"},
		{[]string{"--client", "c", "--user", "", "1"}, "--user is empty"},
		{[]string{"--everyone", "--client", "", "1"}, "--client is empty"},
		{[]string{"--session", "", "1"}, "--session is empty"},
		{[]string{"--topic", "", "1"}, "--topic is empty"},
		{[]string{"--everyone", "--exclude-client", "", "1"}, "--exclude-client is empty"},
		{[]string{"--everyone", "--collapse-key", "", "1"}, "--collapse-key is empty"},
		{[]string{"--everyone", "--idempotency-key", "", "1"}, "--idempotency-key is empty"},
		{[]string{"--everyone", "--user", "bob", "1"}, "choose one"},
		{[]string{"--everyone", "hello"}, "add --text"},
		{[]string{"--everyone", ""}, "add --text"},
		{[]string{"--everyone", "--text"}, "there is no text"},
		{[]string{"--ndjson", "--user", "bob"}, "with --ndjson each line says"},
		{[]string{"--ndjson", "1"}, "with --ndjson each line says"},
		{[]string{"--ndjson", "--everyone"}, "with --ndjson each line says"},
	} {
		out := run(t, "", append([]string{"send", "--url", url}, c.args...)...)
		if out.code != exitUsage || !strings.Contains(out.stderr, c.want) || len(bodies()) > 0 {
			t.Errorf("%q: got %+v, want %q", c.args, out, c.want)
		}
	}
	if out := run(t, "not JSON", "send", "--url", url, "--everyone", "-"); out.code != exitFailed || !strings.Contains(out.stderr, "add --text") || len(bodies()) > 0 {
		t.Errorf("got %+v", out)
	}
}

func TestSendSaysWhatTheServerSays(t *testing.T) {
	url, _ := serve(t)
	t.Setenv("TIDINGS_URL", url)
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--client", "nobody", "1"}, exitOK, "to 0 connections: no connection has clientId nobody"},
		{[]string{"--client", "nobody", "--json", "1"}, exitOK, `"matched":0,"scope":"node","hint":"no connection has clientId nobody"`},
		{[]string{"--everyone", "--type", "tidings.x", "1"}, exitFailed, "reserved"},
		{[]string{"--user", "a\x00b", "1"}, exitFailed, "userId"},
		{[]string{"--everyone", "--url", closedPort(t), "1"}, exitFailed, "start it with tidings serve"},
	} {
		out := run(t, "", append([]string{"send"}, c.args...)...)
		if out.code != c.code || !strings.Contains(out.stdout+out.stderr, c.want) {
			t.Errorf("%q: got %+v, want %q", c.args, out, c.want)
		}
		if c.code == exitFailed && (out.stdout != "" || !strings.HasPrefix(out.stderr, "tidings: ") || strings.Count(out.stderr, "\n") != 1) {
			t.Errorf("%q: got %+v", c.args, out)
		}
	}
	if out := run(t, "", "send", "--everyone", "--text", strings.Repeat("a", 2<<20)); out.code != exitFailed || !strings.Contains(out.stderr, "too large") {
		t.Errorf("got %+v", out)
	}
}

func TestLinesAreSentAndAnsweredOneByOne(t *testing.T) {
	url, _ := serve(t)
	t.Setenv("TIDINGS_URL", url)
	good := `{"type":"n","data":1,"target":{"userId":"bob"}}`
	out := run(t, good+"\n"+good+"\n", "send", "--ndjson")
	if out.code != exitOK || strings.Count(out.stdout, `"matched":0`) != 2 {
		t.Errorf("got %+v", out)
	}
	out = run(t, good+"\n"+`{"type":"n","target":{}}`+"\nnonsense\n"+good, "send", "--ndjson")
	lines := strings.Split(strings.TrimSpace(out.stdout), "\n")
	if out.code != exitFailed || len(lines) != 4 || !strings.Contains(out.stderr, "2 of 4 lines were not sent") {
		t.Fatalf("got %+v", out)
	}
	for i, want := range []int{0, http.StatusBadRequest, http.StatusBadRequest, 0} {
		var p tidings.Problem
		if err := json.Unmarshal([]byte(lines[i]), &p); err != nil || p.Status != want {
			t.Errorf("line %d was answered with %s", i+1, lines[i])
		}
	}
	large := `{"everyone":true,"text":"` + strings.Repeat("x", 1<<20) + `"}`
	if out := run(t, good+"\n"+large+"\n"+good, "send", "--ndjson"); out.code != exitFailed || !strings.Contains(out.stderr, "line 2 is too large: neither it nor the lines after it were sent; of the 1 before it 0 were not") {
		t.Errorf("%+v", out)
	}
	if out := run(t, "", "send", "--ndjson"); out.code != exitOK || out.stdout != "" {
		t.Errorf("nothing: got %+v", out)
	}
	if out := run(t, good, "send", "--ndjson", "--url", closedPort(t)); out.code != exitFailed || !strings.Contains(out.stderr, "start it with tidings serve") {
		t.Errorf("got %+v", out)
	}
}

func TestAnAnswerComesBeforeTheNextLineIsWritten(t *testing.T) {
	url, _ := serve(t)
	stdin, type_ := io.Pipe()
	answers, stdout := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- Run(t.Context(), []string{"send", "--ndjson", "--url", url}, stdin, stdout, io.Discard)
	}()
	for range 3 {
		if _, err := io.WriteString(type_, `{"data":1}`+"\n"); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 1<<10)
		if n, err := answers.Read(buf); err != nil || !strings.Contains(string(buf[:n]), `"matched":0`) {
			t.Fatalf("got %q, %v", buf[:n], err)
		}
	}
	_ = type_.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
