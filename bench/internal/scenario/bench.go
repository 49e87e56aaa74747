// Package scenario has what is measured. Each scenario starts the servers it compares one after another, round by round, so
// that what changes on the machine meanwhile hits all of them.
package scenario

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/tidings-sse/tidings/bench/internal/contender"
	"github.com/tidings-sse/tidings/bench/internal/report"
)

// A Bench is one run.
type Bench struct {
	Contenders []contender.Contender
	Scale      Scale
	Results    *report.Results
	Progress   io.Writer
}

// A Scenario is something to measure.
type Scenario struct {
	Name  string
	Title string
	about func(Scale) string
	run   func(context.Context, *Bench)
}

// All returns the scenarios, in the order in which they are run. What holds the most memory comes last.
func All() []Scenario {
	return []Scenario{idle(), paced(), burst(), unicast(), mixed(), storm(), scale(), stalled(), flood()}
}

// Names returns their names.
func Names() []string {
	var names []string
	for _, s := range All() {
		names = append(names, s.Name)
	}
	return names
}

// Run runs the scenarios with these names, or all if there are none. What a contender could not do is in the results. The
// error is that of the context, or of a name.
func (b *Bench) Run(ctx context.Context, only ...string) error {
	for _, name := range only {
		if !slices.Contains(Names(), name) {
			return fmt.Errorf("there is no scenario %q: choose from %q", name, Names())
		}
	}
	start := time.Now()
	for _, s := range All() {
		if len(only) > 0 && !slices.Contains(only, s.Name) {
			continue
		}
		b.Results.Scenarios = append(b.Results.Scenarios, report.Scenario{Name: s.Name, Title: s.Title, About: s.about(b.Scale)})
		b.say("%s: %s", s.Name, s.Title)
		s.run(ctx, b)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	b.Results.Seconds = time.Since(start).Seconds()
	return nil
}

// say writes a line of progress.
func (b *Bench) say(format string, args ...any) {
	fmt.Fprintf(b.Progress, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

// A round is one contender's turn.
type round struct {
	*Bench
	scenario  string
	contender contender.Contender
	n         int
}

// add adds a value of this round.
func (r *round) add(metric, unit string, value float64) {
	r.Results.Add(r.scenario, r.contender.Name, metric, unit, r.n, value)
}

// roundWithin bounds a contender's turn.
const roundWithin = 2 * time.Minute

// rounds has each contender run its rounds, in turn: the first of each, the second of each, and so on. One that fails has
// no further turn.
func (b *Bench) rounds(ctx context.Context, scenario string, who func(contender.Contender) (rounds int), run func(context.Context, *round) error) {
	most := 0
	for _, c := range b.Contenders {
		most = max(most, who(c))
	}
	failed := map[string]bool{}
	for n := range most {
		for _, c := range b.Contenders {
			if n >= who(c) || failed[c.Name] || ctx.Err() != nil {
				continue
			}
			b.say("  %s, round %d of %d: %s", scenario, n+1, who(c), c.Name)
			within, cancel := context.WithTimeoutCause(ctx, roundWithin, fmt.Errorf("it took longer than %v", roundWithin))
			err := run(within, &round{Bench: b, scenario: scenario, contender: c, n: n})
			cancel()
			if err != nil && ctx.Err() == nil {
				failed[c.Name] = true
				b.Results.Failures = append(b.Results.Failures, report.Failure{Scenario: scenario, Contender: c.Name, Error: strings.Join(strings.Fields(err.Error()), " ")})
				b.say("  FAILED: %v", err)
			}
		}
	}
}

// ours reports whether a contender is Tidings or the floor, which are compared most closely.
func ours(c contender.Contender) bool {
	return c.Name == contender.Tidings || c.Name == contender.Floor
}

// roundsOf returns the rounds of a contender, where peers have so many.
func (s Scale) roundsOf(c contender.Contender, peers int) int {
	if ours(c) || c.Name == contender.TidingsServe {
		return s.Rounds
	}
	return peers
}
