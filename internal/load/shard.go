package load

import (
	"io"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// shard keeps the accounts of a part of the streams. One goroutine at a time uses it: an event loop, or who holds the
// portable client's lock. Only shared is for everybody.
type shard struct {
	client  *Client
	streams []stream
	lanes   *lanes
	storm   *storm // under way, or nil

	tally                          // since the last reset
	errors map[string]int          // failed tries, by kind
	series *series                 // where seconds go that are over
	second int64                   // the one under way
	before int64                   // deliveries when it began
	within *hdrhistogram.Histogram // latencies in it, in microseconds

	now       int64 // when what is being read was there to be read, in nanoseconds since 1970
	reading   *stream
	badHead   *failure
	latency   int64 // of the last deliveries, in microseconds, which are not in the histogram yet
	latencies int64 // how many they are

	mu     sync.Mutex // guards shared
	shared tally
}

// tally is what is counted.
type tally struct {
	connected, connecting, givenUp int64
	failed, refused                int64
	reconnects, disconnects        int64
	deliveries, unstamped, bytes   int64
	stale                          int64
	duplicated, reordered, gaps    int64
	missing                        int64 // holes, brought up to date by share
	slowEnded, slowBytes           int64
	first, last                    int64 // when the first and the last delivery were read, in nanoseconds since 1970
}

// reset begins the counts anew. How many streams are in which phase stays.
func (t *tally) reset() {
	*t = tally{connected: t.connected, connecting: t.connecting, givenUp: t.givenUp}
}

// The histograms' range, in microseconds, and precision, in digits. What takes longer counts as the longest.
const (
	longest   = int64(10 * time.Minute / time.Microsecond)
	precision = 3
)

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, longest, precision) }

func newShard(c *Client, numbers []int32) *shard {
	s := &shard{
		client: c, streams: make([]stream, len(numbers)), lanes: newLanes(len(numbers), c.cfg.FromFirst),
		errors: map[string]int{}, within: newHistogram(), series: c.series,
	}
	for i := range s.streams {
		st := &s.streams[i]
		st.index, st.number, st.retry = int32(i), numbers[i], -1
		if isSlow(int(numbers[i]), c.cfg.Slow.Connections, c.cfg.Connections) {
			if st.pace = paceSlow; c.cfg.Slow.BytesPerSecond == 0 {
				st.pace = paceStop
			}
		}
	}
	return s
}

// share lets others see the counts.
func (s *shard) share() {
	s.missing = s.lanes.missing
	s.mu.Lock()
	s.shared = s.tally
	s.mu.Unlock()
}

// snapshot returns the counts that were shared last. Anyone may call it.
func (s *shard) snapshot() tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shared
}

// retryOf returns how long a stream waits before it comes back.
func (s *shard) retryOf(st *stream) time.Duration {
	if st.retry >= 0 {
		return time.Duration(st.retry) * time.Millisecond
	}
	return s.client.cfg.Retry
}

// began counts a try to open a stream.
func (s *shard) began(st *stream) {
	st.restart()
	st.hello, st.refused = false, false
	st.phase = phaseDialing
	s.connecting++
}

// read takes bytes of a stream: of the response, or after bodyOnly of its body. The error ends the connection: io.EOF where
// the response has come to its end, else a failure.
func (s *shard) read(st *stream, b []byte) error {
	s.bytes += int64(len(b))
	if st.pace != paceFull {
		s.slowBytes += int64(len(b))
	}
	s.reading, s.badHead = st, nil
	if err := st.feed(b, s); err != nil {
		return failure{"bad response: " + err.Error(), true}
	}
	if s.badHead != nil {
		return *s.badHead
	}
	switch {
	case st.refused && st.phase == phaseOpen: // it was not open after all
		s.connected--
		s.connecting++
		if st.opens > 1 {
			s.reconnects--
		}
		st.opens--
		st.phase = phaseHead
	case st.phase == phaseHead && st.state >= inChunkSize && !st.refused && (st.hello || !s.client.tidings.Load()):
		s.open(st)
	}
	if st.ended() {
		return io.EOF
	}
	return nil
}

// open counts a stream as open.
func (s *shard) open(st *stream) {
	s.connecting--
	s.connected++
	if st.opens++; st.opens > 1 {
		s.reconnects++
	}
	st.phase = phaseOpen
	if st.storming {
		st.storming = false
		s.storm.cameBack(s.now)
	}
}

