package tidings_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tidings-sse/tidings"
)

func TestTextArrivesAsItWasSent(t *testing.T) {
	s := apiServe(t, tidings.Options{})
	st := s.listen(t, "")
	for _, text := range []string{
		"", " ", "  two leading spaces", "trailing space ", "\t", "a", ": not a comment", "data: not a field", "id: 7", "event: x", "retry: 1",
		"\ufeff", "\ufeffbyte order mark", "in the \ufeff middle", "\u2028", "a\u2028b\u2029c", "\u0085", "a\u0000b", "\u0000",
		"👋", "👨‍👩‍👧‍👦 family", "🇨🇭", "e\u0301", "\U0010ffff", "\ufffd", "\ufffe", "العربية עברית", "\u202eright to left",
		`"quoted" \ back`, `\u000a`, "<b>&amp;</b>", strings.Repeat("long ", 20_000), "\v\f\x1b[31m\x7f",
	} {
		body, err := json.Marshal(map[string]string{"text": text})
		if err != nil {
			t.Fatal(err)
		}
		s.send(t, string(body)).receipt()
		if e := st.next(); e.Data != text {
			t.Errorf("sent %.80q, got %.80q", text, e.Data)
		}
	}
}

func TestEachLineOfTextIsALineOfData(t *testing.T) {
	s := apiServe(t, tidings.Options{})
	st := s.listen(t, "")
	for text, want := range map[string]string{
		"a\nb":                  "a\nb",
		"a\rb":                  "a\nb",
		"a\r\nb":                "a\nb",
		"a\n\nb":                "a\n\nb",
		"a\r\rb":                "a\n\nb",
		"a\n\rb":                "a\n\nb",
		"a\r\n\r\nb":            "a\n\nb",
		"\n":                    "\n",
		"\r":                    "\n",
		"\r\n":                  "\n",
		"\n\n\n":                "\n\n\n",
		"a\n":                   "a\n",
		"\na":                   "\na",
		"a\n b\n  c":            "a\n b\n  c",
		"a\n\nevent: forged\n":  "a\n\nevent: forged\n",
		"a\r\rdata: forged\r\r": "a\n\ndata: forged\n\n",
		"x\nid: forged\n\n":     "x\nid: forged\n\n",
	} {
		body, err := json.Marshal(map[string]string{"text": text})
		if err != nil {
			t.Fatal(err)
		}
		r := s.send(t, string(body)).receipt()
		if e := st.next(); e.Data != want || e.ID != r.ID || e.Type != "message" {
			t.Errorf("sent %q, got %+v, want %q", text, e, want)
		}
	}
}

// apiJSONData is what must arrive as it is.
var apiJSONData = []string{
	`null`, `true`, `""`, `{}`, `[]`, `0`, `-0`, `1.0`, `1.50`, `1E400`, `-1e-999`, `12345678901234567890`, `0.1000000000000000055511151231257827`,
	`"<>&"`, `"<script>&amp;</script>"`, `"\u003c"`, `"\/"`, `"/"`, `"\u00e9"`, `"é"`, `"\ud83d\ude00"`, `"😀"`, `"\ud800"`, `"\u0000"`, `"\r\n"`,
	"\"\u2028\u2029\"", "\"\ufeff\"", "\"\u202e\u200b\"", `"\ufffd"`, "\"\ufffd\"", `{"a":1,"a":2}`, `{"b":1,"a":2}`, `{"":{"":[[]]}}`,
	`[1,2.0,3e0]`, `{"__proto__":1,"type":"tidings.x","target":{}}`, `" leading and trailing "`,
	strings.Repeat("[", 5000) + strings.Repeat("]", 5000),
}

