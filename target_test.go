package tidings_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/tidings-sse/tidings"
)

func TestATargetIsMetByWhoMeetsAllItsConditions(t *testing.T) {
	c := tidings.Connection{ConnectionID: "~1", ClientID: "c", UserID: "u", SessionID: "s", Topics: []string{"a", "b"}}
	bare := tidings.Connection{ConnectionID: "~2", ClientID: "~2"}
	for _, x := range []struct {
		target   tidings.Target
		c, bare_ bool
	}{
		{tidings.Target{ClientID: "c"}, true, false},
		{tidings.Target{ClientID: "~1"}, true, false}, // a connection id is a client id, too
		{tidings.Target{ClientID: "~2"}, false, true},
		{tidings.Target{UserID: "u"}, true, false},
		{tidings.Target{SessionID: "s"}, true, false},
		{tidings.Target{Topic: "a"}, true, false},
		{tidings.Target{Topic: "b"}, true, false},
		{tidings.Target{Topic: "c"}, false, false},
		{tidings.Target{ClientID: "u"}, false, false}, // each in its own field
		{tidings.Target{UserID: "c"}, false, false},
		{tidings.Target{SessionID: "u"}, false, false},
		{tidings.Target{UserID: "U"}, false, false},
		{tidings.Target{ClientID: "c", UserID: "u"}, true, false},
		{tidings.Target{ClientID: "c", UserID: "v"}, false, false},
		{tidings.Target{ClientID: "d", UserID: "u"}, false, false},
		{tidings.Target{UserID: "u", SessionID: "s"}, true, false},
		{tidings.Target{UserID: "u", SessionID: "t"}, false, false},
		{tidings.Target{UserID: "u", Topic: "a"}, true, false},
		{tidings.Target{UserID: "u", Topic: "c"}, false, false},
		{tidings.Target{ClientID: "~1", UserID: "u", SessionID: "s", Topic: "b"}, true, false},
		{tidings.Target{ClientID: "~1", UserID: "u", SessionID: "s", Topic: "c"}, false, false},
	} {
		if got := tidings.Meets(c, x.target); got != x.c {
			t.Errorf("%v: %v", x.target, got)
		}
		if got := tidings.Meets(bare, x.target); got != x.bare_ {
			t.Errorf("%v, of a bare connection: %v", x.target, got)
		}
	}
}

func TestAnEventReachesWhoMeetsAnyTargetOnceAndNobodyThatIsExcluded(t *testing.T) {
	site := joinServe(t, tidings.Options{})
	pages := map[string]*tab{
		"a": site.tab(t, "clientId=c1&userId=u&sessionId=s1&topic=news&topic=sport"),
		"b": site.tab(t, "clientId=c2&userId=u&sessionId=s2&topic=news"),
		"c": site.tab(t, "clientId=c1&userId=v"),
		"d": site.tab(t, "topic=sport"),
	}
	for _, page := range pages {
		page.open()
	}
	eventually(t, "all are registered", func() bool { return site.hub.Stats().Connections == len(pages) })
	want := map[string][]string{}
	for i, x := range []struct {
		event   tidings.Event
		matches string
	}{
		{tidings.Event{Everyone: true}, "abcd"},
		{tidings.Event{Target: user("u")}, "ab"},
		{tidings.Event{Target: tidings.Target{ClientID: "c1"}}, "ac"},
		{tidings.Event{Target: tidings.Target{ClientID: "c1", UserID: "u"}}, "a"},
		{tidings.Event{Target: tidings.Target{ClientID: "c2", UserID: "v"}}, ""},
		{tidings.Event{Target: tidings.Target{Topic: "sport"}}, "ad"},
		{tidings.Event{Target: tidings.Target{Topic: "news", SessionID: "s2"}}, "b"},
		{tidings.Event{Targets: []tidings.Target{{UserID: "u"}, {Topic: "news"}, {ClientID: "c1"}, {UserID: "u"}}}, "abc"},
		{tidings.Event{Targets: []tidings.Target{{UserID: "nobody"}, {UserID: "v"}}}, "c"},
		{tidings.Event{Everyone: true, Exclude: user("u")}, "cd"},
		{tidings.Event{Everyone: true, Exclude: tidings.Target{ClientID: "c1", UserID: "u"}}, "bcd"},
		{tidings.Event{Target: user("u"), Exclude: tidings.Target{ClientID: "c1"}}, "b"},
		{tidings.Event{Targets: []tidings.Target{{UserID: "u"}, {UserID: "v"}}, Exclude: tidings.Target{ClientID: "c1"}}, "b"},
		{tidings.Event{Target: user("u"), Exclude: user("u")}, ""},
	} {
		text := fmt.Sprint("event ", i)
		x.event.Data = tidings.Text(text)
		r := joinSend(t, site.hub, x.event)
		if r.Matched != len(x.matches) || r.Scope != tidings.ScopeNode {
			t.Errorf("%+v: the receipt is %+v, want %d matches", x.event, r, len(x.matches))
		}
		if (r.Matched == 0) != (r.Hint != "") {
			t.Errorf("%+v: matched %d, with the hint %q", x.event, r.Matched, r.Hint)
		}
		for _, page := range x.matches {
			want[string(page)] = append(want[string(page)], text)
		}
	}
	joinSend(t, site.hub, tidings.Event{Data: tidings.Text("end"), Everyone: true})
	for name, page := range pages {
		page.until("end").wants(append(want[name], "end")...)
	}
}

