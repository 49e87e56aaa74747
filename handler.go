package tidings

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/tidings-sse/tidings/sse"
)

// ServeHTTP serves the stream: GET, with clientId, userId, sessionId, topic (any number) and lastEventId in the query,
// all optional. The Last-Event-ID header wins over lastEventId. Over HTTP/1.1 it takes the connection over from
// net/http, so that [http.Server.Shutdown] doesn't know of it: call [Hub.Shutdown] first.
//
// A stream that can't be served for now is refused so that the client comes back; one that never can, with a problem
// document (RFC 9457) and status 400, 401, 403 or 405.
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := h.open(w, r)
	if c == nil || h.takeOver(w, r, c) {
		return
	}
	// Here, so that what open needed is not on the stack for as long as the stream lasts.
	c.stream.ServeResponse(r.Context(), w)
	panic(http.ErrAbortHandler)
}

// open brings a stream to life. If it can't, the request was answered, and there is none.
func (h *Hub) open(w http.ResponseWriter, r *http.Request) *conn {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		writeProblem(w, methodProblem(r, http.MethodGet))
		return nil
	}
	var c *conn
	var lastEventID string
	err := h.connects(r)
	if err == nil {
		c, lastEventID, err = h.newConn(r)
	}
	if err == nil {
		err = h.admit(c)
	}
	if err != nil {
		h.reject(w, r, err)
		return nil
	}
	if !h.serve(w, r, c, lastEventID) {
		return nil
	}
	return c
}

// reject answers a stream that is not served, for now or for good.
func (h *Hub) reject(w http.ResponseWriter, r *http.Request, err error) {
	if ref, ok := refusalOf(err); ok {
		h.refuse(w, r, ref)
		return
	}
	p := ProblemOf(err)
	h.counts.refused(p.reason())
	h.log.LogAttrs(r.Context(), slog.LevelInfo, logRefused, slog.Int(keyStatus, p.Status), slog.String(keyRemote, r.RemoteAddr), slog.Any(keyError, err))
	writeProblem(w, p)
}

// newConn reads who the request is, and whether it may be.
func (h *Hub) newConn(r *http.Request) (c *conn, lastEventID string, err error) {
	q, err := parseQuery(r)
	if err != nil {
		return nil, "", err
	}
	asked, err := h.askedIdentity(q)
	if err != nil {
		return nil, "", err
	}
	if lastEventID, err = askedCursor(r.Header, q); err != nil {
		return nil, "", err
	}
	grant, err := h.authorize(r, Listen)
	if err != nil {
		return nil, "", err
	}
	c = &conn{hub: h, identity: asked, remoteAddr: r.RemoteAddr, connectedAt: time.Now().UnixNano()}
	if !grant.Expires.IsZero() {
		c.expiry = &expiry{at: grant.Expires}
	}
	c.known = h.authenticates
	if err := c.limit(grant); err != nil {
		return nil, "", err
	}
	if h.opts.OnConnect != nil || h.opts.OnDisconnect != nil {
		c.greeted = make(chan struct{})
	}
	c.connectionID = connectionIDMark + rand.Text()
	if c.clientID == "" {
		c.clientID = c.connectionID
	}
	c.own()
	return c, strings.Clone(lastEventID), nil
}

// connectionIDMark begins a connection id. No page can choose a client id with it, so nobody can be taken for another
// connection.
const connectionIDMark = "~"

// askedIdentity reads whom the query claims to be.
func (h *Hub) askedIdentity(q url.Values) (id identity, err error) {
	for _, f := range [...]struct {
		field string
		into  *string
	}{{"clientId", &id.clientID}, {"userId", &id.userID}, {"sessionId", &id.sessionID}} {
		if *f.into, err = queryID(q, f.field); err != nil {
			return identity{}, err
		}
	}
	if strings.HasPrefix(id.clientID, connectionIDMark) {
		return identity{}, &InvalidError{Field: "clientId", Reason: fmt.Sprintf("begins with %q, as connection ids do", connectionIDMark), Hint: "choose another one"}
	}
	id.topics = slices.Compact(slices.Sorted(slices.Values(q["topic"])))
	if n := len(q["topic"]); n > h.opts.MaxTopics {
		return identity{}, &InvalidError{Field: "topic", Reason: fmt.Sprintf("is given %d times", n), Hint: fmt.Sprintf("at most %d are allowed", h.opts.MaxTopics)}
	}
	for _, t := range id.topics {
		if err := checkName("topic", t, maxIDBytes); err != nil {
			return identity{}, err
		}
	}
	return id, nil
}

// parseQuery reads the query. [url.URL.Query] would leave out what it can't read, and what is left would mean something
// else: without its userId, a target is wider.
func parseQuery(r *http.Request) (url.Values, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, &InvalidError{Field: "query", Reason: "can't be read: " + err.Error(), Hint: "percent-encode what you put into it"}
	}
	return q, nil
}

