package scenario

import (
	"context"
	"fmt"
	"time"

	"github.com/tidings-sse/tidings/bench/internal/contender"
	"github.com/tidings-sse/tidings/bench/internal/control"
	"github.com/tidings-sse/tidings/bench/internal/servers"
	"github.com/tidings-sse/tidings/internal/load"
)

// unicastPublishers is how many goroutines publish at a time.
const unicastPublishers = 8

func unicast() Scenario {
	const name = "unicast"
	return Scenario{
		Name: name, Title: "events for one user each",
		about: func(s Scale) string {
			return fmt.Sprintf("%d streams, each of another user; %d publishers in the server's process send to random users as fast as they can, for about %v and %d events at most, after as much to warm up. Deliveries over the time from the first call to the last delivery.", s.Many, unicastPublishers, s.Enough, s.Unicasts)
		},
		run: func(ctx context.Context, b *Bench) {
			b.rounds(ctx, name, func(c contender.Contender) int {
				if !c.Targets || c.Name == contender.TidingsServe {
					return 0
				}
				return b.Scale.roundsOf(c, b.Scale.FewRounds)
			}, unicastRound)
		},
	}
}

// probe is how many events are sent first, to learn how many are enough.
const probe = 1000

func unicastRound(ctx context.Context, r *round) error {
	s, err := r.open(ctx, contender.Options{Options: servers.Options{Unicast: true}}, load.Config{Connections: r.Scale.Many})
	if err != nil {
		return err
	}
	defer s.end()
	if err := pause(ctx, 500*time.Millisecond); err != nil { // a stream may be open before it is registered
		return err
	}
	send := func(count int) (*load.Report, float64, error) {
		s.Reset()
		done, ledger, err := s.publish(ctx, control.Publish{Kind: control.Unicast, Count: count, Publishers: unicastPublishers, Users: r.Scale.Many})
		if err == nil {
			err = s.wait(ctx, ledger)
		}
		if err != nil {
			return nil, 0, err
		}
		rate := float64(count) / time.Since(done.Start).Seconds()
		return s.Report(ledger), rate, nil
	}
	enough := func(rate float64) int {
		return min(r.Scale.Unicasts, max(probe, int(rate*r.Scale.Enough.Seconds())))
	}
	_, rate, err := send(probe)
	if err == nil {
		_, rate, err = send(enough(rate)) // meanwhile its memory grows to what it needs
	}
	if err != nil {
		return err
	}
	got, rate, err := send(enough(rate))
	if err != nil {
		return err
	}
	r.add(Deliveries, "/s", rate)
	r.add(Lost, "events", float64(got.Lost))
	return nil
}
