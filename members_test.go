package tidings_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/tidings-sse/tidings"
)

// FuzzMembers holds the members of an object against what encoding/json finds in it.
func FuzzMembers(f *testing.F) {
	for _, object := range []string{
		`{}`, `{ }`, `{"a":1}`, "{\t\"a\" :\r\n{\"b\": [1, {\"c\": \"}\"}]} , \"d\":null}", `{"a":"\"","a":"\\","":"\\\""}`,
		`{"a\u0062":-1.5e+3,"b":[],"c":[[],[{}]],"d":true}`, `{"x":"]}"}`, `{"x":"[{","y":false}`,
	} {
		f.Add([]byte(object))
	}
	f.Fuzz(func(t *testing.T, object []byte) {
		if object = bytes.TrimSpace(object); !json.Valid(object) || object[0] != '{' {
			return
		}
		dec := json.NewDecoder(bytes.NewReader(object))
		if _, err := dec.Token(); err != nil {
			t.Fatal(err)
		}
		for quoted, value := range tidings.Members(object) {
			var name string
			if err := json.Unmarshal(quoted, &name); err != nil {
				t.Fatalf("the name %q: %v", quoted, err)
			}
			token, err := dec.Token()
			if err != nil || token != any(name) {
				t.Fatalf("there is %q, and encoding/json says %v, %v", name, token, err)
			}
			var want json.RawMessage
			if err := dec.Decode(&want); err != nil || !bytes.Equal(value, want) {
				t.Fatalf("%q has %q, and encoding/json says %q, %v", name, value, want, err)
			}
		}
		if dec.More() {
			t.Errorf("there are more in %q", object)
		}
	})
}

// FuzzCompactValid holds JSON without its white space against encoding/json's.
func FuzzCompactValid(f *testing.F) {
	for _, raw := range []string{` 1 `, `null`, "[ 1 ,\t2,\r\n\"a b\" ]", `{ "a\" " : { "b" : " \\" } , "c" : -1.50E+3 }`, `""`, `" "`} {
		f.Add([]byte(raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var want bytes.Buffer
		if json.Compact(&want, raw) != nil {
			return
		}
		if got := tidings.CompactValid(raw); !bytes.Equal(got, want.Bytes()) {
			t.Errorf("of %q there is left %q, want %q", raw, got, want.Bytes())
		}
	})
}
