package tidings_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/sse"
)

// apiBadRunes is what no id, type, topic or key may hold, by name.
var apiBadRunes = map[string]string{
	"CR": "\r", "LF": "\n", "CRLF": "\r\n", "NUL": "\x00", "TAB": "\t", "BS": "\b", "VT": "\v", "FF": "\f", "ESC": "\x1b", "US": "\x1f", "DEL": "\x7f",
	"PAD": "\u0080", "NEL": "\u0085", "APC": "\u009f", // C1 controls
	"LS": "\u2028", "PS": "\u2029",
	"ALM": "\u061c", "LRM": "\u200e", "RLM": "\u200f", "LRE": "\u202a", "PDF": "\u202c", "RLO": "\u202e", "LRI": "\u2066", "PDI": "\u2069", // bidirectional
	"ZWSP": "\u200b", "ZWNJ": "\u200c", "ZWJ": "\u200d", "WJ": "\u2060", "BOM": "\ufeff", "SHY": "\u00ad", "MVS": "\u180e", "IAA": "\ufff9", "tag": "\U000e0041", // invisible
}

// apiBadUTF8 is what is no UTF-8, by name.
var apiBadUTF8 = map[string]string{
	"lone continuation": "\x80", "lone lead": "\xc3", "cut": "\xe2\x82", "overlong": "\xc0\xaf", "overlong NUL": "\xc0\x80", "surrogate": "\xed\xa0\x80",
	"past the last": "\xf4\x90\x80\x80", "five bytes": "\xf8\x88\x80\x80\x80", "FF": "\xff", "Latin-1": "caf\xe9",
}

func TestWhatCantBeSeenInANameIsRefusedInJSON(t *testing.T) {
	s := apiServe(t, tidings.Options{})
	check := s.apiQuiet(t)
	fields := map[string]string{ // the body around the value of the field
		"type":                 `{"type":%s}`,
		"collapseKey":          `{"collapseKey":%s}`,
		"idempotencyKey":       `{"idempotencyKey":%s}`,
		"target.clientId":      `{"target":{"clientId":%s}}`,
		"target.userId":        `{"target":{"userId":%s}}`,
		"target.sessionId":     `{"target":{"sessionId":%s}}`,
		"target.topic":         `{"target":{"topic":%s}}`,
		"targets[1].userId":    `{"targets":[{"userId":"u"},{"userId":%s}]}`,
		"targets[0].sessionId": `{"targets":[{"sessionId":%s}]}`,
		"exclude.clientId":     `{"exclude":{"clientId":%s}}`,
	}
	for field, body := range fields {
		for name, bad := range apiBadRunes {
			for _, value := range []string{bad, bad + "x", "x" + bad, "x" + bad + "y"} {
				raw := apiMarshal(t, value)
				t.Run(field+" with "+name, func(t *testing.T) {
					s.send(t, fmt.Sprintf(body, raw)).problem(400, "invalid", field, "holds", fmt.Sprintf("%U", []rune(bad)[0]), "can be seen")
				})
			}
		}
	}
	check()
}

func TestWhatCantBeSeenInANameIsRefusedInAQuery(t *testing.T) {
	s := apiServe(t, tidings.Options{})
	check := s.apiQuiet(t)
	for _, field := range []string{"clientId", "userId", "sessionId", "topic"} {
		for name, r := range apiBadRunes {
			for _, value := range []string{r, "x" + r, r + "x"} {
				q := "?" + field + "=" + url.QueryEscape(value)
				t.Run(field+" with "+name, func(t *testing.T) {
					s.do(t, "GET", "/api/sse"+q, "", "Accept", sse.ContentType).problem(400, "invalid", field, "holds", fmt.Sprintf("%U", []rune(r)[0]))
					s.do(t, "GET", "/api/sse/connections"+q, "").problem(400, "invalid", field, "holds")
					s.do(t, "DELETE", "/api/sse/connections"+q, "").problem(400, "invalid", field, "holds")
				})
			}
		}
		for name, b := range apiBadUTF8 {
			q := "?" + field + "=x" + url.QueryEscape(b)
			t.Run(field+" with "+name, func(t *testing.T) {
				s.do(t, "GET", "/api/sse"+q, "").problem(400, "invalid", field, "UTF-8")
				s.do(t, "DELETE", "/api/sse/connections"+q, "").problem(400, "invalid", field, "UTF-8")
			})
		}
		long := "?" + field + "=" + strings.Repeat("é", 128) + "x"
		s.do(t, "GET", "/api/sse"+long, "").problem(400, "invalid", field, "257 bytes", "at most 256")
		s.do(t, "GET", "/api/sse?"+field+"=", "").problem(400, "invalid", field, "is empty", "leave it out")
		s.do(t, "GET", "/api/sse?"+field, "").problem(400, "invalid", field, "is empty")
	}
	check()
}

