package tidings

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	_ "embed"
)

// The HTTP API, as docs/http.md and the served description have it. Errors are problem documents.

//go:embed openapi.json
var openAPI []byte

// API returns the handler of /api/sse/send, /api/sse/connections, /api/sse/stats and /api/sse/openapi.json. Mount it
// beside the hub: mux.Handle("/api/sse/", hub.API()). To have it elsewhere, strip the other prefix and put this one in
// front.
//
// Each call asks [Options.Authorizer] first, with [Send], whose grant says to whom, or with [Manage], for which no error is
// the permission. The description is for everyone.
func (h *Hub) API() http.Handler {
	mux := http.NewServeMux()
	for _, route := range [...]struct {
		path    string
		action  Action
		methods map[string]apiHandler
	}{
		{"/api/sse/send", Send, map[string]apiHandler{http.MethodPost: h.serveSend}},
		{"/api/sse/connections", Manage, map[string]apiHandler{http.MethodGet: h.serveConnections, http.MethodDelete: h.serveDisconnect}},
		{"/api/sse/stats", Manage, map[string]apiHandler{http.MethodGet: h.serveStats}},
		{"/api/sse/openapi.json", "", map[string]apiHandler{http.MethodGet: serveOpenAPI}},
	} {
		allow := allowed(route.methods)
		mux.HandleFunc(route.path, func(w http.ResponseWriter, r *http.Request) {
			serve, ok := route.methods[r.Method]
			if !ok {
				w.Header().Set("Allow", allow)
				writeProblem(w, methodProblem(r, allow))
				return
			}
			var grant Grant
			if route.action != "" {
				var err error
				if grant, err = h.authorize(r, route.action); err != nil {
					h.refuseCall(w, r, ProblemOf(err), "")
					return
				}
			}
			serve(w, r, &grant)
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, &Problem{Type: problemNotFound, Status: http.StatusNotFound, Detail: fmt.Sprintf("there is nothing at %s", r.URL.Path), Hint: "see /api/sse/openapi.json for what there is"})
	})
	return mux
}

// apiHandler answers a request that its authorizer has granted.
type apiHandler func(w http.ResponseWriter, r *http.Request, by *Grant)

func allowed(methods map[string]apiHandler) string {
	ms := make([]string, 0, len(methods))
	for m := range methods {
		ms = append(ms, m)
	}
	slices.Sort(ms)
	return strings.Join(ms, ", ")
}

const (
	jsonType   = "application/json"
	ndjsonType = "application/x-ndjson"
)

// serveSend sends one event as JSON, or many as NDJSON.
func (h *Hub) serveSend(w http.ResponseWriter, r *http.Request, by *Grant) {
	t, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := strings.ToLower(params["charset"])
	if err != nil || t != jsonType && t != ndjsonType || charset != "" && charset != "utf-8" {
		writeProblem(w, &Problem{
			Type: problemMediaType, Status: http.StatusUnsupportedMediaType,
			Detail: fmt.Sprintf("the Content-Type is %q", r.Header.Get("Content-Type")),
			Hint:   "send one event as application/json, or one a line as application/x-ndjson, in UTF-8",
		})
		return
	}
	if err := checkSendQuery(r, t == ndjsonType); err != nil {
		writeProblem(w, ProblemOf(err))
		return
	}
	key, err := headerKey(r.Header)
	if err != nil {
		writeProblem(w, ProblemOf(err))
		return
	}
	if t == ndjsonType {
		if key != "" {
			writeProblem(w, ProblemOf(&InvalidError{Field: "Idempotency-Key", Reason: "is one header for many events", Hint: "give each line its own idempotencyKey"}))
			return
		}
		h.sendLines(w, r, by)
		return
	}
	receipt, err := h.sendOne(r, key, by)
	if err != nil {
		h.refuseCall(w, r, ProblemOf(h.sendFailed(err)), by.name())
		return
	}
	writeJSON(w, receipt.answer())
}

// refuseCall answers with the problem, and logs it where somebody tried what they may not.
func (h *Hub) refuseCall(w http.ResponseWriter, r *http.Request, p *Problem, by string) {
	switch p.Status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests:
		h.log.LogAttrs(r.Context(), slog.LevelInfo, logRefused,
			slog.Int(keyStatus, p.Status), slog.String(keyBy, by), slog.String(keyRemote, r.RemoteAddr), slog.String(keyPath, r.URL.Path), slog.Any(keyError, p))
	}
	writeProblem(w, p)
}

