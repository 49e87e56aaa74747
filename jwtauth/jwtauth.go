// Package jwtauth is a [tidings.Authorizer] that believes JSON Web Tokens (RFC 7519): whoever presents a token that one of
// the configured keys has signed is who the token says, until it expires.
//
//	auth, err := jwtauth.New(&jwtauth.Options{Keys: []jwtauth.Key{{Secret: secret}}})
//	if err != nil {
//		return err
//	}
//	hub, err := tidings.New(&tidings.Options{Authorizer: auth})
//
// A token is presented in the Authorization header. Browsers' EventSource can't set it: package session turns a token into
// a cookie, or into a ticket for the URL.
//
// What a token says:
//
//	{
//	  "sub": "user123",                             the user (UserClaim)
//	  "sid": "session_789",                         the session (SessionClaim)
//	  "topics": ["orders.eu", "news.*"],            what it may listen to (TopicsClaim)
//	  "send": ["self", "topic:orders.*", "user:7"], to whom it may send (SendClaim); "*" is anyone
//	  "exp": 1767225600                             until when it is valid
//	}
//
// Only what a key is for is accepted: an RSA key verifies RS and PS signatures, a P-256 key ES256, a secret HS ones, and
// nothing verifies "none". The token's header chooses among the configured keys by their id, and is otherwise not believed.
package jwtauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tidings-sse/tidings"
)

// Options configure an Authorizer. A zero field has the default that its comment gives.
type Options struct {
	// Keys verify tokens. Several are for rotation: a token is good if any of them has signed it.
	Keys []Key
	// JWKSURL is where an identity provider publishes its keys as a JWK Set (RFC 7517). They are fetched when they are first
	// needed, again every RefreshInterval, and when a token names one that isn't known, at most every 10 s. It must be
	// https, or http on loopback. Default: none.
	JWKSURL string
	// RefreshInterval is how old the fetched keys may get. Default 15 minutes.
	RefreshInterval time.Duration
	// Client fetches the JWK Set. Redirects are followed up to three times, and only to what JWKSURL could be. Default: one
	// with a timeout of 5 s.
	Client *http.Client

	// Issuer is what the claim iss must be, and Audience what aud must hold one of. Where keys are not yours alone (public
	// keys and JWK Sets are those of an identity provider, which signs for many programs), New refuses to leave them out
	// unless AnyIssuer and AnyAudience say so. Default: not checked, for secrets.
	Issuer      string
	Audience    []string
	AnyIssuer   bool
	AnyAudience bool
	// AllowNoExpiry accepts tokens without exp, which are valid for ever. Default: they are refused.
	AllowNoExpiry bool
	// Leeway is how far the issuer's clock may be ahead: a token is accepted so long before its nbf. Its exp is exact.
	// Default 5 s.
	Leeway time.Duration

	// Where a token says what, as the claim's name, or as a path with dots ("realm_access.topics") where no claim has that
	// name. The user's and the session's are strings; the others are lists of strings, or one string with spaces between.
	UserClaim    string // default "sub"; a token without it is refused
	SessionClaim string // default "sid"
	TopicsClaim  string // default "topics"
	SendClaim    string // default "send"

	// QueryToken accepts a token also in the query, as access_token (RFC 6750, section 2.3). URLs end up in logs and
	// histories, so prefer a cookie or a ticket. Default: it is refused.
	QueryToken bool

	// Logger gets what goes wrong with the JWK Set. Default: slog.Default().
	Logger *slog.Logger
}

// Authorizer grants what valid tokens say. Create it with [New]. It may be used concurrently.
type Authorizer struct {
	opts   Options
	parser *jwt.Parser
	set    *keySet // nil without a JWKSURL
}

var _ tidings.Authorizer = (*Authorizer)(nil)

// New returns an Authorizer. The error is a [*tidings.InvalidError] that names the field. It fetches nothing yet.
func New(o *Options) (*Authorizer, error) {
	opts, err := o.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("jwtauth: %w", err)
	}
	a := &Authorizer{opts: *opts}
	parserOptions := []jwt.ParserOption{jwt.WithLeeway(opts.Leeway), jwt.WithStrictDecoding(), jwt.WithJSONNumber(), jwt.WithTimeFunc(time.Now)}
	if !opts.AllowNoExpiry {
		parserOptions = append(parserOptions, jwt.WithExpirationRequired())
	}
	if opts.Issuer != "" {
		parserOptions = append(parserOptions, jwt.WithIssuer(opts.Issuer))
	}
	if len(opts.Audience) > 0 {
		parserOptions = append(parserOptions, jwt.WithAudience(opts.Audience...))
	}
	a.parser = jwt.NewParser(parserOptions...)
	if opts.JWKSURL != "" {
		a.set = newKeySet(opts)
	}
	return a, nil
}