func TestAStreamsQueryThatCantBeReadIsRefused(t *testing.T) {
	s := apiServe(t, tidings.Options{})
	for _, c := range []struct{ query, field, says string }{
		{"?clientId=a&clientId=b", "clientId", "once"},
		{"?userId=a&userId=a", "userId", "once"},
		{"?sessionId=a&userId=u&sessionId=b", "sessionId", "once"},
		{"?lastEventId=a&lastEventId=b", "lastEventId", "once"},
		{"?userId=%zz", "query", "percent-encode"},
		{"?userId=%", "query", "percent-encode"},
		{"?userId=a;sessionId=b", "query", "percent-encode"},
		{"?clientId=~" + "4RPV6QHQWRXWZ5UBJ6XNCKH3VT", "clientId", "choose another"},
		{"?clientId=~", "clientId", "choose another"},
		{"?lastEventId=" + strings.Repeat("x", 1025), "lastEventId", "1025 bytes"},
	} {
		t.Run(fmt.Sprintf("%.40s", c.query), func(t *testing.T) {
			s.do(t, "GET", "/api/sse"+c.query, "", "Accept", sse.ContentType).problem(400, "invalid", c.field, c.says)
		})
	}
	if n := s.hub.Stats().Connections; n != 0 {
		t.Errorf("%d connections", n)
	}
}

func TestTheTopicsOfAStreamAreBounded(t *testing.T) {
	s := apiServe(t, tidings.Options{})
	query := func(n int) string {
		q := make(url.Values)
		for i := range n {
			q.Add("topic", fmt.Sprintf("topic-%d", i))
		}
		return "?" + q.Encode()
	}
	for _, n := range []int{101, 300, 5000} {
		s.do(t, "GET", "/api/sse"+query(n), "").problem(400, "invalid", "topic", fmt.Sprintf("%d times", n), "at most 100")
	}
	s.do(t, "GET", "/api/sse?"+strings.Repeat("topic=same&", 101), "").problem(400, "invalid", "topic", "101 times", "at most 100")
	st := s.listen(t, query(100))
	r := s.send(t, `{"target":{"topic":"topic-99"}}`).receipt()
	if e := st.next(); e.ID != r.ID {
		t.Errorf("%+v", e)
	}
	few := apiServe(t, tidings.Options{MaxTopics: 2, MaxTargets: 2})
	few.do(t, "GET", "/api/sse"+query(3), "").problem(400, "invalid", "topic", "at most 2")
	few.send(t, `{"targets":[{"topic":"a"},{"topic":"b"},{"topic":"c"}]}`).problem(400, "invalid", "targets", "at most 2")
	few.listen(t, query(2))
}

func TestACursorThatIsNoneIsAGapAndNotAnError(t *testing.T) {
	s := apiServe(t, tidings.Options{})
	s.send(t, `{"type":"before"}`).receipt()
	for _, cursor := range []string{
		"x", "0", "1", "-1", "1k3-2x.0-9f", "null", "undefined", "../../etc/passwd", "' OR 1=1 --", "\x00", "\r\nevent: forged\r\n\r\n", "\n", "\u202e", "é", "\xff",
		strings.Repeat("9", 128), strings.Repeat("1k3-", 256),
	} {
		st := s.listen(t, "?lastEventId="+url.QueryEscape(cursor))
		gap := st.next()
		var data struct {
			Reason         string `json:"reason"`
			RefetchAfterMs *int64 `json:"refetchAfterMs"`
		}
		apiDecode(t, []byte(gap.Data), &data)
		if st.connected.Resume != "gap" || st.first.ID != "" || gap.Type != "tidings.gap" || gap.ID == "" || data.RefetchAfterMs == nil ||
			data.Reason != "unknown" && data.Reason != "epoch" {
			t.Errorf("%q: %+v, %+v", cursor, st.first, gap)
		}
		st.close()
	}
	for _, cursor := range []string{"x", "\xff\xfe", strings.Repeat("x", 1024)} {
		st := s.listen(t, "", "Last-Event-ID", cursor)
		if e := st.next(); e.Type != "tidings.gap" {
			t.Errorf("%.20q: %+v", cursor, e)
		}
		st.close()
	}
}

func TestAnAbsurdlyLongCursorIs431(t *testing.T) {
	s := apiServe(t, tidings.Options{})
	for _, n := range []int{1025, 100_000} {
		s.do(t, "GET", "/api/sse", "", "Last-Event-ID", strings.Repeat("1", n), "Accept", sse.ContentType).
			problem(431, "header", "", "1024 bytes", "as it was received")
	}
	// net/http's own limit comes first for what is longer still.
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/api/sse", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Last-Event-ID", strings.Repeat("1", 2<<20))
	res, err := s.Client().Do(req)
	if err == nil {
		defer res.Body.Close()
		if res.StatusCode != 431 {
			t.Errorf("%s", res.Status)
		}
	}
}

