package sse

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// ContentType is the media type of an event stream, for the Content-Type and
// Accept headers. It needs no charset: an event stream is always UTF-8 (WHATWG
// HTML, section 9.2.5).
const ContentType = "text/event-stream"

// DefaultType is the type of an event whose block has no event field, or an
// empty one. It is the one that a browser's onmessage hears.
const DefaultType = "message"

// Event is what one block of a stream says. It is a plain value: it may be
// compared, copied and used from several goroutines.
//
// The id is that of the block itself. What a browser calls lastEventId, which
// an event without an id of its own inherits from those before it, is a matter
// of the stream: see [Decoder.LastEventID].
type Event struct {
	// Type names the event. To [AppendEvent], the empty string means no event
	// field, which makes it [DefaultType]. From a [Decoder] it is never empty.
	Type string

	// Data is any text, of any number of lines. From a Decoder its line breaks
	// are LF, whichever way they were written. An event with empty data is an
	// event all the same.
	Data string

	// ID becomes the client's last event ID once the event has arrived whole.
	// The empty string means no id field: the last event ID stays what it was.
	ID string

	// ResetID stands for an id field with an empty value, which sets the last
	// event ID back to the empty string, so that the client sends no
	// Last-Event-ID when it comes back. AppendEvent looks at it only if ID is
	// empty; a Decoder sets it only if ID is.
	ResetID bool
}

// FieldError says that an event can't be put on the wire, because a client
// would read something else than what was written. [CheckType], [CheckID] and
// [AppendEvent] return it, as *FieldError.
type FieldError struct {
	Field  string // "type", "data" or "id"
	Reason string // what is wrong with it, such as "has a line break at byte 4"
}

func (e *FieldError) Error() string { return "sse: event " + e.Field + " " + e.Reason }

// CheckType reports whether typ can be an event's type: UTF-8 without CR, LF or
// NUL. The error, if any, is a [*FieldError]. The standard lets a type hold
// NUL; it is refused here, because no one means it and C code that reads it
// would take it for the end.
func CheckType(typ string) error { return checkLine("type", typ) }

// CheckID reports whether id can be an event's id: UTF-8 without CR, LF or NUL.
// (A client ignores an id field that holds NUL.) The error, if any, is a
// [*FieldError].
//
// That is what the stream can carry. The id comes back in a request header,
// and clients differ in what they can put there: printable ASCII is safe with
// all of them.
func CheckID(id string) error { return checkLine("id", id) }

func checkLine(field, s string) error {
	if i := strings.IndexByte(s, '\n'); i >= 0 {
		return &FieldError{field, fmt.Sprintf("has a line break at byte %d", i)}
	}
	if i := strings.IndexByte(s, '\r'); i >= 0 {
		return &FieldError{field, fmt.Sprintf("has a line break at byte %d", i)}
	}
	if i := strings.IndexByte(s, 0); i >= 0 {
		return &FieldError{field, fmt.Sprintf("has a NUL at byte %d", i)}
	}
	return checkUTF8(field, s)
}

func checkUTF8(field, s string) error {
	if utf8.ValidString(s) {
		return nil
	}
	for i, r := range s {
		if r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD") {
			return &FieldError{field, fmt.Sprintf("is not UTF-8 at byte %d", i)}
		}
	}
	return nil
}