// head takes a response's head.
func (s *shard) head(h head) {
	switch {
	case h.status != 200:
		s.badHead = statusFailure(h.status)
	case !h.stream:
		s.badHead = &failure{"not an event stream", true}
	case h.encoding:
		s.badHead = &failure{"compressed", true}
	}
}

// event takes an event.
func (s *shard) event(k kind, stamp Stamp, stamped bool) {
	st := s.reading
	switch k {
	case kindConnected:
		st.hello = true
		s.client.tidings.Store(true)
		return
	case kindUnavailable:
		st.refused = true
		s.client.tidings.Store(true)
		s.refused++
		return
	case kindGap:
		s.gaps++
		return
	case kindOther:
		return
	}
	if !stamped {
		s.unstamped++
		return
	}
	if stamp.Intended < s.client.began.Load() {
		s.stale++
		return
	}
	if s.deliveries == 0 {
		s.first = s.now
	}
	s.deliveries++
	s.last = s.now
	switch s.lanes.see(int(st.index), stamp) {
	case late:
		s.reordered++
	case duplicated:
		s.duplicated++
	}
	if st.pace != paceFull {
		return // how late it is says nothing of the server
	}
	if us := (s.now - stamp.Intended) / int64(time.Microsecond); us != s.latency {
		s.record()
		s.latency = us
	}
	s.latencies++
}

// record puts the last latencies into the histogram.
func (s *shard) record() {
	if s.latencies > 0 {
		_ = s.within.RecordValues(min(max(s.latency, 1), longest), s.latencies)
		s.latencies = 0
	}
}

// tick ends the second under way if it is over.
func (s *shard) tick(now int64) {
	second := s.series.secondOf(now)
	for ; s.second < second; s.second++ {
		s.record()
		s.series.add(s.second, s.within, s.deliveries-s.before, s.connected)
		s.before = s.deliveries
		s.within.Reset()
	}
}

// reset begins the accounts anew.
func (s *shard) reset(to *series) {
	s.tally.reset()
	s.within.Reset()
	s.lanes.forget()
	clear(s.errors)
	s.series, s.second, s.before, s.latencies = to, 0, 0, 0
	s.share()
}

// ended counts a connection that has ended, or a try that has failed, and says whether the stream tries again, and after
// which time.
func (s *shard) ended(st *stream, err error) (wait time.Duration, again bool) {
	const firstPause = 200 * time.Millisecond
	retry := s.retryOf(st)
	if st.phase == phaseOpen {
		s.connected--
		s.disconnects++
		st.attempts = 0
		if st.pace != paceFull {
			s.slowEnded++
		}
		again, wait = !s.client.cfg.NoReconnect && st.pace != paceStop, retry
	} else {
		s.connecting--
		f := failureOf(err)
		if st.refused {
			f = failure{"unavailable", false}
		}
		s.failed++
		s.errors[f.kind]++
		st.attempts++
		if st.storming {
			s.storm.failed++
		}
		again = !f.final && int(st.attempts) < s.client.cfg.ConnectAttempts
		if wait = retry; st.opens == 0 && !st.refused {
			wait = min(firstPause<<st.attempts, retry)
		}
	}
	if st.phase = phaseWaiting; !again {
		s.giveUp(st)
	}
	return wait, again
}

func (s *shard) giveUp(st *stream) {
	s.givenUp++
	st.phase = phaseOver
	if st.storming {
		st.storming = false
		s.storm.givenUp++
	}
}

// dropped counts a stream that the client itself has dropped, to come back.
func (s *shard) dropped(st *stream) {
	s.connected--
	st.phase, st.attempts = phaseWaiting, 0
	st.storming = true
	s.storm.dropped++
}

// member returns the number of a stream's target in each class.
func (s *shard) member(st *stream) (m [classes]int) {
	n := int(st.number)
	m[ToClient], m[ToUser], m[ToTopic] = n, n%s.client.cfg.Users, n%s.client.cfg.Topics
	return m
}

// absent returns how many of a ledger's events have not arrived at the streams. Those are left out that were given up before
// they were open, and those that don't read.
func (s *shard) absent(l *Ledger) (n int64) {
	for i := range s.streams {
		if st := &s.streams[i]; st.opens > 0 && st.pace != paceStop {
			n += s.lanes.absent(i, l, s.member(st), st.pace == paceSlow)
		}
	}
	return n
}
