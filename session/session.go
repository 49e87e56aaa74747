package session

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/tidings-sse/tidings"
)

// CookieName is the cookie's name. Its prefix has browsers take it from this host only, over HTTPS (or from localhost), for
// all paths.
const CookieName = "__Host-tidings"

// TicketParameter is where a stream's query has a ticket.
const TicketParameter = "ticket"

// Options configure Sessions. A zero field has the default that its comment gives, but for Secrets.
type Options struct {
	// Secrets sign cookies and tickets: the first does, all are accepted, so that a new one can be put in front. At least
	// 32 random bytes each. Nodes that are to take each other's have the same. There is no default.
	Secrets [][]byte
	// MaxAge is how long a cookie is valid, at most: it never outlives its token. Default 12 hours.
	MaxAge time.Duration
	// TicketAge is how long a ticket is valid. Default 1 minute.
	TicketAge time.Duration
	// Origins are those whose pages may open streams beside the server's own, as https://app.example.com. Whether they may
	// read them is said by the CORS headers, which are not this package's. Default: none.
	Origins []string
}

const (
	minSecret = 32   // bytes
	maxCookie = 3800 // bytes of a value: browsers take 4096 with the name and attributes
)

// Sessions are an Authorizer that takes cookies and tickets, and asks another one about everything else; and the handler
// that gives them out. Create them with [New]. They may be used concurrently.
type Sessions struct {
	next      tidings.Authorizer
	cookies   *seal
	tickets   *seal
	maxAge    time.Duration
	ticketAge time.Duration
	origins   *http.CrossOriginProtection
}

var (
	_ tidings.Authorizer = (*Sessions)(nil)
	_ http.Handler       = (*Sessions)(nil)
)

// New returns sessions for what next grants: it is asked about requests that have an Authorization header, or neither a
// cookie nor a ticket. The error is a [*tidings.InvalidError].
func New(next tidings.Authorizer, o *Options) (*Sessions, error) {
	var opts Options
	if o != nil {
		opts = *o
	}
	if len(opts.Secrets) == 0 {
		return nil, &tidings.InvalidError{Field: "Secrets", Reason: "are none", Hint: "give one of 32 random bytes"}
	}
	for i, s := range opts.Secrets {
		if len(s) < minSecret {
			return nil, &tidings.InvalidError{Field: fmt.Sprintf("Secrets[%d]", i), Reason: fmt.Sprintf("has %d bytes", len(s)), Hint: fmt.Sprintf("give %d at least", minSecret)}
		}
	}
	if opts.MaxAge < 0 || opts.TicketAge < 0 {
		return nil, &tidings.InvalidError{Field: "MaxAge", Reason: "or TicketAge is negative", Hint: "leave it zero for the default"}
	}
	s := &Sessions{next: next, maxAge: opts.MaxAge, ticketAge: opts.TicketAge, origins: http.NewCrossOriginProtection()}
	for i, o := range opts.Origins {
		if err := s.origins.AddTrustedOrigin(strings.ToLower(o)); err != nil {
			return nil, &tidings.InvalidError{Field: fmt.Sprintf("Origins[%d]", i), Reason: fmt.Sprintf("%q is not an origin", o), Hint: "write scheme, host and, if it is not the scheme's own, port, as https://app.example.com"}
		}
	}
	if s.maxAge == 0 {
		s.maxAge = 12 * time.Hour
	}
	if s.ticketAge == 0 {
		s.ticketAge = time.Minute
	}
	var err error
	if s.cookies, err = newSeal(opts.Secrets, "cookie"); err == nil {
		s.tickets, err = newSeal(opts.Secrets, "ticket")
	}
	return s, err
}

// Authorize grants what the request's token, ticket or cookie holds, in this order. A ticket opens a stream and does
// nothing else. One that has expired is as good as the cookie, if that is of the same user and session: EventSource comes
// back with the URL that it was given.
func (s *Sessions) Authorize(r *http.Request, a tidings.Action) (tidings.Grant, error) {
	ticket, hasTicket, err := ticketOf(r)
	switch {
	case err != nil:
		return tidings.Grant{}, err
	case len(r.Header.Values("Authorization")) > 0:
		if hasTicket {
			return tidings.Grant{}, denied(tidings.CodeInvalidRequest, "there are a token and a ticket: send one of them")
		}
		return s.next.Authorize(r, a)
	case hasTicket && a == tidings.Listen:
		return s.admit(r, ticket)
	}
	cookie, has := cookieOf(r)
	if !has {
		return s.next.Authorize(r, a)
	}
	g, err := s.cookies.open(cookie)
	if err != nil {
		return tidings.Grant{}, denied(tidings.CodeInvalidToken, "the session cookie can't be used: "+err.Error())
	}
	return g, allows(g, a)
}

