package sse_test

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/tidings-sse/tidings/sse"
)

func TestAnEventHasTheseBytes(t *testing.T) {
	for _, tc := range []struct {
		name  string
		event sse.Event
		wire  string
	}{
		{"the zero event", sse.Event{}, "data: \n\n"},
		{"the id is the last line", sse.Event{Type: "new-message", Data: `{"text":"hi"}`, ID: "1k3-2y.0-c4"}, "event: new-message\ndata: {\"text\":\"hi\"}\nid: 1k3-2y.0-c4\n\n"},
		{"a type that is the default one is written if it is given", sse.Event{Type: "message", Data: "a"}, "event: message\ndata: a\n\n"},
		{"no type", sse.Event{Data: "a", ID: "1"}, "data: a\nid: 1\n\n"},
		{"an id reset", sse.Event{Data: "a", ResetID: true}, "data: a\nid: \n\n"},
		{"an id is stronger than a reset", sse.Event{Data: "a", ID: "1", ResetID: true}, "data: a\nid: 1\n\n"},
		{"LF, CR and CRLF", sse.Event{Data: "a\nb\rc\r\nd"}, "data: a\ndata: b\ndata: c\ndata: d\n\n"},
		{"LF CR is two", sse.Event{Data: "a\n\rb"}, "data: a\ndata: \ndata: b\n\n"},
		{"CR CR LF is two", sse.Event{Data: "a\r\r\nb"}, "data: a\ndata: \ndata: b\n\n"},
		{"a trailing LF", sse.Event{Data: "a\n"}, "data: a\ndata: \n\n"},
		{"a trailing CR", sse.Event{Data: "a\r"}, "data: a\ndata: \n\n"},
		{"a trailing CRLF", sse.Event{Data: "a\r\n"}, "data: a\ndata: \n\n"},
		{"a lone LF", sse.Event{Data: "\n"}, "data: \ndata: \n\n"},
		{"a lone CR", sse.Event{Data: "\r"}, "data: \ndata: \n\n"},
		{"leading spaces", sse.Event{Type: " t", Data: " a\n  b", ID: " 1"}, "event:  t\ndata:  a\ndata:   b\nid:  1\n\n"},
		{"what is no line break", sse.Event{Data: "a\u2028b\u2029c\u0085d\x00"}, "data: a\u2028b\u2029c\u0085d\x00\n\n"},
		{"a byte order mark", sse.Event{Data: "\uFEFFa"}, "data: \uFEFFa\n\n"},
		{"an emoji", sse.Event{Type: "😀", Data: "👩‍👩‍👧", ID: "é"}, "event: 😀\ndata: 👩‍👩‍👧\nid: é\n\n"},
		{"data that looks like fields", sse.Event{Data: "id: 5\n\nevent: x\n:"}, "data: id: 5\ndata: \ndata: event: x\ndata: :\n\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := sse.AppendEvent([]byte("before|"), tc.event)
			if err != nil || string(got) != "before|"+tc.wire {
				t.Errorf("AppendEvent gave %q, %v\nwant %q", got, err, tc.wire)
			}
			if tc.event.ResetID {
				return
			}
			got = sse.AppendBlock([]byte("before|"), tc.event.Type, []byte(tc.event.Data), tc.event.ID)
			if string(got) != "before|"+tc.wire {
				t.Errorf("AppendBlock gave %q\nwant %q", got, tc.wire)
			}
		})
	}
}

func TestTheHeadOfAStreamHasTheseBytes(t *testing.T) {
	b := sse.AppendRetry(nil, 2870*time.Millisecond)
	b = sse.AppendBlock(b, "tidings.connected", []byte(`{"resume":"none"}`), "1k3-2x.0-9f")
	b = append(b, sse.Heartbeat...)
	b = append(sse.AppendID(b, "1k3-2y.0-c4"), '\n')
	want := "retry: 2870\nevent: tidings.connected\ndata: {\"resume\":\"none\"}\nid: 1k3-2x.0-9f\n\n:\n\nid: 1k3-2y.0-c4\n\n"
	if string(b) != want {
		t.Errorf("got  %q\nwant %q", b, want)
	}
}