// queryID returns an id of the query, if it is there, checked.
func queryID(q url.Values, field string) (string, error) {
	if !q.Has(field) {
		return "", nil
	}
	id, err := queryOnce(q, field)
	if err != nil {
		return "", err
	}
	return id, checkName(field, id, maxIDBytes)
}

// queryOnce returns a parameter that may be given once.
func queryOnce(q url.Values, field string) (string, error) {
	if n := len(q[field]); n > 1 {
		return "", &InvalidError{Field: field, Reason: fmt.Sprintf("is given %d times", n), Hint: "give it once"}
	}
	return q.Get(field), nil
}

// maxAskedCursor is how long a cursor may be before the request is refused; a shorter one that can't be ours is a gap.
const maxAskedCursor = 1024

var errCursorTooLong = fmt.Errorf("the Last-Event-ID header has more than %d bytes", maxAskedCursor)

func askedCursor(header http.Header, q url.Values) (string, error) {
	if id := header.Get("Last-Event-ID"); id != "" {
		if len(id) > maxAskedCursor {
			return "", errCursorTooLong
		}
		return id, nil
	}
	id, err := queryOnce(q, "lastEventId")
	if err != nil {
		return "", err
	}
	if len(id) > maxAskedCursor {
		return "", &InvalidError{Field: "lastEventId", Reason: fmt.Sprintf("has %d bytes", len(id)), Hint: "give the id of the last event as it was received"}
	}
	return id, nil
}

// authorize asks the Authorizer. What is not a denial is a refusal for now.
func (h *Hub) authorize(r *http.Request, a Action) (Grant, error) {
	g, err := h.opts.Authorizer.Authorize(r, a)
	if err != nil {
		if _, ok := denied(err); ok {
			return Grant{}, err
		}
		h.log.Error(logAuthFailed, keyError, err)
		return Grant{}, errNoAuth
	}
	if err := h.valid(&g); err != nil {
		return Grant{}, err
	}
	return g, nil
}

// valid denies what was granted once, and is over. Where that isn't known yet, it is a refusal for now.
func (h *Hub) valid(g *Grant) error {
	if err := h.standing(g.UserID, g.SessionID); err != nil {
		return err
	}
	if !g.Expires.IsZero() && !time.Now().Before(g.Expires) {
		return &DeniedError{Unauthenticated: true, Code: CodeInvalidToken, Reason: "the credential has expired"}
	}
	return nil
}

// limit holds what the query claims against what was granted, and takes the user and the session from the grant.
func (c *conn) limit(g Grant) error {
	if c.userID != "" && c.userID != g.UserID {
		return &DeniedError{Reason: "the userId in the query is not yours: leave it out"}
	}
	if c.sessionID != "" && c.sessionID != g.SessionID {
		return &DeniedError{Reason: "the sessionId in the query is not yours: leave it out"}
	}
	for _, granted := range [...]struct{ field, id string }{{"Grant.UserID", g.UserID}, {"Grant.SessionID", g.SessionID}} {
		if granted.id == "" {
			continue
		}
		// The client can't cure it, and a stream that nothing can be sent to helps nobody.
		if err := checkName(granted.field, granted.id, maxIDBytes); err != nil {
			c.hub.log.Error(logAuthFailed, keyError, err)
			return errNoAuth
		}
	}
	c.userID, c.sessionID = g.UserID, g.SessionID
	for _, t := range c.topics {
		if !g.allowsTopic(t) {
			return &DeniedError{Reason: fmt.Sprintf("you may not listen to the topic %q", t)}
		}
	}
	return nil
}

// serve brings an admitted stream to life, and reports whether it has. If not, it is released.
func (h *Hub) serve(w http.ResponseWriter, r *http.Request, c *conn, lastEventID string) (live bool) {
	ctx, started := h.starting(r.Context())
	defer started()
	defer func() {
		if !live {
			h.release(c) // whatever ended it, a panic of Options.Snapshot among it
		}
	}()
	out := h.output(w)
	if r.ContentLength != 0 {
		// A body is nothing to us; net/http would wait for all of it before it writes the head, and Close with it.
		_ = http.NewResponseController(w).EnableFullDuplex()
	}
	_ = out.deadline(time.Time{}) // the server's own WriteTimeout: over HTTP/2 it ends a stream that is not written to
	j, err := h.begin(ctx, c, lastEventID)
	var snapshot []byte
	if err == nil {
		if snapshot, err = j.snapshot(ctx); err != nil {
			h.logConn(ctx, slog.LevelError, logSnapshot, c, slog.Any(keyError, err))
			err = errNoState
		}
	}
	if err != nil {
		switch {
		case r.Context().Err() != nil:
			h.counts.unfinished(ReasonClosed) // the client is gone: nobody reads an answer
			panic(http.ErrAbortHandler)
		case h.ctx.Err() != nil:
			err = errStopped
		}
		h.reject(w, r, err)
		return false
	}
	defer context.AfterFunc(h.ctx, out.interrupt)()
	defer out.leave()
	writeStreamHeader(w)
	if err = out.write(j.greeting(snapshot)); err == nil {
		err = j.replay(ctx, out)
	}
	if err != nil {
		h.abandon(ctx, r, c, out, err)
		panic(http.ErrAbortHandler)
	}
	out.leave()
	h.connected(r, j)
	return true // unregister releases what was registered
}

