package load

// A Report is what a run showed. Counts and times are since the client was made, or since the last [Client.Reset].
type Report struct {
	URL         string `json:"url"`
	Protocol    string `json:"protocol"`
	Connections int    `json:"connections"` // that were wanted

	Connected      int            `json:"connected"` // open at the end
	ConnectSeconds float64        `json:"connectSeconds"`
	ConnectErrors  map[string]int `json:"connectErrors"` // failed tries, by kind
	GivenUp        int            `json:"givenUp"`       // streams that could not be opened, or not again
	Refused        int            `json:"refused"`       // tidings.unavailable seen
	Reconnects     int            `json:"reconnects"`    // streams that came back
	Disconnects    int            `json:"disconnects"`   // streams that the server or the network ended

	DurationSeconds     float64 `json:"durationSeconds"`     // from the first delivery to the last
	Deliveries          int64   `json:"deliveries"`          // stamped events that arrived, over all streams
	DeliveriesPerSecond float64 `json:"deliveriesPerSecond"` // over DurationSeconds
	Unstamped           int64   `json:"unstamped"`           // events without a stamp, beside Tidings' own
	Stale               int64   `json:"stale"`               // stamped events of an earlier run, which the server kept; not checked
	Bytes               int64   `json:"bytes"`               // read, with heads and framing

	Latency      Latency        `json:"latency"`
	LatencyCurve []LatencyPoint `json:"latencyCurve"` // for a plot

	Lost       int64 `json:"lost"`       // never came, though the ledger or a later event says that they were sent
	Duplicated int64 `json:"duplicated"` // came more than once
	Reordered  int64 `json:"reordered"`  // came after a later one
	Gaps       int64 `json:"gaps"`       // tidings.gap seen: the server said that there is a loss

	Slow    *SlowReport    `json:"slow,omitempty"`
	Storms  []StormReport  `json:"storms,omitempty"`
	Publish *PublishReport `json:"publish,omitempty"` // the caller's to fill in

	Series []Second `json:"series"`
}

// Whole reports whether nothing was lost, duplicated or reordered.
func (r *Report) Whole() bool { return r.Lost == 0 && r.Duplicated == 0 && r.Reordered == 0 }

// Latency is a distribution of times in milliseconds, from when the schedule wanted an event sent to when it was read.
type Latency struct {
	Mean float64 `json:"meanMs"`
	P50  float64 `json:"p50Ms"`
	P90  float64 `json:"p90Ms"`
	P99  float64 `json:"p99Ms"`
	P999 float64 `json:"p99_9Ms"`
	Max  float64 `json:"maxMs"`
}

// A LatencyPoint says that Percentile percent of the deliveries took at most Ms milliseconds.
type LatencyPoint struct {
	Percentile float64 `json:"percentile"` // 0 to 100
	Ms         float64 `json:"ms"`
}

// A Second is what happened in one second of a run.
type Second struct {
	Second     int     `json:"second"` // since the start, or the last Reset
	Deliveries int64   `json:"deliveries"`
	P50        float64 `json:"p50Ms"` // 0 without deliveries
	P99        float64 `json:"p99Ms"`
	Connected  int     `json:"connected"` // at its end
}

// SlowReport is what became of slow streams.
type SlowReport struct {
	Connections int   `json:"connections"`
	Ended       int   `json:"ended"` // by the server
	Bytes       int64 `json:"bytes"` // read by them
}

// StormReport is how streams that were dropped at once came back.
type StormReport struct {
	Dropped        int     `json:"dropped"`
	Back           int     `json:"back"`
	AllBackMs      float64 `json:"allBackMs"`      // from the first drop to when the last was back; 0 if not all are
	P50BackMs      float64 `json:"p50BackMs"`      // the same, of half of them
	CaughtUpMs     float64 `json:"caughtUpMs"`     // until all had what was sent before the last was back; 0 without a ledger, or if they have not
	Gaps           int64   `json:"gaps"`           // tidings.gap seen meanwhile
	FailedAttempts int     `json:"failedAttempts"` // to come back
}

// PublishReport is what a publisher did.
type PublishReport struct {
	Scheduled   int64          `json:"scheduled"` // events that the schedule has, up to when it ended
	Sent        int64          `json:"sent"`      // that the server took
	PerSecond   float64        `json:"perSecond"` // sent, over the time that took
	Errors      map[string]int `json:"errors"`    // events that were not sent, or not known to be, by kind
	Requests    int64          `json:"requests"`
	LateP50Ms   float64        `json:"lateP50Ms"` // how long after its intended time an event was sent
	LateP99Ms   float64        `json:"lateP99Ms"`
	LateMaxMs   float64        `json:"lateMaxMs"`
	AnswerP50Ms float64        `json:"answerP50Ms"` // from a request to its answer
	AnswerP99Ms float64        `json:"answerP99Ms"`
	Seconds     float64        `json:"seconds"` // from the schedule's start to the last answer
	Unsent      int64          `json:"unsent"`  // scheduled, but the time was over
}

// A Snapshot is how things stand.
type Snapshot struct {
	Connected   int   // open now
	Connecting  int   // waiting for their response's head
	GivenUp     int   // could not be opened
	Failed      int   // tries that failed
	Deliveries  int64 // stamped events
	Unstamped   int64
	Bytes       int64
	Duplicated  int64
	Reordered   int64
	Missing     int64 // holes in what came; not final, a late event may fill one
	Gaps        int64
	Refused     int
	Reconnects  int
	Disconnects int
}
