package scenario

import (
	"context"
	"fmt"

	"github.com/tidings-sse/tidings/bench/internal/contender"
	"github.com/tidings-sse/tidings/bench/internal/control"
	"github.com/tidings-sse/tidings/bench/internal/report"
	"github.com/tidings-sse/tidings/internal/load"
)

// Metrics of paced, and of others.
const (
	CPU  = "CPU per delivery"
	P50  = "p50"
	P99  = "p99"
	P999 = "p99.9"
	Lost = "lost"
)

func paced() Scenario {
	const name = "paced"
	return Scenario{
		Name: name, Title: "CPU per delivery and latency at a paced rate",
		about: func(s Scale) string {
			return fmt.Sprintf("%d streams, %g broadcasts/s for %v: %.0f deliveries/s. The server's CPU time over the deliveries; latencies from when an event was due until a client has read it.",
				s.Connections, s.Rate, s.Paced, float64(s.Connections)*s.Rate)
		},
		run: func(ctx context.Context, b *Bench) {
			b.rounds(ctx, name, func(c contender.Contender) int {
				if c.Name == contender.TidingsServe {
					return 0 // it is published to all at once
				}
				return b.Scale.roundsOf(c, b.Scale.PeerRounds)
			}, func(ctx context.Context, r *round) error {
				got, err := r.paced(ctx, b.Scale.Connections, b.Scale.Rate)
				if err != nil {
					return err
				}
				r.add(CPU, "us", got.cpuMicros)
				r.add(P50, "ms", got.Latency.P50)
				r.add(P99, "ms", got.Latency.P99)
				r.add(P999, "ms", got.Latency.P999)
				r.add(Lost, "events", float64(got.Lost))
				if r.n == 0 {
					b.Results.Curves[r.contender.Name] = curve(got.LatencyCurve)
				}
				return nil
			})
		},
	}
}

func curve(points []load.LatencyPoint) report.Curve {
	var c report.Curve
	for _, p := range points {
		c = append(c, report.CurvePoint{Percentile: p.Percentile, Ms: p.Ms})
	}
	return c
}

// measured is what a paced load showed.
type measured struct {
	*load.Report
	cpuMicros float64 // for each delivery
}

// paced opens streams and sends them broadcasts at a rate.
func (r *round) paced(ctx context.Context, connections int, rate float64) (measured, error) {
	s, err := r.open(ctx, contender.Options{}, load.Config{Connections: connections})
	if err != nil {
		return measured{}, err
	}
	defer s.end()
	if err := s.warm(ctx); err != nil {
		return measured{}, err
	}
	return s.paced(ctx, control.Publish{Kind: control.Broadcast, Count: max(1, int(rate*r.Scale.Paced.Seconds())), Rate: rate})
}

// paced has a command carried out, waits for all deliveries, and returns what that cost.
func (s *session) paced(ctx context.Context, c control.Publish) (measured, error) {
	before, err := s.cpu()
	if err != nil {
		return measured{}, err
	}
	_, ledger, err := s.publish(ctx, c)
	if err != nil {
		return measured{}, err
	}
	if err := s.wait(ctx, ledger); err != nil {
		return measured{}, err
	}
	after, err := s.cpu()
	if err != nil {
		return measured{}, err
	}
	got := measured{Report: s.Report(ledger)}
	got.cpuMicros = float64((after - before).Microseconds()) / float64(max(got.Deliveries, 1))
	return got, nil
}
