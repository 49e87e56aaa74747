package server_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidings-sse/tidings/internal/server"
)

func TestSizesAreReadWithAndWithoutUnits(t *testing.T) {
	for text, want := range map[string]server.Size{
		"1": 1, "1024": 1024, "65536B": 65536, "1kB": 1000, "1KB": 1000, "64KiB": 64 << 10, "64kib": 64 << 10,
		"1MB": 1e6, "64MiB": 64 << 20, " 64 MiB ": 64 << 20, "2GB": 2e9, "1GiB": 1 << 30,
	} {
		var got server.Size
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%q: got %d, %v, want %d", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"": "is not a size", "MiB": "is not a size", "1.5MiB": "is not a size", "-1": "is not a size", "+1": "is not a size", "1M": "is not a size", "1K": "is not a size",
		"1 000": "is not a size", "0x10": "is not a size", "1MiBs": "is not a size", "\u0661": "is not a size",
		"0": "more than zero", "0MiB": "more than zero", "99999999999999999999": "too large", "9999999999GiB": "too large",
	} {
		var got server.Size
		if err := got.UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %d, %v, want %q", text, got, err, want)
		}
	}
}

func TestDurationsNeedAUnit(t *testing.T) {
	for text, want := range map[string]time.Duration{"30s": 30 * time.Second, "1m30s": 90 * time.Second, "500ms": 500 * time.Millisecond, "24h": 24 * time.Hour} {
		var got server.Duration
		if err := got.UnmarshalText([]byte(text)); err != nil || time.Duration(got) != want {
			t.Errorf("%q: got %v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"30":    `has no unit: write 30s for seconds, or 30ms if milliseconds are meant`,
		"30000": `has no unit: write 30000s for seconds, or 30s if milliseconds are meant`,
		"0":     "has no unit", "-5": "has no unit", "1e300": "has no unit", "NaN": "has no unit", "inf": "has no unit",
		"": "is not a length of time", "soon": "is not a length of time", "1d": "is not a length of time", "30 s": "is not a length of time",
		"0s": "more than zero", "-5s": "more than zero",
	} {
		var got server.Duration
		if err := got.UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, %v, want %q", text, got, err, want)
		}
	}
}

func TestCountsAreWholeNumbersAboveZero(t *testing.T) {
	var got server.Count
	if err := got.UnmarshalText([]byte("100000")); err != nil || got != 100000 {
		t.Errorf("got %d, %v", got, err)
	}
	for _, text := range []string{"", "0", "-1", "1.5", "1e3", "1,000", "many", "99999999999999999999"} {
		if err := got.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q: got %d", text, got)
		}
	}
}

func TestABoundIsAWholeNumberOrZeroForNone(t *testing.T) {
	var got server.Bound
	for text, want := range map[string]server.Bound{"0": 0, "1": 1, "100000": 100_000} {
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%q: got %d, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{"": "is not a whole", "-1": "write 0 for no bound", "1.5": "is not a whole", "none": "is not a whole", "99999999999999999999": "is not a whole"} {
		if err := got.UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %d, %v, want %q", text, got, err, want)
		}
	}
}

var keys = []string{"addr", "heartbeat-interval", "allow-host", "insecure", "max-event-bytes"}

func TestAConfigurationFileIsReadAsItStands(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "---\n", "null\n", "{}\n", "\n\n"} {
		if got, err := server.ReadConfigFile([]byte(text), keys); err != nil || len(got) > 0 {
			t.Errorf("%q: got %v, %v", text, got, err)
		}
	}
	got, err := server.ReadConfigFile([]byte("# a comment\naddr: 127.0.0.1:80\nheartbeat-interval: 30\ninsecure: yes\nallow-host:\n  - a\n  - \"b\"\nmax-event-bytes: 0x10\n"), keys)
	want := map[string]server.Setting{
		"addr":               {Line: 2, Values: []string{"127.0.0.1:80"}},
		"heartbeat-interval": {Line: 3, Values: []string{"30"}},
		"insecure":           {Line: 4, Values: []string{"yes"}},
		"allow-host":         {Line: 6, Values: []string{"a", "b"}, List: true},
		"max-event-bytes":    {Line: 8, Values: []string{"0x10"}},
	}
	if err != nil || !maps.EqualFunc(got, want, func(a, b server.Setting) bool {
		return a.Line == b.Line && a.List == b.List && slices.Equal(a.Values, b.Values)
	}) {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestWhatAConfigurationFileCantMeanIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"adr: x":                                 `line 1: "adr" is not a key: did you mean addr?`,
		"addr: x\n\nheartbeatInterval: 30s":      `line 3: "heartbeatInterval" is not a key: did you mean heartbeat-interval?`,
		"allow_host: x":                          `did you mean allow-host?`,
		"serve:\n  addr: x":                      `"serve" is not a key`,
		"ADDR: x":                                `"ADDR" is not a key`,
		"1: x":                                   `"1" is not a key`,
		"? [a, b]\n: x":                          `is not a key`,
		"<<: {addr: x}":                          `"<<" is not a key`,
		"addr: x\naddr: y":                       "line 2: addr is given again: line 1 has it too",
		"addr:":                                  "line 1: addr has no value",
		"addr: ~":                                "addr has no value",
		"addr: {a: b}":                           "neither plain nor a list",
		"allow-host: [a, [b]]":                   "neither plain nor a list",
		"allow-host: [a, null]":                  "has no value",
		"addr: &a x\nallow-host: *a":             "neither plain nor a list",
		"- addr":                                 "line 1: write one key and its value a line",
		"addr":                                   "line 1: write one key and its value a line",
		"addr: x\n---\naddr: y":                  "after its first document",
		"addr: [":                                "line 1",
		"addr: x\n\tinsecure: true":              "line 2",
		"addr: \xff":                             "",
		strings.Repeat("x", 300) + ": 1":         "...",
		strings.Repeat("# a comment\n", 100_000): "is it a configuration file?",
	} {
		got, err := server.ReadConfigFile([]byte(text), keys)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80q: got %v, %v, want %q", text, got, err, want)
		}
		if err != nil && len(err.Error()) > 500 {
			t.Errorf("%.80q: the error has %d bytes", text, len(err.Error()))
		}
	}
}

func FuzzReadConfigFile(f *testing.F) {
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := server.ReadConfigFile(text, keys)
		if err != nil && (got != nil || err.Error() == "") {
			t.Errorf("got %v with error %q", got, err)
		}
		for key, s := range got {
			if !slices.Contains(keys, key) || s.Line < 1 || !s.List && len(s.Values) != 1 {
				t.Errorf("got %q: %+v", key, s)
			}
		}
	})
}
