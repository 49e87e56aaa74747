// Package apikey is a [tidings.Authorizer] for back ends and operators: whoever presents one of a few keys may send to
// anyone, or, with an admin key, manage as well. Only hashes of the keys are kept.
//
//	keys, err := apikey.New(apikey.Key{Name: "billing", Secret: os.Getenv("BILLING_KEY")})
//	if err != nil {
//		return err
//	}
//	hub, err := tidings.New(&tidings.Options{Authorizer: keys.Or(tokens)}) // pages come with tokens
//
// A key is presented as a token is, in the Authorization header: "Bearer", a space, and the key.
package apikey

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/tidings-sse/tidings"
)

// Key is what a back end or an operator presents.
type Key struct {
	// Name is who has it, for logs and for [tidings.Options.MaxSendsPerSecond]: 1 to 64 letters, digits, dots, hyphens and
	// underscores. Each key has another one.
	Name string
	// Secret is the key itself: at least 20 random characters of printable ASCII, without spaces, and not two dots, as
	// tokens have. Or, so that it needn't be where it is configured, "sha256:" and the hash of it in hex: what
	// "printf %s KEY | sha256sum" says.
	Secret string
	// Admin allows what needs [tidings.Manage], too.
	Admin bool
}

const (
	hashPrefix = "sha256:"
	minSecret  = 20
	maxSecret  = 256
)

// Keys are an Authorizer. Create them with [New]. They may be used concurrently.
type Keys struct {
	keys []held
	next tidings.Authorizer // for who presents no key; nil denies
}

// held is a key as it is kept.
type held struct {
	name  string
	admin bool
	hash  [sha256.Size]byte
}

var _ tidings.Authorizer = (*Keys)(nil)

// New returns an Authorizer that grants what the keys allow, and denies everything else. The error is a
// [*tidings.InvalidError], and holds no secret.
func New(keys ...Key) (*Keys, error) {
	ks := &Keys{}
	for i, k := range keys {
		field := fmt.Sprintf("keys[%d]", i)
		if !isName(k.Name) {
			return nil, &tidings.InvalidError{Field: field + ".Name", Reason: fmt.Sprintf("%q is not a name", k.Name), Hint: "give 1 to 64 letters, digits, dots, hyphens and underscores"}
		}
		h := held{name: k.Name, admin: k.Admin}
		if sum, isHash := strings.CutPrefix(k.Secret, hashPrefix); isHash {
			b, err := hex.DecodeString(sum)
			if err != nil || len(b) != len(h.hash) {
				return nil, &tidings.InvalidError{Field: field + ".Secret", Reason: "of " + k.Name + " is not a SHA-256 hash", Hint: "give sha256: and 64 hex digits, as printf %s KEY | sha256sum says them"}
			}
			copy(h.hash[:], b)
		} else {
			if err := checkSecret(k.Secret); err != nil {
				return nil, &tidings.InvalidError{Field: field + ".Secret", Reason: "of " + k.Name + " " + err.Error(), Hint: "make one with openssl rand -hex 32"}
			}
			h.hash = sha256.Sum256([]byte(k.Secret))
		}
		for _, other := range ks.keys {
			if other.name == h.name || other.hash == h.hash {
				return nil, &tidings.InvalidError{Field: field, Reason: fmt.Sprintf("%s has the name or the secret of another key, %s", h.name, other.name), Hint: "give each its own"}
			}
		}
		ks.keys = append(ks.keys, h)
	}
	return ks, nil
}

// Or returns the same keys, with an Authorizer for requests that present none: their credential has two dots, as tokens
// have, or is somewhere else, or isn't there.
func (ks *Keys) Or(next tidings.Authorizer) *Keys { return &Keys{keys: ks.keys, next: next} }

// Authorize grants what the request's key allows.
func (ks *Keys) Authorize(r *http.Request, action tidings.Action) (tidings.Grant, error) {
	secret, err := tidings.Bearer(r)
	if err != nil {
		return tidings.Grant{}, err
	}
	if secret == "" || isToken(secret) {
		if ks.next != nil {
			return ks.next.Authorize(r, action)
		}
		if secret == "" {
			return tidings.Grant{}, &tidings.DeniedError{Unauthenticated: true, Reason: "there is no credential: send Authorization: Bearer and an API key"}
		}
	}
	k, ok := ks.find(secret)
	switch {
	case !ok:
		return tidings.Grant{}, &tidings.DeniedError{Unauthenticated: true, Code: tidings.CodeInvalidToken, Reason: "the credential is neither a token nor a known API key"}
	case action == tidings.Listen:
		return tidings.Grant{}, &tidings.DeniedError{Code: tidings.CodeInsufficientScope, Reason: "an API key is nobody's stream: listen with a user's token"}
	case action == tidings.Manage && !k.admin:
		return tidings.Grant{}, &tidings.DeniedError{Code: tidings.CodeInsufficientScope, Reason: "this API key may send, and nothing else: use the admin key"}
	}
	return tidings.Grant{SendToAnyone: true, Name: k.name}, nil
}

// find compares with each key, in a time that doesn't depend on how much of it is right.
func (ks *Keys) find(secret string) (found held, ok bool) {
	if len(secret) > maxSecret {
		return held{}, false
	}
	sum := sha256.Sum256([]byte(secret))
	for _, k := range ks.keys {
		if subtle.ConstantTimeCompare(sum[:], k.hash[:]) == 1 {
			found, ok = k, true
		}
	}
	return found, ok
}

// isToken reports whether a credential has the form of a JSON Web Token.
func isToken(s string) bool { return strings.Count(s, ".") == 2 }

// checkSecret refuses what could be guessed, or not be presented.
func checkSecret(s string) error {
	if len(s) < minSecret || len(s) > maxSecret {
		return fmt.Errorf("has %d characters, and must have %d to %d", len(s), minSecret, maxSecret)
	}
	if isToken(s) {
		return errors.New("has two dots, as a token has")
	}
	distinct := map[rune]bool{}
	for _, c := range s {
		if c <= ' ' || c > '~' || c == ',' {
			return fmt.Errorf("holds %U: only printable ASCII without spaces and commas fits into a header", c)
		}
		distinct[c] = true
	}
	if len(distinct) < 6 {
		return fmt.Errorf("has only %d different characters, so it is not random", len(distinct))
	}
	return nil
}

func isName(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for _, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}
