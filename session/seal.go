package session

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tidings-sse/tidings"
)

// A seal signs grants and opens them again: base64url of the JSON form, a dot, and base64url of its HMAC-SHA-256. What is
// sealed for one purpose can't be opened for another: each has its own keys, which are derived from the secrets.
type seal struct {
	keys [][]byte // the first signs; all open
}

// letter is what is sealed: a grant, and until when the seal is good.
type letter struct {
	Until   int64            `json:"x"` // seconds since 1970
	User    string           `json:"u,omitempty"`
	Session string           `json:"s,omitempty"`
	Topics  []string         `json:"t,omitempty"`
	Anyone  bool             `json:"a,omitempty"`
	To      []tidings.Target `json:"o,omitempty"`
	Name    string           `json:"n,omitempty"`
	Expires int64            `json:"e,omitempty"` // the grant's, in milliseconds since 1970
}

// The errors of open.
var (
	errForged  = errors.New("it was not made by this server, or was changed")
	errExpired = errors.New("it has expired")
)

func newSeal(secrets [][]byte, purpose string) (*seal, error) {
	s := &seal{}
	for _, secret := range secrets {
		key, err := hkdf.Key(sha256.New, secret, nil, "tidings "+purpose+" 1", sha256.Size)
		if err != nil {
			return nil, err
		}
		s.keys = append(s.keys, key)
	}
	return s, nil
}

var encoding = base64.RawURLEncoding.Strict()

// seal returns the grant as text, good until a time.
func (s *seal) seal(g tidings.Grant, until time.Time) (string, error) {
	l := letter{
		Until: until.Unix(),
		User:  g.UserID, Session: g.SessionID, Topics: g.Topics, Anyone: g.SendToAnyone, To: g.SendTo, Name: g.Name,
	}
	if !g.Expires.IsZero() {
		l.Expires = g.Expires.UnixMilli()
	}
	b, err := json.Marshal(l)
	if err != nil {
		return "", err
	}
	body := encoding.EncodeToString(b)
	return body + "." + encoding.EncodeToString(s.sum(s.keys[0], body)), nil
}

// open returns the grant, also, with errExpired, of what was good before. Its Expires is the one that was sealed: a ticket's may
// be long after the seal's own end, which is only about when it can be opened, and zero is none.
func (s *seal) open(text string) (tidings.Grant, error) {
	body, mac, _ := strings.Cut(text, ".")
	sum, err := encoding.DecodeString(mac)
	if err != nil || !s.made(body, sum) {
		return tidings.Grant{}, errForged
	}
	b, err := encoding.DecodeString(body)
	if err != nil {
		return tidings.Grant{}, errForged
	}
	var l letter
	if err := json.Unmarshal(b, &l); err != nil {
		return tidings.Grant{}, fmt.Errorf("%w: %w", errForged, err) // of another version
	}
	g := tidings.Grant{UserID: l.User, SessionID: l.Session, Topics: l.Topics, SendToAnyone: l.Anyone, SendTo: l.To, Name: l.Name}
	if l.Expires != 0 {
		g.Expires = time.UnixMilli(l.Expires)
	}
	if now := time.Now(); now.Unix() >= l.Until || l.Expires != 0 && !now.Before(g.Expires) {
		return g, errExpired
	}
	return g, nil
}

func (s *seal) made(body string, sum []byte) bool {
	for _, key := range s.keys {
		if hmac.Equal(s.sum(key, body), sum) {
			return true
		}
	}
	return false
}

func (s *seal) sum(key []byte, body string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(body))
	return m.Sum(nil)
}