// Close waits for a fetch of keys that is under way. The Authorizer must not be used after it.
func (a *Authorizer) Close() error {
	if a.set != nil {
		a.set.close()
	}
	return nil
}

// Authorize grants what the request's token says. A token manages nothing: that is for keys of package apikey.
func (a *Authorizer) Authorize(r *http.Request, action tidings.Action) (tidings.Grant, error) {
	token, err := a.token(r)
	if err != nil {
		return tidings.Grant{}, err
	}
	g, err := a.Verify(r.Context(), token)
	if err != nil {
		return tidings.Grant{}, err
	}
	switch {
	case action == tidings.Manage:
		return tidings.Grant{}, &tidings.DeniedError{Code: tidings.CodeInsufficientScope, Reason: "a token can't do this: use the admin key"}
	case action == tidings.Send && !g.SendToAnyone && len(g.SendTo) == 0:
		return tidings.Grant{}, &tidings.DeniedError{Code: tidings.CodeInsufficientScope, Reason: fmt.Sprintf("the token has no %s claim, so it may not send", a.opts.SendClaim)}
	}
	return g, nil
}

// queryParameter is where RFC 6750 has a token in a query.
const queryParameter = "access_token"

func (a *Authorizer) token(r *http.Request) (string, error) {
	token, err := tidings.Bearer(r)
	if err != nil {
		return "", err
	}
	inQuery := r.URL.Query()[queryParameter]
	switch {
	case len(inQuery) > 0 && !a.opts.QueryToken:
		return "", &tidings.DeniedError{Unauthenticated: true, Code: tidings.CodeInvalidRequest, Reason: "a token in the URL is not accepted: send it in the Authorization header, or get a cookie or a ticket for it"}
	case len(inQuery) > 1, len(inQuery) == 1 && token != "":
		return "", &tidings.DeniedError{Unauthenticated: true, Code: tidings.CodeInvalidRequest, Reason: "there is more than one token"}
	case len(inQuery) == 1:
		token = inQuery[0]
	}
	if token == "" {
		return "", &tidings.DeniedError{Unauthenticated: true, Reason: "there is no credential: send Authorization: Bearer and a token, or get a cookie or a ticket for it"}
	}
	return token, nil
}

// maxToken bounds what is looked at, in bytes: an identity provider's token with many groups has a few thousand.
const maxToken = 16 << 10

// Verify returns what a token grants. A token that is not valid is a [*tidings.DeniedError]; any other error means that
// the keys can't be had now.
func (a *Authorizer) Verify(ctx context.Context, token string) (tidings.Grant, error) {
	if len(token) > maxToken {
		return tidings.Grant{}, invalid(fmt.Sprintf("the token has more than %d bytes", maxToken))
	}
	claims := jwt.MapClaims{}
	parsed, err := a.parser.ParseWithClaims(token, claims, func(t *jwt.Token) (any, error) { return a.keys(ctx, t) })
	if err != nil {
		return tidings.Grant{}, a.refused(parsed, err)
	}
	// The parser reads the first JSON value of the claims, and leaves what follows it alone.
	if payload, err := a.parser.DecodeSegment(strings.Split(token, ".")[1]); err != nil || !json.Valid(payload) {
		return tidings.Grant{}, a.refused(nil, jwt.ErrTokenMalformed)
	}
	return a.grant(claims)
}

// invalid denies a token for the reason.
func invalid(reason string) error {
	return &tidings.DeniedError{Unauthenticated: true, Code: tidings.CodeInvalidToken, Reason: reason}
}

// errKeysUnavailable says that the keys can't be had.
var errKeysUnavailable = errors.New("jwtauth: the JWK Set can't be fetched")

// refused says to the token's developer why it is not valid. Nothing of it helps to forge one.
func (a *Authorizer) refused(t *jwt.Token, err error) error {
	if errors.Is(err, errKeysUnavailable) {
		return err
	}
	if denied, ok := errors.AsType[*tidings.DeniedError](err); ok {
		return denied
	}
	switch {
	case t == nil || errors.Is(err, jwt.ErrTokenMalformed):
		return invalid("the token is malformed: it is not three parts of base64url with JSON in the first two")
	case t.Method == nil:
		return invalid("the token's alg is not one that is accepted")
	case errors.Is(err, jwt.ErrTokenSignatureInvalid), errors.Is(err, jwt.ErrTokenUnverifiable):
		return invalid("the token's signature is not valid: another key has signed it, or it was changed")
	case errors.Is(err, jwt.ErrInvalidType):
		return invalid("one of the token's exp, nbf, iss or aud is not of the type that it must have")
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return invalid("the token lacks what is required: " + strings.Join(a.missing(t), ", "))
	case errors.Is(err, jwt.ErrTokenExpired):
		return invalid("the token has expired")
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		return invalid("the token is not valid yet: its nbf is in the future")
	case errors.Is(err, jwt.ErrTokenInvalidIssuer):
		return invalid("the token is of another issuer: its iss is not the one that is accepted")
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return invalid("the token is for another audience: its aud does not hold this server's")
	}
	return invalid("the token is not valid")
}

