package tidings

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
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
// It must look at the action: for [Manage] no error is the permission, so one that grants every logged-in user whatever
// is asked lets each of them disconnect anyone, once [Hub.API] is mounted.
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

// DeniedError denies a request for good: asking again with the same credential gets the same answer.
type DeniedError struct {
	// Unauthenticated answers 401 (no credential, or one that is not valid) instead of 403.
	Unauthenticated bool
	// Reason tells the developer why. It is sent to the client: nothing secret belongs in it.
	Reason string
	// Code is the error of RFC 6750, section 3.1, that the WWW-Authenticate header names, with the reason beside it.
	// Empty names none, as the RFC wants it where there was no credential.
	Code string
}

// The codes of RFC 6750.
const (
	CodeInvalidRequest    = "invalid_request"    // the credential is not where or how it must be
	CodeInvalidToken      = "invalid_token"      // it is malformed, expired, revoked, or not for this server
	CodeInsufficientScope = "insufficient_scope" // it is valid, and doesn't allow this
)

// challenge is the denial as a WWW-Authenticate header.
func (e *DeniedError) challenge() string {
	if e.Code == "" {
		return "Bearer"
	}
	return fmt.Sprintf(`Bearer error="%s", error_description="%s"`, e.Code, quotable(e.Reason))
}

// quotable replaces what may not stand in an error_description: anything but printable ASCII, without quotes and
// backslashes.
func quotable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '"':
			return '\''
		case r < ' ', r > '~', r == '\\':
			return '?'
		}
		return r
	}, s)
}

// Bearer returns the credential of the request's Authorization header (RFC 6750, section 2.1); "" where there is no such
// header. Two of them, or one of another kind, are a [*DeniedError].
func Bearer(r *http.Request) (string, error) {
	const scheme = "Bearer "
	switch vs := r.Header.Values("Authorization"); {
	case len(vs) == 0:
		return "", nil
	case len(vs) > 1:
		return "", &DeniedError{Unauthenticated: true, Code: CodeInvalidRequest, Reason: "there is more than one Authorization header"}
	case len(vs[0]) <= len(scheme) || !strings.EqualFold(vs[0][:len(scheme)], scheme) || strings.ContainsAny(vs[0][len(scheme):], " \t,"):
		return "", &DeniedError{Unauthenticated: true, Code: CodeInvalidRequest, Reason: "the Authorization header must be: Bearer, a space, and the credential"}
	default:
		return vs[0][len(scheme):], nil
	}
}

func (e *DeniedError) Error() string { return "denied: " + e.Reason }

// TrustQuery is the Authorizer that believes what the query says: anyone is whom they claim to be, and may send to
// anyone. It is for demos and for servers that only trusted programs can reach.
type TrustQuery struct{}

// Authorize grants a stream the query's own userId, sessionId and topics. In other calls, the query says whom they are about.
func (TrustQuery) Authorize(r *http.Request, a Action) (Grant, error) {
	if a != Listen {
		return Grant{SendToAnyone: true}, nil
	}
	q := r.URL.Query()
	return Grant{UserID: q.Get("userId"), SessionID: q.Get("sessionId"), Topics: []string{"*"}, SendToAnyone: true}, nil
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

// authenticates reports whether the authorizer is one that knows who somebody is. Where none does, a client id is all
// that there is to find a page by; where one does, it is a label that each user is free to choose.
func authenticates(a Authorizer) bool {
	switch a.(type) {
	case anonymous, TrustQuery, *TrustQuery:
		return false
	}
	return true
}

// denied returns the denial in err, if it is one.
func denied(err error) (*DeniedError, bool) { return errors.AsType[*DeniedError](err) }
