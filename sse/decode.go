package sse

import (
	"fmt"
	"io"
	"iter"
	"time"
)

// DefaultMaxEventBytes is the limit of a [Decoder] that is given none: 4 MiB.
// JSON text of 1 MiB that is all escaped line breaks stays below it as a block.
const DefaultMaxEventBytes = 4 << 20

// DecoderOptions adjusts a [Decoder]. The zero value, and a nil pointer, are
// the defaults.
type DecoderOptions struct {
	// LastEventID is what the stream was resumed from: the Last-Event-ID that
	// was sent to get it. It stands until the stream brings another one.
	//
	// By the letter of the standard a new stream begins with an empty last
	// event ID, also after a reconnect. Browsers carry it over, as this does;
	// else the first event without an id would lose the place in the stream.
	LastEventID string

	// MaxEventBytes limits one block as it stands on the wire: the bytes of its
	// fields' lines, and one for the end of each. Comments do not count. If it
	// is 0 or less, the limit is [DefaultMaxEventBytes].
	MaxEventBytes int

	// OnComment is called, if not nil, with each comment when the end of its
	// line has arrived: with the text after the colon, less one space if it
	// begins with one, and cut to MaxEventBytes. It is called by the iteration,
	// between events and in the order of the stream, and holds it up.
	OnComment func(text string)
}

// TooLargeError says that a block of the stream was over the limit. A [Decoder]
// yields it, as *TooLargeError.
type TooLargeError struct {
	Limit int // in bytes, as in [DecoderOptions.MaxEventBytes]
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("sse: event is larger than %d bytes; DecoderOptions.MaxEventBytes sets the limit", e.Limit)
}

// A Decoder reads an event stream by the rules of WHATWG HTML, section 9.2.6,
// "Interpreting an event stream". It is not for concurrent use: its methods may
// be called in the body of a loop over [Decoder.Events] and outside of it, by
// one goroutine at a time.
//
// Its memory is bounded by a small multiple of the limit, whatever the stream
// holds.
type Decoder struct {
	r         io.Reader
	limit     int
	onComment func(string)

	// The window: what was read and not yet looked at is buf[pos:end].
	buf      []byte
	pos, end int
	lf, cr   int   // next LF and CR in the window, end if none; stale if below pos
	readErr  error // came with the bytes in the window, due when they are used up
	final    error // ends every iteration from now on; io.EOF is a clean end

	// Lines.
	started   bool   // past the byte order mark, or the place for one
	skipLF    bool   // the last line was ended by CR, so that an LF is part of its end
	line      []byte // the beginning of a line whose end was not in the window
	inComment bool   // that line is a comment; line has it only if onComment wants it

	// The block. The buffers are those of the standard, by name.
	size     int    // what counts towards limit
	typ      string // event type buffer
	data     []byte // data buffer
	idBuffer string // last event ID buffer; not reset by the end of a block
	hasID    bool   // idBuffer was set by this block

	// The stream.
	lastEventID string
	retry       time.Duration
	hasRetry    bool
	prevType    string // the type seen last, to share its string
}

// NewDecoder returns a decoder of the stream r. Options may be nil. It reads
// nothing yet, and it never closes r.
func NewDecoder(r io.Reader, opts *DecoderOptions) *Decoder {
	if opts == nil {
		opts = new(DecoderOptions)
	}
	d := &Decoder{
		r:           r,
		limit:       opts.MaxEventBytes,
		onComment:   opts.OnComment,
		idBuffer:    opts.LastEventID,
		lastEventID: opts.LastEventID,
	}
	if d.limit <= 0 {
		d.limit = DefaultMaxEventBytes
	}
	return d
}

// LastEventID returns the last event ID string of the stream: what a client
// sends as Last-Event-ID to go on from here, the empty string if there is
// nothing to send. In the body of a loop over [Decoder.Events] it is what a
// browser shows as the event's lastEventId.
//
// It is set by the blank line of a block that has an id, also if that block has
// no data and so is no event; a block that was cut off leaves it as it was.
func (d *Decoder) LastEventID() string { return d.lastEventID }

// Retry returns the reconnection time that the stream asked for last, in whole
// milliseconds, and whether it asked for one. It is set when the retry line has
// arrived; one that is not all ASCII digits, or has none, is ignored. A time
// too long for a [time.Duration] is the longest there is.
func (d *Decoder) Retry() (time.Duration, bool) { return d.retry, d.hasRetry }

// Events iterates over the events of the stream. Each is yielded as soon as the
// end of its blank line has arrived, without waiting for another byte; if that
// end is a CR, the LF that may follow is dropped when it comes.
//
// At the end of the stream (io.EOF) the iteration ends without an error. A block
// without its blank line is discarded, as the standard has it; it did not move
// LastEventID, so a server that resumes sends it again. Any other error is
// yielded, as the reader gave it, with a zero Event, and ends the iteration.
// A body that net/http knows to be cut short gives io.ErrUnexpectedEOF, which a
// client of a stream treats as it treats the end.
//
// A loop may be left, and Events called again: it goes on with the next event,
// with nothing lost. That holds after an error of the reader too, such as a
// deadline: what had arrived is kept, and the reader is asked for more. Only the
// end of the stream and a [*TooLargeError] are final, and given again.
func (d *Decoder) Events() iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for {
			event, err := d.next()
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(Event{}, err)
				return
			}
			if !yield(event, nil) {
				return
			}
		}
	}
}

// next returns the next event; io.EOF is the clean end. When it returns an
// event, everything that belongs to it is behind pos.
func (d *Decoder) next() (Event, error) {
	if d.final != nil {
		return Event{}, d.final
	}
	if err := d.skipBOM(); err != nil {
		return Event{}, err
	}
	for {
		for d.pos < d.end {
			if d.skipLF {
				d.skipLF = false
				if d.buf[d.pos] == '\n' {
					d.pos++
					continue
				}
			}
			chunk := d.buf[d.pos:d.lineEnd()]
			d.pos += len(chunk)
			if d.pos == d.end {
				if err := d.hold(chunk); err != nil {
					return Event{}, d.finish(err)
				}
				break
			}
			d.skipLF = d.buf[d.pos] == '\r'
			d.pos++
			event, ok, err := d.endLine(chunk)
			if err != nil {
				return Event{}, d.finish(err)
			}
			if ok {
				return event, nil
			}
		}
		d.pos, d.end = 0, 0
		if err := d.fill(); err != nil {
			return Event{}, err
		}
	}
}

// finish makes err the answer of every iteration from now on, and lets go of
// what was pending.
func (d *Decoder) finish(err error) error {
	d.final = err
	d.buf, d.pos, d.end = nil, 0, 0
	d.line, d.data, d.typ = nil, nil, ""
	return err
}
