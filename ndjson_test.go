package tidings_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tidings-sse/tidings"
)

// apiLine is an answer to a line: a receipt or a problem.
type apiLine struct {
	ID      string `json:"id"`
	Matched int    `json:"matched"`
	Scope   string `json:"scope"`

	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Field  string `json:"field"`

	Hint string `json:"hint"` // both have one
}

func (l apiLine) accepted() bool { return l.ID != "" && l.Scope == "node" && l.Status == 0 }

func (l apiLine) problem() tidings.Problem {
	return tidings.Problem{Type: l.Type, Title: l.Title, Status: l.Status, Detail: l.Detail, Field: l.Field, Hint: l.Hint}
}

// sendLines posts lines, and returns their answers.
func (s *apiServer) sendLines(t *testing.T, body string) []apiLine {
	t.Helper()
	a := s.do(t, "POST", "/api/sse/send", body, "Content-Type", apiNDJSON)
	return a.lines()
}

func (a *apiAnswer) lines() []apiLine {
	a.t.Helper()
	if ct := a.header.Get("Content-Type"); a.status != 200 || ct != apiNDJSON {
		a.t.Fatalf("answer %d %s %.300s", a.status, ct, a.body)
	}
	if len(a.body) > 0 && a.body[len(a.body)-1] != '\n' {
		a.t.Fatalf("the last answer is cut: %q", a.body)
	}
	var ls []apiLine
	for line := range bytes.Lines(a.body) {
		var l apiLine
		apiDecode(a.t, line, &l)
		ls = append(ls, l)
	}
	return ls
}

func TestEachLineIsAnsweredInOrderAndABadOneDoesNotStopTheOthers(t *testing.T) {
	s := apiServe(t, tidings.Options{})
	st := s.listen(t, "?userId=u")
	ls := s.sendLines(t, strings.Join([]string{
		`{"type":"one","target":{"userId":"u"}}`,
		`{"type":"tidings.bad"}`,
		``,
		"  \t\r",
		`{"target":{}}`,
		`{"type":"two","data":2}`,
		`not JSON`,
		`[]`,
		`{"type":"three"} {"type":"three and a half"}`,
		"  {\"type\":\"four\",\"text\":\"a\\nb\"}  \r",
		`{"type":"nobody","target":{"userId":"nobody"}}`,
		`{"type":"last"}`, // without a line end
	}, "\n"))
	want := []struct {
		typ    string // of the problem
		status int
		field  string
		event  string
	}{
		{event: "one"},
		{"invalid", 400, "type", ""},
		{"no-target", 400, "target", ""},
		{event: "two"},
		{"invalid", 400, "body", ""},
		{"invalid", 400, "body", ""},
		{"invalid", 400, "body", ""},
		{event: "four"},
		{event: "nobody"},
		{event: "last"},
	}
	if len(ls) != len(want) {
		t.Fatalf("%d answers, want %d: %+v", len(ls), len(want), ls)
	}
	for i, w := range want {
		switch l := ls[i]; {
		case w.event == "":
			apiCheckProblem(t, l.problem(), w.status, w.typ, w.field)
		case !l.accepted():
			t.Errorf("answer %d: %+v", i, l)
		case w.event == "nobody":
			if l.Matched != 0 || l.Hint == "" {
				t.Errorf("answer %d: %+v", i, l)
			}
		default:
			if e := st.next(); l.Matched != 1 || e.Type != w.event || e.ID != l.ID {
				t.Errorf("answer %d: %+v, and %+v arrived", i, l, e)
			}
		}
	}
}

func TestABodyWithoutALineIsAnsweredWithNone(t *testing.T) {
	s := apiServe(t, tidings.Options{})
	for _, body := range []string{"", "\n", "\r\n\r\n", " \n\t\n  "} {
		if ls := s.sendLines(t, body); len(ls) != 0 {
			t.Errorf("%q: %+v", body, ls)
		}
	}
}

