package scenario

import (
	"context"
	"fmt"

	"github.com/tidings-sse/tidings/bench/internal/contender"
)

// Metrics of scale.
const (
	CPUSmall = "CPU per delivery, few streams"
	CPULarge = "CPU per delivery, many streams"
)

func scale() Scenario {
	const name = "scale"
	return Scenario{
		Name: name, Title: "CPU per delivery with many streams",
		about: func(s Scale) string {
			return fmt.Sprintf("The CPU time for each delivery with %d streams, and with %d at the same number of deliveries/s.", s.Connections, s.Large)
		},
		run: func(ctx context.Context, b *Bench) {
			b.rounds(ctx, name, func(c contender.Contender) int {
				if ours(c) {
					return b.Scale.Rounds
				}
				return 0
			}, func(ctx context.Context, r *round) error {
				few, err := r.paced(ctx, b.Scale.Connections, b.Scale.Rate)
				if err != nil {
					return err
				}
				r.add(CPUSmall, "us", few.cpuMicros)
				many, err := r.paced(ctx, b.Scale.Large, b.Scale.Rate*float64(b.Scale.Connections)/float64(b.Scale.Large))
				if err != nil {
					return err
				}
				r.add(CPULarge, "us", many.cpuMicros)
				return nil
			})
		},
	}
}
