package scenario

import (
	"context"
	"fmt"
	"time"

	"github.com/tidings-sse/tidings/bench/internal/contender"
	"github.com/tidings-sse/tidings/bench/internal/control"
	"github.com/tidings-sse/tidings/internal/load"
)

// Metrics of burst, unicast and flood.
const (
	Deliveries      = "deliveries"
	DeliveriesAlone = "deliveries, one publisher"
	Disconnected    = "streams ended"
)

func burst() Scenario {
	const name = "burst"
	return Scenario{
		Name: name, Title: "a burst of broadcasts",
		about: func(s Scale) string {
			return fmt.Sprintf("%d broadcasts to %d streams, as fast as the server takes them in its process, or over HTTP where that is said, from as many goroutines as it is fastest with (8 for Tidings; %q is from one). Deliveries over the time from the first call to the last delivery.", s.Burst, s.Connections, DeliveriesAlone)
		},
		run: func(ctx context.Context, b *Bench) {
			b.rounds(ctx, name, func(c contender.Contender) int { return b.Scale.roundsOf(c, b.Scale.PeerRounds) }, func(ctx context.Context, r *round) error {
				err := r.burst(ctx, Deliveries, b.Scale.Burst, r.contender.Publishers)
				if err == nil && r.contender.Name == contender.Tidings {
					err = r.burst(ctx, DeliveriesAlone, b.Scale.Burst, 1)
				}
				return err
			})
		},
	}
}

func flood() Scenario {
	const name = "flood"
	return Scenario{
		Name: name, Title: "more broadcasts than any queue holds",
		about: func(s Scale) string {
			return fmt.Sprintf("%d broadcasts in the server's process at full speed to %d streams that read: what is lost, and how many streams are ended.", s.Flood, s.Connections)
		},
		run: func(ctx context.Context, b *Bench) {
			b.rounds(ctx, name, func(c contender.Contender) int {
				if c.Name == contender.Tidings {
					return b.Scale.Rounds
				}
				return 0 // minutes each
			}, func(ctx context.Context, r *round) error {
				return r.burst(ctx, Deliveries, b.Scale.Flood, r.contender.Publishers)
			})
		},
	}
}

func (r *round) burst(ctx context.Context, metric string, broadcasts, publishers int) error {
	s, err := r.open(ctx, contender.Options{}, load.Config{Connections: r.Scale.Connections, NoReconnect: true})
	if err != nil {
		return err
	}
	defer s.end()
	if err := s.warm(ctx); err != nil {
		return err
	}
	done, ledger, err := s.publish(ctx, control.Publish{Kind: control.Broadcast, Count: broadcasts, Publishers: publishers})
	if err != nil {
		return err
	}
	err = s.wait(ctx, ledger)
	took := time.Since(done.Start)
	got := s.Report(ledger)
	r.add(Lost, "events", float64(got.Lost))
	r.add(Disconnected, "streams", float64(got.Disconnects))
	if err != nil {
		return err
	}
	r.add(metric, "/s", float64(got.Deliveries)/took.Seconds())
	return nil
}
