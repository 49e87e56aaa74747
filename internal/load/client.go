package load

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// A Client holds streams. Its methods may be called concurrently, but for Connect, which is called once.
type Client struct {
	cfg    Config
	server *url.URL // scheme, user and host
	target template // path and query

	request template     // HTTP/1.1's head, without what changes at each reconnect
	began   atomic.Int64 // when Connect was called, in nanoseconds since 1970: what was to be sent before is of another run
	tidings atomic.Bool  // tidings.connected has come on a stream

	mu        sync.Mutex // guards the fields below
	drivers   []driver
	series    *series
	took      time.Duration // by Connect
	storms    []StormReport
	storming  sync.Mutex // held during a storm
	closeOnce sync.Once
}

// A driver moves the bytes of a shard's streams.
type driver interface {
	// do runs f while nothing else uses the shard, also once the driver has ended.
	do(f func(*shard))
	// begin opens all streams. It does not wait for them.
	begin()
	// drop drops an open stream so that it comes back. It is called within do.
	drop(st *stream, how Storm)
	// abandon gives up a stream that was never open. It is called within do.
	abandon(st *stream)
	// snapshot returns the shard's counts of a moment ago.
	snapshot() tally
	// close ends all streams and waits for the driver's goroutines.
	close()
}

// New checks the configuration. Nothing is opened before Connect. The error is a [*ConfigError].
func New(cfg Config) (*Client, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg}
	server, target, err := parseURL(cfg.URL, varNumber, varUser, varTopic)
	if err != nil {
		return nil, &ConfigError{"URL", err.Error()}
	}
	c.server, c.target = server, streamTemplate(target)
	c.request = c.requestTemplate()
	return c, nil
}

// Connect opens all streams. It returns once each is open or given up, or with an error when ctx ends before; what is not
// open then is given up, and the other streams go on. A stream is open when its response's head has come, and at a Tidings server (which is known by it)
// when tidings.connected has. That some could not be opened is no error: Snapshot and Report say so.
func (c *Client) Connect(ctx context.Context) error {
	began := time.Now()
	c.began.Store(began.UnixNano())
	ds, err := c.newDrivers(ctx)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.drivers = ds
	c.mu.Unlock()
	for _, d := range ds {
		d.begin()
	}
	err = poll(ctx, func() bool {
		s := c.Snapshot()
		return s.Connected+s.GivenUp >= c.cfg.Connections
	})
	if err != nil {
		c.abandon(ds)
	}
	c.mu.Lock()
	c.took = time.Since(began)
	c.mu.Unlock()
	return err
}

// abandon gives up the streams that have not been open.
func (c *Client) abandon(ds []driver) {
	for _, d := range ds {
		d.do(func(s *shard) {
			for i := range s.streams {
				if st := &s.streams[i]; st.opens == 0 && st.phase != phaseOver {
					d.abandon(st)
				}
			}
			s.share()
		})
	}
}

// newDrivers shares the streams among drivers.
func (c *Client) newDrivers(ctx context.Context) ([]driver, error) {
	addr, err := c.resolve(ctx)
	if err != nil {
		return nil, err
	}
	loops := min(c.cfg.Loops, c.cfg.Connections)
	c.mu.Lock()
	c.series = newSeries(loops)
	c.mu.Unlock()
	ds := make([]driver, 0, loops)
	for i := range loops {
		var numbers []int32
		for n := i; n < c.cfg.Connections; n += loops {
			numbers = append(numbers, int32(n))
		}
		d, err := c.newDriver(newShard(c, numbers), addr)
		if err != nil {
			for _, d := range ds {
				d.close()
			}
			return nil, fmt.Errorf("an event loop can't be made: %w", err)
		}
		ds = append(ds, d)
	}
	return ds, nil
}

