package tidings_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/sse"
)

// apiWait is how long a test waits for what must come: long enough for a slow machine, and never slept through.
const apiWait = 20 * time.Second

const (
	apiJSON    = "application/json"
	apiNDJSON  = "application/x-ndjson"
	apiProblem = "application/problem+json"
)

// apiServer is a hub and its API on a real server.
type apiServer struct {
	*httptest.Server
	hub *tidings.Hub
}

// apiServe starts a server that believes everyone, where the options don't say otherwise.
func apiServe(t testing.TB, o tidings.Options, with ...func(*httptest.Server)) *apiServer {
	t.Helper()
	if o.Authorizer == nil {
		o.Authorizer = tidings.TrustQuery{}
	}
	return apiServeSafe(t, o, with...)
}

// apiServeSafe starts a server with just these options.
func apiServeSafe(t testing.TB, o tidings.Options, with ...func(*httptest.Server)) *apiServer {
	t.Helper()
	hub := apiHub(t, o)
	mux := http.NewServeMux()
	mux.Handle("/api/sse", hub)
	mux.Handle("/api/sse/", hub.API())
	srv := httptest.NewUnstartedServer(mux)
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	for _, f := range with {
		f(srv)
	}
	srv.Start()
	srv.Client().Transport.(*http.Transport).Protocols = srv.Config.Protocols
	t.Cleanup(func() {
		if err := hub.Close(); err != nil {
			t.Error(err)
		}
		srv.Close()
	})
	return &apiServer{srv, hub}
}

func apiHub(t testing.TB, o tidings.Options) *tidings.Hub {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	hub, err := tidings.New(&o)
	if err != nil {
		t.Fatal(err)
	}
	return hub
}

// apiH2C makes a server speak HTTP/2 without TLS, and so its client.
func apiH2C(srv *httptest.Server) {
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
}

// apiAnswer is an answer that was read to its end.
type apiAnswer struct {
	t      testing.TB
	status int
	header http.Header
	body   []byte
	req    *http.Request
}

// do makes a request; header is name, value, name, value.
func (s *apiServer) do(t testing.TB, method, target, body string, header ...string) *apiAnswer {
	t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+target, r)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	res, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return &apiAnswer{t, res.StatusCode, res.Header, b, req}
}

// send posts one event.
func (s *apiServer) send(t testing.TB, body string, header ...string) *apiAnswer {
	t.Helper()
	return s.do(t, http.MethodPost, "/api/sse/send", body, append([]string{"Content-Type", apiJSON}, header...)...)
}

// receipt is the answer to a send that was accepted.
func (a *apiAnswer) receipt() tidings.Receipt {
	a.t.Helper()
	var r tidings.Receipt
	a.into(&r)
	if r.ID == "" || r.Scope != tidings.ScopeNode {
		a.t.Fatalf("receipt %s", a.body)
	}
	return r
}

// into decodes the answer of a call that succeeded.
func (a *apiAnswer) into(v any) {
	a.t.Helper()
	if ct := a.header.Get("Content-Type"); a.status != http.StatusOK || ct != apiJSON {
		a.t.Fatalf("answer %d %s %s, want 200 %s", a.status, ct, a.body, apiJSON)
	}
	apiDecode(a.t, a.body, v)
}

func apiDecode(t testing.TB, b []byte, v any) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		t.Fatalf("%v in %.300s", err, b)
	}
}

// problem checks that the answer is a problem document of that status, type (without "urn:tidings:") and field, whose
// words hold each of these.
func (a *apiAnswer) problem(status int, typ, field string, words ...string) {
	a.t.Helper()
	if ct := a.header.Get("Content-Type"); a.status != status || ct != apiProblem {
		a.t.Fatalf("answer %d %q %.300s, want %d %s", a.status, ct, a.body, status, apiProblem)
	}
	var p tidings.Problem
	apiDecode(a.t, a.body, &p)
	apiCheckProblem(a.t, p, status, typ, field, words...)
}

func apiCheckProblem(t testing.TB, p tidings.Problem, status int, typ, field string, words ...string) {
	t.Helper()
	if p.Status != status || p.Type != "urn:tidings:"+typ || p.Field != field {
		t.Errorf("problem %+v, want status %d, type urn:tidings:%s, field %q", p, status, typ, field)
	}
	if p.Title == "" || p.Detail == "" {
		t.Errorf("problem %+v says too little", p)
	}
	// A denial's remedy is in its reason, which is the authorizer's; the others have a hint.
	if p.Hint == "" && status != http.StatusUnauthorized && status != http.StatusForbidden && typ != "unavailable" {
		t.Errorf("problem %+v doesn't say what to do", p)
	}
	for _, w := range words {
		if !strings.Contains(p.Detail+"\n"+p.Hint, w) {
			t.Errorf("problem %+v doesn't say %q", p, w)
		}
	}
}

// apiStream is a stream that is read by this project's decoder.
type apiStream struct {
	t         testing.TB
	events    <-chan sse.Event // closed when the stream has ended
	err       error            // what ended it; after events is closed
	connected struct{ ClientID, ConnectionID, Resume string }
	first     sse.Event // tidings.connected
	stop      context.CancelFunc
}