// apiBadEvents is what is no event, and what must be said of it.
var apiBadEvents = []struct{ body, typ, field, says string }{
	// Not an object.
	{"null", "invalid", "body", "is null, not an object"},
	{"[]", "invalid", "body", "is an array, not an object"},
	{`[{"type":"x"}]`, "invalid", "body", "is an array, not an object"},
	{`"x"`, "invalid", "body", "is a string, not an object"},
	{"7", "invalid", "body", "is a number, not an object"},
	{"-7", "invalid", "body", "is a number, not an object"},
	{"true", "invalid", "body", "is a boolean, not an object"},
	{"", "invalid", "body", "is empty"},
	{" \r\n\t", "invalid", "body", "is empty"},

	// Not JSON.
	{"{", "invalid", "body", "not complete"},
	{`{"type":"x"`, "invalid", "body", "not complete"},
	{`{"type":"x`, "invalid", "body", "not complete"},
	{`{"type":"x",}`, "invalid", "body", "at byte 13"},
	{`{type:"x"}`, "invalid", "body", "at byte 2"},
	{`{'type':'x'}`, "invalid", "body", "at byte 2"},
	{`{"type":"x" "data":1}`, "invalid", "body", "at byte 13"},
	{`{"data":NaN}`, "invalid", "body", "is not JSON"},
	{`{"data":01}`, "invalid", "body", "is not JSON"},
	{`{"data":+1}`, "invalid", "body", "is not JSON"},
	{`{"data":.5}`, "invalid", "body", "is not JSON"},
	{`{"data":0x1}`, "invalid", "body", "is not JSON"},
	{`{"data":"\x41"}`, "invalid", "body", "is not JSON"},
	{`{"data":"\u12"}`, "invalid", "body", "is not JSON"},
	{"{\"data\":\"a\nb\"}", "invalid", "body", "is not JSON"},
	{"{\"type\":\"a\x00b\"}", "invalid", "body", "is not JSON"},
	{`{"data":1} // a comment`, "invalid", "body", "after"},
	{"\ufeff{}", "invalid", "body", "is not JSON"},
	{"type=x&data=1", "invalid", "body", "is not JSON"},
	{"<event/>", "invalid", "body", "is not JSON"},

	// Something after it.
	{`{"type":"x"}{"type":"y"}`, "invalid", "body", "after"},
	{`{"type":"x"} null`, "invalid", "body", "after"},
	{`{"type":"x"}}`, "invalid", "body", "after"},
	{`{"type":"x"},`, "invalid", "body", "after"},
	{"{\"type\":\"x\"}\x00", "invalid", "body", "after"},

	// Twice.
	{`{"type":"x","type":"y"}`, "invalid", "type", "twice"},
	{`{"type":"x","t\u0079pe":"x"}`, "invalid", "type", "twice"},
	{`{"target":{"userId":"a"},"target":{"userId":"b"}}`, "invalid", "target", "twice"},
	{`{"target":{"userId":"a","userId":"b"}}`, "invalid", "target.userId", "twice"},
	{`{"targets":[{"topic":"a"},{"topic":"a","topic":"b"}]}`, "invalid", "targets[1].topic", "twice"},
	{`{"data":1,"data":1}`, "invalid", "data", "twice"},

	// Unknown.
	{`{"Type":"x"}`, "invalid", "Type", "did you mean type?"},
	{`{"TTLms":1}`, "invalid", "TTLms", "did you mean ttlMs?"},
	{`{"ttl_ms":1}`, "invalid", "ttl_ms", "did you mean ttlMs?"},
	{`{"collapse-key":"k"}`, "invalid", "collapse-key", "did you mean collapseKey?"},
	{`{"target":{"userID":"u"}}`, "invalid", "target.userID", "did you mean userId?"},
	{`{"target":{"user_id":"u"}}`, "invalid", "target.user_id", "did you mean userId?"},
	{`{"targets":[{"sessionid":"u"}]}`, "invalid", "targets[0].sessionid", "did you mean sessionId?"},
	{`{"exclude":{"client_id":"u"}}`, "invalid", "exclude.client_id", "did you mean clientId?"},
	{`{"userId":"u"}`, "invalid", "userId", `did you mean {"target": {"userId": ..}}?`},
	{`{"client_id":"u"}`, "invalid", "client_id", `did you mean {"target": {"clientId": ..}}?`},
	{`{"event":"x"}`, "invalid", "event", "leave it out"},
	{`{"payload":{}}`, "invalid", "payload", "leave it out"},
	{`{"id":"1"}`, "invalid", "id", "leave it out"},
	{`{"retry":1}`, "invalid", "retry", "leave it out"},
	{`{"everyone":true}`, "invalid", "everyone", "leave it out"},
	{`{"":1}`, "invalid", `""`, "is not known"},
	{`{"__proto__":{}}`, "invalid", "__proto__", "is not known"},
	{`{"a\nb":1}`, "invalid", "a\nb", "is not known"},
	{`{"` + strings.Repeat("n", 100_000) + `":1}`, "invalid", strings.Repeat("n", 64) + "..", "is not known"},

	// Nobody.
	{`{"target":{}}`, "no-target", "target", "for everyone, leave the target out"},
	{`{"data":1,"target":{ }}`, "no-target", "target", "name a clientId"},
	{`{"targets":[]}`, "no-target", "targets", "for everyone, leave targets out"},
	{`{"targets":[{}]}`, "no-target", "targets[0]", "name a clientId"},
	{`{"targets":[{"userId":"u"},{}]}`, "no-target", "targets[1]", "name a clientId"},
	{`{"exclude":{}}`, "no-target", "exclude", "leave exclude out"},
	{`{"target":null}`, "invalid", "target", "is null, not an object"},
	{`{"targets":null}`, "invalid", "targets", "is null, not an array"},
	{`{"targets":[null]}`, "invalid", "targets[0]", "is null, not an object"},
	{`{"exclude":null}`, "invalid", "exclude", "is null, not an object"},
	{`{"target":{"userId":""}}`, "invalid", "target.userId", "is empty"},
	{`{"target":{"userId":"u","sessionId":""}}`, "invalid", "target.sessionId", "is empty"},
	{`{"target":{"userId":null}}`, "invalid", "target.userId", "is null, not a string"},
	{`{"target":{"userId":"u","clientId":null}}`, "invalid", "target.clientId", "is null, not a string"},
	{`{"targets":[{"userId":"u"},{"userId":""}]}`, "invalid", "targets[1].userId", "is empty"},
	{`{"exclude":{"clientId":""}}`, "invalid", "exclude.clientId", "is empty"},
	{`{"target":{"userId":"u"},"targets":[{"userId":"v"}]}`, "invalid", "targets", "together with target"},

	// Another kind.
	{`{"type":1}`, "invalid", "type", "is a number, not a string"},
	{`{"type":null}`, "invalid", "type", "is null, not a string"},
	{`{"type":["x"]}`, "invalid", "type", "is an array, not a string"},
	{`{"type":{}}`, "invalid", "type", "is an object, not a string"},
	{`{"type":""}`, "invalid", "type", "is empty"},
	{`{"target":"u"}`, "invalid", "target", "is a string, not an object"},
	{`{"target":[{"userId":"u"}]}`, "invalid", "target", "is an array, not an object"},
	{`{"target":{"userId":7}}`, "invalid", "target.userId", "is a number, not a string"},
	{`{"target":{"userId":["a","b"]}}`, "invalid", "target.userId", "is an array, not a string"},
	{`{"target":{"topic":true}}`, "invalid", "target.topic", "is a boolean, not a string"},
	{`{"target":{"clientId":{"$ne":""}}}`, "invalid", "target.clientId", "is an object, not a string"},
	{`{"targets":{"userId":"u"}}`, "invalid", "targets", "is an object, not an array"},
	{`{"targets":"u"}`, "invalid", "targets", "is a string, not an array"},
	{`{"targets":["u"]}`, "invalid", "targets[0]", "is a string, not an object"},
	{`{"targets":[{"topic":"a"},[]]}`, "invalid", "targets[1]", "is an array, not an object"},
	{`{"text":1}`, "invalid", "text", "is a number, not a string"},
	{`{"text":null}`, "invalid", "text", "is null, not a string"},
	{`{"text":{"a":1}}`, "invalid", "text", "is an object, not a string"},
	{`{"text":"a","data":1}`, "invalid", "text", "choose one"},
	{`{"data":null,"text":"a"}`, "invalid", "text", "choose one"},
	{`{"collapseKey":1}`, "invalid", "collapseKey", "is a number, not a string"},
	{`{"collapseKey":""}`, "invalid", "collapseKey", "is empty"},
	{`{"idempotencyKey":1}`, "invalid", "idempotencyKey", "is a number, not a string"},
	{`{"idempotencyKey":""}`, "invalid", "idempotencyKey", "is empty"},
	{`{"idempotencyKey":null}`, "invalid", "idempotencyKey", "is null, not a string"},

	// Out of bounds.
	{`{"ttlMs":0}`, "invalid", "ttlMs", "give 1 to 3153600000000"},
	{`{"ttlMs":-1}`, "invalid", "ttlMs", "give 1 to"},
	{`{"ttlMs":3153600000001}`, "invalid", "ttlMs", "give 1 to"},
	{`{"ttlMs":9223372036854775807}`, "invalid", "ttlMs", "give 1 to"},
	{`{"ttlMs":9223372036854775808}`, "invalid", "ttlMs", "whole number"},
	{`{"ttlMs":1e400}`, "invalid", "ttlMs", "whole number"},
	{`{"ttlMs":1.5}`, "invalid", "ttlMs", "whole number"},
	{`{"ttlMs":"1"}`, "invalid", "ttlMs", "whole number"},
	{`{"ttlMs":null}`, "invalid", "ttlMs", "whole number"},
	{`{"ttlMs":true}`, "invalid", "ttlMs", "whole number"},
	{`{"ttlMs":[1]}`, "invalid", "ttlMs", "whole number"},
	{`{"type":"` + strings.Repeat("x", 129) + `"}`, "invalid", "type", "at most 128"},
	{`{"type":"` + strings.Repeat("é", 65) + `"}`, "invalid", "type", "130 bytes"},
	{`{"target":{"userId":"` + strings.Repeat("x", 257) + `"}}`, "invalid", "target.userId", "at most 256"},
	{`{"collapseKey":"` + strings.Repeat("x", 257) + `"}`, "invalid", "collapseKey", "at most 256"},
	{`{"idempotencyKey":"` + strings.Repeat("x", 257) + `"}`, "invalid", "idempotencyKey", "at most 256"},
	{`{"targets":[` + strings.Repeat(`{"topic":"a"},`, 100) + `{"topic":"a"}]}`, "invalid", "targets", "at most 100"},

	// Reserved.
	{`{"type":"open"}`, "invalid", "type", "reserved"},
	{`{"type":"error"}`, "invalid", "type", "reserved"},
	{`{"type":"tidings."}`, "invalid", "type", "reserved"},
	{`{"type":"tidings.connected"}`, "invalid", "type", "reserved"},
	{`{"type":"tidings.gap"}`, "invalid", "type", "reserved"},
	{`{"type":"tidings.checkpoint"}`, "invalid", "type", "reserved"},
	{`{"type":"tidings.of-tomorrow"}`, "invalid", "type", "reserved"},
	{`{"type":"tidings\u002econnected"}`, "invalid", "type", "reserved"},

	// Half of a surrogate pair.
	{`{"type":"\ud800"}`, "invalid", "type", "half of a surrogate pair"},
	{`{"type":"a\udfff"}`, "invalid", "type", "half of a surrogate pair"},
	{`{"text":"\ud83d"}`, "invalid", "text", "half of a surrogate pair"},
	{`{"text":"\uD83D!"}`, "invalid", "text", "half of a surrogate pair"},
	{`{"text":"\ude00\ud83d"}`, "invalid", "text", "half of a surrogate pair"},
	{`{"text":"\ud83d\ud83d\ude00"}`, "invalid", "text", "half of a surrogate pair"},
	{`{"text":"\ud83d\u0041"}`, "invalid", "text", "half of a surrogate pair"},
	{`{"text":"\ud83d\\ude00"}`, "invalid", "text", "half of a surrogate pair"},
	{`{"text":"\ufffd \ud83d"}`, "invalid", "text", "half of a surrogate pair"},
	{"{\"text\":\"\ufffd \\ud83d\"}", "invalid", "text", "half of a surrogate pair"},
	{`{"text":"\\ufffd \ud83d"}`, "invalid", "text", "half of a surrogate pair"},
	{`{"target":{"userId":"\ud83d"}}`, "invalid", "target.userId", "half of a surrogate pair"},
	{`{"idempotencyKey":"\udead"}`, "invalid", "idempotencyKey", "half of a surrogate pair"},

	// 100,000 levels deep.
	{strings.Repeat("[", 100_000), "invalid", "body", "depth"},
	{strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000), "invalid", "body", "depth"},
	{strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000), "invalid", "body", "depth"},
	{`{"data":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`, "invalid", "body", "depth"},
	{`{"data":` + strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000) + `}`, "invalid", "body", "depth"},
	{`{"target":` + strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000) + `}`, "invalid", "body", "depth"},
	{`{"targets":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`, "invalid", "body", "depth"},
	{`{"targets":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`, "invalid", "targets[0]", "is an array, not an object"},
}

