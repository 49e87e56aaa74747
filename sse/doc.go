// Package sse is the wire format of Server-Sent Events, and nothing else: bytes
// to events and events to bytes, with the standard library alone. It opens no
// connection, sets no header and reconnects nothing.
//
// The promise: what [AppendEvent] accepts, a [Decoder] (and every client that
// follows the standard) gives back exactly: the same type, the same data, the
// same id, whatever the text holds and however the network cuts the stream into
// pieces. The one change is the standard's own: a line break in data comes back
// as LF, be it written as LF, CR or CRLF. What could not be given back is
// refused with a [*FieldError] instead of being sent.
//
// # Words
//
// They are those of the standard, section 9.2 of WHATWG HTML
// (https://html.spec.whatwg.org/multipage/server-sent-events.html):
//
//   - A stream is UTF-8 text: lines, each ended by LF, CR or CRLF.
//   - A line that begins with a colon is a comment. Servers send them as
//     heartbeats; clients skip them.
//   - Any other line that is not empty is a field: event, data, id or retry.
//   - A block is the fields up to a blank line. A block with a data field
//     becomes an event when its blank line arrives; a block without one does
//     not, but its id counts.
//   - The last event ID is the id of the latest block that had one. It is what
//     a client sends as Last-Event-ID when it comes back. An id field with an
//     empty value sets it back to the empty string; no id field leaves it alone.
//   - The reconnection time, set by retry, is how long a client waits before it
//     comes back.
//
// # Writing
//
// Everything that writes appends to a slice, like [strconv.AppendInt].
// [AppendEvent] and [AppendBlock] append whole blocks: the first checks what it
// is given, the second trusts it and is for code that has checked at its door,
// with [CheckType] and [CheckID]. [AppendRetry], [AppendID] and [AppendComment]
// append lines, which belong to the block that is appended next:
//
//	frame := sse.AppendRetry(nil, 3*time.Second)
//	frame, err := sse.AppendEvent(frame, sse.Event{Type: "greeting", Data: "hello", ID: "1"})
//
// gives this, and the blank line that ends it:
//
//	retry: 3000
//	event: greeting
//	data: hello
//	id: 1
//
// The id is always the last line of its block. By the standard a block cut off
// in the middle counts for nothing, but there are clients that take over an id
// as soon as its line is there; were it an earlier line, a cut would move them
// past an event they never got.
//
// # Reading
//
//	resp, err := http.Get("https://example.com/api/sse")
//	if err != nil {
//		return err
//	}
//	defer resp.Body.Close()
//	events := sse.NewDecoder(resp.Body, nil)
//	for event, err := range events.Events() {
//		if err != nil {
//			return err
//		}
//		fmt.Println(event.Type, event.Data)
//	}
//	// The server ended the stream: come back with events.LastEventID().
package sse