// listen opens a stream, and returns once it is connected. It ends with the test, or with close.
func (s *apiServer) listen(t testing.TB, query string, header ...string) *apiStream {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/api/sse"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", sse.ContentType)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != sse.ContentType {
		b, _ := io.ReadAll(res.Body)
		t.Fatalf("stream: %s %s", res.Status, b)
	}
	events := make(chan sse.Event, 64) // so that the reader is seldom in the server's way
	st := &apiStream{t: t, events: events, stop: cancel}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(events)
		defer res.Body.Close()
		for e, err := range sse.NewDecoder(res.Body, nil).Events() {
			if err != nil {
				st.err = err
				return
			}
			select {
			case events <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	st.first = st.next()
	if st.first.Type != "tidings.connected" {
		t.Fatalf("the stream begins with %+v", st.first)
	}
	if err := json.Unmarshal([]byte(st.first.Data), &st.connected); err != nil {
		t.Fatal(err)
	}
	// The greeting comes first: what is sent from then on arrives, and is matched once the stream is registered.
	s.awaitOnline(t, st, true)
	return st
}

// awaitOnline returns once the stream is, or is not, one of the hub's connections.
func (s *apiServer) awaitOnline(t testing.TB, st *apiStream, want bool) {
	t.Helper()
	online := func() bool {
		for range s.hub.Connections(tidings.Target{ClientID: st.connected.ConnectionID}) {
			return true
		}
		return false
	}
	for deadline := time.Now().Add(apiWait); online() != want; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("online is %t", !want)
		}
	}
}

// next returns the next event.
func (st *apiStream) next() sse.Event {
	st.t.Helper()
	select {
	case e, ok := <-st.events:
		if !ok {
			st.t.Fatalf("the stream has ended: %v", st.err)
		}
		return e
	case <-time.After(apiWait):
		st.t.Fatal("no event came")
	}
	panic("unreachable")
}

// close ends the stream, and waits for its end.
func (st *apiStream) close() {
	st.stop()
	for range st.events { // what came meanwhile
	}
}

// apiQuiet checks, when the function that it returns is called, that nothing was sent since: the log has not grown,
// and a stream that was open meanwhile has got nothing.
func (s *apiServer) apiQuiet(t testing.TB) func() {
	t.Helper()
	st := s.listen(t, "?clientId=listening&userId=u&sessionId=s&topic=t")
	routed := s.hub.Stats().Routed
	return func() {
		t.Helper()
		if got := s.hub.Stats().Routed; got != routed {
			t.Errorf("%d events were sent", got-routed)
		}
		r, err := s.hub.Broadcast(t.Context(), "marker", nil)
		if err != nil {
			t.Fatal(err)
		}
		if e := st.next(); e.Type != "marker" || e.ID != r.ID {
			t.Errorf("the stream got %+v", e)
		}
	}
}

// apiRecord serves a request without a network. A stream ends when its context does.
func apiRecord(h http.Handler, r *http.Request) (w *httptest.ResponseRecorder) {
	w = httptest.NewRecorder()
	defer func() {
		if v := recover(); v != nil && v != http.ErrAbortHandler {
			panic(v)
		}
	}()
	h.ServeHTTP(w, r)
	return w
}

// apiEvents decodes what a stream wrote. A stream that was cut is one.
func apiEvents(t testing.TB, b []byte) []sse.Event {
	t.Helper()
	var es []sse.Event
	for e, err := range sse.NewDecoder(bytes.NewReader(b), nil).Events() {
		if err != nil {
			t.Fatal(err)
		}
		es = append(es, e)
	}
	return es
}

func TestASendAnswersItsReceiptAndTheEventArrives(t *testing.T) {
	s := apiServe(t, tidings.Options{})
	st := s.listen(t, "?clientId=tab&userId=user_456&sessionId=session_789&topic=news")
	for _, target := range []string{
		``,
		`,"target":{"clientId":"tab"}`,
		`,"target":{"clientId":"` + st.connected.ConnectionID + `"}`,
		`,"target":{"userId":"user_456"}`,
		`,"target":{"userId":"user_456","sessionId":"session_789"}`,
		`,"target":{"topic":"news"}`,
		`,"targets":[{"userId":"nobody"},{"topic":"news"},{"clientId":"tab"}]`,
		`,"exclude":{"clientId":"other"}`,
	} {
		r := s.send(t, `{"type":"new-message","data":{"text":"hi"}`+target+`}`).receipt()
		if r.Matched != 1 || r.Hint != "" {
			t.Errorf("%s: %+v", target, r)
		}
		if e := st.next(); e != (sse.Event{Type: "new-message", Data: `{"text":"hi"}`, ID: r.ID}) {
			t.Errorf("%s: got %+v, want the event %s", target, e, r.ID)
		}
	}
}

func TestAReceiptSaysWhyNobodyMatched(t *testing.T) {
	s := apiServe(t, tidings.Options{})
	check := s.apiQuietStream(t)
	for target, hint := range map[string]string{
		`{"userId":"nobody"}`:                                 "no connection has userId nobody",
		`{"clientId":"listening","userId":"other"}`:           "1 connection has clientId listening; it has another userId",
		`{"clientId":"listening","topic":"other"}`:            "1 connection has clientId listening, and not the topic other",
		`{"userId":"u","sessionId":"s","topic":"not-this"}`:   "not the topic not-this",
		`{"topic":"<script>"}`:                                "no connection has topic <script>",
		`{"userId":"u","sessionId":"another"}`:                "no connection has sessionId another",
		`{"clientId":"listening","sessionId":"not-a-match"}`:  "it has another sessionId",
		`{"clientId":"~not-a-connection","userId":"whoever"}`: "no connection has clientId ~not-a-connection",
	} {
		r := s.send(t, `{"target":`+target+`}`).receipt()
		if r.Matched != 0 || !strings.Contains(r.Hint, hint) {
			t.Errorf("%s: %+v, want the hint %q", target, r, hint)
		}
	}
	check()
}