func TestWhatIsNoEventIsRefusedAndNothingIsSent(t *testing.T) {
	s := apiServe(t, tidings.Options{})
	check := s.apiQuiet(t)
	for _, c := range apiBadEvents {
		t.Run(fmt.Sprintf("%.60s", c.body), func(t *testing.T) {
			s.send(t, c.body).problem(400, c.typ, c.field, c.says)
			if strings.TrimSpace(c.body) == "" || strings.Contains(c.body, "\n") {
				return
			}
			// The same as a line of many.
			ls := s.sendLines(t, c.body+"\n")
			if len(ls) != 1 {
				t.Fatalf("%+v", ls)
			}
			apiCheckProblem(t, ls[0].problem(), 400, c.typ, c.field, c.says)
		})
	}
	check()
}

func TestARefusalIsNotLargerThanWhatItRefuses(t *testing.T) {
	s := apiServe(t, tidings.Options{})
	for _, body := range []string{
		`{"` + strings.Repeat("<", 1_000_000) + `":1}`,
		`{"target":{"` + strings.Repeat("<", 1_000_000) + `":1}}`,
		`{"type":"` + strings.Repeat("<", 1_000_000) + `"}`,
		`{"target":{"userId":"` + strings.Repeat("<", 1_000_000) + `"}}`,
		`{"` + strings.Repeat("é", 500_000) + `":1}`,
	} {
		a := s.send(t, body)
		if a.status != 400 || len(a.body) > 4096 {
			t.Errorf("%.30s..: %d with %d bytes", body, a.status, len(a.body))
		}
	}
}

