package sse_test

import (
	"errors"
	"io"
	"iter"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/tidings-sse/tidings/sse"
)

// script is a live stream: each Read gives one piece, or an error.
type script struct {
	pieces []any
	reads  int
}

func (s *script) Read(p []byte) (int, error) {
	if s.reads == len(s.pieces) {
		return 0, io.EOF
	}
	piece := s.pieces[s.reads]
	s.reads++
	if err, ok := piece.(error); ok {
		return 0, err
	}
	return copy(p, piece.(string)), nil
}

func TestAnEventIsYieldedAsSoonAsItsBlankLineArrives(t *testing.T) {
	for _, tc := range []struct {
		name  string
		piece []any
		reads []int // how many were needed for each event
	}{
		{"LF", []any{"data: a\n", "\n", "data: b\n\n"}, []int{2, 3}},
		{"CR", []any{"data: a\r", "\r", "data: b\r\r"}, []int{2, 3}},
		{"CRLF, at its CR", []any{"data: a\r\n", "\r", "\ndata: b\r\n\r", "\n"}, []int{2, 3}},
		{"CRLF cut everywhere", []any{"data: a\r", "\n", "\r", "\n", "data: b\r\n\r\n"}, []int{3, 5}},
		{"two at once", []any{"data: a\n\ndata: b\n\n"}, []int{1, 1}},
		{"after a byte order mark in pieces", []any{"\xEF", "\xBB", "\xBF", "data\n\n", "data\n\n"}, []int{4, 5}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			stream := &script{pieces: tc.piece}
			next, stop := iter.Pull2(sse.NewDecoder(stream, nil).Events())
			defer stop()
			for i, want := range tc.reads {
				if _, err, ok := next(); !ok || err != nil {
					t.Fatalf("event %d: %v, %v", i, ok, err)
				}
				if stream.reads != want {
					t.Errorf("event %d took %d reads, want %d", i, stream.reads, want)
				}
			}
			if event, err, ok := next(); ok {
				t.Errorf("one event too many: %+v, %v", event, err)
			}
		})
	}
}

func TestEventsGoesOnWhereALoopWasLeft(t *testing.T) {
	d := sse.NewDecoder(strings.NewReader("data: 1\r\r\ndata: 2\nid: x\n\ndata: 3\n\n"), nil)
	var got []string
	for range 5 { // two more than there are
		for event, err := range d.Events() {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, event.Data+d.LastEventID())
			break
		}
	}
	if want := []string{"1", "2x", "3x"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAnErrorOfTheReaderIsYieldedAndNothingIsLost(t *testing.T) {
	broken := errors.New("broken")
	for _, pieces := range [][]any{
		{"data: a\nid", broken, ": 1\n\n"},
		{"\xEF\xBB", broken, "\xBFdata: a\nid: 1\n\n"},
		{"data: a\r", broken, "\nid: 1\r\r", broken, "\n"},
		{": a long", broken, "\ncomment\ndata: a\nid: 1\n\n"},
		{broken, "data: a\nid: 1\n\n"},
	} {
		stream := &script{pieces: pieces}
		d := sse.NewDecoder(stream, nil)
		var events []sse.Event
		var errs int
		for stream.reads < len(pieces) {
			for event, err := range d.Events() {
				if err == nil {
					events = append(events, event)
					continue
				}
				errs++
				if err != broken || event != (sse.Event{}) {
					t.Errorf("%q: yielded %+v, %v", pieces, event, err)
				}
			}
		}
		if want := []sse.Event{{Type: "message", Data: "a", ID: "1"}}; !slices.Equal(events, want) {
			t.Errorf("%q: got %+v", pieces, events)
		}
		if errs == 0 {
			t.Errorf("%q: no error", pieces)
		}
	}
}

func TestBytesThatComeWithAnErrorCountBeforeIt(t *testing.T) {
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF} {
		stream := iotest.DataErrReader(io.MultiReader(strings.NewReader("data: a\n\ndata: b\n\nid: 2\n"), iotest.ErrReader(end)))
		d := sse.NewDecoder(stream, nil)
		var out outcome
		read(d, &out)
		if want := []sse.Event{message("a"), message("b")}; !slices.Equal(out.events, want) {
			t.Errorf("%v: got %+v", end, out.events)
		}
		if (end == io.EOF) != (out.err == nil) || out.err != nil && out.err != end {
			t.Errorf("%v was yielded as %v", end, out.err)
		}
		if out.lastID != "" {
			t.Errorf("a block cut off by %v set the last event ID", end)
		}
	}
}

// grows gives one piece at each end, like a file that is written to.
type grows struct{ pieces []string }