// apiQuietStream is apiQuiet for events that are sent, to others.
func (s *apiServer) apiQuietStream(t testing.TB) func() {
	t.Helper()
	st := s.listen(t, "?clientId=listening&userId=u&sessionId=s&topic=t")
	return func() {
		t.Helper()
		if _, err := s.hub.Broadcast(t.Context(), "marker", nil); err != nil {
			t.Fatal(err)
		}
		if e := st.next(); e.Type != "marker" {
			t.Errorf("the stream got %+v", e)
		}
	}
}

func TestACursorOfSomebodyElsesEventResumesWithOnlyWhatIsYours(t *testing.T) {
	s := apiServe(t, tidings.Options{})
	theirs := s.send(t, `{"type":"secret","target":{"userId":"them"}}`).receipt()
	s.send(t, `{"type":"secret","target":{"userId":"them"}}`).receipt()
	mine := s.send(t, `{"type":"mine","target":{"userId":"me"}}`).receipt()
	s.send(t, `{"type":"secret","target":{"userId":"them"}}`).receipt()
	all := s.send(t, `{"type":"all"}`).receipt()
	for _, st := range []*apiStream{
		s.listen(t, "?userId=me", "Last-Event-ID", theirs.ID),
		s.listen(t, "?userId=me&lastEventId="+theirs.ID),
		s.listen(t, "?userId=me&lastEventId=of-the-query-which-loses", "Last-Event-ID", theirs.ID),
	} {
		if st.connected.Resume != "complete" || st.first.ID != "" {
			t.Errorf("%+v %+v", st.connected, st.first)
		}
		for _, want := range []sse.Event{{Type: "mine", Data: "null", ID: mine.ID}, {Type: "all", Data: "null", ID: all.ID}} {
			if e := st.next(); e != want {
				t.Errorf("got %+v, want %+v", e, want)
			}
		}
	}
}

func TestAnUnknownPathAndAWrongMethodAreProblems(t *testing.T) {
	s := apiServe(t, tidings.Options{})
	check := s.apiQuiet(t)
	for _, path := range []string{"/api/sse/", "/api/sse/nothing", "/api/sse/send/", "/api/sse/send/more", "/api/sse/openapi.yaml", "/api/sse/SEND"} {
		for _, method := range []string{"GET", "POST", "DELETE", "BREW"} {
			s.do(t, method, path, "").problem(404, "not-found", "", path, "/api/sse/openapi.json")
		}
	}
	for path, allow := range map[string]string{
		"/api/sse":              "GET",
		"/api/sse/send":         "POST",
		"/api/sse/connections":  "DELETE, GET",
		"/api/sse/stats":        "GET",
		"/api/sse/openapi.json": "GET",
	} {
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW", "get"} {
			if slices.Contains(strings.Split(allow, ", "), method) {
				continue
			}
			a := s.do(t, method, path, "")
			a.problem(405, "method", "", method, "use "+allow)
			if got := a.header.Get("Allow"); got != allow {
				t.Errorf("%s %s: Allow %q, want %q", method, path, got, allow)
			}
		}
		if a := s.do(t, http.MethodHead, path, ""); a.status != 405 || a.header.Get("Content-Type") != apiProblem {
			t.Errorf("HEAD %s: %d", path, a.status)
		}
	}
	check()
}