func TestWhatIsNotUTF8IsRefusedAndNotReplaced(t *testing.T) {
	s := apiServe(t, tidings.Options{})
	check := s.apiQuiet(t)
	for name, bad := range apiBadUTF8 {
		for _, body := range []string{
			`{"type":"%s"}`, `{"text":"%s"}`, `{"data":"%s"}`, `{"data":{"%s":1}}`, `{"%s":1}`, `{"target":{"userId":"%s"}}`, `{"collapseKey":"%s"}`, `{}%s`, `%s{}`,
		} {
			body = fmt.Sprintf(body, bad)
			t.Run(name, func(t *testing.T) {
				s.send(t, body).problem(400, "invalid", "body", "not valid UTF-8 at byte", "send UTF-8")
				ls := s.sendLines(t, body)
				if len(ls) != 1 {
					t.Fatalf("%+v", ls)
				}
				apiCheckProblem(t, ls[0].problem(), 400, "invalid", "body", "not valid UTF-8")
			})
		}
	}
	for _, utf16 := range []string{"{\x00}\x00", "\xff\xfe{\x00}\x00", "\xfe\xff\x00{\x00}"} {
		if a := s.send(t, utf16); a.status != 400 {
			t.Errorf("%q: %d", utf16, a.status)
		}
	}
	check()
}

