package tidings

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Action is what a request wants to do.
type Action string

const (
	// Listen opens a stream.
	Listen Action = "listen"
	// Send sends events.
	Send Action = "send"
	// Manage sees who is online and the statistics, and ends connections.
	Manage Action = "manage"
)

// Authorizer decides what a request may do. It is called concurrently, before anything is registered or read from the
// request's body, and MUST return soon: a stream waits for it.
//
// It must look at the action: one that grants every logged-in user whatever is asked lets each of them send to anyone and
// disconnect anyone, once [Hub.API] is mounted.
//
// To deny, return a [*DeniedError]: the answer is a 401 or 403. Any other error means that it could not be decided (the
// session store is down, say): a stream is then refused for now and comes back, and a call answers 503.
type Authorizer interface {
	Authorize(r *http.Request, a Action) (Grant, error)
}

// AuthorizerFunc is a function that is an Authorizer.
type AuthorizerFunc func(r *http.Request, a Action) (Grant, error)

// Authorize calls f.
func (f AuthorizerFunc) Authorize(r *http.Request, a Action) (Grant, error) { return f(r, a) }

// Grant is what an Authorizer lets a request do. For [Listen] it is who the stream belongs to; for the other actions
// no error is the permission.
type Grant struct {
	// UserID and SessionID are the stream's, at most 256 bytes each without control or invisible characters. A query that
	// claims others is refused with 403.
	UserID    string
	SessionID string
	// Topics are those that the stream may listen to: exact, or a prefix with a * at its end ("orders.*", "*").
	// A query that asks for another is refused with 403. Empty allows none.
	Topics []string
	// Expires ends the stream with reason "expired"; the client comes back and is authorized anew. Zero is never.
	Expires time.Time
}

func (g *Grant) allowsTopic(topic string) bool {
	for _, p := range g.Topics {
		if prefix, ok := strings.CutSuffix(p, "*"); p == topic || ok && strings.HasPrefix(topic, prefix) {
			return true
		}
	}
	return false
}

// DeniedError denies a request for good: asking again with the same credential gets the same answer.
type DeniedError struct {
	// Unauthenticated answers 401 (no credential, or one that is not valid) instead of 403.
	Unauthenticated bool
	// Reason tells the developer why. It is sent to the client: nothing secret belongs in it.
	Reason string
}

func (e *DeniedError) Error() string { return "denied: " + e.Reason }

// TrustQuery is the Authorizer that believes what the query says: anyone is whom they claim to be, and may send to
// anyone. It is for demos and for servers that only trusted programs can reach.
type TrustQuery struct{}

// Authorize grants the query's own userId, sessionId and topics.
func (TrustQuery) Authorize(r *http.Request, _ Action) (Grant, error) {
	q := r.URL.Query()
	return Grant{UserID: q.Get("userId"), SessionID: q.Get("sessionId"), Topics: []string{"*"}}, nil
}

// anonymous is the Authorizer of a hub without one: streams without a user or a session, and nothing else.
type anonymous struct{}

func (anonymous) Authorize(r *http.Request, a Action) (Grant, error) {
	const remedy = "set Options.Authorizer, or TrustQuery for a demo"
	if a != Listen {
		return Grant{}, &DeniedError{Reason: fmt.Sprintf("nobody may %s over HTTP, because this hub has no authorizer: %s", a, remedy)}
	}
	q := r.URL.Query()
	for _, field := range [2]string{"userId", "sessionId"} {
		if q.Has(field) {
			return Grant{}, &DeniedError{Reason: fmt.Sprintf("the %s can't be believed, because this hub has no authorizer: %s", field, remedy)}
		}
	}
	return Grant{Topics: []string{"*"}}, nil
}

// denied returns the denial in err, if it is one.
func denied(err error) (*DeniedError, bool) { return errors.AsType[*DeniedError](err) }