// allows denies what a grant that was carried here doesn't allow.
func allows(g tidings.Grant, a tidings.Action) error {
	switch {
	case a == tidings.Manage:
		return &tidings.DeniedError{Code: tidings.CodeInsufficientScope, Reason: "a session can't do this: use the admin key"}
	case a == tidings.Send && !g.SendToAnyone && len(g.SendTo) == 0:
		return &tidings.DeniedError{Code: tidings.CodeInsufficientScope, Reason: "this session may not send"}
	}
	return nil
}

func (s *Sessions) admit(r *http.Request, ticket string) (tidings.Grant, error) {
	g, err := s.tickets.open(ticket)
	if err == nil {
		return g, nil
	}
	if !errors.Is(err, errExpired) {
		return tidings.Grant{}, denied(tidings.CodeInvalidToken, "the ticket can't be used: "+err.Error())
	}
	if cookie, has := cookieOf(r); has {
		if own, err := s.cookies.open(cookie); err == nil && own.UserID == g.UserID && own.SessionID == g.SessionID {
			return own, nil
		}
	}
	return tidings.Grant{}, denied(tidings.CodeInvalidToken, "the ticket has expired, and there is no session cookie of its user: get a new one")
}

func denied(code, reason string) error {
	return &tidings.DeniedError{Unauthenticated: true, Code: code, Reason: reason}
}

// ticketOf returns the ticket in the query.
func ticketOf(r *http.Request) (ticket string, has bool, err error) {
	vs, has := r.URL.Query()[TicketParameter]
	if len(vs) > 1 {
		return "", false, denied(tidings.CodeInvalidRequest, "there is more than one ticket")
	}
	if has {
		ticket = vs[0]
	}
	return ticket, has, nil
}

// cookieOf returns the cookie's value. Browsers send one; two are somebody's attempt.
func cookieOf(r *http.Request) (value string, has bool) {
	cs := r.CookiesNamed(CookieName)
	if len(cs) != 1 {
		return "", len(cs) > 1
	}
	return cs[0].Value, true
}

// Stream returns the stream's handler, with a ticket's cookie set on its way. next is the hub. What a page of another origin
// has the browser request, by embedding or linking it, is 403 and sets nothing: see Options.Origins.
func (s *Sessions) Stream(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.isForeign(r) {
			(&tidings.Problem{
				Type: "urn:tidings:forbidden", Status: http.StatusForbidden,
				Detail: "a page of another origin may not open this stream with a cookie or a ticket",
				Hint:   "use EventSource or fetch in a page of the server's own origin, or of one that it allows; or send the token in the Authorization header",
			}).ServeHTTP(w, r)
			return
		}
		if ticket, has, err := ticketOf(r); has && err == nil && r.Method == http.MethodGet {
			if g, err := s.tickets.open(ticket); err == nil {
				if c, err := s.cookie(g); err == nil {
					http.SetCookie(w, c)
				}
			}
		}
		next.ServeHTTP(w, r)
	})
}

// isForeign reports whether a page of an origin that isn't allowed has made the request. Such a page could read nothing, but
// would hold a stream open with its visitor's cookie, or have the visitor follow a link with somebody else's ticket and so
// become that user. A request with an Authorization header is none that a page can make unseen: a browser asks first.
func (s *Sessions) isForeign(r *http.Request) bool {
	if len(r.Header.Values("Authorization")) > 0 || r.Method == http.MethodOptions {
		return false
	}
	asPost := *r // what is checked is what may change something, and this GET does
	asPost.Method = http.MethodPost
	return s.origins.Check(&asPost) != nil
}

