package sse

import (
	"bytes"
	"slices"
	"strconv"
	"time"
)

// Heartbeat is an empty comment and a blank line: the least that can be sent to
// show that a stream is alive. Between two blocks it changes nothing for any
// client.
const Heartbeat = ":\n\n"

// AppendEvent appends e to dst as one block, and returns the longer slice. The
// lines are, in this order: event, unless e.Type is empty; one data for each
// line of e.Data, one at least; id, if e.ID is not empty or e.ResetID is set;
// and the blank line.
//
// If e can't be carried exactly, dst is returned as it was, with a
// [*FieldError]: the type and the id must pass [CheckType] and [CheckID], and
// the data must be UTF-8.
func AppendEvent(dst []byte, e Event) ([]byte, error) {
	if err := CheckType(e.Type); err != nil {
		return dst, err
	}
	if err := checkUTF8("data", e.Data); err != nil {
		return dst, err
	}
	if err := CheckID(e.ID); err != nil {
		return dst, err
	}
	dst = appendBlock(dst, e.Type, e.Data, e.ID, e.ResetID)
	return dst, nil
}

// AppendBlock appends the event of that type, data and id to dst as one block,
// the same bytes as [AppendEvent] would, and returns the longer slice. If typ or
// id is empty, there is no such line. It allocates nothing but the growth of
// dst; for data of one line, that is at most once.
//
// It trusts the caller. Line breaks in data are safe, and become lines. But typ
// and id MUST have passed [CheckType] and [CheckID], else whoever chose them
// writes lines of their own into the stream; and data MUST be UTF-8, else what
// is not arrives as U+FFFD.
func AppendBlock(dst []byte, typ string, data []byte, id string) []byte {
	return appendBlock(dst, typ, data, id, false)
}

func appendBlock[D string | []byte](dst []byte, typ string, data D, id string, resetID bool) []byte {
	const framing = len("event: \ndata: \nid: \n\n")
	dst = slices.Grow(dst, framing+len(typ)+len(data)+len(id))
	if typ != "" {
		dst = append(dst, "event: "...)
		dst = append(dst, typ...)
		dst = append(dst, '\n')
	}
	dst = appendLines(dst, "data: ", data)
	if id != "" || resetID {
		dst = AppendID(dst, id)
	}
	return append(dst, '\n')
}

// AppendID appends an id field, as one line, to dst and returns the longer
// slice. An empty id is written too: it sets the client's last event ID back to
// the empty string.
//
// It is for a block without data, which moves the client's last event ID and
// fires no event: append the line, then '\n'. An event's id belongs in its own
// block, as the last line: see [AppendEvent]. The id MUST have passed [CheckID].
func AppendID(dst []byte, id string) []byte {
	dst = append(dst, "id: "...)
	dst = append(dst, id...)
	return append(dst, '\n')
}

// AppendRetry appends a retry field, as one line, to dst and returns the longer
// slice. It tells the client how long to wait before it comes back. The wire
// has whole milliseconds: d is rounded up to them, so that a short wait does not
// become none, and a negative d is 0.
//
// The line belongs to the block that is appended next; clients obey it as soon
// as it is there. If nothing is to follow, append '\n' to end the block.
func AppendRetry(dst []byte, d time.Duration) []byte {
	d = max(d, 0)
	ms := d.Milliseconds()
	if d%time.Millisecond != 0 {
		ms++
	}
	dst = append(dst, "retry: "...)
	dst = strconv.AppendInt(dst, ms, 10)
	return append(dst, '\n')
}

// AppendComment appends text as a comment to dst, one line for each line of
// text, and returns the longer slice. Clients skip comments, so any text is
// safe. It may stand before a block, or, followed by '\n', alone; an empty text
// gives the line of a [Heartbeat].
func AppendComment(dst []byte, text string) []byte {
	if text == "" {
		return append(dst, ":\n"...)
	}
	return appendLines(dst, ": ", text)
}

// appendLines appends each line of text after prefix. The space at the end of
// the prefix is the one that a client strips, so that one at the beginning of a
// line survives.
func appendLines[T string | []byte](dst []byte, prefix string, text T) []byte {
	dst = append(dst, prefix...)
	start := len(dst)
	dst = append(dst, text...)
	// Text of one line, which JSON is, is searched twice at the speed of
	// IndexByte and copied once.
	if bytes.IndexByte(dst[start:], '\n') < 0 && bytes.IndexByte(dst[start:], '\r') < 0 {
		return append(dst, '\n')
	}
	dst = dst[:start]
	line := 0
	for i := 0; i < len(text); i++ {
		if text[i] != '\n' && text[i] != '\r' {
			continue
		}
		dst = append(dst, text[line:i]...)
		dst = append(dst, '\n')
		dst = append(dst, prefix...)
		if text[i] == '\r' && i+1 < len(text) && text[i+1] == '\n' {
			i++
		}
		line = i + 1
	}
	dst = append(dst, text[line:]...)
	return append(dst, '\n')
}
