package natsbroker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/tidings-sse/tidings"
)

// A block is what one JetStream message holds: records of one append, side by side.
//
//	block  = version count record{count}
//	record = length field*
//	field  = number length value
//
// version is one byte; the others are unsigned varints (encoding/binary). A field that a record lacks is not written, and
// one whose number is not known is passed over: so a node of a later version, which may add fields, writes beside this one.
// What an earlier version must not pass over gets another version of the block, at which this one stops, and says so.
const blockVersion = 1

// The fields of a record. A number is never used for something else.
const (
	fieldNonce       = 1 // 8 bytes, big-endian; the first one of a record
	fieldType        = 2
	fieldData        = 3
	fieldTarget      = 4 // fields of its own; repeated, one for each target
	fieldExclude     = 5 // the same
	fieldTTL         = 6 // nanoseconds, a varint
	fieldCollapse    = 7
	fieldIdempotency = 8
	fieldTime        = 9 // Unix milliseconds of the log's clock, a varint; in a block's first record, for all of them
)

// The fields of a target.
const (
	fieldClient  = 1
	fieldUser    = 2
	fieldSession = 3
	fieldTopic   = 4
)

// blockHead is the most that stands before a block's records: its version, and their count.
const blockHead = 1 + binary.MaxVarintLen32

// finishBlock returns the block in b, whose first blockHead bytes are room for its head and the others count records, each
// behind its length.
func finishBlock(b []byte, count int) []byte {
	var head [blockHead]byte
	head[0] = blockVersion
	n := 1 + binary.PutUvarint(head[1:], uint64(count))
	b = b[blockHead-n:]
	copy(b, head[:n])
	return b
}

// appendRecord appends the fields of a record, but for its time.
func appendRecord(dst []byte, r *tidings.Record) []byte {
	var nonce [8]byte
	binary.BigEndian.PutUint64(nonce[:], r.Nonce)
	dst = appendField(dst, fieldNonce, nonce[:])
	dst = appendText(dst, fieldType, r.Type)
	if len(r.Data) > 0 {
		dst = appendField(dst, fieldData, r.Data)
	}
	for _, t := range r.Targets {
		dst = appendTarget(dst, fieldTarget, t)
	}
	if !r.Exclude.IsZero() {
		dst = appendTarget(dst, fieldExclude, r.Exclude)
	}
	if r.TTL > 0 {
		dst = appendNumber(dst, fieldTTL, uint64(r.TTL))
	}
	dst = appendText(dst, fieldCollapse, r.CollapseKey)
	return appendText(dst, fieldIdempotency, r.IdempotencyKey)
}

// appendTime appends the time of a block, to its first record.
func appendTime(dst []byte, at time.Time) []byte {
	return appendNumber(dst, fieldTime, uint64(at.UnixMilli()))
}

func appendNumber(dst []byte, number, value uint64) []byte {
	var b [binary.MaxVarintLen64]byte
	return appendField(dst, number, binary.AppendUvarint(b[:0], value))
}

func appendField(dst []byte, number uint64, value []byte) []byte {
	dst = binary.AppendUvarint(dst, number)
	dst = binary.AppendUvarint(dst, uint64(len(value)))
	return append(dst, value...)
}