func TestAReceiptHintsWhyNobodyMatched(t *testing.T) {
	site := joinServe(t, tidings.Options{})
	hint := func(e tidings.Event) string {
		e.Data = 1
		return joinSend(t, site.hub, e).Hint
	}
	if h := hint(tidings.Event{Everyone: true}); h != "nobody is connected" {
		t.Errorf("without a connection: %q", h)
	}
	for _, query := range []string{"clientId=client_123&userId=u&sessionId=s", "clientId=two&userId=u", "clientId=two&userId=u"} {
		site.tab(t, query).open()
	}
	eventually(t, "all are registered", func() bool { return site.hub.Stats().Connections == 3 })
	for want, e := range map[string]tidings.Event{
		"no connection has userId nobody":                                {Target: user("nobody")},
		"no connection has topic t":                                      {Target: tidings.Target{Topic: "t"}},
		"1 connection has clientId client_123; it has another userId":    {Target: tidings.Target{ClientID: "client_123", UserID: "v"}},
		"1 connection has clientId client_123; it has another sessionId": {Target: tidings.Target{ClientID: "client_123", SessionID: "t"}},
		"2 connections have clientId two; they have another userId":      {Target: tidings.Target{ClientID: "two", UserID: "v"}},
		"3 connections have userId u, and not the topic t":               {Target: tidings.Target{UserID: "u", Topic: "t"}},
		"2 connections have clientId two, and each is excluded":          {Target: tidings.Target{ClientID: "two"}, Exclude: user("u")},
		"every connection is excluded":                                   {Everyone: true, Exclude: user("u")},
		"no connection meets any of the 2 targets":                       {Targets: []tidings.Target{{UserID: "x"}, {UserID: "y"}}},
	} {
		if got := hint(e); got != want {
			t.Errorf("%+v: %q, want %q", e, got, want)
		}
	}
}

// refused sends an event that must be refused, and returns why.
func refused(t *testing.T, hub *tidings.Hub, e tidings.Event) *tidings.InvalidError {
	t.Helper()
	_, err := hub.Send(t.Context(), e)
	invalid, ok := errors.AsType[*tidings.InvalidError](err)
	if !ok || !errors.Is(err, tidings.ErrNotStored) {
		t.Fatalf("%+v: %v, want an InvalidError that matches ErrNotStored", e, err)
	}
	if n := hub.Stats().History.Events; n > 0 {
		t.Fatalf("%+v was refused, and the log holds %d events", e, n)
	}
	return invalid
}

func TestNothingBecomesABroadcastByAccident(t *testing.T) {
	hub := joinHub(t, tidings.Options{})
	var unset string
	for name, e := range map[string]tidings.Event{
		"nothing":                         {},
		"a zero target":                   {Target: tidings.Target{}},
		"no targets":                      {Targets: []tidings.Target{}},
		"an unset id":                     {Target: tidings.Target{UserID: unset}},
		"a zero target among others":      {Targets: []tidings.Target{{UserID: "u"}, {}}},
		"an unset id, and someone exempt": {Exclude: user("u")},
	} {
		err := refused(t, hub, e)
		if !errors.Is(err, tidings.ErrNoTarget) || err.Hint == "" {
			t.Errorf("%s: %v, want ErrNoTarget with a hint", name, err)
		}
	}
	for name, e := range map[string]tidings.Event{
		"everyone and a target":  {Everyone: true, Target: user("u")},
		"everyone and targets":   {Everyone: true, Targets: []tidings.Target{user("u")}},
		"a target and targets":   {Target: user("u"), Targets: []tidings.Target{user("v")}},
		"more targets than 100":  {Targets: make([]tidings.Target, 101)},
		"an exclude that is bad": {Everyone: true, Exclude: user("a\nb")},
	} {
		if err := refused(t, hub, e); err.Field == "" || err.Reason == "" {
			t.Errorf("%s: %+v", name, err)
		}
	}
	for name, call := range map[string]func() (tidings.Receipt, error){
		"clientId":  func() (tidings.Receipt, error) { return hub.NotifyClient(t.Context(), unset, "x", 1) },
		"userId":    func() (tidings.Receipt, error) { return hub.NotifyUser(t.Context(), unset, "x", 1) },
		"sessionId": func() (tidings.Receipt, error) { return hub.NotifySession(t.Context(), unset, "x", 1) },
		"topic":     func() (tidings.Receipt, error) { return hub.NotifyTopic(t.Context(), unset, "x", 1) },
	} {
		_, err := call()
		if invalid, ok := errors.AsType[*tidings.InvalidError](err); !ok || invalid.Field != "target."+name || !errors.Is(err, tidings.ErrNoTarget) {
			t.Errorf("%s: %v, want an InvalidError of target.%[1]s that matches ErrNoTarget", name, err)
		}
	}
	if _, err := hub.Disconnect(tidings.Target{}); !errors.Is(err, tidings.ErrNoTarget) {
		t.Errorf("Disconnect of the zero target: %v", err)
	}
}

