package sse

import (
	"bytes"
	"io"
	"strings"
)

// readBytes is the size of the window that the stream is read through.
const readBytes = 4096

// keepBytes is the largest buffer that is kept from one event to the next, so
// that a stream that once carried a large one does not hold its memory for ever.
const keepBytes = 64 << 10

// skipBOM drops the byte order mark that "UTF-8 decode" allows at the beginning
// of the stream. While there is less than a mark, it waits for more: so few
// bytes can't hold an event.
func (d *Decoder) skipBOM() error {
	const bom = "\uFEFF"
	for !d.started {
		got := d.buf[d.pos:d.end]
		switch {
		case len(got) >= len(bom) || !strings.HasPrefix(bom, string(got)):
			d.started = true
			if bytes.HasPrefix(got, []byte(bom)) {
				d.pos += len(bom)
			}
		default:
			if err := d.fill(); err != nil {
				return err
			}
		}
	}
	return nil
}

// fill reads once more into the window, behind end, until there is something.
func (d *Decoder) fill() error {
	if d.buf == nil {
		d.buf = make([]byte, readBytes)
	}
	const maxEmptyReads = 100 // as bufio has it
	for range maxEmptyReads {
		n, err := 0, d.readErr
		d.readErr = nil
		if err == nil {
			n, err = d.r.Read(d.buf[d.end:])
		}
		if n > 0 {
			d.end += n
			d.lf, d.cr = -1, -1
			d.readErr = err
			return nil
		}
		if err == io.EOF {
			return d.finish(err)
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// lineEnd returns where in the window the next CR or LF is, end if there is
// none. Both places are remembered, so that a stream of one kind of line end is
// not searched for the other one again at each line.
func (d *Decoder) lineEnd() int {
	if d.lf < d.pos {
		d.lf = d.index('\n')
	}
	if d.cr < d.pos {
		d.cr = d.index('\r')
	}
	return min(d.lf, d.cr)
}

func (d *Decoder) index(c byte) int {
	if i := bytes.IndexByte(d.buf[d.pos:d.end], c); i >= 0 {
		return d.pos + i
	}
	return d.end
}

// hold keeps a piece of a line whose end is not in the window.
func (d *Decoder) hold(chunk []byte) error {
	if d.isComment(chunk) {
		d.holdComment(chunk)
		return nil
	}
	if d.size+len(d.line)+len(chunk) > d.limit {
		return &TooLargeError{d.limit}
	}
	d.line = append(d.line, chunk...)
	return nil
}

// isComment reports whether the line that chunk goes on, or begins, is one.
func (d *Decoder) isComment(chunk []byte) bool {
	if len(d.line) == 0 && len(chunk) > 0 && chunk[0] == ':' {
		d.inComment = true
	}
	return d.inComment
}

// holdComment keeps of a comment what onComment is to get. It may be endless
// and is no part of the block, so it is cut where a field would be refused.
func (d *Decoder) holdComment(chunk []byte) {
	if d.onComment != nil {
		d.line = append(d.line, chunk[:min(len(chunk), d.limit-len(d.line))]...)
	}
}

// endLine takes the last piece of a line and processes the line.
func (d *Decoder) endLine(chunk []byte) (event Event, ok bool, err error) {
	if d.isComment(chunk) {
		d.holdComment(chunk)
		if d.onComment != nil {
			_, text := field(d.line)
			d.onComment(toText(text))
		}
		d.inComment = false
		d.line = reuse(d.line)
		return Event{}, false, nil
	}
	if len(d.line) == 0 && len(chunk) == 0 {
		event, ok = d.dispatch()
		return event, ok, nil
	}
	d.size += len(d.line) + len(chunk) + 1
	if d.size > d.limit {
		return Event{}, false, &TooLargeError{d.limit}
	}
	line := chunk
	if len(d.line) > 0 {
		d.line = append(d.line, chunk...)
		line = d.line
	}
	d.process(field(line))
	d.line = reuse(d.line)
	return Event{}, false, nil
}

// reuse empties a buffer, or drops it if it has grown large.
func reuse(buf []byte) []byte {
	if cap(buf) > keepBytes {
		return nil
	}
	return buf[:0]
}