// sendOne sends the event in the request's body.
func (h *Hub) sendOne(r *http.Request, key string, by *Grant) (Receipt, error) {
	if wait := h.sends.take(senderOf(r, by)); wait > 0 {
		return Receipt{}, &tooOftenError{wait}
	}
	e, err := h.readOne(r, key)
	if err != nil {
		return Receipt{}, err
	}
	s, err := h.submit(e, by)
	if err != nil {
		return Receipt{}, err
	}
	counted := !s.uncounted
	receipt, err := h.receive(r, s, by)
	if err == nil && counted && r.URL.Query().Get("matched") == ScopeCluster {
		receipt = h.countAll(r.Context(), e, receipt)
	}
	return receipt, err
}

// receive waits for what became of a send. Who may not send to anyone is not told why nobody matched, and some not how
// many did (see [Grant.mayCount]): it would say who else is there.
func (h *Hub) receive(r *http.Request, s *send, by *Grant) (Receipt, error) {
	uncounted := s.uncounted
	receipt, err := h.pub.wait(r.Context(), s)
	if err != nil {
		return Receipt{}, err
	}
	h.counts.sent.Add(1)
	if !by.SendToAnyone {
		receipt.Hint = ""
	}
	if uncounted {
		receipt = Receipt{ID: receipt.ID}
	}
	return receipt, nil
}

// answer is the receipt as it is sent: without a count where there is none.
func (r Receipt) answer() any {
	if r.Scope == "" {
		return struct {
			ID string `json:"id"`
		}{r.ID}
	}
	return r
}

// senderOf returns under what sends are counted: who asks, or where that has no name, the address.
func senderOf(r *http.Request, by *Grant) sender {
	if s := by.sender(); s.kind != senderNameless {
		return s
	}
	return sender{senderAddress, origin(r.RemoteAddr).String()}
}

// checkSendQuery refuses a target in the query: were it ignored, the event would go to everyone.
func checkSendQuery(r *http.Request, many bool) error {
	q, err := parseQuery(r)
	if err != nil {
		return err
	}
	for _, c := range (Target{}).conditions() {
		if q.Has(c.field()) {
			return &InvalidError{Field: c.field(), Reason: "is in the query", Hint: "put it into the event's target"}
		}
	}
	scope, err := queryScope(q, "matched", ScopeNode)
	if err == nil && scope == ScopeCluster && many {
		err = &InvalidError{Field: "matched", Reason: "is cluster, for many events", Hint: "leave it out, or send one event as application/json"}
	}
	return err
}

// queryScope reads of how many nodes an answer is to be.
func queryScope(q url.Values, field, otherwise string) (string, error) {
	if !q.Has(field) {
		return otherwise, nil
	}
	scope, err := queryOnce(q, field)
	if err == nil && scope != ScopeNode && scope != ScopeCluster {
		err = &InvalidError{Field: field, Reason: fmt.Sprintf("is %q", scope), Hint: `give "node" for this node, "cluster" for all, or leave it out`}
	}
	return scope, err
}

// headerKey returns the Idempotency-Key header. An empty one is refused, as in the event: whoever sent it believes that
// sending again is safe.
func headerKey(head http.Header) (string, error) {
	const name = "Idempotency-Key"
	switch vs := head.Values(name); {
	case len(vs) == 0:
		return "", nil
	case len(vs) > 1:
		return "", &InvalidError{Field: name, Reason: fmt.Sprintf("is given %d times", len(vs)), Hint: "give it once"}
	default:
		return vs[0], checkName(name, vs[0], maxIDBytes)
	}
}