func TestATargetInASendsQueryIsNotABroadcast(t *testing.T) {
	s := apiServe(t, tidings.Options{})
	check := s.apiQuiet(t)
	for _, field := range []string{"clientId", "userId", "sessionId", "topic"} {
		for _, contentType := range []string{apiJSON, apiNDJSON} {
			s.do(t, "POST", "/api/sse/send?"+field+"=u", `{"type":"private"}`, "Content-Type", contentType).
				problem(400, "invalid", field, "in the query", "put it into the event's target")
		}
	}
	s.do(t, "POST", "/api/sse/send?matched=world", `{}`, "Content-Type", apiJSON).problem(400, "invalid", "matched", `"node"`)
	s.do(t, "POST", "/api/sse/send?matched=cluster", `{}`, "Content-Type", apiNDJSON).problem(400, "invalid", "matched", "many events")
	s.do(t, "POST", "/api/sse/send?userId=%zz", `{}`, "Content-Type", apiJSON).problem(400, "invalid", "query", "percent-encode")
	check()
	s.do(t, "POST", "/api/sse/send?matched=node", `{}`, "Content-Type", apiJSON).receipt()
}

func TestAnotherContentTypeIsRefused(t *testing.T) {
	s := apiServe(t, tidings.Options{})
	check := s.apiQuiet(t)
	for _, contentType := range []string{
		// What a form can send from another origin without a preflight.
		"text/plain", "text/plain; charset=utf-8", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
		"text/json", "application/xml", "application/jsonp", "application/json-seq", "application/problem+json", "application/octet-stream", "*/*", "application/*",
		"application/json; charset=utf-16", "application/json; charset=iso-8859-1", "application/x-ndjson; charset=latin1",
		"application/json, text/plain", "text/plain; application/json", "application/json;;;=", "json", "application", "application/", "/json", ";", "\xff", "",
	} {
		a := s.do(t, "POST", "/api/sse/send", `{"type":"x"}`, "Content-Type", contentType)
		a.problem(415, "media-type", "", "application/json", "application/x-ndjson")
	}
	s.do(t, "POST", "/api/sse/send", `{"type":"x"}`).problem(415, "media-type", "", "application/json") // none
	check()
	for _, contentType := range []string{"application/json", "Application/JSON", "application/json; charset=utf-8", `application/json;charset="UTF-8"`, "application/json; profile=x"} {
		s.do(t, "POST", "/api/sse/send", `{"type":"x"}`, "Content-Type", contentType).receipt()
	}
	for _, contentType := range []string{"application/x-ndjson", "application/x-ndjson; charset=utf-8", "APPLICATION/X-NDJSON"} {
		if ls := s.do(t, "POST", "/api/sse/send", "{}\n{}\n", "Content-Type", contentType).lines(); len(ls) != 2 {
			t.Errorf("%s: %+v", contentType, ls)
		}
	}
}

func TestABodyOverTheLimitIsNotRead(t *testing.T) {
	hub := apiHub(t, tidings.Options{Authorizer: tidings.TrustQuery{}, MaxEventBytes: 100_000})
	defer hub.Close()
	for name, c := range map[string]struct {
		length int64
		most   int64 // bytes that may be read
	}{
		"a length that says so": {100_001, 0},
		"a huge length":         {1 << 40, 0},
		"no length":             {-1, 200_000},
	} {
		t.Run(name, func(t *testing.T) {
			body := &apiEndless{line: `{"data":"`}
			r := httptest.NewRequest("POST", "/api/sse/send", body)
			r.ContentLength = c.length
			r.Header.Set("Content-Type", apiJSON)
			w := apiRecord(hub.API(), r)
			(&apiAnswer{t: t, status: w.Code, header: w.Header(), body: w.Body.Bytes()}).problem(413, "too-large", "", "100000 bytes", "send a reference")
			if body.n > c.most {
				t.Errorf("%d bytes were read, want at most %d", body.n, c.most)
			}
		})
	}
	if n := hub.Stats().SendErrors["too-large"]; n != 3 {
		t.Errorf("%d counted, want 3", n)
	}
}