func TestAnIDIsTextThatCanBeSeenAndForgesNothing(t *testing.T) {
	hub := joinHub(t, tidings.Options{})
	fields := map[string]func(s string) tidings.Event{
		"target.clientId":  func(s string) tidings.Event { return tidings.Event{Target: tidings.Target{ClientID: s}} },
		"target.userId":    func(s string) tidings.Event { return tidings.Event{Target: tidings.Target{UserID: s}} },
		"target.sessionId": func(s string) tidings.Event { return tidings.Event{Target: tidings.Target{SessionID: s}} },
		"target.topic":     func(s string) tidings.Event { return tidings.Event{Target: tidings.Target{Topic: s}} },
		"exclude.userId":   func(s string) tidings.Event { return tidings.Event{Everyone: true, Exclude: user(s)} },
		"targets[1].userId": func(s string) tidings.Event {
			return tidings.Event{Targets: []tidings.Target{user("u"), user(s)}}
		},
		"type":           func(s string) tidings.Event { return tidings.Event{Everyone: true, Type: s} },
		"collapseKey":    func(s string) tidings.Event { return tidings.Event{Everyone: true, CollapseKey: s} },
		"idempotencyKey": func(s string) tidings.Event { return tidings.Event{Everyone: true, IdempotencyKey: s} },
	}
	bad := []string{
		"a\nb", "a\rb", "\r\n", "a\x00b", "\x00", "a\tb", "a\x1bb", "a\x7fb", "a\u0085b", // control
		"a\u2028b", "a\u2029b", // line and paragraph separators
		"a\u202eb", "a\u2066b", "a\u200fb", // bidirectional
		"a\u200bb", "a\u200db", "\ufeffa", "a\u2060b", "a\u00adb", "a\U000e0041b", // zero width and tags
		"a\xff", "\xc0\x80", "a\xed\xa0\x80", // not UTF-8
		strings.Repeat("x", 257),
	}
	for field, event := range fields {
		for _, s := range bad {
			if err := refused(t, hub, event(s)); err.Field != field || err.Reason == "" || err.Hint == "" {
				t.Errorf("%s %q: %+v", field, s, err)
			} else if strings.ContainsAny(err.Error(), "\r\n\x00\u2028\u202e") {
				t.Errorf("%s %q: the error repeats it: %q", field, s, err)
			}
		}
	}
	for field, event := range fields {
		limit := 256
		if field == "type" {
			limit = 128
		}
		for i, s := range []string{
			"u", "user 1", "a@b.example", "über", "日本語", "😀", "a/b?c=d&e#f%20", `"'<>\{}[]`, "e\u0301", "0", "null", "-", ".", strings.Repeat("é", limit/2),
		} {
			e := event(s)
			e.Data = i
			if _, err := hub.Send(t.Context(), e); err != nil {
				t.Errorf("%s %q: %v", field, s, err)
			}
		}
		if _, err := hub.Send(t.Context(), event(strings.Repeat("x", limit+1))); err == nil {
			t.Errorf("%s of %d bytes is accepted", field, limit+1)
		}
	}
}

func TestEventTypesThatABrowserWouldMisunderstandAreRefused(t *testing.T) {
	hub := joinHub(t, tidings.Options{})
	for _, typ := range []string{"open", "error", "tidings.", "tidings.gap", "tidings.x"} {
		if err := refused(t, hub, tidings.Event{Type: typ, Everyone: true}); err.Field != "type" || err.Hint == "" {
			t.Errorf("%q: %+v", typ, err)
		}
	}
	for _, typ := range []string{"", "message", "Open", "errors", "tidings", "tidingsx", "x.tidings.", "close"} {
		if _, err := hub.Send(t.Context(), tidings.Event{Type: typ, Everyone: true}); err != nil {
			t.Errorf("%q: %v", typ, err)
		}
	}
}

