package engine

// Reason is why a stream ended.
type Reason string

// The reasons. Closed and Lost are the peer's doing, the others this side's.
const (
	Closed  Reason = "closed"  // the peer ended it in order
	Lost    Reason = "lost"    // the network ended it, or the peer vanished
	Slow    Reason = "slow"    // the peer didn't read, and its outbox was full, or a write took too long
	Drained Reason = "drained" // the hub is shutting down
	Expired Reason = "expired" // what allowed the stream has expired
	Kicked  Reason = "kicked"  // it was disconnected on purpose
	Gapped  Reason = "gap"     // events were lost for it, and its state must be fetched anew
	Stopped Reason = "stopped" // the hub was closed
)
