package load

// What tests of the parser see.

// Parsed is what a response's bytes came to.
type Parsed struct {
	Status  int
	Events  []ParsedEvent
	LastID  string
	Retry   int64
	Ended   bool
	Err     string
	StreamT bool
}

// ParsedEvent is an event as a sink got it.
type ParsedEvent struct {
	Kind    uint8
	Stamp   Stamp
	Stamped bool
}

type collector struct{ *Parsed }

func (c collector) head(h head) { c.Status, c.StreamT = h.status, h.stream }

func (c collector) event(k kind, s Stamp, stamped bool) {
	if !stamped {
		s = Stamp{}
	}
	c.Events = append(c.Events, ParsedEvent{uint8(k), s, stamped})
}

// Parse feeds a parser with a response in these pieces.
func Parse(pieces ...[]byte) *Parsed {
	p := &parser{retry: -1}
	out := &Parsed{}
	for _, b := range pieces {
		scratch := append([]byte{}, b...)
		if err := p.feed(scratch, collector{out}); err != nil {
			out.Err = err.Error()
			break
		}
		clear(scratch) // as a shared buffer is used again
	}
	out.LastID, out.Retry, out.Ended = string(p.lastID), p.retry, p.ended()
	return out
}

// The kinds of ParsedEvent.
const (
	KindEvent       = uint8(kindEvent)
	KindConnected   = uint8(kindConnected)
	KindGap         = uint8(kindGap)
	KindUnavailable = uint8(kindUnavailable)
	KindOther       = uint8(kindOther)
)

// ParseForever returns a function that feeds one parser again and again, for benchmarks.
func ParseForever(head []byte) func(b []byte) int {
	p := &parser{retry: -1}
	var n counter
	_ = p.feed(head, &n)
	return func(b []byte) int {
		n = 0
		_ = p.feed(b, &n)
		return int(n)
	}
}

type counter int

func (c *counter) head(head) {}

func (c *counter) event(kind, Stamp, bool) { *c++ }

// FillTemplate fills in the variables that values has.
func FillTemplate(text string, values map[string]string) string {
	names := []string{}
	for name := range values {
		names = append(names, name)
	}
	return string(parseTemplate(text, names...).appendTo(nil, func(dst []byte, name string) []byte { return append(dst, values[name]...) }))
}

// Verdicts feeds one stream's events of a lane to the accounts, and returns what was missing, late and there twice.
func Verdicts(fromFirst bool, keys ...uint64) (missing, lateOnes, twice int64) {
	l := newLanes(1, fromFirst)
	for _, k := range keys {
		switch l.see(0, Stamp{Seq: k, Key: k, Intended: 1}) {
		case late:
			lateOnes++
		case duplicated:
			twice++
		}
	}
	return l.missing, lateOnes, twice
}

// Number is number.
func Number(b []byte) (uint64, int) { return number(b) }
