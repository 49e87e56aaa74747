package tidings

import (
	"fmt"
	"unicode"
	"unicode/utf8"
)

// What an id, a type, a topic or a key may hold, in bytes.
const (
	maxTypeBytes = 128 // Event.Type
	maxIDBytes   = 256 // ClientID, UserID, SessionID, Topic, CollapseKey, IdempotencyKey
)

// ReservedPrefix begins the types of the events that Tidings sends itself. No event of yours may have it.
const ReservedPrefix = "tidings."

// checkName refuses what can't be an id, a topic or a key: it becomes a line of a stream, a URL's query and a log's
// value, and people compare it by eye. So no control characters (CR, LF and NUL would forge lines), no line or
// paragraph separators, and no format characters (bidirectional and zero-width ones make two names look alike).
func checkName(field, s string, maxBytes int) error {
	switch {
	case s == "":
		return &InvalidError{Field: field, Reason: "is empty", Hint: "leave it out, or give it a value"}
	case len(s) > maxBytes:
		return &InvalidError{Field: field, Reason: fmt.Sprintf("has %d bytes", len(s)), Hint: fmt.Sprintf("at most %d are allowed", maxBytes)}
	case !utf8.ValidString(s):
		return &InvalidError{Field: field, Reason: "is not valid UTF-8", Hint: "send UTF-8, percent-encoded in a URL"}
	}
	for i, r := range s {
		if r < utf8.RuneSelf {
			if r < 0x20 || r == 0x7f {
				return badRune(field, r, i, "a control character")
			}
			continue
		}
		switch {
		case unicode.Is(unicode.Cc, r):
			return badRune(field, r, i, "a control character")
		case unicode.Is(unicode.Cf, r):
			return badRune(field, r, i, "an invisible format character")
		case unicode.In(r, unicode.Zl, unicode.Zp):
			return badRune(field, r, i, "a line separator")
		}
	}
	return nil
}

func badRune(field string, r rune, at int, what string) error {
	return &InvalidError{
		Field:  field,
		Reason: fmt.Sprintf("holds %s, %U, at byte %d", what, r, at),
		Hint:   "use letters, digits and punctuation that can be seen",
	}
}

// checkType refuses what can't be an event type: what can't be a name, and the types that are taken.
// The empty type is checked as "message" by the caller.
func checkType(field, s string) error {
	if err := checkName(field, s, maxTypeBytes); err != nil {
		return err
	}
	switch {
	case len(s) >= len(ReservedPrefix) && s[:len(ReservedPrefix)] == ReservedPrefix:
		return &InvalidError{Field: field, Reason: fmt.Sprintf("%q begins with the reserved %q", s, ReservedPrefix), Hint: "choose another prefix"}
	case s == "open" || s == "error":
		return &InvalidError{Field: field, Reason: fmt.Sprintf("%q is reserved", s), Hint: "an EventSource fires its own " + s + " handlers on it; choose another type"}
	}
	return nil
}