func TestASecondSendWithItsKeyAnswersTheFirstReceipt(t *testing.T) {
	s := apiServe(t, tidings.Options{})
	st := s.listen(t, "?userId=u")
	const event = `{"type":"paid","data":{"order":7},"target":{"userId":"u"},"idempotencyKey":"order-7"}`
	first := s.send(t, event).receipt()
	if first.Matched != 1 {
		t.Fatalf("%+v", first)
	}
	another := s.listen(t, "?userId=u") // would be matched now
	for name, a := range map[string]*apiAnswer{
		"the same":          s.send(t, event),
		"as a header":       s.send(t, `{"type":"paid","data":{"order":7},"target":{"userId":"u"}}`, "Idempotency-Key", "order-7"),
		"both":              s.send(t, event, "Idempotency-Key", "order-7"),
		"another order":     s.send(t, `{"idempotencyKey":"order-7","target":{"userId":"u"},"data":{ "order" : 7 },"type":"paid"}`),
		"targets":           s.send(t, `{"type":"paid","data":{"order":7},"targets":[{"userId":"u"}],"idempotencyKey":"order-7"}`),
		"as a line of many": s.do(t, "POST", "/api/sse/send", event+"\n", "Content-Type", apiNDJSON),
	} {
		var r tidings.Receipt
		if apiDecode(t, a.body, &r); a.status != 200 || r != first {
			t.Errorf("%s: %d %s, want %+v", name, a.status, a.body, first)
		}
	}
	for name, other := range map[string]string{
		"type":        `{"type":"paid!","data":{"order":7},"target":{"userId":"u"},"idempotencyKey":"order-7"}`,
		"data":        `{"type":"paid","data":{"order":8},"target":{"userId":"u"},"idempotencyKey":"order-7"}`,
		"text":        `{"type":"paid","text":"7","target":{"userId":"u"},"idempotencyKey":"order-7"}`,
		"target":      `{"type":"paid","data":{"order":7},"target":{"userId":"v"},"idempotencyKey":"order-7"}`,
		"everyone":    `{"type":"paid","data":{"order":7},"idempotencyKey":"order-7"}`,
		"exclude":     `{"type":"paid","data":{"order":7},"target":{"userId":"u"},"exclude":{"clientId":"c"},"idempotencyKey":"order-7"}`,
		"ttlMs":       `{"type":"paid","data":{"order":7},"target":{"userId":"u"},"ttlMs":1000,"idempotencyKey":"order-7"}`,
		"collapseKey": `{"type":"paid","data":{"order":7},"target":{"userId":"u"},"collapseKey":"k","idempotencyKey":"order-7"}`,
	} {
		t.Run("another "+name, func(t *testing.T) {
			s.send(t, other).problem(409, "conflict", "idempotencyKey", "another key")
		})
	}
	s.send(t, event, "Idempotency-Key", "order-8").problem(400, "invalid", "idempotencyKey", "differs", "one of the two")
	s.send(t, event, "Idempotency-Key", "").problem(400, "invalid", "Idempotency-Key", "is empty", "leave it out")
	s.send(t, event, "Idempotency-Key", "a", "Idempotency-Key", "b").problem(400, "invalid", "Idempotency-Key", "2 times")
	s.send(t, event, "Idempotency-Key", strings.Repeat("k", 257)).problem(400, "invalid", "Idempotency-Key", "257 bytes", "256")
	s.send(t, event, "Idempotency-Key", "k\u202e").problem(400, "invalid", "Idempotency-Key", "U+202E")
	s.send(t, event, "Idempotency-Key", "k\xff").problem(400, "invalid", "Idempotency-Key", "UTF-8")
	s.do(t, "POST", "/api/sse/send", event, "Content-Type", apiNDJSON, "Idempotency-Key", "order-7").
		problem(400, "invalid", "Idempotency-Key", "each line")
	if n := s.hub.Stats().Routed; n != 1 {
		t.Errorf("%d events were sent, want 1", n)
	}
	last := s.send(t, `{"type":"last"}`).receipt()
	if e := st.next(); e.ID != first.ID {
		t.Errorf("first %+v", e)
	}
	for _, st := range []*apiStream{st, another} {
		if e := st.next(); e.ID != last.ID {
			t.Errorf("then %+v", e)
		}
	}
}

func TestConcurrentSendsWithOneKeyAreOneEvent(t *testing.T) {
	s := apiServe(t, tidings.Options{})
	st := s.listen(t, "?userId=u")
	const n = 50
	var wg sync.WaitGroup
	answers := make([]*apiAnswer, n)
	for i := range answers {
		wg.Go(func() { answers[i] = s.send(t, `{"target":{"userId":"u"}}`, "Idempotency-Key", "one") })
	}
	wg.Wait()
	first := answers[0].receipt()
	for _, a := range answers {
		if r := a.receipt(); r != first || r.Matched != 1 {
			t.Errorf("%+v, want %+v", r, first)
		}
	}
	marker := s.send(t, `{"type":"marker"}`).receipt()
	if e := st.next(); e.ID != first.ID {
		t.Errorf("first %+v", e)
	}
	if e := st.next(); e.ID != marker.ID {
		t.Errorf("then %+v", e)
	}
}

func TestAnEventIsNotReplayedAfterItsTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := apiHub(t, tidings.Options{Authorizer: tidings.TrustQuery{}})
		defer hub.Close()
		send := func(body string) tidings.Receipt {
			r := httptest.NewRequest(http.MethodPost, "/api/sse/send", strings.NewReader(body))
			r.Header.Set("Content-Type", apiJSON)
			w := apiRecord(hub.API(), r)
			return (&apiAnswer{t: t, status: w.Code, header: w.Header(), body: w.Body.Bytes()}).receipt()
		}
		types := func(cursor string) (types []string) {
			ctx, cancel := context.WithCancel(t.Context())
			r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/api/sse?lastEventId="+cursor, nil)
			w := httptest.NewRecorder()
			var wg sync.WaitGroup
			wg.Go(func() {
				defer func() { _ = recover() }() // http.ErrAbortHandler
				hub.ServeHTTP(w, r)
			})
			synctest.Wait()
			cancel()
			wg.Wait()
			for _, e := range apiEvents(t, w.Body.Bytes()) {
				types = append(types, e.Type)
			}
			return types
		}
		cursor := send(`{"type":"before"}`).ID
		send(`{"type":"short","ttlMs":1}`)
		send(`{"type":"long","ttlMs":60000}`)
		send(`{"type":"ever"}`)
		if got, want := types(cursor), []string{"tidings.connected", "short", "long", "ever"}; !slices.Equal(got, want) {
			t.Errorf("at once: %v, want %v", got, want)
		}
		time.Sleep(2 * time.Millisecond)
		if got, want := types(cursor), []string{"tidings.connected", "long", "ever"}; !slices.Equal(got, want) {
			t.Errorf("after 2 ms: %v, want %v", got, want)
		}
		time.Sleep(time.Minute)
		if got, want := types(cursor), []string{"tidings.connected", "ever"}; !slices.Equal(got, want) {
			t.Errorf("after a minute: %v, want %v", got, want)
		}
	})
}

