package tidings

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Problem is a problem document (RFC 9457): what went wrong, and what to do. It is the body of every error of the HTTP
// API, as application/problem+json, and what [Remote] makes errors from. It is a handler that answers with itself.
type Problem struct {
	Type   string `json:"type"` // one of the urn:tidings: names in docs/http.md
	Title  string `json:"title"`
	Status int    `json:"status"` // of HTTP
	Detail string `json:"detail,omitempty"`
	Field  string `json:"field,omitempty"` // which part of the request
	Hint   string `json:"hint,omitempty"`  // what to do

	challenge string        // the WWW-Authenticate header, where the credential is what is wrong
	wait      time.Duration // what Retry-After says, where that is known
}

// The problem types.
const (
	problemPrefix       = "urn:tidings:"
	problemInvalid      = problemPrefix + "invalid"
	problemNoTarget     = problemPrefix + "no-target"
	problemTooLarge     = problemPrefix + "too-large"
	problemConflict     = problemPrefix + "conflict"
	problemNotStored    = problemPrefix + "not-stored"
	problemStorageFull  = problemPrefix + "storage-full"
	problemUnknown      = problemPrefix + "unknown"
	problemUnavailable  = problemPrefix + "unavailable"
	problemUnauthorized = problemPrefix + "unauthorized"
	problemForbidden    = problemPrefix + "forbidden"
	problemMethod       = problemPrefix + "method"
	problemNotFound     = problemPrefix + "not-found"
	problemMediaType    = problemPrefix + "media-type"
	problemHeader       = problemPrefix + "header"
	problemTooOften     = problemPrefix + "too-often"
)

// problemTitles are the fixed titles of the types: RFC 9457 wants them not to change with the occurrence.
func problemTitle(typ string) string {
	switch typ {
	case problemInvalid:
		return "The request can't be used as it is"
	case problemNoTarget:
		return "The event names nobody"
	case problemTooLarge:
		return "The request is too large"
	case problemConflict:
		return "The idempotency key was used for another event"
	case problemNotStored:
		return "The event was not sent"
	case problemStorageFull:
		return "The log's storage is full"
	case problemUnknown:
		return "It is not known whether the event was sent"
	case problemUnavailable:
		return "Not available now"
	case problemUnauthorized:
		return "Not authenticated"
	case problemForbidden:
		return "Not allowed"
	case problemMethod:
		return "Method not allowed"
	case problemNotFound:
		return "Not found"
	case problemMediaType:
		return "Unsupported media type"
	case problemHeader:
		return "A header is too large"
	case problemTooOften:
		return "Too many requests"
	}
	return ""
}

func (p *Problem) Error() string {
	s := p.Title
	if p.Detail != "" {
		s = p.Detail
	}
	if p.Hint != "" {
		s += ": " + p.Hint
	}
	return s
}

// titled returns the problem with its type's title. A type that is not one of the library's keeps its own.
func (p *Problem) titled() *Problem {
	q := *p
	if t := problemTitle(p.Type); t != "" {
		q.Title = t
	}
	return &q
}

// Is reports whether the problem is what a [Hub] in the process would have returned as the sentinel target.
func (p *Problem) Is(target error) bool {
	switch target {
	case ErrNotStored:
		// What is unavailable was refused before anything was handed over.
		return p.Status < http.StatusInternalServerError || p.Type == problemNotStored || p.Type == problemUnavailable || p.Type == problemStorageFull
	case ErrNoTarget:
		return p.Type == problemNoTarget
	case ErrTooLarge:
		return p.Type == problemTooLarge
	case ErrConflict:
		return p.Type == problemConflict
	case ErrStorageFull:
		return p.Type == problemStorageFull
	case ErrUnavailable:
		return p.Status == http.StatusServiceUnavailable
	}
	return false
}

// As makes the problem an [*InvalidError] where a [Hub] in the process would have returned one.
func (p *Problem) As(target any) bool {
	into, ok := target.(**InvalidError)
	if !ok || p.Type != problemInvalid && p.Type != problemNoTarget {
		return false
	}
	*into = &InvalidError{Field: p.Field, Reason: strings.TrimPrefix(p.Detail, p.Field+" "), Hint: p.Hint}
	if p.Type == problemNoTarget {
		(*into).Err = ErrNoTarget
	}
	return true
}

// reason is the type as a word, for counts.
func (p *Problem) reason() string { return strings.TrimPrefix(p.Type, problemPrefix) }

