package sse_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/tidings-sse/tidings/sse"
)

// lines is what becomes of text's line breaks on the way.
func lines(text string) string {
	return strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text)
}

// FuzzRoundTrip proves the promise of the package: what AppendEvent accepts
// comes back; what it refuses could not have; and no part of a block does
// anything without the rest.
func FuzzRoundTrip(f *testing.F) {
	f.Add("", "", "", false)
	f.Add("new-message", `{"text":"hi"}`, "1k3-2y.0-c4", false)
	f.Add("a", "b", "", true)
	f.Fuzz(func(t *testing.T, typ, data, id string, reset bool) {
		event := sse.Event{Type: typ, Data: data, ID: id, ResetID: reset}
		wire, err := sse.AppendEvent(nil, event)
		ok := !strings.ContainsAny(typ+id, "\r\n\x00") && utf8.ValidString(typ) && utf8.ValidString(data) && utf8.ValidString(id)
		if ok != (err == nil) {
			t.Fatalf("%+v: %v", event, err)
		}
		if err != nil {
			if _, ok := errors.AsType[*sse.FieldError](err); !ok || len(wire) > 0 {
				t.Fatalf("%+v: %q, %T", event, wire, err)
			}
			return
		}

		want := sse.Event{Type: typ, Data: lines(data), ID: id, ResetID: reset && id == ""}
		if want.Type == "" {
			want.Type = sse.DefaultType
		}
		opts := func() *sse.DecoderOptions {
			return &sse.DecoderOptions{LastEventID: "before", MaxEventBytes: len(wire)}
		}
		var whole, bytewise outcome
		twice := string(wire) + string(wire)
		read(sse.NewDecoder(strings.NewReader(twice), opts()), &whole)
		read(sse.NewDecoder(iotest.OneByteReader(strings.NewReader(twice)), opts()), &bytewise)
		for _, out := range []outcome{whole, bytewise} {
			if out.err != nil || len(out.events) != 2 || out.events[0] != want || out.events[1] != want {
				t.Fatalf("%q came back as %+v, %v\nwant twice %+v", wire, out.events, out.err, want)
			}
			lastID := "before"
			if id != "" || reset {
				lastID = id
			}
			if out.lastID != lastID {
				t.Fatalf("%q left the last event ID %q, want %q", wire, out.lastID, lastID)
			}
		}

		if !reset || id != "" {
			if block := sse.AppendBlock(nil, typ, []byte(data), id); !bytes.Equal(block, wire) {
				t.Fatalf("AppendBlock gave %q\nAppendEvent gave %q", block, wire)
			}
		}
		if id != "" && !bytes.HasSuffix(wire, []byte("\nid: "+id+"\n\n")) {
			t.Fatalf("the id is not the last line of %q", wire)
		}

		step := max(1, len(wire)/64)
		for cut := len(wire) - 1; cut >= 0; cut -= step {
			var torn outcome
			read(sse.NewDecoder(bytes.NewReader(wire[:cut]), opts()), &torn)
			if len(torn.events) > 0 || torn.lastID != "before" || torn.err != nil {
				t.Fatalf("%q, torn at %d, gave %+v", wire, cut, torn)
			}
		}
	})
}

// pieces is a reader that cuts a stream by the bytes of cuts, over and over:
// pieces of 0 to 15 bytes, and now and then an error that passes.
type pieces struct {
	stream string
	cuts   []byte
	i      int
}

var errPasses = errors.New("passes")

func (p *pieces) Read(b []byte) (int, error) {
	if p.stream == "" {
		return 0, io.EOF
	}
	cut := 1
	if len(p.cuts) > 0 {
		cut = int(p.cuts[p.i%len(p.cuts)])
		if p.i++; p.i%(len(p.cuts)+1) == 0 {
			cut = 1 // all zeros must not go on for ever
		}
	}
	n := copy(b, p.stream[:min(cut&0xF, len(p.stream))])
	p.stream = p.stream[n:]
	if cut&0x10 != 0 {
		return n, errPasses
	}
	return n, nil
}

// FuzzDecode holds the decoder against the standard, written down line by line
// in reference, whatever the stream holds and however it is cut.
func FuzzDecode(f *testing.F) {
	for _, v := range vectors {
		f.Add(v.stream, []byte{1, 2, 0x13, 0, 5})
	}
	f.Fuzz(func(t *testing.T, stream string, cuts []byte) {
		want := reference(stream)
		decode := func(r io.Reader, limit int) outcome {
			var out outcome
			d := sse.NewDecoder(r, &sse.DecoderOptions{
				MaxEventBytes: limit,
				OnComment:     func(text string) { out.comments = append(out.comments, text) },
			})
			for {
				out.err = nil
				read(d, &out)
				if out.err != errPasses && out.err != io.ErrNoProgress {
					return out
				}
			}
		}
		readers := map[string]func() io.Reader{
			"whole":  func() io.Reader { return strings.NewReader(stream) },
			"bytes":  func() io.Reader { return iotest.OneByteReader(strings.NewReader(stream)) },
			"pieces": func() io.Reader { return &pieces{stream: stream, cuts: cuts} },
		}
		for name, r := range readers {
			if got := decode(r(), 0); !equal(got, want) {
				t.Errorf("%q, %s,\ngave %+v\nwant %+v", stream, name, got, want)
			}
		}

		// Over the limit: the same at every cut, and nothing invented.
		const limit = 24
		small := decode(readers["whole"](), limit)
		for name, r := range readers {
			if got := decode(r(), limit); !equal(got, small) {
				t.Errorf("%q, limited, %s,\ngave %+v\nwhole %+v", stream, name, got, small)
			}
		}
		if small.err == nil {
			want.comments, small.comments = nil, nil // cut to the limit
			if !equal(small, want) {
				t.Errorf("%q, limited,\ngave %+v\nwant %+v", stream, small, want)
			}
		} else if _, ok := errors.AsType[*sse.TooLargeError](small.err); !ok || len(small.events) > len(want.events) {
			t.Errorf("%q, limited, gave %d events, %v", stream, len(small.events), small.err)
		}
		for i, event := range small.events {
			if event != want.events[i] {
				t.Errorf("%q, limited: event %d is %+v, want %+v", stream, i, event, want.events[i])
			}
		}
	})
}