func TestACollapseKeyReplacesTheEarlierEventOfTheSameTargets(t *testing.T) {
	s := apiServe(t, tidings.Options{})
	cursor := s.send(t, `{"type":"before"}`).receipt().ID
	s.send(t, `{"data":1,"target":{"userId":"u"},"collapseKey":"progress"}`).receipt()
	s.send(t, `{"data":"another target","target":{"userId":"u","sessionId":"s"},"collapseKey":"progress"}`).receipt()
	s.send(t, `{"data":"another key","target":{"userId":"u"},"collapseKey":"other"}`).receipt()
	s.send(t, `{"data":2,"target":{"userId":"u"},"collapseKey":"progress"}`).receipt()
	s.send(t, `{"data":3,"targets":[{"userId":"u"}],"collapseKey":"progress"}`).receipt()
	st := s.listen(t, "?userId=u&sessionId=s", "Last-Event-ID", cursor)
	if st.connected.Resume != "complete" {
		t.Errorf("%+v", st.connected)
	}
	for _, want := range []string{`"another target"`, `"another key"`, `3`} {
		if e := st.next(); e.Data != want {
			t.Errorf("got %+v, want %s", e, want)
		}
	}
}

func TestConnectionsAreListedPageByPage(t *testing.T) {
	const n = 250
	connected := make(chan struct{}, n) // one for each
	hub := apiHub(t, tidings.Options{
		Authorizer: tidings.TrustQuery{},
		OnConnect:  func(tidings.Connection) { connected <- struct{}{} },
	})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer func() {
		cancel()
		wg.Wait()
		if err := hub.Close(); err != nil {
			t.Error(err)
		}
	}()
	for i := range n {
		wg.Go(func() {
			r := httptest.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("/api/sse?clientId=c%d&userId=u%d&topic=b&topic=a&topic=b", i, i%2), nil)
			r.RemoteAddr = "192.0.2.1:1234"
			apiRecord(hub, r)
		})
	}
	for range n {
		select {
		case <-connected:
		case <-time.After(apiWait):
			t.Fatal("not connected")
		}
	}
	type page struct {
		Connections []tidings.Connection `json:"connections"`
		Total       int                  `json:"total"`
		Next        string               `json:"next"`
	}
	get := func(query string) (p page) {
		t.Helper()
		w := apiRecord(hub.API(), httptest.NewRequest(http.MethodGet, "/api/sse/connections"+query, nil))
		(&apiAnswer{t: t, status: w.Code, header: w.Header(), body: w.Body.Bytes()}).into(&p)
		return p
	}
	for query, want := range map[string]struct{ pages, size, all int }{
		"?":                          {3, 100, n},
		"?limit=7":                   {36, 7, n},
		"?limit=1":                   {n, 1, n},
		"?limit=125":                 {2, 125, n}, // the last page is full, and there is no empty one
		"?limit=1000":                {1, 1000, n},
		"?userId=u1&limit=50":        {3, 50, n / 2},
		"?userId=u1&topic=a":         {2, 100, n / 2},
		"?clientId=c17":              {1, 100, 1},
		"?clientId=c17&userId=u0":    {1, 100, 0},
		"?clientId=nobody&limit=100": {1, 100, 0},
	} {
		pages, seen, last := 0, map[string]bool{}, ""
		for p := get(query); ; p = get(query + "&after=" + url.QueryEscape(p.Next)) {
			pages++
			if p.Total != want.all {
				t.Fatalf("%s: the total is %d, want %d", query, p.Total, want.all)
			}
			if len(p.Connections) > want.size || p.Next != "" && len(p.Connections) != want.size {
				t.Fatalf("%s: a page of %d", query, len(p.Connections))
			}
			for _, c := range p.Connections {
				if c.ConnectionID <= last {
					t.Fatalf("%s: %s comes after %s", query, c.ConnectionID, last)
				}
				last = c.ConnectionID
				seen[c.ClientID] = true
				if !slices.Equal(c.Topics, []string{"a", "b"}) || c.RemoteAddr != "192.0.2.1:1234" || c.ConnectedAt.IsZero() || c.LastEventID == "" {
					t.Fatalf("%s: %+v", query, c)
				}
			}
			if p.Next == "" {
				break
			}
		}
		if len(seen) != want.all || pages != want.pages {
			t.Errorf("%s: %d connections in %d pages, want %d in %d", query, len(seen), pages, want.all, want.pages)
		}
	}
	if p := get("?after=~zzz"); p.Connections == nil || len(p.Connections) != 0 {
		t.Errorf("past the end: %+v, want []", p)
	}
}

