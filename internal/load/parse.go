package load

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// kind is what an event is to the client.
type kind uint8

const (
	kindEvent       kind = iota // the application's
	kindConnected               // tidings.connected
	kindGap                     // tidings.gap
	kindUnavailable             // tidings.unavailable
	kindOther                   // another of tidings.
)

// A sink takes what a parser finds, in order.
type sink interface {
	// head is called once the response's head is complete, but for 1xx.
	head(h head)
	// event is called at the blank line that ends an event with data. stamped says that s is the event's.
	event(k kind, s Stamp, stamped bool)
}

// head is what matters of a response's head.
type head struct {
	status   int
	stream   bool // the content type is text/event-stream
	encoding bool // there is a Content-Encoding
}

// parser takes apart the bytes of one HTTP/1 response with an event stream, however they are cut. The zero value is at the
// start of a response. Lines may end with LF or CRLF; a CR alone, which the specification allows and nobody sends, is not
// taken for an end.
type parser struct {
	state   parseState
	chunked bool
	length  bool // left counts a Content-Length
	bom     bool // the stream's first line has been seen
	h       head
	left    int64  // of the chunk, or of the body
	headLen int    // bytes of head so far
	carry   []byte // what came of a line whose end has not
	partial bool   // carry is in use, and perhaps empty

	// The event under way.
	kind    kind
	hasData bool
	stamped bool
	hasID   bool
	stamp   Stamp
	id      []byte

	// What the stream has said so far. They stay when the parser is made ready for another response.
	lastID []byte
	retry  int64 // in milliseconds; -1 until there was one, with reset
}

type parseState uint8

const (
	inStatus     parseState = iota // the status line
	inHeaders                      // the other lines of the head
	inChunkSize                    // the digits
	inChunkExt                     // what may follow them, up to LF
	inChunk                        // the data
	inChunkEnd                     // CRLF behind it
	inTrailers                     // behind the last chunk
	inBody                         // not chunked
	afterTheEnd                    // nothing may come
	stateInvalid                   // an error was returned
)

const (
	maxLine = 4 << 10  // bytes of a line that are looked at
	maxHead = 64 << 10 // bytes of a head
)

var (
	errAfterEnd = errors.New("bytes behind the response's end")
	errChunk    = errors.New("not chunked as announced")
	errHead     = errors.New("not an HTTP/1 response")
)

// restart makes the parser ready for another response. The cursor and retry stay.
func (p *parser) restart() {
	id, last, retry := p.id[:0], p.lastID, p.retry
	*p = parser{id: id, lastID: last, retry: retry}
}

// bodyOnly makes the parser ready for a body whose head and framing somebody else has read.
func (p *parser) bodyOnly() {
	p.restart()
	p.state = inBody
}

// ended reports whether the response has come to the end that its framing says.
func (p *parser) ended() bool { return p.state == afterTheEnd }

// feed takes the next bytes. After an error the parser must be restarted.
func (p *parser) feed(b []byte, to sink) error {
	for len(b) > 0 {
		switch p.state {
		case inChunk:
			n := min(int64(len(b)), p.left)
			p.body(b[:n], to)
			b = b[n:]
			if p.left -= n; p.left == 0 {
				p.state = inChunkEnd
			}
		case inChunkEnd, inChunkSize, inChunkExt:
			if err := p.chunkByte(b[0]); err != nil {
				return p.fail(err)
			}
			b = b[1:]
		case inBody:
			if !p.length {
				p.body(b, to)
				return nil
			}
			n := min(int64(len(b)), p.left)
			p.body(b[:n], to)
			b = b[n:]
			if p.left -= n; p.left == 0 {
				p.state = afterTheEnd
			}
		case inStatus, inHeaders, inTrailers:
			i := bytes.IndexByte(b, '\n')
			if p.headLen += i + 1; i < 0 {
				p.headLen += len(b)
			}
			if p.headLen > maxHead {
				return p.fail(errHead)
			}
			if i < 0 {
				p.keep(b)
				return nil
			}
			line := trimCR(p.line(b[:i]))
			b = b[i+1:]
			if err := p.headLine(line, to); err != nil {
				return p.fail(err)
			}
		default:
			return p.fail(errAfterEnd)
		}
	}
	return nil
}

func (p *parser) fail(err error) error {
	p.state = stateInvalid
	return err
}

// chunkByte takes a byte of the framing between chunks' data.
func (p *parser) chunkByte(c byte) error {
	switch {
	case p.state == inChunkEnd:
		switch c {
		case '\r':
		case '\n':
			p.state, p.left = inChunkSize, -1
		default:
			return errChunk
		}
	case c == '\n':
		if p.left < 0 {
			return errChunk
		}
		if p.state = inChunk; p.left == 0 {
			p.state = inTrailers
		}
	case p.state == inChunkExt:
	case c == '\r' || c == ';' || c == ' ' || c == '\t':
		p.state = inChunkExt
	default:
		d := hexDigit(c)
		if d < 0 || p.left > 1<<40 {
			return errChunk
		}
		p.left = max(p.left, 0)<<4 | d
	}
	return nil
}