func TestTenThousandLinesAreAnsweredWhileTheyAreSent(t *testing.T) {
	const n = 10_000
	s := apiServe(t, tidings.Options{MaxQueuedEvents: n, MaxQueuedBytes: 64 << 20})
	st := s.listen(t, "")
	body, lines := io.Pipe()
	go func() {
		w := bufio.NewWriter(lines)
		for i := range n {
			if i%7 == 3 {
				fmt.Fprintf(w, "{\"type\":\"open\",\"data\":%d}\n", i)
				continue
			}
			fmt.Fprintf(w, "{\"data\":%d}\n", i)
		}
		_ = lines.CloseWithError(w.Flush()) // nil is the end
	}()
	req, err := http.NewRequestWithContext(t.Context(), "POST", s.URL+"/api/sse/send", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", apiNDJSON)
	res, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	dec := json.NewDecoder(res.Body)
	for i := range n {
		var l apiLine
		if err := dec.Decode(&l); err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		if i%7 == 3 {
			if l.Status != 400 || l.Field != "type" {
				t.Fatalf("answer %d: %+v", i, l)
			}
			continue
		}
		if e := st.next(); !l.accepted() || e.ID != l.ID || e.Data != fmt.Sprint(i) {
			t.Fatalf("answer %d: %+v, and %+v arrived", i, l, e)
		}
	}
	if _, err := dec.Token(); err != io.EOF {
		t.Errorf("after the last answer: %v", err)
	}
}

func TestALineIsAnsweredBeforeTheNextIsSent(t *testing.T) {
	for name, with := range map[string][]func(*httptest.Server){"HTTP/1.1": nil, "HTTP/2.0": {apiH2C}} {
		t.Run(name, func(t *testing.T) {
			s := apiServe(t, tidings.Options{}, with...)
			body, lines := io.Pipe()
			defer lines.Close()
			req, err := http.NewRequestWithContext(t.Context(), "POST", s.URL+"/api/sse/send", body)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", apiNDJSON)
			first := make(chan error, 1) // the write of the first line, which the request waits for
			go func() {
				_, err := io.WriteString(lines, "{\"data\":0}\n")
				first <- err
			}()
			res, err := s.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if res.Proto != name {
				t.Fatalf("the protocol is %s", res.Proto)
			}
			if err := <-first; err != nil {
				t.Fatal(err)
			}
			answers := bufio.NewReader(res.Body)
			for i := range 20 {
				if i > 0 {
					if _, err := fmt.Fprintf(lines, "{\"data\":%d}\n", i); err != nil {
						t.Fatal(err)
					}
				}
				line, err := answers.ReadBytes('\n')
				if err != nil {
					t.Fatal(err)
				}
				var l apiLine
				if apiDecode(t, line, &l); !l.accepted() {
					t.Fatalf("answer %d: %+v", i, l)
				}
			}
			lines.Close()
			if b, err := answers.ReadByte(); err != io.EOF {
				t.Errorf("after the last answer: %q, %v", b, err)
			}
		})
	}
}

// apiAwaitReturns makes a server say when a handler has returned: nothing of it runs then.
func apiAwaitReturns(t *testing.T, s *http.Handler) <-chan struct{} {
	t.Helper()
	h, returned := *s, make(chan struct{}, 1) // one request
	*s = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			defer func() { returned <- struct{}{} }()
		}
		h.ServeHTTP(w, r)
	})
	return returned
}

func TestAClientThatGoesAwayInMidBodyLeavesNothingBehind(t *testing.T) {
	for name, with := range map[string]func(*httptest.Server){"HTTP/1.1": func(*httptest.Server) {}, "HTTP/2.0": apiH2C} {
		t.Run(name, func(t *testing.T) {
			var returned <-chan struct{}
			s := apiServe(t, tidings.Options{}, with, func(srv *httptest.Server) {
				returned = apiAwaitReturns(t, &srv.Config.Handler)
			})
			st := s.listen(t, "")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			body, lines := io.Pipe()
			req, err := http.NewRequestWithContext(ctx, "POST", s.URL+"/api/sse/send", body)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", apiNDJSON)
			go func() { _, _ = io.WriteString(lines, "{\"type\":\"whole\"}\n{\"type\":\"ha") }()
			res, err := s.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if e := st.next(); e.Type != "whole" {
				t.Errorf("%+v", e)
			}
			cancel()
			_ = lines.CloseWithError(context.Canceled) // net/http's client looks at ctx only between two reads of a body
			select {
			case <-returned:
			case <-time.After(apiWait):
				t.Fatal("the handler is still there")
			}
			if _, err := s.hub.Broadcast(t.Context(), "marker", nil); err != nil {
				t.Fatal(err)
			}
			if e := st.next(); e.Type != "marker" {
				t.Errorf("half a line was sent: %+v", e)
			}
		})
	}
}

