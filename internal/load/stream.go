package load

// stream is one stream, across its reconnects. Its shard's lock, or the goroutine that is the shard's loop, guards it.
type stream struct {
	parser
	index  int32 // within the shard
	number int32 // in templates
	phase  phase
	pace   pace

	opens    int32 // how often it was opened
	hello    bool  // tidings.connected has come, on this connection
	refused  bool  // tidings.unavailable has come, on this connection
	storming bool  // dropped by a storm, and not back yet
	attempts uint8 // that failed since it was open

	socket // the event loop's
}

// phase is where a stream stands.
type phase uint8

const (
	phaseIdle    phase = iota // not begun
	phaseWaiting              // for its turn or its time to open
	phaseDialing              // the connection is being made
	phaseHead                 // the request was sent
	phaseOpen
	phaseOver // given up, or left as it ended
)

// pace is how a stream reads.
type pace uint8

const (
	paceFull pace = iota
	paceSlow      // so many bytes a second
	paceStop      // not at all once it is open
)

// isSlow reports whether stream n of all is one of the slow ones, which are spread evenly.
func isSlow(n, slow, all int) bool {
	return slow > 0 && int64(n+1)*int64(slow)/int64(all) != int64(n)*int64(slow)/int64(all)
}
