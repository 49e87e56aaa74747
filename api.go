package tidings

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	_ "embed"
)

// The HTTP API, as docs/http.md and the served description have it. Errors are problem documents.

//go:embed openapi.json
var openAPI []byte

// API returns the handler of /api/sse/send, /api/sse/connections, /api/sse/stats and /api/sse/openapi.json. Mount it
// beside the hub: mux.Handle("/api/sse/", hub.API()). To have it elsewhere, strip the other prefix and put this one in
// front.
//
// Each call asks [Options.Authorizer] first, with [Send] or [Manage]; the description is for everyone.
func (h *Hub) API() http.Handler {
	mux := http.NewServeMux()
	for _, route := range [...]struct {
		path    string
		action  Action
		methods map[string]http.HandlerFunc
	}{
		{"/api/sse/send", Send, map[string]http.HandlerFunc{http.MethodPost: h.serveSend}},
		{"/api/sse/connections", Manage, map[string]http.HandlerFunc{http.MethodGet: h.serveConnections, http.MethodDelete: h.serveDisconnect}},
		{"/api/sse/stats", Manage, map[string]http.HandlerFunc{http.MethodGet: h.serveStats}},
		{"/api/sse/openapi.json", "", map[string]http.HandlerFunc{http.MethodGet: serveOpenAPI}},
	} {
		allow := allowed(route.methods)
		mux.HandleFunc(route.path, func(w http.ResponseWriter, r *http.Request) {
			serve, ok := route.methods[r.Method]
			if !ok {
				w.Header().Set("Allow", allow)
				writeProblem(w, methodProblem(r, allow))
				return
			}
			if route.action != "" {
				if _, err := h.authorize(r, route.action); err != nil {
					writeProblem(w, problemOf(err))
					return
				}
			}
			serve(w, r)
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, &Problem{Type: problemNotFound, Status: http.StatusNotFound, Detail: fmt.Sprintf("there is nothing at %s", r.URL.Path), Hint: "see /api/sse/openapi.json for what there is"})
	})
	return mux
}

func allowed(methods map[string]http.HandlerFunc) string {
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
func (h *Hub) serveSend(w http.ResponseWriter, r *http.Request) {
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
	if m := r.URL.Query().Get("matched"); m != "" && m != ScopeNode {
		writeProblem(w, &Problem{
			Type: problemInvalid, Status: http.StatusBadRequest, Field: "matched",
			Detail: fmt.Sprintf("matched is %q", m), Hint: `leave it out, or give "node": this server counts its own connections only`,
		})
		return
	}
	if t == ndjsonType {
		h.sendLines(w, r)
		return
	}
	receipt, err := h.sendOne(r)
	if err != nil {
		p := problemOf(err)
		if p.Status == http.StatusServiceUnavailable || p.Status == http.StatusGatewayTimeout {
			w.Header().Set("Retry-After", "1")
		}
		writeProblem(w, p)
		return
	}
	writeJSON(w, receipt)
}

// sendOne sends the event in the request's body.
func (h *Hub) sendOne(r *http.Request) (Receipt, error) {
	limit := int64(h.opts.MaxEventBytes)
	if r.ContentLength > limit {
		return Receipt{}, bodyTooLarge(limit)
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	if err != nil {
		return Receipt{}, &InvalidError{Field: "body", Reason: "can't be read: " + err.Error(), Hint: "send it again"}
	}
	if int64(len(body)) > limit {
		return Receipt{}, bodyTooLarge(limit)
	}
	e, err := parseEvent(body)
	if err != nil {
		return Receipt{}, err
	}
	if key := r.Header.Get("Idempotency-Key"); key != "" {
		if e.IdempotencyKey != "" && e.IdempotencyKey != key {
			return Receipt{}, &InvalidError{Field: "idempotencyKey", Reason: "differs from the Idempotency-Key header", Hint: "give one of the two"}
		}
		e.IdempotencyKey = key
	}
	return h.Send(r.Context(), e)
}

func bodyTooLarge(limit int64) error {
	return notStored(fmt.Errorf("%w: at most %d bytes are allowed", ErrTooLarge, limit))
}

// serveConnections lists who is online, in the order of their connection ids.
func (h *Hub) serveConnections(w http.ResponseWriter, r *http.Request) {
	const most = 1000
	q := r.URL.Query()
	t, err := queryTarget(q, "limit", "after")
	if err != nil {
		writeProblem(w, problemOf(err))
		return
	}
	limit := 100
	if s := q.Get("limit"); q.Has("limit") {
		if limit, err = strconv.Atoi(s); err != nil || limit < 1 || limit > most {
			writeProblem(w, problemOf(&InvalidError{Field: "limit", Reason: fmt.Sprintf("is %q", s), Hint: fmt.Sprintf("give 1 to %d, or leave it out for 100", most)}))
			return
		}
	}
	after := q.Get("after")
	cs := slices.DeleteFunc(h.matching(t), func(c *conn) bool { return c.connectionID <= after })
	slices.SortFunc(cs, func(a, b *conn) int { return cmp.Compare(a.connectionID, b.connectionID) })
	page := struct {
		Connections []Connection `json:"connections"`
		Next        string       `json:"next,omitempty"`
	}{Connections: make([]Connection, 0, min(len(cs), limit))}
	for i, c := range cs {
		if i == limit {
			page.Next = cs[i-1].connectionID
			break
		}
		page.Connections = append(page.Connections, h.describe(c))
	}
	writeJSON(w, page)
}

// serveDisconnect ends the connections that meet the query's target.
func (h *Hub) serveDisconnect(w http.ResponseWriter, r *http.Request) {
	t, err := queryTarget(r.URL.Query())
	n := 0
	if err == nil {
		n, err = h.Disconnect(t)
	}
	if err != nil {
		writeProblem(w, problemOf(err))
		return
	}
	writeJSON(w, struct {
		Disconnected int `json:"disconnected"`
	}{n})
}

// queryTarget reads a target from a query that may also have the other parameters.
func queryTarget(q url.Values, others ...string) (t Target, err error) {
	for name := range q {
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
			return Target{}, &InvalidError{Field: name, Reason: "is not known", Hint: "give clientId, userId, sessionId or topic"}
		}
		if *into, err = queryID(q, name); err != nil {
			return Target{}, err
		}
	}
	return t, nil
}

func (h *Hub) serveStats(w http.ResponseWriter, _ *http.Request) { writeJSON(w, h.Stats()) }

func serveOpenAPI(w http.ResponseWriter, _ *http.Request) {
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