func TestACutBodySendsItsWholeLinesAndSaysSo(t *testing.T) {
	s := apiServe(t, tidings.Options{})
	st := s.listen(t, "")
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const whole, half = "{\"type\":\"whole\"}\n", `{"type":"looks-whole"}`
	fmt.Fprintf(c, "POST /api/sse/send HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nContent-Length: 1000\r\n\r\n%s", whole)
	if e := st.next(); e.Type != "whole" {
		t.Errorf("%+v", e)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.WriteString(c, half); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	ls := (&apiAnswer{t: t, status: res.StatusCode, header: res.Header, body: b}).lines()
	if len(ls) != 2 || !ls[0].accepted() {
		t.Fatalf("%+v", ls)
	}
	apiCheckProblem(t, ls[1].problem(), 400, "invalid", "body", "can't be read", "no answer were not sent")
	if _, err := s.hub.Broadcast(t.Context(), "marker", nil); err != nil {
		t.Fatal(err)
	}
	if e := st.next(); e.Type != "marker" {
		t.Errorf("a cut line was sent: %+v", e)
	}
}

func TestALineOverTheLimitIsTheLast(t *testing.T) {
	const limit = 64 << 10
	s := apiServe(t, tidings.Options{MaxEventBytes: limit})
	pad := func(n int) string { // a line of n bytes
		const frame = `{"data":""}`
		return `{"data":"` + strings.Repeat("x", n-len(frame)) + `"}`
	}
	for _, end := range []string{"", "\n", "\r\n", "\n{}\n"} {
		ls := s.sendLines(t, "{}\n"+pad(limit)+end)
		for i, l := range ls {
			if !l.accepted() {
				t.Errorf("%q: answer %d: %+v", end, i, l)
			}
		}
		if want := 2 + strings.Count(end, "{}"); len(ls) != want {
			t.Errorf("%q: %d answers, want %d", end, len(ls), want)
		}
	}
	for _, over := range []int{1, 2, 3, 40_000, 1 << 20} {
		for _, end := range []string{"", "\n", "\r\n", "\n{}\n"} {
			routed := s.hub.Stats().Routed
			ls := s.sendLines(t, "{}\n"+pad(limit+over)+end)
			if len(ls) != 2 || !ls[0].accepted() {
				t.Fatalf("%d over, %q: %+v", over, end, ls)
			}
			apiCheckProblem(t, ls[1].problem(), 413, "too-large", "", fmt.Sprint(limit), "after it were not sent")
			if got := s.hub.Stats().Routed - routed; got != 1 {
				t.Errorf("%d over, %q: %d events were sent", over, end, got)
			}
		}
	}
}

// apiEndless is a body without an end that counts what is read of it.
type apiEndless struct {
	line string
	n    int64
}

func (b *apiEndless) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		n += copy(p[n:], b.line)
	}
	b.n += int64(n)
	return n, nil
}

func (b *apiEndless) Close() error { return nil }

func TestALineWithoutAnEndIsNotReadToItsEnd(t *testing.T) {
	hub := apiHub(t, tidings.Options{Authorizer: tidings.TrustQuery{}, MaxEventBytes: 100_000})
	defer hub.Close()
	body := &apiEndless{line: " "}
	r := httptest.NewRequest("POST", "/api/sse/send", body)
	r.Header.Set("Content-Type", apiNDJSON)
	w := apiRecord(hub.API(), r)
	ls := (&apiAnswer{t: t, status: w.Code, header: w.Header(), body: w.Body.Bytes()}).lines()
	if len(ls) != 1 {
		t.Fatalf("%+v", ls)
	}
	apiCheckProblem(t, ls[0].problem(), 413, "too-large", "")
	if body.n > 20<<20 { // the line, and what is read in vain so that the client sees the answer
		t.Errorf("%d bytes were read", body.n)
	}
}

func TestLinesAreAnsweredBehindAMiddlewareThatCantFlush(t *testing.T) {
	s := apiServe(t, tidings.Options{}, func(srv *httptest.Server) {
		h := srv.Config.Handler
		srv.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.ServeHTTP(struct{ http.ResponseWriter }{w}, r)
		})
	})
	ls := s.sendLines(t, strings.Repeat("{}\n", 100))
	for i, l := range ls {
		if !l.accepted() {
			t.Errorf("answer %d: %+v", i, l)
		}
	}
	if len(ls) != 100 {
		t.Errorf("%d answers", len(ls))
	}
}

func TestAClosedHubEndsARequestThatGoesOnSending(t *testing.T) {
	s := apiServe(t, tidings.Options{})
	body, lines := io.Pipe()
	defer lines.Close()
	req, err := http.NewRequestWithContext(t.Context(), "POST", s.URL+"/api/sse/send", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", apiNDJSON)
	go func() { _, _ = io.WriteString(lines, "{}\n") }() // and no more
	res, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answers := bufio.NewReader(res.Body)
	if line, err := answers.ReadString('\n'); err != nil || !strings.Contains(line, `"id"`) {
		t.Fatalf("%q, %v", line, err)
	}
	if err := s.hub.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, answers); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the answer ended with %v", err)
	}
}
