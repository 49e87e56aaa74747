package jwtauth

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tidings-sse/tidings"
)

// Explanation is what a token is, for whoever has to find out why it is refused.
type Explanation struct {
	Header map[string]any `json:"header,omitempty"` // as it stands there; nothing of it is verified
	Claims map[string]any `json:"claims,omitempty"` // the same
	Checks []Check        `json:"checks"`           // in the order in which a server looks
	// Grant is what a server would grant. It is nil where the token is refused, for the first check that failed.
	Grant *tidings.Grant `json:"grant,omitempty"`
}

// Check is one of the things that make a token valid.
type Check struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	Says string `json:"says"` // what is of the token in it is quoted as Go does, since it may not be verified
}

// Explain looks at everything about a token that a server with these options looks at, and goes on where a server would
// stop. The token is valid if Grant is not nil.
func (a *Authorizer) Explain(ctx context.Context, token string) Explanation {
	e := Explanation{}
	check := func(name string, ok bool, says, otherwise string) {
		if !ok {
			says = otherwise
		}
		e.Checks = append(e.Checks, Check{name, ok, says})
	}
	claims := jwt.MapClaims{}
	parsed, _, err := jwt.NewParser(jwt.WithStrictDecoding(), jwt.WithJSONNumber()).ParseUnverified(token, claims)
	malformed := parsed == nil || errors.Is(err, jwt.ErrTokenMalformed)
	check("form", !malformed, "three parts of base64url, with JSON in the first two", "it is not three parts of base64url with JSON in the first two")
	if malformed {
		return e
	}
	e.Header, e.Claims = parsed.Header, claims
	if parsed.Method == nil {
		check("alg", false, "", fmt.Sprintf("%q is not an algorithm that is accepted", fmt.Sprint(parsed.Header["alg"])))
		return e
	}
	_, err = jwt.NewParser(jwt.WithStrictDecoding(), jwt.WithJSONNumber(), jwt.WithoutClaimsValidation()).
		ParseWithClaims(token, jwt.MapClaims{}, func(t *jwt.Token) (any, error) { return a.keys(ctx, t) })
	check("signature", err == nil, fmt.Sprintf("one of the keys has signed it (%s)", parsed.Method.Alg()), says(a.refused(parsed, err)))
	a.explainClaims(claims, check)
	g, err := a.Verify(ctx, token)
	check("grant", err == nil, "it is valid", says(err))
	if err == nil {
		e.Grant = &g
	}
	return e
}

func says(err error) string {
	if denied, ok := errors.AsType[*tidings.DeniedError](err); ok {
		return denied.Reason
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// explainClaims checks each registered claim on its own.
func (a *Authorizer) explainClaims(claims jwt.MapClaims, check func(name string, ok bool, says, otherwise string)) {
	now := time.Now()
	at := func(t *jwt.NumericDate) string {
		return fmt.Sprintf("%s, %v from now", t.UTC().Format(time.RFC3339), t.Sub(now).Round(time.Second))
	}
	switch exp, err := claims.GetExpirationTime(); {
	case err != nil:
		check("exp", false, "", "it is not a number of seconds since 1970")
	case exp == nil:
		check("exp", a.opts.AllowNoExpiry, "it is absent, which is allowed", "it is absent, and needed")
	default:
		check("exp", now.Before(exp.Time), at(exp), "it has expired: "+at(exp))
	}
	switch nbf, err := claims.GetNotBefore(); {
	case err != nil:
		check("nbf", false, "", "it is not a number of seconds since 1970")
	case nbf != nil:
		check("nbf", !now.Before(nbf.Add(-a.opts.Leeway)), at(nbf), "it is not valid yet: "+at(nbf))
	}
	if a.opts.Issuer != "" {
		iss, _ := claims.GetIssuer()
		check("iss", iss == a.opts.Issuer, strconv.Quote(iss), fmt.Sprintf("it is %q, and must be %q", iss, a.opts.Issuer))
	}
	if len(a.opts.Audience) > 0 {
		aud, _ := claims.GetAudience()
		found := false
		for _, want := range a.opts.Audience {
			for _, have := range aud {
				found = found || have == want
			}
		}
		check("aud", found, fmt.Sprintf("%q", []string(aud)), fmt.Sprintf("it is %q, and must hold one of: %s", []string(aud), strings.Join(a.opts.Audience, ", ")))
	}
	user, err := textClaim(claims, a.opts.UserClaim)
	check(a.opts.UserClaim, err == nil && user != "", strconv.Quote(user), "it is absent or not a string, and says who the user is")
}

// Read returns what a token holds. Nothing is verified.
func Read(token string) (Explanation, error) {
	claims := jwt.MapClaims{}
	parsed, _, err := jwt.NewParser(jwt.WithJSONNumber()).ParseUnverified(token, claims)
	if parsed == nil || errors.Is(err, jwt.ErrTokenMalformed) {
		return Explanation{}, errors.New("it is not a token: that is three parts of base64url with dots between, and JSON in the first two")
	}
	return Explanation{Header: parsed.Header, Claims: claims}, nil
}
