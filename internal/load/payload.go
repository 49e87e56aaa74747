package load

import (
	"bytes"
	"encoding/binary"
	"strconv"
)

// Class is the kind of target that an event was sent to.
type Class uint8

// The classes. Stream n belongs to target 0 of Broadcast, n of ToClient, n modulo Config.Users of ToUser and n modulo
// Config.Topics of ToTopic.
const (
	Broadcast Class = iota
	ToClient
	ToUser
	ToTopic
	classes
)

// String returns the class's name, as in the mix of "tidings bench": broadcast, client, user or topic.
func (c Class) String() string {
	switch c {
	case Broadcast:
		return "broadcast"
	case ToClient:
		return "client"
	case ToUser:
		return "user"
	case ToTopic:
		return "topic"
	}
	return "class " + strconv.Itoa(int(c))
}

// A Stamp is what an event says of itself.
type Stamp struct {
	Publisher int    // from 0 to MaxPublishers-1
	Seq       uint64 // counts the publisher's events, from 1
	Class     Class  // of the target
	Key       uint64 // counts the publisher's events to this target, from 1
	Intended  int64  // when the schedule wanted it sent, in nanoseconds since 1970
}

// MaxPublishers bounds Stamp.Publisher: each costs 8 bytes a stream and class once it has sent to it.
const MaxPublishers = 256

// AppendPayload appends an event's data, a JSON object of at least size bytes:
//
//	{"s":12,"p":0,"c":0,"k":12,"t":1764064800000000000,"x":"......"}
//
// It is size bytes long if the stamp fits into that. Padding is dots.
func AppendPayload(dst []byte, s Stamp, size int) []byte {
	start := len(dst)
	dst = append(dst, `{"s":`...)
	dst = strconv.AppendUint(dst, s.Seq, 10)
	dst = append(dst, `,"p":`...)
	dst = strconv.AppendInt(dst, int64(s.Publisher), 10)
	dst = append(dst, `,"c":`...)
	dst = strconv.AppendUint(dst, uint64(s.Class), 10)
	dst = append(dst, `,"k":`...)
	dst = strconv.AppendUint(dst, s.Key, 10)
	dst = append(dst, `,"t":`...)
	dst = strconv.AppendInt(dst, s.Intended, 10)
	const frame = len(`,"x":""}`)
	if pad := size - (len(dst) - start) - frame; pad >= 0 {
		dst = append(dst, `,"x":"`...)
		for range pad {
			dst = append(dst, '.')
		}
		return append(dst, `"}`...)
	}
	return append(dst, '}')
}

// PayloadSize is the default size of an event's data, in bytes: with its type and its id it is about 170 bytes of a
// Tidings stream.
const PayloadSize = 110

// ReadPayload finds the stamp in an event's data. The data may be wrapped in JSON of the server's own; the stamp itself
// must be as AppendPayload writes it, but for k and c: without k it is a broadcast counted by s.
func ReadPayload(data []byte) (s Stamp, ok bool) {
	const first = `"s":`
	at := bytes.Index(data, []byte(first))
	if at < 0 {
		return Stamp{}, false
	}
	b := data[at+len(first):]
	var n int
	if s.Seq, n = number(b); n == 0 {
		return Stamp{}, false
	}
	b = b[n:]
	for len(b) > 5 && b[0] == ',' && b[1] == '"' && b[3] == '"' && b[4] == ':' {
		v, n := number(b[5:])
		if n == 0 {
			break
		}
		switch b[2] {
		case 'p':
			s.Publisher = int(min(v, MaxPublishers))
		case 'c':
			s.Class = Class(min(v, uint64(classes)))
		case 'k':
			s.Key = v
		case 't':
			s.Intended = int64(v)
		}
		b = b[5+n:]
	}
	if s.Key == 0 && s.Class == Broadcast {
		s.Key = s.Seq
	}
	return s, s.Intended > 0 && s.Key > 0 && s.Class < classes && s.Publisher < MaxPublishers
}

// number reads decimal digits, at most 19, and returns how many there were.
func number(b []byte) (v uint64, n int) {
	// Eight at a time: times are most of what a stream's events are read for.
	for len(b) >= n+8 && n+8 <= 19 {
		x := binary.LittleEndian.Uint64(b[n:])
		const high, zeros = 0xf0f0f0f0f0f0f0f0, 0x3030303030303030
		if x&high != zeros || (x+0x0606060606060606)&high != zeros {
			break // not all are digits
		}
		x -= zeros
		x = x*10 + x>>8 // pairs of digits, in every other byte
		const pairs = 0x000000ff000000ff
		x = (x&pairs*(100+1000000<<32) + x>>16&pairs*(1+10000<<32)) >> 32
		v = v*100_000_000 + x
		n += 8
	}
	for n < len(b) && n < 19 && b[n]-'0' <= 9 {
		v = v*10 + uint64(b[n]-'0')
		n++
	}
	return v, n
}