// readOne reads the event in the request's body.
func (h *Hub) readOne(r *http.Request, key string) (Event, error) {
	limit := int64(h.opts.MaxEventBytes)
	if r.ContentLength > limit {
		return Event{}, bodyTooLarge(limit)
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	if err != nil {
		return Event{}, &InvalidError{Field: "body", Reason: "can't be read: " + err.Error(), Hint: "send it again"}
	}
	if int64(len(body)) > limit {
		return Event{}, bodyTooLarge(limit)
	}
	e, err := parseEvent(body)
	if err != nil {
		return Event{}, err
	}
	if key != "" {
		if e.IdempotencyKey != "" && e.IdempotencyKey != key {
			return Event{}, &InvalidError{Field: "idempotencyKey", Reason: "differs from the Idempotency-Key header", Hint: "give one of the two"}
		}
		e.IdempotencyKey = key
	}
	return e, nil
}

func bodyTooLarge(limit int64) error {
	return notStored(fmt.Errorf("%w: at most %d bytes are allowed", ErrTooLarge, limit))
}

// serveConnections lists who is online, in the order of their connection ids.
func (h *Hub) serveConnections(w http.ResponseWriter, r *http.Request, _ *Grant) {
	t, limit, after, err := readListing(r)
	if err != nil {
		writeProblem(w, ProblemOf(err))
		return
	}
	if r.URL.Query().Get("scope") == ScopeNode {
		writeJSON(w, h.page(t, limit, after))
		return
	}
	page, err := h.AllConnections(r.Context(), t, limit, after)
	if err != nil {
		h.log.Warn(logSurvey, keyError, err)
	}
	writeJSON(w, page)
}

// readListing reads whom to list, how many at most, and after which connection id.
func readListing(r *http.Request) (t Target, limit int, after string, err error) {
	q, err := parseQuery(r)
	if err != nil {
		return Target{}, 0, "", err
	}
	if t, err = queryTarget(q, "limit", "after", "scope"); err != nil {
		return Target{}, 0, "", err
	}
	if _, err = queryScope(q, "scope", ScopeCluster); err != nil {
		return Target{}, 0, "", err
	}
	if after, err = queryOnce(q, "after"); err != nil {
		return Target{}, 0, "", err
	}
	s, err := queryOnce(q, "limit")
	if err != nil || !q.Has("limit") {
		return t, 100, after, err
	}
	if limit, err = strconv.Atoi(s); err != nil || limit < 1 || limit > maxPage {
		err = &InvalidError{Field: "limit", Reason: fmt.Sprintf("is %q", s), Hint: fmt.Sprintf("give 1 to %d, or leave it out for 100", maxPage)}
	}
	return t, limit, after, err
}

// serveDisconnect ends the connections that meet the query's target.
func (h *Hub) serveDisconnect(w http.ResponseWriter, r *http.Request, by *Grant) {
	d, err := readDisconnect(r)
	if err != nil {
		writeProblem(w, ProblemOf(err))
		return
	}
	var n int
	var nodes *Nodes
	switch {
	case d.until != nil:
		n, err = h.Refuse(r.Context(), d.target, *d.until)
	case d.scope == ScopeNode:
		n, err = h.Disconnect(d.target)
	default:
		n, nodes, err = h.DisconnectAll(r.Context(), d.target)
	}
	if err != nil && nodes == nil {
		writeProblem(w, ProblemOf(err))
		return
	}
	if err != nil {
		h.log.Warn(logSurvey, keyError, err)
	}
	attrs := []any{keyTarget, d.target.String(), keyConnections, n, keyBy, by.name(), keyRemote, r.RemoteAddr}
	if d.until != nil {
		attrs = append(attrs, keyUntil, *d.until)
	}
	h.log.Info(logKicked, attrs...)
	writeJSON(w, struct {
		Disconnected int    `json:"disconnected"`
		Nodes        *Nodes `json:"nodes,omitempty"`
	}{n, nodes})
}

// disconnecting is what a request to disconnect asks for.
type disconnecting struct {
	target Target
	until  *time.Time // refuse them until then; nil is not at all
	scope  string     // of how many nodes; a refusal is always for all
}

func readDisconnect(r *http.Request) (d disconnecting, err error) {
	const until, scope = "refuseUntil", "scope"
	q, err := parseQuery(r)
	if err != nil {
		return d, err
	}
	if d.target, err = queryTarget(q, until, scope); err != nil {
		return d, err
	}
	if d.scope, err = queryScope(q, scope, ScopeCluster); err != nil || !q.Has(until) {
		return d, err
	}
	if d.scope == ScopeNode {
		return d, &InvalidError{Field: scope, Reason: "is node, with " + until, Hint: "leave it out: who is refused is refused by all nodes"}
	}
	s, err := queryOnce(q, until)
	if err != nil {
		return d, err
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return d, &InvalidError{Field: until, Reason: fmt.Sprintf("is %q", shorten(s)), Hint: "give a time of RFC 3339, as 2026-01-31T12:00:00Z"}
	}
	d.until = &at
	return d, nil
}

// queryTarget reads a target from a query that may also have the other parameters.
func queryTarget(q url.Values, others ...string) (t Target, err error) {
	for _, name := range slices.Sorted(maps.Keys(q)) {
		var into *string
		switch name {
		case "clientId":
			into = &t.ClientID
		case "userId":
			into = &t.UserID
		case "sessionId":
			into = &t.SessionID
		case "topic":
			into = &t.Topic
		default:
			if slices.Contains(others, name) {
				continue
			}
			return Target{}, &InvalidError{Field: shorten(name), Reason: "is not known", Hint: "give " + strings.Join(append([]string{"clientId", "userId", "sessionId", "topic"}, others...), ", ")}
		}
		if *into, err = queryID(q, name); err != nil {
			return Target{}, err
		}
	}
	return t, nil
}

func (h *Hub) serveStats(w http.ResponseWriter, _ *http.Request, _ *Grant) { writeJSON(w, h.Stats()) }

func serveOpenAPI(w http.ResponseWriter, _ *http.Request, _ *Grant) {
	w.Header().Set("Content-Type", jsonType)
	_, _ = w.Write(openAPI)
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", jsonType)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // a client that is gone needs no answer
}
