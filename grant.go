package tidings

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Grant is what an Authorizer lets a request do. For [Listen] it is who the stream belongs to, and for [Send] to whom
// events may go; for [Manage] no error is the permission. The zero Grant is an anonymous stream without topics, and sends
// to nobody.
type Grant struct {
	// UserID and SessionID are the stream's, at most 256 bytes each without control or invisible characters. A query that
	// claims others is refused with 403.
	UserID    string
	SessionID string
	// Topics are those that the stream may listen to: exact, or a prefix with a * at its end ("orders.*", "*").
	// A query that asks for another is refused with 403. Empty allows none.
	Topics []string

	// SendToAnyone allows every target, and events for everyone. It is what a back end has.
	SendToAnyone bool
	// SendTo is to whom events may go where SendToAnyone isn't set: each target of an event must have all conditions of
	// one of these, and may have more, which make it narrower. A Topic here may end in a *, as in Topics. Receipts of such
	// a sender have no hint, and no count but for an event to one target with the conditions of one of these and no more,
	// without an exclude: any other would say something of others, such as whether a user is online. Its collapse and
	// idempotency keys are its own: they don't meet those of others.
	SendTo []Target

	// Name is who asks, for logs and for [Options.MaxSendsPerSecond]: the name of an API key, say. Empty is the UserID.
	// It is no secret.
	Name string

	// Expires ends the stream with reason "expired"; the client comes back and is authorized anew. Zero is never.
	Expires time.Time
}

// name returns who asks.
func (g *Grant) name() string {
	if g.Name != "" {
		return g.Name
	}
	return g.UserID
}

// A sender is who asks, as what: a key and a user of the same name are two.
type sender struct {
	kind senderKind
	name string
}

type senderKind uint8

const (
	senderNameless senderKind = iota
	senderNamed               // by Grant.Name
	senderUser
	senderAddress
)

// sender returns who asks.
func (g *Grant) sender() sender {
	switch {
	case g.Name != "":
		return sender{senderNamed, g.Name}
	case g.UserID != "":
		return sender{senderUser, g.UserID}
	}
	return sender{}
}

func (g *Grant) allowsTopic(topic string) bool {
	for _, p := range g.Topics {
		if matchesTopic(p, topic) {
			return true
		}
	}
	return false
}

// matchesTopic reports whether a pattern, exact or with a * at its end, has the topic.
func matchesTopic(pattern, topic string) bool {
	prefix, ok := strings.CutSuffix(pattern, "*")
	return pattern == topic || ok && strings.HasPrefix(topic, prefix)
}

// restrict refuses a record that is for others than the grant allows, and keeps its keys apart from other senders'.
// A sender that shared them could have another's event taken for a repetition, or collapse it.
func (g *Grant) restrict(rec *Record) error {
	if g.SendToAnyone {
		return nil
	}
	if len(rec.Targets) == 0 {
		return &DeniedError{Code: CodeInsufficientScope, Reason: "you may not send to everyone: name a target that you may send to"}
	}
	for _, t := range rec.Targets {
		if !g.allowsTarget(t) {
			return &DeniedError{Code: CodeInsufficientScope, Reason: fmt.Sprintf("you may not send to %s", t)}
		}
	}
	rec.CollapseKey, rec.IdempotencyKey = g.ownKey(rec.CollapseKey), g.ownKey(rec.IdempotencyKey)
	return nil
}

func (g *Grant) allowsTarget(t Target) bool {
	return slices.ContainsFunc(g.SendTo, func(s Target) bool { return s.allows(t) })
}

// allows reports whether whoever has the right t may send to the other target.
func (t Target) allows(other Target) bool {
	return !t.IsZero() &&
		(t.ClientID == "" || t.ClientID == other.ClientID) &&
		(t.UserID == "" || t.UserID == other.UserID) &&
		(t.SessionID == "" || t.SessionID == other.SessionID) &&
		(t.Topic == "" || other.Topic != "" && matchesTopic(t.Topic, other.Topic))
}

// mayCount reports whether the sender may be told how many connections the record matched. A condition beyond its right,
// a second target or an exclude would make the count say something of others: whether a user is online, or listens to a
// topic.
func (g *Grant) mayCount(rec *Record) bool {
	if g.SendToAnyone {
		return true
	}
	if len(rec.Targets) != 1 || !rec.Exclude.IsZero() {
		return false
	}
	t := rec.Targets[0]
	return slices.ContainsFunc(g.SendTo, func(s Target) bool {
		return s.allows(t) &&
			(s.ClientID == "") == (t.ClientID == "") &&
			(s.UserID == "") == (t.UserID == "") &&
			(s.SessionID == "") == (t.SessionID == "") &&
			(s.Topic == "") == (t.Topic == "")
	})
}

// ownKey returns the key as the log has it: one that no other sender's key can be.
func (g *Grant) ownKey(key string) string {
	if key == "" {
		return ""
	}
	s := g.sender()
	sum := sha256.Sum256(fmt.Appendf(nil, "%d:%d:%s%s", s.kind, len(s.name), s.name, key))
	return "~" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// checkLabels refuses a client id that stands alone where users are known: each of them may choose any, so that an event
// for it could reach another user, or an exclusion leave one out. A connection id is nobody's choice.
func checkLabels(targets []Target, exclude Target) error {
	for i, t := range targets {
		if !t.isLabel() {
			continue
		}
		field := "target"
		if len(targets) > 1 {
			field = fmt.Sprintf("targets[%d]", i)
		}
		return labelError(field)
	}
	if exclude.isLabel() {
		return labelError("exclude")
	}
	return nil
}

func labelError(field string) error {
	return &InvalidError{
		Field: field + ".clientId", Reason: "stands alone: every user may choose any client id",
		Hint: "name the userId or the sessionId beside it, or give a connection id",
	}
}
