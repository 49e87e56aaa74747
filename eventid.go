package tidings

import (
	"errors"
	"strconv"
	"strings"
)

// An event ID is a cursor's text: "1k3-2x.0-9f" is version 1, epoch "k3", position 2x.0, tag 9f; numbers in base 36.
// To everyone outside this file it is opaque. It matches [A-Za-z0-9._~-]{1,128}: some clients can't reconnect with an
// id that isn't ASCII.

const (
	idVersion  = '1'
	maxEventID = 128
	maxEpoch   = 32
	tagBits    = 20
)

// A cursor is a place in a log, as a client holds it.
type cursor struct {
	epoch string
	pos   Position
	tag   uint32 // tells a record from another one that had its position, in a log that was restored from a copy
}

// tagOf returns the tag of the record with this nonce. Position zero, where no record is, has tag 0.
func tagOf(nonce uint64) uint32 { return uint32(nonce >> (64 - tagBits)) }

// appendID appends the event ID of the cursor.
func (c cursor) appendID(dst []byte) []byte {
	dst = append(dst, idVersion)
	dst = append(dst, c.epoch...)
	dst = append(dst, '-')
	dst = strconv.AppendUint(dst, c.pos.Hi, 36)
	dst = append(dst, '.')
	dst = strconv.AppendUint(dst, c.pos.Lo, 36)
	dst = append(dst, '-')
	return strconv.AppendUint(dst, uint64(c.tag), 36)
}

func (c cursor) String() string {
	var b [maxEventID]byte
	return string(c.appendID(b[:0]))
}

// eventID returns the ID of the record at a position.
func eventID(epoch string, p Position, nonce uint64) string {
	return cursor{epoch: epoch, pos: p, tag: tagOf(nonce)}.String()
}

var errMalformedID = errors.New("not an event id of Tidings")

// parseCursor reads what appendID writes, and nothing else: there is one text for each cursor.
func parseCursor(id string) (cursor, error) {
	if len(id) > maxEventID || id == "" || id[0] != idVersion {
		return cursor{}, errMalformedID
	}
	epoch, rest, ok1 := strings.Cut(id[1:], "-")
	pos, tag, ok2 := strings.Cut(rest, "-")
	hi, lo, ok3 := strings.Cut(pos, ".")
	if !ok1 || !ok2 || !ok3 || !validEpoch(epoch) {
		return cursor{}, errMalformedID
	}
	c := cursor{epoch: epoch}
	t, err := strconv.ParseUint(tag, 36, tagBits)
	c.tag = uint32(t)
	var err1, err2 error
	c.pos.Hi, err1 = strconv.ParseUint(hi, 36, 64)
	c.pos.Lo, err2 = strconv.ParseUint(lo, 36, 64)
	if err != nil || err1 != nil || err2 != nil || c.String() != id {
		return cursor{}, errMalformedID
	}
	return c, nil
}

// validEpoch reports whether s can stand in an event ID.
func validEpoch(s string) bool {
	if s == "" || len(s) > maxEpoch {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}
