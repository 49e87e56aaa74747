package load

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// series puts together what the shards measured in each second, and in all. It may be used concurrently.
type series struct {
	start  int64 // in nanoseconds since 1970
	shards int

	mu      sync.Mutex
	total   *hdrhistogram.Histogram
	pending []pending // in order; the first is of second len(done)
	done    []Second
}

// pending is a second that not all shards have ended.
type pending struct {
	Second
	shards    int
	latencies *hdrhistogram.Histogram
}

func newSeries(shards int) *series {
	return &series{start: time.Now().UnixNano(), shards: shards, total: newHistogram()}
}

func (s *series) secondOf(now int64) int64 { return (now - s.start) / int64(time.Second) }

// add takes a shard's second. A shard's seconds come in order, and none is left out.
func (s *series) add(second int64, latencies *hdrhistogram.Histogram, deliveries, connected int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total.Merge(latencies)
	at := int(second) - len(s.done)
	for len(s.pending) <= at {
		s.pending = append(s.pending, pending{Second: Second{Second: len(s.done) + len(s.pending)}, latencies: newHistogram()})
	}
	p := &s.pending[at]
	p.add(latencies, deliveries, connected)
	for len(s.pending) > 0 && s.pending[0].shards == s.shards {
		s.done = append(s.done, s.pending[0].line())
		s.pending = s.pending[1:]
	}
}

func (p *pending) add(latencies *hdrhistogram.Histogram, deliveries, connected int64) {
	p.latencies.Merge(latencies)
	p.Deliveries += deliveries
	p.Connected += int(connected)
	p.shards++
}

func (p *pending) line() Second {
	line := p.Second
	if line.Deliveries > 0 {
		line.P50 = ms(p.latencies.ValueAtPercentile(50))
		line.P99 = ms(p.latencies.ValueAtPercentile(99))
	}
	return line
}

// clone returns a series of its own with what there is so far.
func (s *series) clone() *series {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &series{start: s.start, shards: s.shards, total: newHistogram(), done: append([]Second{}, s.done...)}
	c.total.Merge(s.total)
	for _, p := range s.pending {
		h := newHistogram()
		h.Merge(p.latencies)
		p.latencies = h
		c.pending = append(c.pending, p)
	}
	return c
}

// ms is milliseconds of microseconds.
func ms(us int64) float64 { return float64(us) / 1000 }

// latencyOf sums up a histogram.
func latencyOf(h *hdrhistogram.Histogram) Latency {
	if h.TotalCount() == 0 {
		return Latency{}
	}
	return Latency{
		Mean: h.Mean() / 1000,
		P50:  ms(h.ValueAtPercentile(50)),
		P90:  ms(h.ValueAtPercentile(90)),
		P99:  ms(h.ValueAtPercentile(99)),
		P999: ms(h.ValueAtPercentile(99.9)),
		Max:  ms(h.Max()),
	}
}

// curveOf is a histogram for a plot: more and more closely towards 100 %, as far as the counts carry it.
func curveOf(h *hdrhistogram.Histogram) []LatencyPoint {
	points := []LatencyPoint{}
	if h.TotalCount() == 0 {
		return points
	}
	const steps = 10 // from one 9 to the next
	for left := 100.0; left/100*float64(h.TotalCount()) >= 1; left /= 10 {
		for i := range steps {
			p := 100 - left*(1-0.9*float64(i)/steps)
			points = append(points, LatencyPoint{Percentile: p, Ms: ms(max(h.ValueAtPercentile(p), h.Min()))})
		}
	}
	return append(points, LatencyPoint{Percentile: 100, Ms: ms(h.Max())})
}