func TestDataArrivesAsItWasMeant(t *testing.T) {
	site := joinServe(t, tidings.Options{})
	page := site.tab(t, "")
	page.open()
	eventually(t, "it is registered", func() bool { return site.hub.Stats().Connections == 1 })
	type custom struct {
		A string          `json:"a"`
		B json.RawMessage `json:"b,omitempty"`
	}
	for _, x := range []struct {
		data any
		want string
	}{
		{nil, "null"},
		{(*custom)(nil), "null"},
		{json.RawMessage(nil), "null"},
		{json.RawMessage(""), "null"},
		{"<b>&\"é\n", `"<b>&\"é\n"`},
		{map[string]any{"html": "<&>", "n": 1.5}, `{"html":"<&>","n":1.5}`},
		{custom{"<a>", nil}, `{"a":"<a>"}`},
		{custom{"", json.RawMessage("{\n  \"x\" : 1 }")}, `{"a":"","b":{"x":1}}`},
		{json.RawMessage(" { \"n\" : 1e1000, \"f\":0.10, \"big\": 12345678901234567890 ,\r\n\t\"s\": \"<é \\u00e9> \" }\n"), `{"n":1e1000,"f":0.10,"big":12345678901234567890,"s":"<é \u00e9> "}`},
		{json.RawMessage("\"\u2028\""), "\"\u2028\""},
		{tidings.Text(""), ""},
		{tidings.Text("plain {not json"), "plain {not json"},
		{tidings.Text("a\nb\r\nc\rd"), "a\nb\nc\nd"},
		{tidings.Text("\n"), "\n"},
		{tidings.Text(" lead, \ufeffBOM, \u2028, \x00, 😀 "), " lead, \ufeffBOM, \u2028, \x00, 😀 "},
		{"\u2028", `"\u2028"`},
		{0.1, "0.1"},
		{math.MaxInt64, "9223372036854775807"},
		{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), `"2026-01-02T03:04:05Z"`},
	} {
		if _, err := site.hub.Broadcast(t.Context(), "x", x.data); err != nil {
			t.Errorf("%#v: %v", x.data, err)
			continue
		}
		if e := page.read(); e.Data != x.want || e.Type != "x" {
			t.Errorf("%#v arrives as %q, want %q", x.data, e.Data, x.want)
		}
	}
}

// A badMarshaler says something that is not JSON.
type badMarshaler string

func (b badMarshaler) MarshalJSON() ([]byte, error) { return []byte(b), nil }

func TestDataThatCantBeSentIsRefused(t *testing.T) {
	hub := joinHub(t, tidings.Options{MaxEventBytes: 1000})
	loop := map[string]any{}
	loop["loop"] = loop
	for name, data := range map[string]any{
		"a []byte":                    []byte(`{"is it": "json?"}`),
		"a channel":                   make(chan int),
		"a function":                  func() {},
		"not a number":                math.NaN(),
		"a loop":                      loop,
		"a key that is none":          map[bool]int{true: 1},
		"raw, not JSON":               json.RawMessage("{"),
		"raw, with a tail":            json.RawMessage("{} {}"),
		"raw, not UTF-8":              json.RawMessage("\"\xff\""),
		"raw inside, not UTF-8":       map[string]any{"x": json.RawMessage("\"\xff\"")},
		"text, not UTF-8":             tidings.Text("a\xffb"),
		"a marshaler that fails":      badMarshaler("{"),
		"a marshaler that says UTF-7": badMarshaler("\"\xfe\""),
	} {
		if err := refused(t, hub, tidings.Event{Everyone: true, Data: data}); err.Field == "" || err.Hint == "" {
			t.Errorf("%s: %+v", name, err)
		}
	}
	for _, n := range []int{1000, 1001} {
		_, err := hub.Broadcast(t.Context(), "x", tidings.Text(strings.Repeat("x", n)))
		if tooLarge := n > 1000; errors.Is(err, tidings.ErrTooLarge) != tooLarge || tooLarge != errors.Is(err, tidings.ErrNotStored) {
			t.Errorf("data of %d bytes: %v", n, err)
		}
	}
	for _, ttl := range []time.Duration{-1, 1, time.Millisecond - 1, 101 * 365 * 24 * time.Hour, math.MaxInt64} {
		if _, err := hub.Send(t.Context(), tidings.Event{Everyone: true, TTL: ttl}); !errors.Is(err, tidings.ErrNotStored) {
			t.Errorf("a TTL of %v: %v", ttl, err)
		}
	}
}
