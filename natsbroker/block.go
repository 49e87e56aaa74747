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
	fieldNonce       = 1 // 8 bytes, big-endian
	fieldType        = 2
	fieldData        = 3
	fieldTarget      = 4 // fields of its own; repeated, one for each target
	fieldExclude     = 5 // the same
	fieldTTL         = 6 // nanoseconds, a varint
	fieldCollapse    = 7
	fieldIdempotency = 8
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

// appendBlock appends a block of count records, which appendRecord made.
func appendBlock(dst []byte, count int, records []byte) []byte {
	dst = append(dst, blockVersion)
	dst = binary.AppendUvarint(dst, uint64(count))
	return append(dst, records...)
}

// appendRecord appends a record with its length. scratch is for its use.
func appendRecord(dst []byte, r *tidings.Record, scratch []byte) (_, used []byte) {
	var nonce [8]byte
	binary.BigEndian.PutUint64(nonce[:], r.Nonce)
	b := appendField(scratch[:0], fieldNonce, nonce[:])
	b = appendText(b, fieldType, r.Type)
	if len(r.Data) > 0 {
		b = appendField(b, fieldData, r.Data)
	}
	for _, t := range r.Targets {
		b = appendTarget(b, fieldTarget, t)
	}
	if !r.Exclude.IsZero() {
		b = appendTarget(b, fieldExclude, r.Exclude)
	}
	if r.TTL > 0 {
		var ttl [binary.MaxVarintLen64]byte
		b = appendField(b, fieldTTL, binary.AppendUvarint(ttl[:0], uint64(r.TTL)))
	}
	b = appendText(b, fieldCollapse, r.CollapseKey)
	b = appendText(b, fieldIdempotency, r.IdempotencyKey)
	dst = binary.AppendUvarint(dst, uint64(len(b)))
	return append(dst, b...), b
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
	var b []byte
	b = appendText(b, fieldClient, t.ClientID)
	b = appendText(b, fieldUser, t.UserID)
	b = appendText(b, fieldSession, t.SessionID)
	b = appendText(b, fieldTopic, t.Topic)
	return appendField(dst, number, b)
}

var (
	errBlockVersion = errors.New("the log holds a block of a later version of Tidings: bring this node up to that version")
	errBlockTorn    = errors.New("the log holds a message that is not a block of Tidings: did something else publish to its subject?")
)

// parseBlock returns the records of the message with this sequence. Their data refers to b.
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
			ttl, rest, ok := cutUvarint(value)
			if !ok || len(rest) > 0 || int64(ttl) < 0 {
				return errBlockTorn
			}
			r.TTL = time.Duration(ttl)
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