func appendText(dst []byte, number uint64, s string) []byte {
	if s == "" {
		return dst
	}
	dst = binary.AppendUvarint(dst, number)
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

func appendTarget(dst []byte, number uint64, t tidings.Target) []byte {
	size := 0
	for _, c := range [...]string{t.ClientID, t.UserID, t.SessionID, t.Topic} {
		size += textSize(c)
	}
	dst = binary.AppendUvarint(dst, number)
	dst = binary.AppendUvarint(dst, uint64(size))
	dst = appendText(dst, fieldClient, t.ClientID)
	dst = appendText(dst, fieldUser, t.UserID)
	dst = appendText(dst, fieldSession, t.SessionID)
	return appendText(dst, fieldTopic, t.Topic)
}

// textSize returns how many bytes appendText appends for a field with a number below 128.
func textSize(s string) int {
	if s == "" {
		return 0
	}
	return 1 + len(binary.AppendUvarint(make([]byte, 0, binary.MaxVarintLen64), uint64(len(s)))) + len(s)
}

var (
	errBlockVersion = errors.New("the log holds a block of a later version of Tidings: bring this node up to that version")
	errBlockTorn    = errors.New("the log holds a message that is not a block of Tidings: did something else publish to its subject?")
)

// parseBlock returns the records of the message with this sequence. Their data refers to b. at is when NATS stored it, for a
// block without a time of its own.
func parseBlock(b []byte, seq uint64, at time.Time) ([]tidings.Record, error) {
	if len(b) == 0 {
		return nil, fmt.Errorf("message %d: %w", seq, errBlockTorn)
	}
	switch {
	case b[0] > blockVersion && b[0] < ' ': // text is somebody else's
		return nil, fmt.Errorf("message %d: %w", seq, errBlockVersion)
	case b[0] != blockVersion:
		return nil, fmt.Errorf("message %d: %w", seq, errBlockTorn)
	}
	count, b, ok := cutUvarint(b[1:])
	if !ok || count == 0 || count > uint64(len(b)) {
		return nil, fmt.Errorf("message %d: %w", seq, errBlockTorn)
	}
	rs := make([]tidings.Record, count)
	for i := range rs {
		var one []byte
		if one, b, ok = cutBytes(b); !ok {
			return nil, fmt.Errorf("message %d: %w", seq, errBlockTorn)
		}
		if err := parseRecord(one, &rs[i]); err != nil {
			return nil, fmt.Errorf("message %d: %w", seq, err)
		}
		if i == 0 && !rs[i].Time.IsZero() {
			at = rs[i].Time
		}
		rs[i].Position, rs[i].Time = place(seq, i, len(rs)), at
		if i > 0 && rs[i].Type == rs[i-1].Type {
			rs[i].Type = rs[i-1].Type // one string for many records
		}
	}
	if len(b) > 0 {
		return nil, fmt.Errorf("message %d: %w", seq, errBlockTorn)
	}
	return rs, nil
}

// nonceOf returns the nonce of a block's first record, by which it is known from any other. It is the record's first field.
func nonceOf(b []byte) (nonce uint64, ok bool) {
	if len(b) == 0 || b[0] != blockVersion {
		return 0, false
	}
	if _, b, ok = cutUvarint(b[1:]); !ok { // the count
		return 0, false
	}
	if _, b, ok = cutUvarint(b); !ok { // the record's length
		return 0, false
	}
	number, value, _, ok := cutField(b)
	if !ok || number != fieldNonce || len(value) != 8 {
		return 0, false
	}
	return binary.BigEndian.Uint64(value), true
}

func parseRecord(b []byte, r *tidings.Record) error {
	for len(b) > 0 {
		number, value, rest, ok := cutField(b)
		if !ok {
			return errBlockTorn
		}
		b = rest
		switch number {
		case fieldNonce:
			if len(value) != 8 {
				return errBlockTorn
			}
			r.Nonce = binary.BigEndian.Uint64(value)
		case fieldType:
			r.Type = string(value)
		case fieldData:
			r.Data = value
		case fieldTarget, fieldExclude:
			t, err := parseTarget(value)
			if err != nil {
				return err
			}
			if number == fieldExclude {
				r.Exclude = t
				continue
			}
			r.Targets = append(r.Targets, t)
		case fieldTTL:
			ttl, ok := parseNumber(value)
			if !ok {
				return errBlockTorn
			}
			r.TTL = time.Duration(ttl)
		case fieldTime:
			ms, ok := parseNumber(value)
			if !ok {
				return errBlockTorn
			}
			r.Time = time.UnixMilli(ms).UTC()
		case fieldCollapse:
			r.CollapseKey = string(value)
		case fieldIdempotency:
			r.IdempotencyKey = string(value)
		}
	}
	return nil
}

// parseTarget reads a target. A condition that is not known can't be passed over: without it, the target is wider.
func parseTarget(b []byte) (t tidings.Target, _ error) {
	for len(b) > 0 {
		number, value, rest, ok := cutField(b)
		if !ok {
			return tidings.Target{}, errBlockTorn
		}
		b = rest
		switch number {
		case fieldClient:
			t.ClientID = string(value)
		case fieldUser:
			t.UserID = string(value)
		case fieldSession:
			t.SessionID = string(value)
		case fieldTopic:
			t.Topic = string(value)
		default:
			return tidings.Target{}, errBlockVersion
		}
	}
	if t.IsZero() {
		return tidings.Target{}, errBlockTorn // nobody writes one, and it would be everyone
	}
	return t, nil
}

func parseNumber(b []byte) (n int64, ok bool) {
	u, rest, ok := cutUvarint(b)
	return int64(u), ok && len(rest) == 0 && int64(u) >= 0
}

func cutUvarint(b []byte) (n uint64, rest []byte, ok bool) {
	n, size := binary.Uvarint(b)
	if size <= 0 {
		return 0, nil, false
	}
	return n, b[size:], true
}

func cutBytes(b []byte) (value, rest []byte, ok bool) {
	n, b, ok := cutUvarint(b)
	if !ok || n > uint64(len(b)) {
		return nil, nil, false
	}
	return b[:n:n], b[n:], true
}

func cutField(b []byte) (number uint64, value, rest []byte, ok bool) {
	number, b, ok = cutUvarint(b)
	if !ok {
		return 0, nil, nil, false
	}
	value, rest, ok = cutBytes(b)
	return number, value, rest, ok
}