// starting returns a context for as long as a stream is brought to life: it ends with the request, with the hub, and when
// started is called. It is no child of the request's, in which the list of children would stay for as long as the stream
// does: over HTTP/2, 300 bytes.
func (h *Hub) starting(request context.Context) (_ context.Context, started func()) {
	ctx, end := context.WithCancelCause(context.WithoutCancel(request))
	go func() {
		select {
		case <-request.Done():
			end(context.Cause(request))
		case <-h.ctx.Done():
			end(context.Cause(h.ctx))
		case <-ctx.Done():
		}
	}()
	return ctx, func() { end(nil) }
}

// abandon ends a stream that could not be brought to life.
func (h *Hub) abandon(ctx context.Context, r *http.Request, c *conn, out *output, err error) {
	reason := ReasonLost
	switch ref, refused := refusalOf(err); {
	case refused:
		reason = ReasonDrained
		h.counts.refused(ref.reason)
	case errors.Is(err, errGapped):
		reason = ReasonGap
	case errors.Is(err, errExpired):
		reason = ReasonExpired
	case errors.Is(err, errSignedOut):
		reason = ReasonKicked
	case h.ctx.Err() != nil:
		reason = ReasonStopped
	case errors.Is(err, os.ErrDeadlineExceeded):
		reason = ReasonSlow
	case r.Context().Err() != nil && !fromNetwork(err): // net/http ends the request's context for what the network says, too
		reason = ReasonClosed
	}
	h.logConn(r.Context(), slog.LevelInfo, logUnfinished, c, slog.String(keyReason, string(reason)), slog.Any(keyError, err))
	h.counts.unfinished(reason)
	if reason == ReasonDrained || reason == ReasonGap || reason == ReasonExpired || reason == ReasonKicked {
		if out.write(h.farewell(reason).Block()) == nil {
			out.linger(ctx)
		}
	}
}

func fromNetwork(err error) bool {
	_, ok := errors.AsType[net.Error](err)
	return ok
}

// connected counts, logs and announces a connection that was registered.
func (h *Hub) connected(r *http.Request, j *join) {
	c := j.c
	h.counts.connected(j)
	h.logConn(r.Context(), slog.LevelInfo, logConnected, c,
		slog.String(keyResume, j.resume), slog.Int(keyReplayed, j.events), slog.String(keyProto, r.Proto))
	if c.greeted != nil {
		// Not in this goroutine: the stream must not wait for the hook.
		h.wg.Go(func() {
			defer close(c.greeted)
			if h.opts.OnConnect != nil {
				h.opts.OnConnect(h.describe(c))
			}
		})
	}
}

// takeOver gives the engine the connection itself, where net/http can let go of it.
func (h *Hub) takeOver(w http.ResponseWriter, r *http.Request, c *conn) bool {
	hj, ok := hijackable(w, r)
	if !ok {
		return false
	}
	conn, buf, err := hj.Hijack()
	if err != nil {
		return false
	}
	c.stream.ServeConn(conn, r.ProtoAtLeast(1, 1), buf.Reader.Buffered())
	return true
}

// hijackable reports whether the connection may be taken over: by plain assertion, because a middleware that wraps the
// response without being a Hijacker wants to see every byte; and not if the body is encoded on its way.
func hijackable(w http.ResponseWriter, r *http.Request) (http.Hijacker, bool) {
	hj, ok := w.(http.Hijacker)
	return hj, ok && r.ProtoMajor == 1 && w.Header().Get("Content-Encoding") == "" && r.ContentLength == 0
}

// writeStreamHeader writes the head of a stream.
func writeStreamHeader(w http.ResponseWriter) {
	head := w.Header()
	head.Set("Content-Type", sse.ContentType)
	head.Set("Cache-Control", "no-cache, no-transform")
	head.Set("X-Accel-Buffering", "no") // nginx passes each event on at once
	head.Del("Content-Length")
	head.Del("Transfer-Encoding")
	w.WriteHeader(http.StatusOK)
}
