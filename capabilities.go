package tidings

import (
	"context"
	"iter"
)

// What a [Broker] may have beside its contract. A hub uses what is there.

// Peers is a broker through which the hubs of a deployment can ask each other things.
type Peers interface {
	// Ask sends the question to all other hubs and returns what they answer, in no order, and how many others there are,
	// as far as it is known. It returns when all of these have answered, or ctx ends, which is no error.
	Ask(ctx context.Context, question []byte) (answers [][]byte, others int, err error)
	// Answer has f answer what other hubs ask, until it is called again; nil answers nothing. f may be called
	// concurrently.
	Answer(f func(question []byte) []byte)
}

// Salvager is a broker that can still read some of what it doesn't hold any more: records that are whole, before a place where
// others are missing or may be. Nobody is resumed with them, but refusals among them are still to be obeyed.
type Salvager interface {
	// Salvage yields those up to State's Floor, in order. Where there are none, it yields nothing. An error is the last of
	// what it yields, and it is then called again. It MUST return soon after ctx has ended.
	Salvage(ctx context.Context) iter.Seq2[Record, error]
}

// Monitor is a broker that counts what it does.
type Monitor interface {
	// LogStats returns the counts as they are now.
	LogStats() LogStats
}

// LogStats are counts of a broker since it was opened, but for those that say "now".
type LogStats struct {
	Behind      uint64 `json:"behind"` // messages of the log that this node has not read yet, now
	Reconnects  uint64 `json:"reconnects"`
	Disconnects uint64 `json:"disconnects"`
	Restarts    uint64 `json:"restarts"` // of following the log, after trouble

	Appends  uint64 `json:"appends"`  // calls, each with the events that were sent meanwhile
	Events   uint64 `json:"events"`   // of those that succeeded
	Messages uint64 `json:"messages"` // the same, as the log's storage counts them
	Failed   uint64 `json:"failed"`   // calls after which nothing was stored
	Unknown  uint64 `json:"unknown"`  // calls after which it is not known what was

	// How long appends took, in milliseconds, rounded up to a power of two of microseconds.
	AppendP50Ms float64 `json:"appendP50Ms"`
	AppendP99Ms float64 `json:"appendP99Ms"`
	AppendMaxMs float64 `json:"appendMaxMs"`
}
