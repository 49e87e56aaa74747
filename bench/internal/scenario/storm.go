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

// Metrics of storm.
const (
	AllBack    = "all back"
	Duplicated = "twice"
	Gaps       = "gaps told"
)

// While the storm is on, so many broadcasts are sent at this rate.
const (
	stormRate    = 4.0
	stormEvents  = 8
	stormStartIn = 600 * time.Millisecond // after the first of them
)

func storm() Scenario {
	const name = "storm"
	return Scenario{
		Name: name, Title: "all streams drop and resume at once",
		about: func(s Scale) string {
			return fmt.Sprintf("%d streams are reset at once and come back at once with their Last-Event-ID, while %d broadcasts are sent at %g/s: the time until the last stream is open again, and what was lost or came twice.", s.Many, stormEvents, stormRate)
		},
		run: func(ctx context.Context, b *Bench) {
			b.rounds(ctx, name, func(c contender.Contender) int {
				if !c.Resumes || c.Name == contender.TidingsServe {
					return 0
				}
				return b.Scale.roundsOf(c, b.Scale.FewRounds)
			}, stormRound)
		},
	}
}

func stormRound(ctx context.Context, r *round) error {
	s, err := r.open(ctx, contender.Options{Options: servers.Options{Resume: true}}, load.Config{Connections: r.Scale.Many, ConnectAtOnce: 4096})
	if err != nil {
		return err
	}
	defer s.end()
	if err := s.warm(ctx); err != nil {
		return err
	}
	published := make(chan error, 1)
	var ledger *load.Ledger
	go func() {
		var err error
		_, ledger, err = s.publish(ctx, control.Publish{Kind: control.Broadcast, Count: stormEvents, Rate: stormRate})
		published <- err
	}()
	err = pause(ctx, stormStartIn)
	var back load.StormReport
	if err == nil {
		within, cancel := context.WithTimeoutCause(ctx, 30*time.Second, fmt.Errorf("not all streams were back after 30 s"))
		back, err = s.Storm(within, load.Storm{Share: 1, Reset: true}, nil)
		cancel()
	}
	if failed := <-published; err == nil {
		err = failed
	}
	if err != nil {
		return err
	}
	// What is lost for good never comes: then the wait ends, and the report says how much it was.
	within, cancel := context.WithTimeout(ctx, 10*time.Second)
	_ = s.Wait(within, ledger)
	cancel()
	got := s.Report(ledger)
	r.add(AllBack, "ms", back.AllBackMs)
	r.add(Lost, "events", float64(got.Lost))
	r.add(Duplicated, "events", float64(got.Duplicated))
	r.add(Gaps, "streams", float64(got.Gaps))
	return ctx.Err()
}