func (g *grows) Read(p []byte) (int, error) {
	if len(g.pieces) == 0 || g.pieces[0] == "" {
		g.pieces = g.pieces[min(1, len(g.pieces)):]
		return 0, io.EOF
	}
	n := copy(p, g.pieces[0])
	g.pieces[0] = ""
	return n, nil
}

func TestTheEndOfTheStreamIsFinal(t *testing.T) {
	d := sse.NewDecoder(&grows{[]string{"data: a\n", "\ndata: b\n\n"}}, nil)
	for range 3 {
		for event, err := range d.Events() {
			t.Errorf("got %+v, %v after the end discarded the block", event, err)
		}
	}
}

// idle gives neither bytes nor an error.
type idle struct{}

func (idle) Read([]byte) (int, error) { return 0, nil }

func TestAReaderThatGivesNothingForEverIsAnError(t *testing.T) {
	d := sse.NewDecoder(idle{}, nil)
	var out outcome
	if read(d, &out); out.err != io.ErrNoProgress {
		t.Errorf("got %v", out.err)
	}
}

func TestADecoderBeginsWithTheLastEventIDItIsGiven(t *testing.T) {
	d := sse.NewDecoder(strings.NewReader("data: a\n\ndata: b\nid: 8\n\n"), &sse.DecoderOptions{LastEventID: "7"})
	if got := d.LastEventID(); got != "7" {
		t.Errorf("before the stream: %q", got)
	}
	var out outcome
	read(d, &out)
	if want := []string{"7", "8"}; !slices.Equal(out.lastIDs, want) {
		t.Errorf("got %q, want %q", out.lastIDs, want)
	}
	if out.events[0].ID != "" || out.events[0].ResetID {
		t.Errorf("the event took the stream's id for its own: %+v", out.events[0])
	}
}