// ProblemOf says what an error of this package means to an HTTP client. A handler of yours that sends may answer with it:
//
//	tidings.ProblemOf(err).ServeHTTP(w, r)
func ProblemOf(err error) *Problem {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	if ref, ok := refusalOf(err); ok {
		return &Problem{Type: problemUnavailable, Status: http.StatusServiceUnavailable, Detail: ref.detail}
	}
	if d, ok := denied(err); ok {
		if d.Unauthenticated {
			return &Problem{Type: problemUnauthorized, Status: http.StatusUnauthorized, Detail: d.Reason, challenge: d.challenge()}
		}
		p := &Problem{Type: problemForbidden, Status: http.StatusForbidden, Detail: d.Reason}
		if d.Code != "" {
			p.challenge = d.challenge()
		}
		return p
	}
	if e, ok := errors.AsType[*tooOftenError](err); ok {
		return &Problem{Type: problemTooOften, Status: http.StatusTooManyRequests, Detail: e.Error(), Hint: "send again after the Retry-After header's seconds, or many events in one request, which are read as fast as they may come", wait: e.wait}
	}
	if e, ok := errors.AsType[*InvalidError](err); ok {
		p := &Problem{Type: problemInvalid, Status: http.StatusBadRequest, Detail: strings.TrimSpace(e.Field + " " + e.Reason), Field: e.Field, Hint: e.Hint}
		if errors.Is(e.Err, ErrNoTarget) {
			p.Type = problemNoTarget
		}
		return p
	}
	detail := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "tidings: "), "send: ")
	if errors.Is(err, errCursorTooLong) {
		return &Problem{Type: problemHeader, Status: http.StatusRequestHeaderFieldsTooLarge, Detail: detail, Hint: "send the id of the last event as it was received, or none"}
	}
	switch typ := sendErrorProblem(err); typ {
	case problemTooLarge:
		return &Problem{Type: typ, Status: http.StatusRequestEntityTooLarge, Detail: detail, Hint: "send a reference, and have the client fetch the rest"}
	case problemConflict:
		return &Problem{Type: typ, Status: http.StatusConflict, Detail: detail, Field: "idempotencyKey", Hint: "a key belongs to one event: use another key for another event"}
	case problemStorageFull:
		return &Problem{Type: typ, Status: http.StatusInsufficientStorage, Detail: detail, Hint: "nothing was sent: make room where the log is, and send it again"}
	case problemNotStored:
		return &Problem{Type: typ, Status: http.StatusServiceUnavailable, Detail: detail, Hint: "nothing was sent: send it again"}
	default:
		return &Problem{Type: typ, Status: http.StatusGatewayTimeout, Detail: detail, Hint: "send it again with the same idempotency key: it is then sent once"}
	}
}

func methodProblem(r *http.Request, allow string) *Problem {
	return &Problem{Type: problemMethod, Status: http.StatusMethodNotAllowed, Detail: fmt.Sprintf("%s is not allowed here", r.Method), Hint: "use " + allow}
}

// ServeHTTP answers with the problem. It sets the title, and leaves the headers that are there.
func (p *Problem) ServeHTTP(w http.ResponseWriter, _ *http.Request) { writeProblem(w, p) }

func writeProblem(w http.ResponseWriter, p *Problem) {
	if p = p.titled(); p.Status == 0 {
		p.Status = http.StatusInternalServerError
	}
	head := w.Header()
	head.Set("Content-Type", "application/problem+json")
	head.Set("Cache-Control", "no-store")
	head.Set("X-Content-Type-Options", "nosniff")
	if p.challenge == "" && p.Status == http.StatusUnauthorized {
		p.challenge = "Bearer"
	}
	if p.challenge != "" && head.Get("WWW-Authenticate") == "" {
		head.Set("WWW-Authenticate", p.challenge)
	}
	if p.wait > 0 {
		head.Set("Retry-After", strconv.Itoa(int((p.wait+time.Second-1)/time.Second)))
	}
	if (p.Status == http.StatusServiceUnavailable || p.Status == http.StatusGatewayTimeout) && head.Get("Retry-After") == "" {
		head.Set("Retry-After", "1")
	}
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // a client that is gone needs no answer
}

// sendErrorProblem returns the type of the problem that a failed send is.
func sendErrorProblem(err error) string {
	for _, k := range [...]struct {
		err     error
		problem string
	}{
		{ErrNoTarget, problemNoTarget},
		{ErrTooLarge, problemTooLarge},
		{ErrConflict, problemConflict},
		{ErrStorageFull, problemStorageFull},
		{ErrNotStored, problemNotStored},
	} {
		if errors.Is(err, k.err) {
			return k.problem
		}
	}
	return problemUnknown
}
