package scenario

import (
	"context"
	"fmt"

	"github.com/tidings-sse/tidings/bench/internal/contender"
	"github.com/tidings-sse/tidings/bench/internal/control"
	"github.com/tidings-sse/tidings/bench/internal/servers"
	"github.com/tidings-sse/tidings/internal/load"
)

// broadcastsBeside is how many broadcasts a second go out while unicasts are measured.
const broadcastsBeside = 5

func mixed() Scenario {
	const name = "mixed"
	return Scenario{
		Name: name, Title: "events for one user while broadcasts go out",
		about: func(s Scale) string {
			return fmt.Sprintf("%d streams; %d broadcasts/s to all of them, and meanwhile %g events/s for random users for %v: the latency of the latter.", s.Many, broadcastsBeside, s.MixedRate, s.Mixed)
		},
		run: func(ctx context.Context, b *Bench) {
			b.rounds(ctx, name, func(c contender.Contender) int {
				if !c.WithBroadcasts || c.Name == contender.TidingsServe {
					return 0
				}
				return b.Scale.roundsOf(c, b.Scale.FewRounds)
			}, mixedRound)
		},
	}
}

func mixedRound(ctx context.Context, r *round) error {
	s, err := r.open(ctx, contender.Options{Options: servers.Options{Unicast: true}}, load.Config{Connections: r.Scale.Many})
	if err != nil {
		return err
	}
	defer s.end()
	if err := s.warm(ctx); err != nil {
		return err
	}
	got, err := s.paced(ctx, control.Publish{
		Kind: control.Unicast, Count: int(r.Scale.MixedRate * r.Scale.Mixed.Seconds()), Rate: r.Scale.MixedRate,
		Users: r.Scale.Many, Beside: broadcastsBeside,
	})
	if err != nil {
		return err
	}
	r.add(P50, "ms", got.Latency.P50)
	r.add(P99, "ms", got.Latency.P99)
	r.add(Lost, "events", float64(got.Lost))
	return nil
}
