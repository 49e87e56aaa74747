package natsbroker_test

import (
	"encoding/hex"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/natsbroker"
)

// sample is a block of three records, which between them use every field.
func sample() []tidings.Record {
	return []tidings.Record{
		{Nonce: 1<<63 + 7, Type: "message", Data: []byte("null")},
		{
			Nonce: 2, Type: "new-message", Data: []byte(`{"text":"hi"}`),
			Targets: []tidings.Target{{UserID: "user_456", SessionID: "session_789"}, {Topic: "orders.eu"}}, Exclude: tidings.Target{ClientID: "tab-1"},
			TTL: 90 * time.Second, CollapseKey: "ck", IdempotencyKey: "ik",
		},
		{Nonce: 3, Type: "x", Targets: []tidings.Target{{ClientID: "c", UserID: "u", SessionID: "s", Topic: "t"}}},
	}
}

// placed returns the records as they are read from the message with the sequence 41.
func placed(rs []tidings.Record, at time.Time) []tidings.Record {
	for i := range rs {
		rs[i].Time = at
		rs[i].Position = tidings.Position{Hi: 40, Lo: uint64(i) + 1}
	}
	rs[len(rs)-1].Position = tidings.Position{Hi: 41}
	return rs
}

// fixture reads a message in hexadecimal, with comments.
func fixture(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var digits strings.Builder
	for line := range strings.Lines(string(text)) {
		code, _, _ := strings.Cut(line, "#")
		digits.WriteString(strings.Join(strings.Fields(code), ""))
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestABlockIsWrittenAsItEverWas(t *testing.T) {
	// What is in a log stays there over an update: these bytes can't change.
	if got, want := natsbroker.Encode(sample()), fixture(t, "block-1.hex"); !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%x\nwant\n%x", got, want)
	}
}

func TestABlockHasATimeOfItsOwn(t *testing.T) {
	// All nodes give its records that one, and not what their copy of the log says. Blocks of before had none.
	at, stored := time.UnixMilli(1_700_000_000_123).UTC(), time.UnixMilli(1_700_000_000_125).UTC()
	rs := sample()
	rs[0].Time = at
	for _, c := range []struct {
		block []byte
		want  time.Time
	}{{natsbroker.Encode(rs), at}, {natsbroker.Encode(sample()), stored}} {
		got, err := natsbroker.Decode(c.block, 41, stored)
		if err != nil {
			t.Fatal(err)
		}
		if want := placed(sample(), c.want); !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v\nwant %+v", got, want)
		}
	}
}

func TestABlockOfTheNextMinorVersionIsRead(t *testing.T) {
	// It has fields that this version doesn't know, which do not change what the others mean.
	at := time.UnixMilli(1_700_000_000_123)
	got, err := natsbroker.Decode(fixture(t, "block-next-minor.hex"), 41, at)
	if err != nil {
		t.Fatal(err)
	}
	if want := placed(sample(), at); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestABlockThatThisVersionMustNotReadIsAnErrorThatSaysSo(t *testing.T) {
	for name, file := range map[string]string{
		"of the next major version":       "block-next-major.hex",
		"with a condition of a later one": "block-new-condition.hex",
	} {
		if _, err := natsbroker.Decode(fixture(t, file), 1, time.Now()); !errors.Is(err, natsbroker.ErrBlockVersion) {
			t.Errorf("a block %s: %v", name, err)
		}
	}
}

func TestWhatIsNotABlockIsAnError(t *testing.T) {
	good := natsbroker.Encode(sample())
	for n := range good {
		if _, err := natsbroker.Decode(good[:n], 1, time.Now()); !errors.Is(err, natsbroker.ErrBlockTorn) {
			t.Fatalf("the first %d of %d bytes: %v", n, len(good), err)
		}
	}
	for _, text := range []string{"", "hello", "{}", "\x00", "\x01\x00", "\x01\x01\x00", "\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", string(good) + "x"} {
		if _, err := natsbroker.Decode([]byte(text), 1, time.Now()); err != nil && !errors.Is(err, natsbroker.ErrBlockTorn) {
			t.Errorf("%q: %v", text, err)
		} else if err == nil && text != "\x01\x01\x00" { // a record without a field is one
			t.Errorf("%q is read", text)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(natsbroker.Encode(sample()))
	f.Add([]byte("\x01\x01\x02\x04\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		at := time.UnixMilli(1)
		rs, err := natsbroker.Decode(b, 2, at)
		if err != nil {
			return
		}
		again, err := natsbroker.Decode(natsbroker.Encode(rs), 2, at)
		if err != nil {
			t.Fatalf("what was read can't be read again: %v", err)
		}
		if len(again) != len(rs) {
			t.Fatalf("%d records became %d", len(rs), len(again))
		}
		for i := range rs {
			if rs[i].Digest() != again[i].Digest() || rs[i].Nonce != again[i].Nonce || rs[i].Position != again[i].Position || rs[i].IdempotencyKey != again[i].IdempotencyKey {
				t.Fatalf("record %d was %+v and is %+v", i, rs[i], again[i])
			}
		}
	})
}