func TestJSONDataArrivesByteForByte(t *testing.T) {
	s := apiServe(t, tidings.Options{})
	st := s.listen(t, "")
	for _, data := range apiJSONData {
		r := s.send(t, `{"data":`+data+`}`).receipt()
		if e := st.next(); e.Data != data || e.ID != r.ID {
			t.Errorf("sent %.80s, got %.80s", data, e.Data)
		}
	}
	s.send(t, "{\"data\" : \t{ \"a\" :\r\n [ 1 ,\n\n 2 ] , \"b c\" : \" d \" }\n}").receipt()
	if e := st.next(); e.Data != `{"a":[1,2],"b c":" d "}` {
		t.Errorf("got %s, want it without white space between tokens", e.Data)
	}
	s.send(t, `{}`).receipt()
	if e := st.next(); e.Data != `null` || e.Type != "message" {
		t.Errorf("%+v, want null where there is no data", e)
	}
}

func TestRemoteSendsJSONDataByteForByte(t *testing.T) {
	s := apiServe(t, tidings.Options{})
	st := s.listen(t, "")
	remote, err := tidings.NewRemote(s.URL+"/api/sse", &tidings.RemoteOptions{Client: s.Client(), Tries: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range apiJSONData {
		if _, err := remote.Broadcast(t.Context(), "x", json.RawMessage(data)); err != nil {
			t.Fatalf("%.80s: %v", data, err)
		}
		if e := st.next(); e.Data != data {
			t.Errorf("sent %.80s, got %.80s", data, e.Data)
		}
	}
	if _, err := remote.Broadcast(t.Context(), "x", tidings.Text(" <a>&\u2028\n")); err != nil {
		t.Fatal(err)
	}
	if e := st.next(); e.Data != " <a>&\u2028\n" {
		t.Errorf("got %q", e.Data)
	}
}

func TestNamesThatCanBeSeenAreKept(t *testing.T) {
	s := apiServe(t, tidings.Options{})
	for _, name := range []string{
		"a", " ", "two words", "ünïcödé", "用户", "مستخدم", "👋", "a=b&c=d;e", "100%", `"quoted"`, `back\slash`, "<tag>", "/slash?#", "+", "~tilde", "{}", "null",
		strings.Repeat("x", 256), strings.Repeat("é", 128),
	} {
		q := "?userId=" + url.QueryEscape(name) + "&sessionId=" + url.QueryEscape(name) + "&topic=" + url.QueryEscape(name)
		if !strings.HasPrefix(name, "~") {
			q += "&clientId=" + url.QueryEscape(name)
		}
		st := s.listen(t, q)
		target, err := json.Marshal(tidings.Target{UserID: name, SessionID: name, Topic: name})
		if err != nil {
			t.Fatal(err)
		}
		key, err := json.Marshal(name)
		if err != nil {
			t.Fatal(err)
		}
		typ := key
		if len(name) > 128 {
			typ = []byte(`"x"`)
		}
		r := s.send(t, `{"type":`+string(typ)+`,"target":`+string(target)+`,"collapseKey":`+string(key)+`,"idempotencyKey":`+string(key)+`}`).receipt()
		e := st.next()
		var got string
		if err := json.Unmarshal(typ, &got); err != nil || e.ID != r.ID || e.Type != got || r.Matched != 1 {
			t.Errorf("%q: %+v, and %+v arrived", name, r, e)
		}
		st.close()
	}
}

func TestAnEventsJSONIsReadAsItWasWritten(t *testing.T) {
	for _, e := range []tidings.Event{
		{Everyone: true},
		{Everyone: true, Type: "x", Data: json.RawMessage(`{"a":"<&>","n":1e400}`)},
		{Target: tidings.Target{UserID: "u"}, Data: tidings.Text("")},
		{Target: tidings.Target{UserID: "u", ClientID: "c", SessionID: "s", Topic: "t"}, Data: tidings.Text("a\r\n\u2028\x00")},
		{Targets: []tidings.Target{{UserID: "u"}, {Topic: "t"}}, Exclude: tidings.Target{ClientID: "c"}, TTL: time.Second, CollapseKey: "k", IdempotencyKey: "i"},
		{Targets: []tidings.Target{{UserID: "u"}}, TTL: 100 * 365 * 24 * time.Hour},
	} {
		b, err := e.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		var got tidings.Event
		if err := json.Unmarshal(b, &got); err != nil {
			t.Errorf("%s: %v", b, err)
		}
		if e.Data == nil {
			e.Data = json.RawMessage("null")
		}
		if !reflect.DeepEqual(got, e) {
			t.Errorf("%s: read %+v, want %+v", b, got, e)
		}
	}
}

func TestAnEventThatNamesNobodyHasNoJSON(t *testing.T) {
	for _, e := range []tidings.Event{
		{},
		{Target: tidings.Target{}, Targets: []tidings.Target{}},
		{Targets: []tidings.Target{{UserID: "u"}, {}}},
	} {
		if b, err := e.MarshalJSON(); !errors.Is(err, tidings.ErrNoTarget) {
			t.Errorf("%+v: %s, %v", e, b, err)
		}
	}
	for _, e := range []tidings.Event{
		{Everyone: true, Target: tidings.Target{UserID: "u"}},
		{Target: tidings.Target{UserID: "u"}, Targets: []tidings.Target{{UserID: "u"}}},
		{Everyone: true, Data: []byte("a")},
		{Everyone: true, Data: tidings.Text("\xff")},
		{Everyone: true, Data: json.RawMessage("{")},
	} {
		if b, err := e.MarshalJSON(); !errors.Is(err, tidings.ErrNotStored) {
			t.Errorf("%+v: %s, %v", e, b, err)
		}
	}
}

// FuzzParseEvent: nothing makes it panic, what it refuses says where, and what it accepts is written and read again as
// it was.
func FuzzParseEvent(f *testing.F) {
	for _, seed := range []string{
		`{}`, `null`, `{"type":"x","data":{"a":[1,2.0]},"target":{"userId":"u"}}`, `{"text":"a\r\nb","targets":[{"topic":"t"},{"clientId":"c"}]}`,
		`{"ttlMs":1,"collapseKey":"k","idempotencyKey":"i","exclude":{"sessionId":"s"}}`, `{"text":"\ud83d\ude00\ufffd"}`, `{"text":"\ud83d"}`, `{"target":{}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var e tidings.Event
		if err := e.UnmarshalJSON(b); err != nil {
			invalid, ok := errors.AsType[*tidings.InvalidError](err)
			if !ok || invalid.Field == "" || invalid.Reason == "" || !errors.Is(err, tidings.ErrNotStored) {
				t.Fatalf("refused with %#v", err)
			}
			if !reflect.DeepEqual(e, tidings.Event{}) {
				t.Fatalf("refused, and changed to %+v", e)
			}
			return
		}
		again, err := e.MarshalJSON()
		if err != nil {
			t.Fatalf("%+v can't be written: %v", e, err)
		}
		if bytes.ContainsAny(again, "\r\n") {
			t.Fatalf("%s has a line end", again)
		}
		var got tidings.Event
		if err := got.UnmarshalJSON(again); err != nil {
			t.Fatalf("%s can't be read again: %v", again, err)
		}
		var compact bytes.Buffer
		switch raw := e.Data.(type) {
		case nil:
			e.Data = json.RawMessage("null")
		case json.RawMessage:
			if err := json.Compact(&compact, raw); err != nil {
				t.Fatal(err)
			}
			e.Data = json.RawMessage(compact.Bytes())
		}
		if !reflect.DeepEqual(got, e) {
			t.Fatalf("written as %s, read %+v, want %+v", again, got, e)
		}
	})
}

func TestAnEventThatJSONCantSayExactlyIsRefusedByItsEncoder(t *testing.T) {
	for name, e := range map[string]tidings.Event{
		"a TTL that is not whole milliseconds": {Everyone: true, TTL: 1500 * time.Microsecond},
		"a TTL that would be none":             {Everyone: true, TTL: time.Microsecond},
		"a user that is not UTF-8":             {Target: tidings.Target{UserID: "a\xff"}},
		"an excluded user that is not UTF-8":   {Everyone: true, Exclude: tidings.Target{UserID: "a\xff"}},
		"a key that is not UTF-8":              {Everyone: true, CollapseKey: "a\xff"},
	} {
		if _, err := e.MarshalJSON(); err == nil {
			t.Errorf("%s is encoded", name)
		}
	}
}
