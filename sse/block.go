package sse

import (
	"bytes"
	"math"
	"time"
)

// field splits a line into the name and the value of its field.
func field(line []byte) (name, value []byte) {
	name, value, _ = bytes.Cut(line, []byte(":"))
	return name, bytes.TrimPrefix(value, []byte(" "))
}

// process is the standard's "process the field". Names are compared as bytes:
// case matters, and a byte that is not UTF-8 is in no name that has a meaning.
func (d *Decoder) process(name, value []byte) {
	switch string(name) {
	case "event":
		if string(value) != d.prevType {
			d.prevType = toText(value)
		}
		d.typ = d.prevType
	case "data":
		d.data = append(d.data, value...)
		d.data = append(d.data, '\n')
	case "id":
		if bytes.IndexByte(value, 0) < 0 {
			d.idBuffer = toText(value)
			d.hasID = true
		}
	case "retry":
		if ms, ok := digits(value); ok {
			d.retry, d.hasRetry = ms, true
		}
	}
}

// digits reads ASCII digits as milliseconds.
func digits(value []byte) (time.Duration, bool) {
	const most = math.MaxInt64 / int64(time.Millisecond)
	var ms int64
	for _, c := range value {
		if c < '0' || c > '9' {
			return 0, false
		}
		ms = min(ms*10+int64(c-'0'), most)
	}
	return time.Duration(ms) * time.Millisecond, len(value) > 0
}

// dispatch is the standard's "dispatch the event", at a blank line.
func (d *Decoder) dispatch() (Event, bool) {
	d.lastEventID = d.idBuffer
	if len(d.data) == 0 {
		d.endBlock()
		return Event{}, false
	}
	event := Event{Type: d.typ, Data: toText(d.data[:len(d.data)-1])}
	if event.Type == "" {
		event.Type = DefaultType
	}
	if d.hasID {
		event.ID = d.idBuffer
		event.ResetID = d.idBuffer == ""
	}
	d.endBlock()
	return event, true
}

func (d *Decoder) endBlock() {
	d.size = 0
	d.typ = ""
	d.data = reuse(d.data)
	d.hasID = false
}