func hexDigit(c byte) int64 {
	switch {
	case c-'0' <= 9:
		return int64(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int64(c|0x20-'a') + 10
	}
	return -1
}

// headLine takes a line of the head or of the trailers.
func (p *parser) headLine(line []byte, to sink) error {
	switch {
	case p.state == inTrailers:
		if len(line) == 0 {
			p.state = afterTheEnd
		}
	case p.state == inStatus:
		// HTTP/1.1 200 OK
		if len(line) < 12 || string(line[:7]) != "HTTP/1." || line[8] != ' ' {
			return errHead
		}
		status, err := strconv.Atoi(string(line[9:12]))
		if err != nil || status < 100 {
			return errHead
		}
		p.h = head{status: status}
		p.state = inHeaders
	case len(line) > 0:
		return p.header(line)
	case p.h.status < 200:
		p.state, p.chunked, p.length = inStatus, false, false
	default:
		switch {
		case p.chunked:
			p.state, p.left = inChunkSize, -1
		case p.length && p.left == 0, p.h.status == 204:
			p.state = afterTheEnd
		default:
			p.state = inBody
		}
		to.head(p.h)
	}
	return nil
}

// header takes a header field.
func (p *parser) header(line []byte) error {
	name, value, ok := bytes.Cut(line, []byte(":"))
	if !ok {
		return errHead
	}
	v := strings.TrimSpace(string(value))
	switch strings.ToLower(string(name)) {
	case "transfer-encoding":
		if !strings.EqualFold(v, "chunked") {
			return fmt.Errorf("the transfer encoding is %q", v)
		}
		p.chunked = true
	case "content-length":
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 0 {
			return errHead
		}
		p.left, p.length = n, true
	case "content-type":
		t, _, _ := strings.Cut(v, ";")
		p.h.stream = strings.EqualFold(strings.TrimSpace(t), "text/event-stream")
	case "content-encoding":
		p.h.encoding = !strings.EqualFold(v, "identity")
	}
	return nil
}

// body takes bytes of the event stream.
func (p *parser) body(b []byte, to sink) {
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			p.keep(b)
			return
		}
		p.streamLine(p.line(b[:i]), to)
		b = b[i+1:]
	}
}

// keep keeps the start of a line until its rest comes. What is not looked at anyway is not kept.
func (p *parser) keep(b []byte) {
	p.partial = true
	if room := maxLine + 1 - len(p.carry); room > 0 {
		p.carry = append(p.carry, b[:min(len(b), room)]...)
	}
}

// line returns a whole line, of which end came last, as far as it is looked at. It is valid until the next call.
func (p *parser) line(end []byte) []byte {
	if !p.partial {
		return end
	}
	p.keep(end)
	line := p.carry
	const worthKeeping = 256
	if p.partial = false; cap(line) > worthKeeping {
		p.carry = nil
	} else {
		p.carry = p.carry[:0]
	}
	return line
}

func trimCR(line []byte) []byte {
	if n := len(line); n > 0 && line[n-1] == '\r' {
		return line[:n-1]
	}
	return line
}

// streamLine takes a line of the event stream.
func (p *parser) streamLine(line []byte, to sink) {
	if line = line[:min(len(line), maxLine)]; !p.bom {
		p.bom = true
		line = bytes.TrimPrefix(line, []byte("\ufeff"))
	}
	line = trimCR(line)
	if len(line) == 0 {
		p.dispatch(to)
		return
	}
	switch line[0] {
	case 'd':
		if v, ok := field(line, "data"); ok {
			p.hasData = true
			if !p.stamped {
				p.stamp, p.stamped = ReadPayload(v)
			}
		}
	case 'e':
		if v, ok := field(line, "event"); ok {
			p.kind = kindOf(v)
		}
	case 'i':
		if v, ok := field(line, "id"); ok && bytes.IndexByte(v, 0) < 0 {
			p.id, p.hasID = append(p.id[:0], v...), true
		}
	case 'r':
		if v, ok := field(line, "retry"); ok {
			if ms, n := number(v); n > 0 && n == len(v) {
				p.retry = int64(ms)
			}
		}
	}
}

// field returns the value of a line with the field of this name.
func field(line []byte, name string) (value []byte, ok bool) {
	n := len(name)
	if len(line) < n || string(line[:n]) != name {
		return nil, false
	}
	if len(line) == n {
		return nil, true
	}
	if line[n] != ':' {
		return nil, false
	}
	if line = line[n+1:]; len(line) > 0 && line[0] == ' ' {
		line = line[1:]
	}
	return line, true
}

func kindOf(eventType []byte) kind {
	const reserved = "tidings."
	if len(eventType) < len(reserved) || string(eventType[:len(reserved)]) != reserved {
		return kindEvent
	}
	switch string(eventType[len(reserved):]) {
	case "connected":
		return kindConnected
	case "gap":
		return kindGap
	case "unavailable":
		return kindUnavailable
	}
	return kindOther
}

// dispatch ends the event under way. An id counts also without data, and only from here on.
func (p *parser) dispatch(to sink) {
	if p.hasID {
		p.id, p.lastID = p.lastID, p.id
	}
	k, data, stamped := p.kind, p.hasData, p.stamped
	p.kind, p.hasData, p.stamped, p.hasID = kindEvent, false, false, false
	if data {
		to.event(k, p.stamp, stamped)
	}
}