func TestAConnectionIsDescribedAsItIs(t *testing.T) {
	s := apiServe(t, tidings.Options{})
	st := s.listen(t, "?clientId=c&userId=u&sessionId=s&topic=t")
	var page struct {
		Connections []tidings.Connection `json:"connections"`
		Total       int                  `json:"total"`
	}
	s.do(t, "GET", "/api/sse/connections?clientId=c", "").into(&page)
	if len(page.Connections) != 1 {
		t.Fatalf("%+v", page)
	}
	c := page.Connections[0]
	if c.ConnectionID != st.connected.ConnectionID || c.ClientID != "c" || c.UserID != "u" || c.SessionID != "s" ||
		!slices.Equal(c.Topics, []string{"t"}) || c.LastEventID != st.first.ID || c.Events != 0 || !strings.HasPrefix(c.RemoteAddr, "127.0.0.1:") {
		t.Errorf("%+v, connected as %+v", c, st.connected)
	}
	r := s.send(t, `{"target":{"clientId":"c"}}`).receipt()
	st.next()
	// The event has arrived, and is counted right after it was written.
	deadline := time.Now().Add(apiWait)
	for c.Events != 1 && time.Now().Before(deadline) {
		s.do(t, "GET", "/api/sse/connections?clientId="+url.QueryEscape(c.ConnectionID), "").into(&page)
		c = page.Connections[0]
	}
	if c.Events != 1 || c.LastEventID != r.ID || c.Bytes == 0 || c.Queued != 0 {
		t.Errorf("after an event: %+v", c)
	}
}

func TestConnectionsRefusesAQueryItCantUse(t *testing.T) {
	s := apiServe(t, tidings.Options{})
	st := s.listen(t, "?userId=u")
	for _, c := range []struct{ query, typ, field, says string }{
		{"?limit=0", "invalid", "limit", "1 to 1000"},
		{"?limit=1001", "invalid", "limit", "1 to 1000"},
		{"?limit=-1", "invalid", "limit", "1 to 1000"},
		{"?limit=", "invalid", "limit", "1 to 1000"},
		{"?limit=ten", "invalid", "limit", "1 to 1000"},
		{"?limit=1e2", "invalid", "limit", "1 to 1000"},
		{"?limit=99999999999999999999", "invalid", "limit", "1 to 1000"},
		{"?limit=1&limit=2", "invalid", "limit", "once"},
		{"?after=a&after=b", "invalid", "after", "once"},
		{"?user=u", "invalid", "user", "give clientId, userId, sessionId, topic, limit, after"},
		{"?userid=u", "invalid", "userid", "userId"},
		{"?userId=u&x=", "invalid", "x", "is not known"},
		{"?" + strings.Repeat("x", 5000) + "=1", "invalid", strings.Repeat("x", 64) + "..", "is not known"},
		{"?=u", "invalid", `""`, "is not known"},
		{"?userId=", "invalid", "userId", "is empty"},
		{"?userId=u&userId=v", "invalid", "userId", "2 times"},
		{"?topic=a&topic=b", "invalid", "topic", "2 times"},
		{"?userId=%zz", "invalid", "query", "percent-encode"},
		{"?userId=a;b", "invalid", "query", "percent-encode"},
	} {
		t.Run(fmt.Sprintf("%.40s", c.query), func(t *testing.T) {
			s.do(t, "GET", "/api/sse/connections"+c.query, "").problem(400, c.typ, c.field, c.says)
		})
	}
	for _, c := range []struct{ query, typ, field, says string }{
		{"", "no-target", "target", "name a clientId"},
		{"?", "no-target", "target", "name a clientId"},
		{"?userId=", "invalid", "userId", "is empty"},
		{"?limit=1", "invalid", "limit", "is not known"},
		{"?userId=u&limit=1", "invalid", "limit", "is not known"},
		{"?userId=u&after=x", "invalid", "after", "is not known"},
		{"?userId=u&userId=v", "invalid", "userId", "once"},
		{"?userId=u&clientId=%zz", "invalid", "query", "percent-encode"}, // else all of the user's
		{"?userId=u&all=true", "invalid", "all", "is not known"},
		{"?userId=" + strings.Repeat("u", 257), "invalid", "userId", "at most 256"},
	} {
		t.Run(fmt.Sprintf("delete %.40s", c.query), func(t *testing.T) {
			s.do(t, "DELETE", "/api/sse/connections"+c.query, "").problem(400, c.typ, c.field, c.says)
		})
	}
	// Nobody was disconnected.
	s.send(t, `{"type":"marker"}`).receipt()
	if e := st.next(); e.Type != "marker" {
		t.Errorf("%+v", e)
	}
}

func TestDisconnectEndsThoseThatMeetTheTarget(t *testing.T) {
	s := apiServe(t, tidings.Options{})
	a, b, other := s.listen(t, "?userId=u&topic=x"), s.listen(t, "?userId=u&clientId=b"), s.listen(t, "?userId=v&topic=x")
	var n struct {
		Disconnected int `json:"disconnected"`
	}
	for _, c := range []struct {
		query string
		want  int
		ended []*apiStream
	}{
		{"?userId=nobody", 0, nil},
		{"?userId=v&clientId=b", 0, nil},
		{"?userId=u&topic=x", 1, []*apiStream{a}},
		{"?userId=u", 1, []*apiStream{b}},
	} {
		s.do(t, "DELETE", "/api/sse/connections"+c.query, "").into(&n)
		if n.Disconnected != c.want {
			t.Errorf("%s: %d, want %d", c.query, n.Disconnected, c.want)
		}
		for _, st := range c.ended {
			e := st.next()
			var data struct {
				Reason  string `json:"reason"`
				RetryMs int64  `json:"retryMs"`
			}
			apiDecode(t, []byte(e.Data), &data)
			if e.Type != "tidings.disconnected" || e.ID != "" || data.Reason != "kicked" || data.RetryMs <= 0 {
				t.Errorf("%s: %+v", c.query, e)
			}
			if _, more := <-st.events; more || !errors.Is(st.err, io.ErrUnexpectedEOF) {
				t.Errorf("%s: the stream ended with %v, want it cut, which makes every client come back", c.query, st.err)
			}
			s.awaitOnline(t, st, false)
		}
	}
	s.send(t, `{"type":"marker"}`).receipt()
	if e := other.next(); e.Type != "marker" {
		t.Errorf("%+v", e)
	}
}

