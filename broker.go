package tidings

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"iter"
	"time"
)

// Broker is an ordered log of records, shared by every node of a deployment. Every node appends to it and tails all of
// it; who gets which record is the hub's business. A Broker is one log for its whole life, is safe for concurrent use,
// and passes brokertest.Run, which is this contract as tests.
//
// Order is total: a record's [Position] is greater than that of every record before it, in Append's answers, in Tail
// and in Read, on every node. Positions never change, and are not reused within an epoch except where a log was
// restored from an older copy; each record's Nonce tells such twins apart.
//
// Retention is the broker's: it may drop records from the oldest end, never from the middle.
type Broker interface {
	// Append adds the records at the log's end, in order, side by side: no record of another call stands between
	// them. It MUST be durable, as far as the broker promises durability, when it returns. It answers one Appended for
	// each record. It MUST NOT keep or change rs, but may keep the Data and Targets it refers to, which never change.
	//
	// A record whose IdempotencyKey was appended within the broker's window is not appended again: see [Outcome].
	//
	// On an error nothing may have been appended, or all, or a first part. An error MUST match [ErrNotStored] when,
	// and only when, it is certain that nothing was. [ErrUnavailable] says that trying again later may help.
	Append(ctx context.Context, rs []Record) ([]Appended, error)

	// Tail calls deliver with all records after the position, in order and without a hole, those held first and then
	// each as it is appended, until ctx ends or deliver returns an error, and returns that error. The zero Position is
	// the log's beginning.
	//
	// deliver may block: that is backpressure, and Tail MUST NOT buffer without bound meanwhile. deliver MUST NOT keep
	// or change the slice; it may keep Data and Targets.
	//
	// Tail returns [ErrGap] when the next record is no longer held (or if after lies before what is held), and
	// [ErrEpoch] when the log is not the one it was; never a record out of order, and never silently skipping one.
	// After any other error, Tail may be called again with the last position that was delivered.
	Tail(ctx context.Context, after Position, deliver func([]Record) error) error

	// Read yields the records from the position from to the position to, both included, in order. Positions at which
	// there is no record are no error. It yields [ErrGap] as its last pair when a record of the range is no longer
	// held. The records may be kept.
	Read(ctx context.Context, from, to Position) iter.Seq2[Record, error]

	// State returns what the log holds now.
	State(ctx context.Context) (State, error)

	// Close releases what the broker holds. Calls under way and later ones return an error matching [ErrClosed].
	Close() error
}

var (
	// ErrGap is returned by a Broker when records that were asked for are no longer held.
	ErrGap = errors.New("the log no longer holds these records")
	// ErrEpoch is returned by a Broker when the log was lost or recreated since the call began.
	ErrEpoch = errors.New("the log was lost or recreated")
)

// Position is a place in the log: a pair, ordered by Hi, then Lo. What the two mean is the broker's business. The zero
// Position is before every record.
type Position struct{ Hi, Lo uint64 }

// Compare returns -1, 0 or 1 as p is before, at or after q.
func (p Position) Compare(q Position) int {
	if c := cmp.Compare(p.Hi, q.Hi); c != 0 {
		return c
	}
	return cmp.Compare(p.Lo, q.Lo)
}

// IsZero reports whether p is before every record.
func (p Position) IsZero() bool { return p == Position{} }

// Record is an event as the log holds it. All fields but Position and Time are the hub's, checked and encoded; a broker
// stores them and looks only at IdempotencyKey. Data, Targets and the strings never change.
type Record struct {
	Position Position  // set by the broker
	Time     time.Time // when it was appended, by the broker's clock; millisecond precision is enough

	Nonce   uint64   // random: tells two records apart that ever had the same position
	Type    string   // the event type
	Data    []byte   // as it stands in the data lines
	Targets []Target // any of these; nil is everyone
	Exclude Target   // zero is nobody

	TTL            time.Duration // zero is none
	CollapseKey    string        // empty is none
	IdempotencyKey string        // empty is none
}

// Digest returns a hash of the event in r, that is of all that a sender chose but the idempotency key: two records with
// the same key are the same send when their digests are equal.
func (r *Record) Digest() [sha256.Size]byte {
	h := sha256.New()
	hashString(h, r.Type)
	hashString(h, string(r.Data))
	hashString(h, r.CollapseKey)
	hashUint(h, uint64(r.TTL))
	hashTarget(h, r.Exclude)
	hashUint(h, uint64(len(r.Targets)))
	for _, t := range r.Targets {
		hashTarget(h, t)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

func hashTarget(h hash.Hash, t Target) {
	for _, c := range t.conditions() {
		hashString(h, c.value)
	}
}

// hashString writes the length first, so that ("a", "bc") and ("ab", "c") differ.
func hashString(h hash.Hash, s string) {
	hashUint(h, uint64(len(s)))
	h.Write([]byte(s))
}

func hashUint(h hash.Hash, n uint64) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n)
	h.Write(b[:])
}

// Appended is what became of one record.
type Appended struct {
	Outcome  Outcome
	Position Position // of the record; of the first one, for a Duplicate
	Nonce    uint64   // of the record at Position
}

// Outcome says what Append did with a record.
type Outcome uint8

const (
	// Stored: the record was appended.
	Stored Outcome = iota
	// Duplicate: a record with this idempotency key and this Digest was appended before; nothing was now.
	Duplicate
	// Conflict: a record with this idempotency key and another Digest was appended before; nothing was now.
	Conflict
)

// State is what a log holds. The records it holds are those after Floor, up to and including Last.
type State struct {
	// Epoch names the log: random, kept with it, another one after the log was lost or recreated. 1 to 32 letters and
	// digits.
	Epoch string
	// Floor is the position of the newest record that was dropped; zero while none was.
	Floor Position
	// Last is the position of the newest record; zero where there never was one.
	Last Position
	// Time is the log's clock now: the one that Record.Time is read from. TTLs are measured by it.
	Time time.Time
}
