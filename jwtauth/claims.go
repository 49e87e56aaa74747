package jwtauth

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tidings-sse/tidings"
)

// The words of the send claim.
const (
	sendAnyone = "*"    // every target, and everyone
	sendSelf   = "self" // the token's own user
)

// grant turns the claims of a valid token into a grant.
func (a *Authorizer) grant(claims jwt.MapClaims) (g tidings.Grant, err error) {
	if g.UserID, err = textClaim(claims, a.opts.UserClaim); err != nil {
		return tidings.Grant{}, err
	}
	if g.UserID == "" {
		return tidings.Grant{}, invalid(fmt.Sprintf("the token has no %s claim, which says who the user is", a.opts.UserClaim))
	}
	if g.SessionID, err = textClaim(claims, a.opts.SessionClaim); err != nil {
		return tidings.Grant{}, err
	}
	if g.Topics, err = list(claims, a.opts.TopicsClaim); err != nil {
		return tidings.Grant{}, err
	}
	rights, err := list(claims, a.opts.SendClaim)
	if err != nil {
		return tidings.Grant{}, err
	}
	for _, right := range rights {
		if err := allow(&g, right, a.opts.SendClaim); err != nil {
			return tidings.Grant{}, err
		}
	}
	exp, err := claims.GetExpirationTime()
	if err != nil {
		return tidings.Grant{}, invalid("the token's exp is not a number")
	}
	if exp != nil {
		if s := float64(exp.Unix()); s < 0 || s > math.MaxInt32*64 {
			return tidings.Grant{}, invalid("the token's exp is not a time in seconds since 1970")
		}
		if g.Expires = exp.Time; !time.Now().Before(g.Expires) {
			return tidings.Grant{}, invalid("the token has expired")
		}
	}
	return g, nil
}

// allow adds one right of the send claim.
func allow(g *tidings.Grant, right, claim string) error {
	switch right {
	case sendAnyone:
		g.SendToAnyone = true
		return nil
	case sendSelf:
		g.SendTo = append(g.SendTo, tidings.Target{UserID: g.UserID})
		return nil
	}
	kind, name, _ := strings.Cut(right, ":")
	if name != "" {
		switch kind {
		case "user":
			g.SendTo = append(g.SendTo, tidings.Target{UserID: name})
			return nil
		case "session":
			g.SendTo = append(g.SendTo, tidings.Target{SessionID: name})
			return nil
		case "topic":
			g.SendTo = append(g.SendTo, tidings.Target{Topic: name})
			return nil
		}
	}
	return invalid(fmt.Sprintf(`the token's %s claim holds %q: it may hold "*", "self", "user:ID", "session:ID" and "topic:NAME"`, claim, right))
}

// claim returns a claim by its name, or, where there is none with that name, by its path.
func claim(claims jwt.MapClaims, name string) any {
	if v, ok := claims[name]; ok {
		return v
	}
	var v any = map[string]any(claims)
	for part := range strings.SplitSeq(name, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[part]
	}
	return v
}

// textClaim returns a claim that is a string; "" where it is absent or null.
func textClaim(claims jwt.MapClaims, name string) (string, error) {
	switch v := claim(claims, name).(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	}
	return "", invalid(fmt.Sprintf("the token's %s claim is not a string", name))
}

// list returns a claim that is a list of strings, or one string with spaces between.
func list(claims jwt.MapClaims, name string) ([]string, error) {
	switch v := claim(claims, name).(type) {
	case nil:
		return nil, nil
	case string:
		return strings.Fields(v), nil
	case []any:
		words := make([]string, 0, len(v))
		for _, w := range v {
			s, ok := w.(string)
			if !ok || s == "" {
				return nil, invalid(fmt.Sprintf("the token's %s claim holds something that is not a string, or empty", name))
			}
			words = append(words, s)
		}
		return words, nil
	}
	return nil, invalid(fmt.Sprintf("the token's %s claim is neither a list of strings nor a string", name))
}
