package tidings

import (
	"fmt"
	"strings"
)

// Target is a set of conditions on a connection. A connection meets the target when it meets all conditions that are
// present. An empty string is an absent condition, and a target without a condition names nobody: it is refused with
// [ErrNoTarget], because it is what a program with an unset id sends, and private data must not become a broadcast.
type Target struct {
	ClientID  string `json:"clientId,omitempty"`  // the id that a page chose, beside its user where those are known; or a connection id
	UserID    string `json:"userId,omitempty"`    // every connection of the user
	SessionID string `json:"sessionId,omitempty"` // every connection of the session
	Topic     string `json:"topic,omitempty"`     // every connection that listens to the topic
}

// IsZero reports whether t has no condition.
func (t Target) IsZero() bool { return t == Target{} }

// String returns the conditions in the form "clientId=a userId=b", for logs and messages.
func (t Target) String() string {
	var b strings.Builder
	for _, c := range t.conditions() {
		if c.value == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(c.field() + "=" + c.value)
	}
	return b.String()
}

// conditions lists the four, narrowest first: a client is inside a session, a session inside a user.
func (t Target) conditions() [4]key {
	return [4]key{{kindClient, t.ClientID}, {kindSession, t.SessionID}, {kindUser, t.UserID}, {kindTopic, t.Topic}}
}

// check refuses a target with no condition, and each condition that can't be one.
func (t Target) check(field string) error {
	if t.IsZero() {
		otherwise := "for everyone, leave the target out"
		if field == "exclude" {
			otherwise = "to leave out nobody, leave exclude out"
		}
		return &InvalidError{
			Field: field, Reason: "has no condition", Err: ErrNoTarget,
			Hint: "name a clientId, userId, sessionId or topic; " + otherwise,
		}
	}
	for _, c := range t.conditions() {
		if c.value == "" {
			continue
		}
		if checkName(c.field(), c.value, maxIDBytes) != nil {
			return checkName(field+"."+c.field(), c.value, maxIDBytes) // put together only here, since most are fine
		}
	}
	return nil
}

// key returns the narrowest condition: the one place where a record or a lookup of this target is listed.
func (t Target) key() key {
	for _, c := range t.conditions() {
		if c.value != "" {
			return c
		}
	}
	return key{kind: kindEveryone}
}

// isOnly reports whether the key is all that t asks for.
func (t Target) isOnly(k key) bool {
	for _, c := range t.conditions() {
		if c.value != "" && c.kind != k.kind {
			return false
		}
	}
	return true
}

// A key is one condition, or everyone: what connections and records are listed under.
type key struct {
	kind  keyKind
	value string
}

type keyKind uint8

const (
	kindEveryone keyKind = iota
	kindClient
	kindSession
	kindUser
	kindTopic
)

// field returns the name that the condition has in the HTTP API.
func (k key) field() string {
	return [...]string{kindEveryone: "", kindClient: "clientId", kindSession: "sessionId", kindUser: "userId", kindTopic: "topic"}[k.kind]
}

// isLabel reports whether the target finds connections by a client id that nothing vouches for: neither a user nor a
// session is named beside it, and it is not a connection id.
func (t Target) isLabel() bool {
	return t.ClientID != "" && t.UserID == "" && t.SessionID == "" && !strings.HasPrefix(t.ClientID, connectionIDMark)
}

// identity is who a connection is: what targets are matched against. It doesn't change while the connection lives.
type identity struct {
	connectionID string // random, unguessable
	clientID     string // chosen by the page; the connectionID where it chose none
	userID       string
	sessionID    string
	topics       []string
	known        bool // who it is was authenticated: its client id is a label, which alone finds nobody
}

// meets reports whether the identity meets every condition of t, and may be found by them. Events that stood in the log
// before are held to it, too.
func (id *identity) meets(t Target) bool {
	return id.has(t) && !(id.known && t.isLabel())
}

// has reports whether the identity has what every condition of t asks for.
func (id *identity) has(t Target) bool {
	if t.ClientID != "" && t.ClientID != id.clientID && t.ClientID != id.connectionID {
		return false
	}
	if t.UserID != "" && t.UserID != id.userID {
		return false
	}
	if t.SessionID != "" && t.SessionID != id.sessionID {
		return false
	}
	return t.Topic == "" || id.hears(t.Topic)
}

func (id *identity) hears(topic string) bool {
	for _, t := range id.topics {
		if t == topic {
			return true
		}
	}
	return false
}

// isFor reports whether an event with these targets is for the identity. No targets is everyone.
func (id *identity) isFor(targets []Target, exclude Target) bool {
	if !exclude.IsZero() && id.meets(exclude) {
		return false
	}
	if len(targets) == 0 {
		return true
	}
	for _, t := range targets {
		if id.meets(t) {
			return true
		}
	}
	return false
}

// keys lists where the identity's events are found, in history and among connections.
func (id *identity) keys() []key {
	ks := make([]key, 0, 5+len(id.topics))
	ks = append(ks, key{kind: kindEveryone}, key{kindClient, id.connectionID})
	if id.clientID != id.connectionID {
		ks = append(ks, key{kindClient, id.clientID})
	}
	if id.sessionID != "" {
		ks = append(ks, key{kindSession, id.sessionID})
	}
	if id.userID != "" {
		ks = append(ks, key{kindUser, id.userID})
	}
	for _, t := range id.topics {
		ks = append(ks, key{kindTopic, t})
	}
	return ks
}

// checkTargets refuses an event that names nobody, and each target that can't be one.
func checkTargets(ts []Target, limit int) error {
	if len(ts) > limit {
		return &InvalidError{Field: "targets", Reason: fmt.Sprintf("has %d targets", len(ts)), Hint: fmt.Sprintf("at most %d are allowed; a topic reaches any number", limit)}
	}
	for i, t := range ts {
		field := "target"
		if len(ts) > 1 {
			field = fmt.Sprintf("targets[%d]", i)
		}
		if err := t.check(field); err != nil {
			return err
		}
	}
	return nil
}