func TestRetryIsKnownAsSoonAsItsLineHasArrived(t *testing.T) {
	d := sse.NewDecoder(strings.NewReader("data: a\n\nretry: 10\ndata: b\n\n"), nil)
	var got []time.Duration
	for range d.Events() {
		retry, ok := d.Retry()
		if ok != (retry != 0) {
			t.Errorf("Retry() = %v, %v", retry, ok)
		}
		got = append(got, retry)
	}
	if want := []time.Duration{0, 10 * time.Millisecond}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestCommentsAreHeardInTheirPlaceAmongTheEvents(t *testing.T) {
	var got []string
	d := sse.NewDecoder(strings.NewReader(":1\ndata: 2\n: 3\n\n:\n\n:4"), &sse.DecoderOptions{
		OnComment: func(text string) { got = append(got, ":"+text) },
	})
	for event := range d.Events() {
		got = append(got, event.Data)
	}
	if want := []string{":1", ":3", "2", ":"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestABlockOverTheLimitEndsTheStreamWithATypedError(t *testing.T) {
	const limit = 32 // as in "event: 12345\n" + "data: 678901234567\n", 13 and 19 bytes
	for _, tc := range []struct {
		name, stream string
		fits         bool
	}{
		{"a block of just the limit", "event: 12345\ndata: 678901234567\n\n", true},
		{"a block of just the limit, in CRLF", "event: 12345\r\ndata: 678901234567\r\n\r\n", true},
		{"one byte more", "event: 12345\ndata: 6789012345678\n\n", false},
		{"one byte more, in CRLF", "event: 12345\r\ndata: 6789012345678\r\n\r\n", false},
		{"one line of just the limit", "data: " + strings.Repeat("a", limit-7) + "\n\n", true},
		{"one line, one byte more", "data: " + strings.Repeat("a", limit-6) + "\n\n", false},
		{"one line without its end", "data: " + strings.Repeat("a", limit-5), false},
		{"many lines without data", strings.Repeat("data\n", 7), false},
		{"many lines of no meaning", strings.Repeat("foo:\n", 7) + "data\n\n", false},
		{"a name without its end", strings.Repeat("a", limit+1), false},
		{"comments do not count", "data\n:" + strings.Repeat("a", 100) + "\n" + strings.Repeat(":\n", 100) + "\n", true},
		{"each block has its own", strings.Repeat("data: 6\nid: 1\n\n", 10), true},
		{"a block without data has its own too", strings.Repeat("event: 6\n\n", 10) + "data\n\n", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for name, r := range map[string]io.Reader{
				"whole":  strings.NewReader("data\n\n" + tc.stream),
				"bytes":  iotest.OneByteReader(strings.NewReader("data\n\n" + tc.stream)),
				"halves": iotest.HalfReader(strings.NewReader("data\n\n" + tc.stream)),
			} {
				d := sse.NewDecoder(r, &sse.DecoderOptions{MaxEventBytes: limit, OnComment: func(text string) {
					if len(text) > limit {
						t.Errorf("%s: a comment of %d bytes", name, len(text))
					}
				}})
				var out outcome
				read(d, &out)
				if tc.fits {
					if out.err != nil || len(out.events) < 1 {
						t.Errorf("%s: %d events, %v", name, len(out.events), out.err)
					}
					continue
				}
				for range 2 { // it is final
					tooLarge, ok := errors.AsType[*sse.TooLargeError](out.err)
					if !ok || tooLarge.Limit != limit {
						t.Errorf("%s: got %v", name, out.err)
					}
					if want := "sse: event is larger than 32 bytes; DecoderOptions.MaxEventBytes sets the limit"; ok && out.err.Error() != want {
						t.Errorf("%s: %q, want %q", name, out.err, want)
					}
					if len(out.events) != 1 {
						t.Errorf("%s: %d events, want the one before the block", name, len(out.events))
					}
					read(d, &out)
				}
			}
		})
	}
}

func TestAByteOrderMarkDoesNotCountTowardsTheLimit(t *testing.T) {
	for _, stream := range []string{"\uFEFFdata\n\n", "\uFEFF:a comment\ndata\n\n"} {
		var out outcome
		read(sse.NewDecoder(iotest.OneByteReader(strings.NewReader(stream)), &sse.DecoderOptions{MaxEventBytes: len("data\n")}), &out)
		if out.err != nil || len(out.events) != 1 {
			t.Errorf("%q: %d events, %v", stream, len(out.events), out.err)
		}
	}
}

func TestTheDefaultLimitTakesAMebibyteOfLineBreaksOutOfJSON(t *testing.T) {
	data := strings.Repeat("\n", 1<<20/len(`\n`))
	wire, err := sse.AppendEvent(nil, sse.Event{Type: strings.Repeat("t", 200), Data: data, ID: strings.Repeat("i", 200)})
	if err != nil {
		t.Fatal(err)
	}
	var out outcome
	read(sse.NewDecoder(strings.NewReader(string(wire)), nil), &out)
	if out.err != nil || len(out.events) != 1 || out.events[0].Data != data {
		t.Errorf("got %d events, %v", len(out.events), out.err)
	}
}

// endless repeats a line, up to n bytes.
type endless struct {
	line string
	n    int64
	pos  int
}

func (e *endless) Read(p []byte) (int, error) {
	if e.n <= 0 {
		return 0, io.EOF
	}
	n := 0
	for n < len(p) {
		c := copy(p[n:], e.line[e.pos:])
		n += c
		e.pos = (e.pos + c) % len(e.line)
	}
	e.n -= int64(n)
	return n, nil
}

func TestMemoryIsBoundedWhateverTheStreamHolds(t *testing.T) {
	const limit = 1 << 10
	const length = 512 << 10
	for _, tc := range []struct {
		name, first, line string
		ends              bool // the stream ends before it is over the limit
	}{
		{"a line that never ends", "data: ", "a", false},
		{"a line of bad bytes that never ends", "data: ", "\xFF", false},
		{"data fields that never end", "", "data\n", false},
		{"fields of no meaning that never end", "", "foo\n", false},
		{"types that never end", "", "event: a\n", false},
		{"a comment that never ends", ":", "a", true},
		{"comments that never end", "data: a\n", ": a\n", true},
		{"blank lines that never end", "", "\n", true},
		{"blank lines of CR that never end", "", "\r", true},
		{"blocks without data that never end", "", "event: a\n\n", true},
	} {
		for _, onComment := range []func(string){nil, func(string) {}} {
			d := sse.NewDecoder(io.MultiReader(strings.NewReader(tc.first), &endless{line: tc.line, n: length}),
				&sse.DecoderOptions{MaxEventBytes: limit, OnComment: onComment})
			var out outcome
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			read(d, &out)
			runtime.ReadMemStats(&after)
			if tc.ends != (out.err == nil) {
				t.Errorf("%s: %v", tc.name, out.err)
			}
			// A comment's text is a string of its own: not kept, but allocated.
			if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 64*limit && !(tc.ends && onComment != nil) {
				t.Errorf("%s: %d bytes allocated for a stream of %d", tc.name, allocated, length)
			}
		}
	}
}

func TestReadingAnEventAllocatesOnlyItsStrings(t *testing.T) {
	block := sse.AppendBlock(nil, "new-message", []byte(`{"text":"hi"}`), "1k3-2y.0-c4")
	next, stop := iter.Pull2(sse.NewDecoder(&endless{line: string(block), n: 1 << 30}, nil).Events())
	defer stop()
	next() // the window, and the type, which is shared
	if n := testing.AllocsPerRun(1000, func() { next() }); n > 2 {
		t.Errorf("%v allocations an event, want its data and its id", n)
	}
}