// apiBlocked is a body that never comes.
type apiBlocked struct {
	ctx  context.Context
	read chan struct{} // closed when somebody wants it
	once sync.Once
}

func (b *apiBlocked) Read([]byte) (int, error) {
	b.once.Do(func() { close(b.read) })
	<-b.ctx.Done()
	return 0, b.ctx.Err()
}

func TestABodyOverTheLimitIsAnsweredBeforeItComes(t *testing.T) {
	s := apiServe(t, tidings.Options{})
	post := func(t *testing.T, header ...string) (read bool) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got100Continue: func() { t.Error("it was asked for") }})
		body := &apiBlocked{ctx: ctx, read: make(chan struct{})}
		req, err := http.NewRequestWithContext(ctx, "POST", s.URL+"/api/sse/send", body)
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = 2 << 20
		req.Header.Set("Content-Type", apiJSON)
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		res, err := s.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		(&apiAnswer{t: t, status: res.StatusCode, header: res.Header, body: b}).problem(413, "too-large", "", "1048576 bytes", "send a reference")
		select {
		case <-body.read:
			read = true
		default:
		}
		return read
	}
	post(t)
	s.Client().Transport.(*http.Transport).ExpectContinueTimeout = time.Hour // the client waits to be asked for the body
	if read := post(t, "Expect", "100-continue"); read {
		t.Error("the body was sent")
	}
}

func TestABodyAtTheLimitIsAccepted(t *testing.T) {
	s := apiServe(t, tidings.Options{MaxEventBytes: 1000})
	st := s.listen(t, "")
	const frame = `{"data":""}`
	body := `{"data":"` + strings.Repeat("x", 1000-len(frame)) + `"}`
	s.send(t, body).receipt()
	st.next()
	check := s.apiQuiet(t)
	s.send(t, body+" ").problem(413, "too-large", "", "1000 bytes")
	s.send(t, strings.Replace(body, "xx", "xxx", 1)).problem(413, "too-large", "", "1000 bytes")
	check()
}

// apiLines is where a log goes: it may be written to and read concurrently.
type apiLines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *apiLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *apiLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// apiCounted counts the records that pass.
type apiCounted struct {
	slog.Handler
	mu *sync.Mutex
	n  *int
}

func (h apiCounted) Handle(ctx context.Context, r slog.Record) error {
	h.mu.Lock()
	*h.n++
	h.mu.Unlock()
	return h.Handler.Handle(ctx, r)
}

