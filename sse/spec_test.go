package sse_test

import (
	"math"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/tidings-sse/tidings/sse"
)

// outcome is all that a stream says to its reader, to its end.
type outcome struct {
	events   []sse.Event
	lastIDs  []string // LastEventID as each event was yielded
	comments []string
	lastID   string        // at the end
	retry    time.Duration // -1: never set
	err      error
}

// read reads a stream to its end or its first error.
func read(d *sse.Decoder, out *outcome) {
	for event, err := range d.Events() {
		if err != nil {
			out.err = err
			break
		}
		out.events = append(out.events, event)
		out.lastIDs = append(out.lastIDs, d.LastEventID())
	}
	out.lastID = d.LastEventID()
	out.retry = -1
	if retry, ok := d.Retry(); ok {
		out.retry = retry
	}
}

func equal(a, b outcome) bool {
	return slices.Equal(a.events, b.events) && slices.Equal(a.lastIDs, b.lastIDs) && slices.Equal(a.comments, b.comments) &&
		a.lastID == b.lastID && a.retry == b.retry && (a.err == nil) == (b.err == nil)
}

func message(data string) sse.Event { return sse.Event{Type: "message", Data: data} }

// Each vector is one rule of WHATWG HTML, sections 9.2.5 and 9.2.6, or one of
// the section's own examples. Unless a vector says otherwise, the stream sets no
// retry, sends no comment and leaves the last event ID empty.
var vectors = []struct {
	rule     string
	stream   string
	events   []sse.Event
	lastIDs  []string // nil: all empty
	lastID   string
	comments []string
	retry    time.Duration // 0: never set; use zeroRetry for "retry: 0"
}{
	// The examples of the section.
	{
		rule:   "example: three messages, one of two lines",
		stream: "data: This is the first message.\n\ndata: This is the second message, it\ndata: has two lines.\n\ndata: This is the third message.\n\n",
		events: []sse.Event{message("This is the first message."), message("This is the second message, it\nhas two lines."), message("This is the third message.")},
	},
	{
		rule:   "example: event types add and remove",
		stream: "event: add\ndata: 73857293\n\nevent: remove\ndata: 2153\n\nevent: add\ndata: 113411\n\n",
		events: []sse.Event{{Type: "add", Data: "73857293"}, {Type: "remove", Data: "2153"}, {Type: "add", Data: "113411"}},
	},
	{
		rule:   "example: the stock ticker",
		stream: "data: YHOO\ndata: +2\ndata: 10\n\n",
		events: []sse.Event{message("YHOO\n+2\n10")},
	},
	{
		rule:     "example: a comment, an id, an id reset, a second leading space",
		stream:   ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
		comments: []string{"test stream"},
		events:   []sse.Event{{Type: "message", Data: "first event", ID: "1"}, {Type: "message", Data: "second event", ResetID: true}, message(" third event")},
		lastIDs:  []string{"1", "", ""},
	},
	{
		rule:   "example: data fields without a colon; the last block has no blank line",
		stream: "data\n\ndata\ndata\n\ndata:",
		events: []sse.Event{message(""), message("\n")},
	},
	{
		rule:   "example: the space after the colon is optional",
		stream: "data:test\n\ndata: test\n\n",
		events: []sse.Event{message("test"), message("test")},
	},

	// UTF-8 decode.
	{rule: "one leading byte order mark is stripped", stream: "\uFEFFdata: a\n\n", events: []sse.Event{message("a")}},
	{rule: "a second byte order mark is part of the field name", stream: "\uFEFF\uFEFFdata: a\n\ndata: b\n\n", events: []sse.Event{message("b")}},
	{rule: "a byte order mark after the beginning is not stripped", stream: "data: a\n\n\uFEFFdata: b\n\n", events: []sse.Event{message("a")}},
	{rule: "a byte order mark in a value stays", stream: "data: \uFEFFa\n\n", events: []sse.Event{message("\uFEFFa")}},
	{rule: "a byte order mark may stand before a comment", stream: "\uFEFF:a\ndata: b\n\n", events: []sse.Event{message("b")}, comments: []string{"a"}},
	{rule: "a byte order mark may stand before a blank line", stream: "\uFEFF\ndata: b\n\n", events: []sse.Event{message("b")}},
	{rule: "half a byte order mark is part of the field name", stream: "\xEF\xBBdata: a\n\ndata: b\n\n", events: []sse.Event{message("b")}},
	{rule: "half a byte order mark may be the whole line", stream: "\xEF\xBB\ndata: b\n\n", events: []sse.Event{message("b")}},
	{rule: "half a byte order mark may be the whole stream", stream: "\xEF\xBB"},
	{rule: "a byte order mark in UTF-16 is not one", stream: "\xFF\xFEdata: a\n\ndata: b\n\n", events: []sse.Event{message("b")}},
	{rule: "characters of 2, 3 and 4 bytes are kept", stream: "event: é\ndata: ok … 😀\nid: ß\n\n", events: []sse.Event{{Type: "é", Data: "ok … 😀", ID: "ß"}}, lastIDs: []string{"ß"}, lastID: "ß"},
	{rule: "U+FFFD itself is kept", stream: "data: \uFFFD\n\n", events: []sse.Event{message("\uFFFD")}},
	{rule: "each byte that begins no character is one U+FFFD", stream: "data: a\x80\xBF\xC0\xC1\xF5\xFFb\n\n", events: []sse.Event{message("a\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDb")}},
	{rule: "a character cut short is one U+FFFD, of 2 bytes", stream: "data: \xC3x\n\n", events: []sse.Event{message("\uFFFDx")}},
	{rule: "a character cut short is one U+FFFD, of 3 bytes", stream: "data: \xE2\x82x\n\n", events: []sse.Event{message("\uFFFDx")}},
	{rule: "a character cut short is one U+FFFD, of 4 bytes", stream: "data: \xF0\x9F\x98x\n\n", events: []sse.Event{message("\uFFFDx")}},
	{rule: "a character cut short by another one", stream: "data: \xF0\x9F\xE2\x82\xC3\xC3\xA9\n\n", events: []sse.Event{message("\uFFFD\uFFFD\uFFFDé")}},
	{rule: "a character cut short by the line's end does not take it along", stream: "data: \xF0\x9F\x98\ndata: \xE2\n\n", events: []sse.Event{message("\uFFFD\n\uFFFD")}},
	{rule: "an overlong form is one U+FFFD a byte", stream: "data: \xE0\x80\x80|\xF0\x80\x80\x80\n\n", events: []sse.Event{message("\uFFFD\uFFFD\uFFFD|\uFFFD\uFFFD\uFFFD\uFFFD")}},
	{rule: "a surrogate is one U+FFFD a byte", stream: "data: \xED\xA0\x80\n\n", events: []sse.Event{message("\uFFFD\uFFFD\uFFFD")}},
	{rule: "a code point above U+10FFFF is one U+FFFD a byte", stream: "data: \xF4\x90\x80\x80\n\n", events: []sse.Event{message("\uFFFD\uFFFD\uFFFD\uFFFD")}},
	{rule: "the highest and the lowest of each length are kept", stream: "data: \u0080\u07FF\u0800\uD7FF\uE000\uFFFF\U00010000\U0010FFFF\n\n", events: []sse.Event{message("\u0080\u07FF\u0800\uD7FF\uE000\uFFFF\U00010000\U0010FFFF")}},
	{rule: "a bad byte in a name makes it another name", stream: "data\xFF: a\n\xFFdata: a\n\n"},
	{rule: "bad bytes in type and id are replaced too", stream: "event: \xFF\ndata\nid: \xFF\n\n", events: []sse.Event{{Type: "\uFFFD", ID: "\uFFFD"}}, lastIDs: []string{"\uFFFD"}, lastID: "\uFFFD"},

	// Lines.
	{rule: "a line may end in LF, CR or CRLF, mixed", stream: "data: a\rdata: b\r\ndata: c\n\r\ndata: d\r\n\rdata: e\r\r", events: []sse.Event{message("a\nb\nc"), message("d"), message("e")}},
	{rule: "CRLF is one end, LF CR is two", stream: "data: a\r\n\r\ndata: b\n\rdata: c\n\n", events: []sse.Event{message("a"), message("b"), message("c")}},
	{rule: "CR CR LF is two ends", stream: "data: a\r\r\ndata: b\n\n", events: []sse.Event{message("a"), message("b")}},
	{rule: "CR LF LF is two ends", stream: "data: a\r\n\ndata: b\n\n", events: []sse.Event{message("a"), message("b")}},
	{rule: "no other character ends a line", stream: "data: a\u2028b\u2029c\u0085d\ve\ff\x00g\n\n", events: []sse.Event{message("a\u2028b\u2029c\u0085d\ve\ff\x00g")}},
	{rule: "an empty stream has no event", stream: ""},
	{rule: "blank lines alone have no event", stream: "\n\r\r\n\n"},

	// Comments.
	{rule: "a comment is ignored wherever it stands", stream: ":\n:a\nevent: t\n: b\ndata: 1\n:  c\ndata: 2\n:data: 3\n\n", events: []sse.Event{{Type: "t", Data: "1\n2"}}, comments: []string{"", "a", "b", " c", "data: 3"}},
	{rule: "a comment ends no block, a blank line after it does", stream: "data: a\n:\n\ndata: b\n:\n\n", events: []sse.Event{message("a"), message("b")}, comments: []string{"", ""}},
	{rule: "a heartbeat between blocks changes nothing", stream: "data: a\n\n:\n\ndata: b\n\n", events: []sse.Event{message("a"), message("b")}, comments: []string{""}},
	{rule: "a comment may hold colons", stream: "::a:b\n", comments: []string{":a:b"}},
	{rule: "a comment without its end is not there", stream: ": a"},

	// Fields.
	{rule: "only one space is stripped, and no tab", stream: "data:  a\ndata:\tb\ndata: c \n\n", events: []sse.Event{message(" a\n\tb\nc ")}},
	{rule: "the first colon ends the name", stream: "data:a:b\ndata: :\ndata::\n\n", events: []sse.Event{message("a:b\n:\n:")}},
	{rule: "a line without a colon is a name with an empty value", stream: "event\ndata\nid\n\n", events: []sse.Event{{Type: "message", ResetID: true}}},
	{rule: "a name is compared with its case", stream: "Data: a\nDATA: a\ndatA: a\n\n"},
	{rule: "a name is compared with its spaces", stream: " data: a\ndata : a\n data\n\n"},
	{rule: "an unknown name is ignored", stream: "foo: a\ndata: b\ndatas: c\ndat: d\nbar\n\n", events: []sse.Event{message("b")}},
	{rule: "a value may be a name", stream: "data: data\ndata: id: 5\n\n", events: []sse.Event{message("data\nid: 5")}},

	// event.
	{rule: "an event field sets the type", stream: "event: a\ndata\n\n", events: []sse.Event{{Type: "a"}}},
	{rule: "the last event field counts", stream: "event: a\nevent: b\ndata\n\n", events: []sse.Event{{Type: "b"}}},
	{rule: "an empty event field means message", stream: "event: a\nevent\ndata\n\n", events: []sse.Event{message("")}},
	{rule: "an event field may come after the data", stream: "data: 1\nevent: a\n\n", events: []sse.Event{{Type: "a", Data: "1"}}},
	{rule: "the type does not outlive its block", stream: "event: a\ndata: 1\n\ndata: 2\n\n", events: []sse.Event{{Type: "a", Data: "1"}, message("2")}},
	{rule: "the type does not outlive a block without data", stream: "event: a\n\ndata: 2\n\n", events: []sse.Event{message("2")}},
	{rule: "a type may hold NUL", stream: "event: a\x00b\ndata\n\n", events: []sse.Event{{Type: "a\x00b"}}},

	// data.
	{rule: "data fields are joined with LF, wherever they stand", stream: "data: 1\nid: 7\ndata: 2\nevent: a\ndata: 3\n\n", events: []sse.Event{{Type: "a", Data: "1\n2\n3", ID: "7"}}, lastIDs: []string{"7"}, lastID: "7"},
	{rule: "only one trailing LF is removed", stream: "data: a\ndata\ndata\n\n", events: []sse.Event{message("a\n\n")}},
	{rule: "an empty data field is an event", stream: "data:\n\n", events: []sse.Event{message("")}},
	{rule: "no data field is no event", stream: "event: a\nid: 1\n\n", lastID: "1"},
	{rule: "the data does not outlive its block", stream: "data: a\n\nevent: b\n\ndata: c\n\n", events: []sse.Event{message("a"), message("c")}},

	// id.
	{rule: "an id sticks to the events that have none", stream: "id: 1\ndata: a\n\ndata: b\n\nid: 2\ndata: c\n\n", events: []sse.Event{{Type: "message", Data: "a", ID: "1"}, message("b"), {Type: "message", Data: "c", ID: "2"}}, lastIDs: []string{"1", "1", "2"}, lastID: "2"},
	{rule: "an id without data counts, and fires nothing", stream: "id: 1\n\ndata: a\n\n", events: []sse.Event{message("a")}, lastIDs: []string{"1"}, lastID: "1"},
	{rule: "an empty id resets", stream: "id: 1\ndata: a\n\nid:\ndata: b\n\n", events: []sse.Event{{Type: "message", Data: "a", ID: "1"}, {Type: "message", Data: "b", ResetID: true}}, lastIDs: []string{"1", ""}},
	{rule: "an empty id without data resets", stream: "id: 1\n\nid\n\ndata\n\n", events: []sse.Event{message("")}},
	{rule: "the last id of a block counts", stream: "id: 1\nid: 2\ndata\n\n", events: []sse.Event{{Type: "message", ID: "2"}}, lastIDs: []string{"2"}, lastID: "2"},
	{rule: "an id with NUL is ignored", stream: "id: 1\ndata: a\n\nid: 2\x00\ndata: b\n\n", events: []sse.Event{{Type: "message", Data: "a", ID: "1"}, message("b")}, lastIDs: []string{"1", "1"}, lastID: "1"},
	{rule: "an id with NUL leaves the block's other id", stream: "id: 1\nid: \x00\ndata\n\n", events: []sse.Event{{Type: "message", ID: "1"}}, lastIDs: []string{"1"}, lastID: "1"},
	{rule: "a block cut off does not set the last event ID", stream: "id: 1\ndata: a\n\ndata: b\nid: 2\n", events: []sse.Event{{Type: "message", Data: "a", ID: "1"}}, lastIDs: []string{"1"}, lastID: "1"},
	{rule: "an id may hold spaces", stream: "id:  a b \ndata\n\n", events: []sse.Event{{Type: "message", ID: " a b "}}, lastIDs: []string{" a b "}, lastID: " a b "},

	// retry.
	{rule: "retry counts at once, without a blank line", stream: "retry: 1500\n", retry: 1500 * time.Millisecond},
	{rule: "retry fires nothing", stream: "retry: 1\n\n", retry: time.Millisecond},
	{rule: "the last retry counts", stream: "retry: 1\nretry: 2\ndata\n\nretry: 3\n", events: []sse.Event{message("")}, retry: 3 * time.Millisecond},
	{rule: "retry is base ten, whatever it begins with", stream: "retry: 0010\n", retry: 10 * time.Millisecond},
	{rule: "retry may be 0", stream: "retry: 5\nretry: 0\n", retry: zeroRetry},
	{rule: "retry with anything but ASCII digits is ignored", stream: "retry: 7\nretry: 1x\nretry: x1\nretry: 1.5\nretry: -1\nretry: +1\nretry: 1 \nretry:  1\nretry: 0x10\nretry: 1e3\nretry: ١\nretry: 1\x00\n", retry: 7 * time.Millisecond},
	{rule: "retry without a digit is ignored", stream: "retry: 7\nretry:\nretry\n", retry: 7 * time.Millisecond},
	{rule: "retry is never too large", stream: "retry: 99999999999999999999999999\n", retry: math.MaxInt64 / time.Millisecond * time.Millisecond},
	{rule: "retry without its line's end is not there", stream: "retry: 7\nretry: 12", retry: 7 * time.Millisecond},

	// The end.
	{rule: "a block without its blank line is discarded", stream: "data: a\n\ndata: b\n", events: []sse.Event{message("a")}},
	{rule: "a line without its end is discarded", stream: "data: a\n\ndata: b", events: []sse.Event{message("a")}},
	{rule: "one line end is not a blank line", stream: "data: a\r\n"},
}

