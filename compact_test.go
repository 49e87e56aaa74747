package tidings_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tidings-sse/tidings"
)

var compactSeeds = []string{
	`{}`, `[]`, `""`, `0`, `-0`, `true`, `false`, `null`, `1.5e+10`, `-12.0E-3`, `{"a":[1,{"b":null}],"c":"\u00e9\\\"\/\b\f\n\r\t"}`, `[[],{},[{}]]`, `"é\u2028"`,
	``, ` 1`, `1 `, `[1, 2]`, `{"a": 1}`, `{"a":1,}`, `[1,]`, `[,1]`, `{,}`, `{"a"}`, `{"a":}`, `{1:2}`, `[1}`, `{"a":1]`, `[`, `{`, `{"`, `{"a`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `]`, `}`, `,`, `:`,
	`01`, `-`, `+1`, `.5`, `1.`, `1e`, `1e+`, `--1`, `0x1`, `1a`, `NaN`, `tru`, `truee`, `nulll`, `"`, `"\`, `"\x"`, `"\u12`, `"\u12g4"`, "\"\n\"", "\"\x00\"", "\"\x7f\"", `""""`, `1 2`, `{}{}`, `[1]]`,
	strings.Repeat("[", 64) + strings.Repeat("]", 64), strings.Repeat("[", 65), strings.Repeat(`{"a":`, 64) + "1" + strings.Repeat("}", 64),
}

func TestWhatIsCompactIsWhatEncodingJSONLeavesAsItIs(t *testing.T) {
	for _, s := range compactSeeds {
		var b bytes.Buffer
		want := json.Compact(&b, []byte(s)) == nil && b.String() == s
		if got := tidings.IsCompact([]byte(s)); got != want {
			t.Errorf("%q is compact: %v, want %v", s, got, want)
		}
	}
}

func TestWhatIsNestedDeepIsLeftToEncodingJSON(t *testing.T) {
	deep := strings.Repeat("[", 5000) + strings.Repeat("]", 5000)
	if tidings.IsCompact([]byte(deep)) {
		t.Error("it was followed")
	}
	hub := apiHub(t, tidings.Options{})
	t.Cleanup(func() { _ = hub.Close() })
	for _, data := range []string{deep, strings.Repeat("[", 100_000)} {
		if _, err := hub.Broadcast(t.Context(), "x", json.RawMessage(data)); (err == nil) != json.Valid([]byte(data)) {
			t.Errorf("%d bytes: %v", len(data), err)
		}
	}
}

// FuzzIsCompact: what is called compact is valid, and as encoding/json has it.
func FuzzIsCompact(f *testing.F) {
	for _, s := range compactSeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if !utf8.Valid(raw) {
			return
		}
		var b bytes.Buffer
		err := json.Compact(&b, raw)
		switch got, want := tidings.IsCompact(raw), err == nil && bytes.Equal(b.Bytes(), raw); {
		case got && !want:
			t.Fatalf("%q is called compact: %v", raw, err)
		case want && !got && bytes.Count(raw, []byte("["))+bytes.Count(raw, []byte("{")) < 64:
			t.Fatalf("%q is not called compact", raw)
		}
	})
}