func TestNothingFromOutsideForgesALineOfTheLog(t *testing.T) {
	const payload, secret = "payload-of-somebody", "Bearer secret-of-somebody"
	for format, handler := range map[string]func(io.Writer) slog.Handler{
		"text": func(w io.Writer) slog.Handler {
			return slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})
		},
		"JSON": func(w io.Writer) slog.Handler {
			return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})
		},
	} {
		t.Run(format, func(t *testing.T) {
			var out apiLines
			records := 0
			log := slog.New(apiCounted{handler(&out), new(sync.Mutex), &records})
			for name, bad := range apiBadRunes {
				forged := "x" + bad + `time=2026-01-01T00:00:00Z level=ERROR msg=forged-` + name + bad + `{"level":"ERROR","msg":"forged"}` + bad
				said := errors.New(forged)
				hub := apiHub(t, tidings.Options{Logger: log, Authorizer: tidings.AuthorizerFunc(func(r *http.Request, _ tidings.Action) (tidings.Grant, error) {
					switch r.Header.Get("X-Say") {
					case "deny":
						return tidings.Grant{}, &tidings.DeniedError{Reason: forged}
					case "fail":
						return tidings.Grant{}, said
					case "grant":
						return tidings.Grant{UserID: forged, SessionID: forged, Topics: []string{"*"}}, nil
					}
					return tidings.TrustQuery{}.Authorize(r, tidings.Listen)
				})})
				ctx, cancel := context.WithCancel(t.Context())
				cancel() // a stream ends at once
				request := func(method, target, body, say string) {
					r := httptest.NewRequestWithContext(ctx, method, target, strings.NewReader(body))
					if body == "" {
						r.Body = http.NoBody
					}
					r.RemoteAddr, r.Proto, r.Host = forged, forged, forged // as a middleware may set them
					r.Header = http.Header{
						"Content-Type": {apiJSON}, "X-Say": {say}, "Authorization": {secret},
						"User-Agent": {forged}, "Origin": {forged}, "Last-Event-Id": {forged}, "X-Forwarded-For": {forged},
					}
					h := hub.API()
					if r.URL.Path == "/api/sse" {
						h = hub
					}
					apiRecord(h, r)
				}
				id, quoted := url.QueryEscape(forged), string(apiMarshal(t, forged))
				for _, say := range []string{"", "deny", "fail", "grant"} {
					for _, field := range []string{"clientId", "userId", "sessionId", "topic", "lastEventId", "other", id} {
						request("GET", "/api/sse?"+field+"="+id, "", say)
						request("GET", "/api/sse/connections?"+field+"="+id, "", say)
						request("DELETE", "/api/sse/connections?"+field+"="+id, "", say)
					}
					request("GET", "/api/sse", "", say)
					request("GET", "/api/sse?"+id, "", say)
					request("GET", "/api/sse?%zz"+id, "", say)
					request("GET", "/api/sse/"+url.PathEscape(forged), "", say)
					request("POST", "/api/sse/send", `{"type":`+quoted+`,"data":"`+payload+`"}`, say)
					request("POST", "/api/sse/send", `{"target":{"userId":`+quoted+`},"data":"`+payload+`"}`, say)
					request("POST", "/api/sse/send", `{`+quoted+`:1,"data":"`+payload+`"}`, say)
					request("POST", "/api/sse/send", `{"data":"`+payload+`"}`, say)
					request("POST", "/api/sse/send", `{"data":"`+payload+`"`, say)
				}
				if err := hub.Close(); err != nil {
					t.Fatal(err)
				}
			}
			lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
			if len(lines) != records || records < 1000 {
				t.Errorf("%d records are %d lines", records, len(lines))
			}
			for _, line := range lines {
				if format == "text" && !strings.HasPrefix(line, "time="+fmt.Sprint(time.Now().Year())) || strings.HasPrefix(line, "time=2026-01-01T00:00:00Z") {
					t.Fatalf("a line begins with %q", line)
				}
				if format == "JSON" {
					var record struct{ Time, Level, Msg string }
					if err := json.Unmarshal([]byte(line), &record); err != nil || record.Msg == "forged" || record.Time == "" {
						t.Fatalf("%v in %q", err, line)
					}
				}
				if format == "text" && strings.ContainsFunc(line, func(r rune) bool { return strings.ContainsRune(apiBadRunesAll(), r) }) {
					t.Fatalf("a line holds what can't be seen: %q", line)
				}
			}
			for _, secret := range []string{payload, "secret-of-somebody"} {
				if strings.Contains(out.String(), secret) {
					t.Errorf("%q is in the log", secret)
				}
			}
		})
	}
}

func apiBadRunesAll() string {
	var b strings.Builder
	for _, r := range apiBadRunes {
		b.WriteString(r)
	}
	return b.String()
}

func apiMarshal(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// FuzzStreamQuery: whatever a stream is asked for, nothing panics, no answer is a 5xx but a refusal for now, and what is
// served is a stream of Tidings' own events, in which nothing was forged.
func FuzzStreamQuery(f *testing.F) {
	for _, seed := range [][2]string{
		{"", ""}, {"clientId=a&userId=b&sessionId=c&topic=d&topic=e&lastEventId=f", ""}, {"", "1k3-2x.0-9f"}, {"userId=%00", "\n"}, {"a;b", "x"}, {"clientId=~x", ""},
		{"userId=a&userId=b", ""}, {"topic=%e2%80%ae", "\xff"}, {"%zz", ""}, {"lastEventId=1a-0.0-0", "1a-zzzzzzzzzzzzz.0-0"},
	} {
		f.Add(seed[0], seed[1])
	}
	hub := apiHub(f, tidings.Options{Authorizer: tidings.TrustQuery{}})
	f.Cleanup(func() { _ = hub.Close() })
	for i := range 5 {
		r, err := hub.Broadcast(f.Context(), "mine", i)
		if err != nil {
			f.Fatal(err)
		}
		f.Add("", r.ID)
		f.Add("lastEventId="+r.ID, r.ID+"0")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // a stream ends at once
	f.Fuzz(func(t *testing.T, query, cursor string) {
		r := httptest.NewRequestWithContext(ctx, "GET", "/api/sse", nil)
		r.URL.RawQuery = query
		r.Header["Last-Event-Id"] = []string{cursor}
		w := apiRecord(hub, r)
		switch w.Code {
		case 200:
			for i, e := range apiEvents(t, w.Body.Bytes()) {
				if i == 0 && e.Type != "tidings.connected" || i > 0 && e.Type != "tidings.gap" && e.Type != "mine" {
					t.Errorf("event %d is %+v", i, e)
				}
			}
		case 400, 403, 431:
			var p tidings.Problem
			apiDecode(t, w.Body.Bytes(), &p)
			if p.Status != w.Code || p.Detail == "" {
				t.Errorf("%+v", p)
			}
		default:
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}