// zeroRetry stands for a reconnection time of 0 in vectors, where 0 is "not set".
const zeroRetry = -2

func TestTheDecoderFollowsEachRuleOfTheStandard(t *testing.T) {
	for _, v := range vectors {
		t.Run(v.rule, func(t *testing.T) {
			want := outcome{events: v.events, lastIDs: v.lastIDs, comments: v.comments, lastID: v.lastID, retry: v.retry}
			if want.lastIDs == nil {
				want.lastIDs = make([]string, len(v.events))
			}
			switch v.retry {
			case 0:
				want.retry = -1
			case zeroRetry:
				want.retry = 0
			}

			var whole outcome
			read(sse.NewDecoder(strings.NewReader(v.stream), &sse.DecoderOptions{
				OnComment: func(text string) { whole.comments = append(whole.comments, text) },
			}), &whole)
			if !equal(whole, want) {
				t.Errorf("%q\ngave %+v\nwant %+v", v.stream, whole, want)
			}

			var bytewise outcome
			read(sse.NewDecoder(iotest.OneByteReader(strings.NewReader(v.stream)), &sse.DecoderOptions{
				OnComment: func(text string) { bytewise.comments = append(bytewise.comments, text) },
			}), &bytewise)
			if !equal(bytewise, want) {
				t.Errorf("%q, a byte at a time,\ngave %+v\nwant %+v", v.stream, bytewise, want)
			}

			if ref := reference(v.stream); !equal(ref, want) {
				t.Errorf("%q: the reference of the fuzz test gave %+v\nwant %+v", v.stream, ref, want)
			}
		})
	}
}