func TestStatsCountWhatHappened(t *testing.T) {
	s := apiServe(t, tidings.Options{})
	st := s.listen(t, "?userId=u")
	r := s.send(t, `{"target":{"userId":"u"}}`).receipt()
	st.next()
	s.send(t, `{"type":"tidings.x"}`).problem(400, "invalid", "type")
	s.send(t, `{"target":{}}`).problem(400, "no-target", "target")
	s.send(t, `not JSON`).problem(400, "invalid", "body")
	s.do(t, "POST", "/api/sse/send", "{}\n{\n", "Content-Type", apiNDJSON)
	st.next()
	s.listen(t, "?userId=v", "Last-Event-ID", r.ID)
	s.listen(t, "?userId=v", "Last-Event-ID", "not-one")
	s.do(t, "GET", "/api/sse?userId=a&userId=b", "").problem(400, "invalid", "userId")
	var got tidings.Stats
	s.do(t, "GET", "/api/sse/stats", "").into(&got)
	if got.Connections != 3 || got.Connected["none"] != 1 || got.Connected["complete"] != 1 || got.Connected["gap"] != 1 ||
		got.Refused["invalid"] != 1 || got.Sent != 2 || got.Routed != 2 || got.SendErrors["invalid"] != 3 || got.SendErrors["no-target"] != 1 ||
		got.Gaps["unknown"] != 1 || got.Replayed != 1 || got.History.Events != 2 || got.History.LastID == "" || got.Since.IsZero() {
		t.Errorf("%+v", got)
	}
}

func TestAHubWithoutAnAuthorizerIsSafe(t *testing.T) {
	s := apiServeSafe(t, tidings.Options{})
	st := s.listen(t, "?clientId=c&topic=public")
	const remedy = "Options.Authorizer"
	s.do(t, "GET", "/api/sse?userId=u", "").problem(403, "forbidden", "", "userId", remedy)
	s.do(t, "GET", "/api/sse?sessionId=s", "").problem(403, "forbidden", "", "sessionId", remedy)
	s.do(t, "GET", "/api/sse?clientId=c&userId=u&sessionId=s", "", "Accept", sse.ContentType).problem(403, "forbidden", "", remedy)
	s.send(t, `{"type":"x"}`).problem(403, "forbidden", "", "send", remedy)
	s.send(t, `not even JSON`).problem(403, "forbidden", "", remedy)
	s.do(t, "POST", "/api/sse/send", "{}\n", "Content-Type", apiNDJSON).problem(403, "forbidden", "", remedy)
	s.do(t, "GET", "/api/sse/connections", "").problem(403, "forbidden", "", remedy)
	s.do(t, "DELETE", "/api/sse/connections?clientId=c", "").problem(403, "forbidden", "", remedy)
	s.do(t, "GET", "/api/sse/stats", "").problem(403, "forbidden", "", remedy)
	if a := s.do(t, "GET", "/api/sse/openapi.json", ""); a.status != 200 {
		t.Errorf("the description: %d", a.status)
	}
	if n := s.hub.Stats().Routed; n != 0 {
		t.Errorf("%d events were sent", n)
	}
	if _, err := s.hub.Broadcast(t.Context(), "marker", nil); err != nil {
		t.Fatal(err)
	}
	if e := st.next(); e.Type != "marker" {
		t.Errorf("%+v", e)
	}
}

// apiDeny answers every request with the error of its token.
type apiDeny map[string]error

func (d apiDeny) Authorize(r *http.Request, _ tidings.Action) (tidings.Grant, error) {
	token := r.Header.Get("Authorization")
	if err := d[token]; err != nil {
		return tidings.Grant{}, err
	}
	g := tidings.Grant{UserID: "u", SessionID: "s", Topics: []string{"public", "orders.*"}}
	if token == "expired" {
		g.Expires = time.Now().Add(-time.Second)
	}
	return g, nil
}