// required lists the claims that a token must have.
func (a *Authorizer) required() []string {
	names := []string{a.opts.UserClaim}
	if !a.opts.AllowNoExpiry {
		names = append(names, "exp")
	}
	if a.opts.Issuer != "" {
		names = append(names, "iss")
	}
	if len(a.opts.Audience) > 0 {
		names = append(names, "aud")
	}
	return names
}

// missing returns the required claims that the token hasn't.
func (a *Authorizer) missing(t *jwt.Token) []string {
	claims, _ := t.Claims.(jwt.MapClaims)
	return slices.DeleteFunc(a.required(), func(name string) bool {
		values, isList := claims[name].([]any)
		return claims[name] != nil && !(isList && len(values) == 0)
	})
}

// keys returns the keys that may have signed the token: those for its algorithm, and, where it names one, with that id.
func (a *Authorizer) keys(ctx context.Context, t *jwt.Token) (any, error) {
	alg := t.Method.Alg()
	if _, critical := t.Header["crit"]; critical { // RFC 7515, section 4.1.11
		return nil, invalid("the token's crit header demands what is not understood")
	}
	kid := ""
	if v, has := t.Header["kid"]; has {
		var ok bool
		if kid, ok = v.(string); !ok {
			return nil, invalid("the token's kid is not a string")
		}
	}
	var found jwt.VerificationKeySet
	for _, k := range a.opts.Keys {
		if k.fits(kid, alg) {
			found.Keys = append(found.Keys, k.material())
		}
	}
	if a.set != nil {
		keys, err := a.set.find(ctx, kid, alg)
		if err != nil && len(found.Keys) == 0 {
			return nil, err
		}
		for _, k := range keys {
			found.Keys = append(found.Keys, k.material())
		}
	}
	switch {
	case len(found.Keys) > 0:
		return found, nil
	case !slices.ContainsFunc(a.opts.Keys, func(k Key) bool { return slices.Contains(k.Algorithms, alg) }) && a.set == nil:
		return nil, invalid("the token's alg is not one that is accepted")
	case kid != "":
		return nil, invalid("no key has the token's kid, or it is for another alg")
	}
	return nil, invalid("no key is for the token's alg")
}

func (o *Options) withDefaults() (*Options, error) {
	var d Options
	if o != nil {
		d = *o
	}
	if len(d.Keys) == 0 && d.JWKSURL == "" {
		return nil, &tidings.InvalidError{Field: "Keys", Reason: "are none, and there is no JWKSURL", Hint: "give one of the two"}
	}
	foreign := d.JWKSURL != ""
	d.Keys = slices.Clone(d.Keys)
	for i := range d.Keys {
		if err := d.Keys[i].check(fmt.Sprintf("Keys[%d]", i)); err != nil {
			return nil, err
		}
		foreign = foreign || d.Keys[i].Public != nil
	}
	if foreign {
		if d.Issuer == "" && !d.AnyIssuer {
			return nil, &tidings.InvalidError{Field: "Issuer", Reason: "is not given, so a token of anyone whose keys these are would do", Hint: "give the iss of its tokens, or set AnyIssuer"}
		}
		if len(d.Audience) == 0 && !d.AnyAudience {
			return nil, &tidings.InvalidError{Field: "Audience", Reason: "is not given, so a token that was made for another program would do", Hint: "give the aud that tokens for this server have, or set AnyAudience"}
		}
	}
	if slices.Contains(d.Audience, "") {
		return nil, &tidings.InvalidError{Field: "Audience", Reason: "has an empty one", Hint: "leave it out"}
	}
	if d.JWKSURL != "" {
		if err := checkJWKSURL(d.JWKSURL); err != nil {
			return nil, err
		}
	}
	if d.Leeway < 0 || d.RefreshInterval < 0 {
		return nil, &tidings.InvalidError{Field: "Leeway", Reason: "or RefreshInterval is negative", Hint: "leave it zero for the default"}
	}
	if d.Leeway == 0 {
		d.Leeway = 5 * time.Second
	}
	if d.RefreshInterval == 0 {
		d.RefreshInterval = 15 * time.Minute
	}
	if d.Client == nil {
		d.Client = &http.Client{Timeout: 5 * time.Second}
	}
	if d.Logger == nil {
		d.Logger = slog.Default()
	}
	for _, c := range [...]struct {
		name     *string
		fallback string
	}{{&d.UserClaim, "sub"}, {&d.SessionClaim, "sid"}, {&d.TopicsClaim, "topics"}, {&d.SendClaim, "send"}} {
		if *c.name == "" {
			*c.name = c.fallback
		}
	}
	return &d, nil
}