// cookie returns the cookie that holds the grant.
func (s *Sessions) cookie(g tidings.Grant) (*http.Cookie, error) {
	until := time.Now().Add(s.maxAge)
	if g.Expires.IsZero() || g.Expires.After(until) {
		g.Expires = until // a stream that it opens must end with it
	}
	value, err := s.cookies.seal(g, until)
	if err != nil {
		return nil, err
	}
	if len(value) > maxCookie {
		return nil, errTooLarge
	}
	return &http.Cookie{
		Name: CookieName, Value: value, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
		MaxAge: max(int(time.Until(g.Expires).Seconds()), 1),
	}, nil
}

// errTooLarge is about the token's lists, which are what can be long.
var errTooLarge = &tidings.InvalidError{Field: "topics", Reason: "of the token are more than fit into a cookie or a URL", Hint: "a prefix with a * at its end is one topic"}

// ServeHTTP serves /api/sse/session and /api/sse/tickets. POST with a token makes a cookie or a ticket; DELETE of the
// session takes the cookie away.
func (s *Sessions) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	isSession := strings.HasSuffix(r.URL.Path, "/session")
	switch {
	case isSession && r.Method == http.MethodDelete:
		http.SetCookie(w, &http.Cookie{Name: CookieName, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: -1})
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusNoContent)
	case r.Method != http.MethodPost:
		allow := http.MethodPost
		if isSession {
			allow = "DELETE, POST"
		}
		w.Header().Set("Allow", allow)
		(&tidings.Problem{
			Type: "urn:tidings:method", Status: http.StatusMethodNotAllowed,
			Detail: r.Method + " is not allowed here", Hint: "use " + allow,
		}).ServeHTTP(w, r)
	default:
		s.give(w, r, isSession)
	}
}

// given is the answer.
type given struct {
	UserID    string `json:"userId,omitempty"`
	SessionID string `json:"sessionId,omitempty"`
	Ticket    string `json:"ticket,omitempty"`
	Expires   string `json:"expires"` // of the cookie or the ticket; RFC 3339
}

func (s *Sessions) give(w http.ResponseWriter, r *http.Request, isSession bool) {
	g, err := s.granted(r)
	out := given{UserID: g.UserID, SessionID: g.SessionID}
	if err == nil && isSession {
		var c *http.Cookie
		if c, err = s.cookie(g); err == nil {
			http.SetCookie(w, c)
			out.Expires = time.Now().Add(time.Duration(c.MaxAge) * time.Second).UTC().Format(time.RFC3339)
		}
	} else if err == nil {
		until := time.Now().Add(s.ticketAge)
		if !g.Expires.IsZero() && g.Expires.Before(until) {
			until = g.Expires
		}
		out.Expires = until.UTC().Format(time.RFC3339)
		if out.Ticket, err = s.tickets.seal(g, until); err == nil && len(out.Ticket) > maxCookie {
			err = errTooLarge
		}
	}
	if err != nil {
		tidings.ProblemOf(err).ServeHTTP(w, r)
		return
	}
	head := w.Header()
	head.Set("Content-Type", "application/json")
	head.Set("Cache-Control", "no-store")
	head.Set("X-Content-Type-Options", "nosniff")
	_ = json.NewEncoder(w).Encode(out) // a client that is gone needs no answer
}

// granted returns what the request's token grants. Neither a cookie nor a ticket makes another one: a session would never
// end.
func (s *Sessions) granted(r *http.Request) (tidings.Grant, error) {
	if len(r.Header.Values("Authorization")) == 0 {
		return tidings.Grant{}, &tidings.DeniedError{Unauthenticated: true, Reason: "there is no token: send it in the Authorization header, as Bearer and the token"}
	}
	g, err := s.next.Authorize(r, tidings.Listen)
	if err == nil && !g.Expires.IsZero() && !time.Now().Before(g.Expires) {
		err = denied(tidings.CodeInvalidToken, "the token has expired")
	}
	if err == nil {
		return g, nil
	}
	if _, isDenied := errors.AsType[*tidings.DeniedError](err); isDenied {
		return tidings.Grant{}, err
	}
	return tidings.Grant{}, &tidings.Problem{
		Type: "urn:tidings:unavailable", Status: http.StatusServiceUnavailable,
		Detail: "it can't be decided at the moment whether the token is valid", Hint: "try again after the Retry-After header's seconds",
	}
}