// poll waits until the condition holds. It is for what happens seldom, such as that all streams are open.
func poll(ctx context.Context, condition func() bool) error {
	const every = 2 * time.Millisecond
	t := time.NewTicker(every)
	defer t.Stop()
	for !condition() {
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// running returns the drivers.
func (c *Client) running() []driver {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.drivers
}

// Snapshot returns how things stand, without making the streams wait.
func (c *Client) Snapshot() Snapshot {
	t := c.total()
	return Snapshot{
		Connected: int(t.connected), Connecting: int(t.connecting), GivenUp: int(t.givenUp), Failed: int(t.failed),
		Deliveries: t.deliveries, Unstamped: t.unstamped, Bytes: t.bytes,
		Duplicated: t.duplicated, Reordered: t.reordered, Missing: t.missing, Gaps: t.gaps,
		Refused: int(t.refused), Reconnects: int(t.reconnects), Disconnects: int(t.disconnects),
	}
}

// total adds up the shards' counts of a moment ago.
func (c *Client) total() (sum tally) {
	for _, d := range c.running() {
		sum.add(d.snapshot())
	}
	return sum
}

// Reset begins the report anew: counts, latencies, series and storms. What each stream expects next stays, and what has
// not come until now is not missed later. Call it when nothing is on its way.
func (c *Client) Reset() {
	ds := c.running()
	fresh := newSeries(len(ds))
	c.mu.Lock()
	c.series, c.storms = fresh, nil
	c.mu.Unlock()
	for _, d := range ds {
		d.do(func(s *shard) { s.reset(fresh) })
	}
}

// WaitDeliveries waits until n stamped events have arrived since the last Reset, over all streams. The error is ctx's.
func (c *Client) WaitDeliveries(ctx context.Context, n int64) error {
	return poll(ctx, func() bool { return c.total().deliveries >= n })
}

// Missing returns how many of the ledger's events have not arrived. Streams that were never open, and those that don't
// read, miss nothing.
func (c *Client) Missing(l *Ledger) (n int64) {
	l = l.clone()
	for _, d := range c.running() {
		d.do(func(s *shard) { n += s.absent(l) })
	}
	return n
}

// Wait waits until nothing of what the ledger counts now is missing. The error is ctx's.
func (c *Client) Wait(ctx context.Context, l *Ledger) error {
	l = l.clone()
	pause := 2 * time.Millisecond
	const longestPause = 50 * time.Millisecond // looking is not free where there are many streams
	for c.Missing(l) > 0 {
		select {
		case <-time.After(pause):
			pause = min(pause*3/2, longestPause)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// atRest calls f while all shards are at rest.
func (c *Client) atRest(f func([]*shard)) {
	var shards []*shard
	resting, release := make(chan *shard), make(chan struct{})
	var wg sync.WaitGroup
	ds := c.running()
	for _, d := range ds {
		wg.Go(func() {
			d.do(func(s *shard) {
				resting <- s
				<-release
			})
		})
	}
	for range ds {
		shards = append(shards, <-resting)
	}
	f(shards)
	close(release)
	wg.Wait()
}

// Report returns what was measured, and counts as lost what the ledger has and streams have not. A nil ledger counts the
// holes in what came. The client goes on.
func (c *Client) Report(l *Ledger) *Report {
	if l != nil {
		l = l.clone()
	}
	var t tally
	kinds := map[string]int{}
	c.mu.Lock()
	from := c.series
	r := &Report{
		URL: c.cfg.URL, Protocol: string(c.cfg.Protocol), Connections: c.cfg.Connections,
		ConnectSeconds: c.took.Seconds(), Storms: append([]StormReport(nil), c.storms...),
	}
	c.mu.Unlock()
	if from == nil { // before Connect
		from = newSeries(1)
	}
	c.atRest(func(shards []*shard) {
		now := time.Now().UnixNano()
		for _, s := range shards {
			s.tick(now)
		}
		from = from.clone()
		for _, s := range shards {
			s.record()
			from.add(s.second, s.within, s.deliveries-s.before, s.connected)
			s.missing = s.lanes.missing
			t.add(s.tally)
			for kind, n := range s.errors {
				kinds[kind] += n
			}
			if l != nil {
				r.Lost += s.absent(l)
			} else {
				r.Lost += s.missing
			}
		}
	})
	r.count(t, kinds)
	r.Latency, r.LatencyCurve, r.Series = latencyOf(from.total), curveOf(from.total), from.done
	if n := c.cfg.Slow.Connections; n > 0 {
		r.Slow = &SlowReport{Connections: n, Ended: int(t.slowEnded), Bytes: t.slowBytes}
		if c.cfg.Slow.BytesPerSecond == 0 {
			r.GivenUp -= r.Slow.Ended // they were not to come back
		}
	}
	return r
}

// count fills in the counts.
func (r *Report) count(t tally, kinds map[string]int) {
	r.Connected, r.ConnectErrors, r.GivenUp = int(t.connected), maps.Clone(kinds), int(t.givenUp)
	r.Refused, r.Reconnects, r.Disconnects = int(t.refused), int(t.reconnects), int(t.disconnects)
	r.Deliveries, r.Unstamped, r.Stale, r.Bytes = t.deliveries, t.unstamped, t.stale, t.bytes
	r.Duplicated, r.Reordered, r.Gaps = t.duplicated, t.reordered, t.gaps
	if t.last > t.first {
		r.DurationSeconds = time.Duration(t.last - t.first).Seconds()
		r.DeliveriesPerSecond = float64(t.deliveries) / r.DurationSeconds
	}
}

// add adds the counts of another shard.
func (t *tally) add(o tally) {
	if o.first > 0 && (t.first == 0 || o.first < t.first) {
		t.first = o.first
	}
	t.last = max(t.last, o.last)
	t.connected += o.connected
	t.connecting += o.connecting
	t.givenUp += o.givenUp
	t.failed += o.failed
	t.refused += o.refused
	t.reconnects += o.reconnects
	t.disconnects += o.disconnects
	t.deliveries += o.deliveries
	t.unstamped += o.unstamped
	t.stale += o.stale
	t.bytes += o.bytes
	t.duplicated += o.duplicated
	t.reordered += o.reordered
	t.gaps += o.gaps
	t.missing += o.missing
	t.slowEnded += o.slowEnded
	t.slowBytes += o.slowBytes
}

// Close ends all streams, those of event loops with a reset, and returns when nothing of the client runs any more.
func (c *Client) Close() error {
	c.closeOnce.Do(func() {
		for _, d := range c.running() {
			d.close()
		}
	})
	return nil
}

// portable reports whether net/http must hold the streams.
func (c *Client) portable() bool {
	return c.cfg.Portable || c.cfg.Protocol != HTTP1 || c.server.Scheme != "http" || runtime.GOOS != "linux"
}