func TestAnEventThatWouldArriveChangedIsRefused(t *testing.T) {
	for _, tc := range []struct {
		event sse.Event
		field string
		want  string
	}{
		{sse.Event{Type: "a\nb"}, "type", "sse: event type has a line break at byte 1"},
		{sse.Event{Type: "ab\r"}, "type", "sse: event type has a line break at byte 2"},
		{sse.Event{Type: "\x00"}, "type", "sse: event type has a NUL at byte 0"},
		{sse.Event{Type: "\uFFFDa\xFF"}, "type", "sse: event type is not UTF-8 at byte 4"},
		{sse.Event{Data: "é\xC3"}, "data", "sse: event data is not UTF-8 at byte 2"},
		{sse.Event{ID: "1\n"}, "id", "sse: event id has a line break at byte 1"},
		{sse.Event{ID: "\r1"}, "id", "sse: event id has a line break at byte 0"},
		{sse.Event{ID: "1\x002"}, "id", "sse: event id has a NUL at byte 1"},
		{sse.Event{ID: "\xED\xA0\x80"}, "id", "sse: event id is not UTF-8 at byte 0"},
	} {
		got, err := sse.AppendEvent([]byte("before"), tc.event)
		if string(got) != "before" {
			t.Errorf("%+v: appended %q", tc.event, got)
		}
		fieldError, ok := errors.AsType[*sse.FieldError](err)
		if !ok || fieldError.Field != tc.field || err.Error() != tc.want {
			t.Errorf("%+v: got %v, want %s", tc.event, err, tc.want)
		}
	}
}

func TestTheChecksLetThroughWhatTheWireCarries(t *testing.T) {
	for _, s := range []string{"", "message", "a b", " ", ":", "é😀", "\uFFFD", "\uFEFF", "\u2028\u0085\t\v"} {
		if err := sse.CheckType(s); err != nil {
			t.Errorf("CheckType(%q): %v", s, err)
		}
		if err := sse.CheckID(s); err != nil {
			t.Errorf("CheckID(%q): %v", s, err)
		}
	}
}

func TestRetryIsInMillisecondsRoundedUp(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                                  "retry: 0\n",
		-time.Second:                       "retry: 0\n",
		math.MinInt64:                      "retry: 0\n",
		1:                                  "retry: 1\n",
		time.Millisecond:                   "retry: 1\n",
		time.Millisecond + 1:               "retry: 2\n",
		1500 * time.Millisecond:            "retry: 1500\n",
		math.MaxInt64:                      "retry: 9223372036855\n",
		math.MaxInt64 / 1000000 * 1000000:  "retry: 9223372036854\n",
		-time.Duration(math.MaxInt64) / 16: "retry: 0\n",
	} {
		if got := string(sse.AppendRetry(nil, d)); got != want {
			t.Errorf("%d: %q, want %q", d, got, want)
		}
	}
}

func TestACommentStaysACommentWhateverItsText(t *testing.T) {
	for text, want := range map[string]string{
		"":                    ":\n",
		"a":                   ": a\n",
		" a":                  ":  a\n",
		"a\n\ndata: evil\n\n": ": a\n: \n: data: evil\n: \n: \n",
		"a\rb\r\nc":           ": a\n: b\n: c\n",
	} {
		got := sse.AppendComment(nil, text)
		if string(got) != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
		var comments []string
		for event := range sse.NewDecoder(bytes.NewReader(append(got, '\n')), &sse.DecoderOptions{
			OnComment: func(text string) { comments = append(comments, text) },
		}).Events() {
			t.Errorf("%q became the event %+v", text, event)
		}
		if got := strings.Join(comments, "\n"); got != lines(text) {
			t.Errorf("%q came back as %q", text, got)
		}
	}
}

func TestAppendBlockAllocatesOnlyTheFrameAndOnlyOnce(t *testing.T) {
	data := []byte(`{"text":"hi"}`)
	// Growing more than once would leave more room than one allocation has.
	frame := sse.AppendBlock(nil, "new-message", data, "1k3-2y.0-c4")
	if once := bytes.Clone(frame); cap(frame) > cap(once) {
		t.Errorf("a frame of %d bytes has room for %d, want %d", len(frame), cap(frame), cap(once))
	}
	buf := make([]byte, 0, 4096)
	for _, data := range [][]byte{data, []byte("a\nb\r\nc\r")} {
		if n := testing.AllocsPerRun(100, func() { sse.AppendBlock(buf, "new-message", data, "1k3-2y.0-c4") }); n > 0 {
			t.Errorf("%v allocations for %q into a buffer that is large enough", n, data)
		}
	}
}