func TestWhatTheAuthorizerSaysIsTheAnswer(t *testing.T) {
	s := apiServeSafe(t, tidings.Options{Authorizer: apiDeny{
		"":     &tidings.DeniedError{Unauthenticated: true, Reason: "there is no token"},
		"weak": fmt.Errorf("policy: %w", &tidings.DeniedError{Reason: "this token may not do that"}),
		"down": errors.New("the session store at db-7 is down"),
	}})
	calls := []struct{ method, path, body string }{
		{"GET", "/api/sse", ""},
		{"POST", "/api/sse/send", `{"type":"x"}`},
		{"GET", "/api/sse/connections", ""},
		{"DELETE", "/api/sse/connections?userId=u", ""},
		{"GET", "/api/sse/stats", ""},
	}
	for _, c := range calls {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			with := func(token string) *apiAnswer {
				return s.do(t, c.method, c.path, c.body, "Authorization", token, "Content-Type", apiJSON)
			}
			a := with("")
			a.problem(401, "unauthorized", "", "there is no token")
			if a.header.Get("WWW-Authenticate") == "" {
				t.Error("401 without WWW-Authenticate")
			}
			with("expired").problem(401, "unauthorized", "", "expired")
			with("weak").problem(403, "forbidden", "", "this token may not do that")
			a = with("down")
			a.problem(503, "unavailable", "", "come back")
			if a.header.Get("Retry-After") == "" {
				t.Error("503 without Retry-After")
			}
			if bytes.Contains(a.body, []byte("db-7")) {
				t.Errorf("the answer tells of the inside: %s", a.body)
			}
		})
	}
	for query, says := range map[string]string{
		"?userId=other":              "userId",
		"?sessionId=other":           "sessionId",
		"?topic=private":             `"private"`,
		"?topic=public&topic=orders": `"orders"`,
	} {
		s.do(t, "GET", "/api/sse"+query, "", "Authorization", "good").problem(403, "forbidden", "", says)
	}
	st := s.listen(t, "?topic=public&topic=orders.7&userId=u", "Authorization", "good")
	if r, err := s.hub.Send(t.Context(), tidings.Event{Target: tidings.Target{UserID: "u", SessionID: "s", Topic: "orders.7"}}); err != nil || r.Matched != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	st.next()
}

func TestAStreamThatCantBeServedForNowComesBack(t *testing.T) {
	down := apiServeSafe(t, tidings.Options{Authorizer: apiDeny{"": errors.New("down")}})
	full := apiServe(t, tidings.Options{MaxConnections: 1})
	full.listen(t, "")
	for reason, s := range map[string]*apiServer{"authorizer": down, "full": full} {
		for _, accept := range []string{"text/event-stream", "text/html, Text/Event-Stream;q=0.9", "application/json,text/event-stream"} {
			req, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/api/sse", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Accept", accept)
			res, err := s.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			dec := sse.NewDecoder(res.Body, nil)
			var got []sse.Event
			var cut error
			for e, err := range dec.Events() {
				if cut = err; err != nil {
					break
				}
				got = append(got, e)
			}
			res.Body.Close()
			if res.StatusCode != 200 || res.Header.Get("Content-Type") != sse.ContentType || !errors.Is(cut, io.ErrUnexpectedEOF) {
				t.Errorf("%s, %s: %s, ended with %v, want 200 and a cut stream", reason, accept, res.Status, cut)
			}
			retry, ok := dec.Retry()
			if !ok || retry < 1500*time.Millisecond || retry > 4500*time.Millisecond {
				t.Errorf("%s, %s: retry %v", reason, accept, retry)
			}
			want := fmt.Sprintf(`{"reason":%q,"retryMs":%d}`, reason, retry.Milliseconds())
			if len(got) != 1 || got[0] != (sse.Event{Type: "tidings.unavailable", Data: want}) {
				t.Errorf("%s, %s: %+v, want %s", reason, accept, got, want)
			}
		}
		for _, accept := range []string{"*/*", "text/*", "application/json", ""} {
			a := s.do(t, "GET", "/api/sse", "", "Accept", accept)
			a.problem(503, "unavailable", "", "come back", "Retry-After")
			if a.header.Get("Retry-After") == "" {
				t.Errorf("%s, %s: no Retry-After", reason, accept)
			}
		}
	}
	if n := full.hub.Stats().Refused["full"]; n != 7 {
		t.Errorf("%d were refused as full, want 7", n)
	}
}

func TestAClosedHubAnswersThatNothingWasSent(t *testing.T) {
	s := apiServe(t, tidings.Options{})
	if err := s.hub.Close(); err != nil {
		t.Fatal(err)
	}
	a := s.send(t, `{"type":"x"}`)
	a.problem(503, "not-stored", "", "send it again")
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	s.do(t, "GET", "/api/sse", "").problem(503, "unavailable", "")
}

// apiBroker is a log whose appends fail.
type apiBroker struct {
	tidings.Broker
	err error
}

func (b *apiBroker) Append(context.Context, []tidings.Record) ([]tidings.Appended, error) {
	return nil, b.err
}

func TestAFailedAppendSaysWhetherTheEventMayHaveBeenStored(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		typ    string
		says   string
	}{
		{errors.New("the network broke"), 504, "unknown", "same idempotency key"},
		{fmt.Errorf("%w: no leader", tidings.ErrUnavailable), 504, "unknown", "same idempotency key"},
		{fmt.Errorf("%w: %w", tidings.ErrUnavailable, tidings.ErrNotStored), 503, "not-stored", "nothing was sent"},
		{fmt.Errorf("%w: 1 MiB left (%w)", tidings.ErrStorageFull, tidings.ErrNotStored), 507, "storage-full", "make room"},
	} {
		log := tidings.NewMemoryBroker(nil)
		s := apiServe(t, tidings.Options{Broker: &apiBroker{log, c.err}})
		t.Cleanup(func() { _ = log.Close() })
		a := s.send(t, `{"type":"x"}`)
		a.problem(c.status, c.typ, "", c.says)
		if (a.header.Get("Retry-After") == "") != (c.status == 507) { // nobody knows when there will be room
			t.Errorf("%d with Retry-After %q", c.status, a.header.Get("Retry-After"))
		}
		var p tidings.Problem
		apiDecode(t, s.do(t, "POST", "/api/sse/send", "{}\n", "Content-Type", apiNDJSON).body, &p)
		apiCheckProblem(t, p, c.status, c.typ, "", c.says)
	}
}
