package main

import (
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tidings-sse/tidings/internal/load"
	"github.com/tidings-sse/tidings/internal/plot"
)

// printReport prints a report for people.
func printReport(w io.Writer, r *load.Report) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-11s"+format+"\n", append([]any{name}, args...)...)
	}
	line("Streams", "%s of %s open at the end; opening took %s; over %s", thousands(r.Connected), thousands(r.Connections), seconds(r.ConnectSeconds), r.Protocol)
	if p := r.Publish; p != nil {
		line("Published", "%s of %s events in %s: %s/s, in %s requests", thousands(p.Sent), thousands(p.Scheduled), seconds(p.Seconds), plot.Format(p.PerSecond), thousands(p.Requests))
		line("", "late: p50 %s, p99 %s, max %s; answered in: p50 %s, p99 %s", millis(p.LateP50Ms), millis(p.LateP99Ms), millis(p.LateMaxMs), millis(p.AnswerP50Ms), millis(p.AnswerP99Ms))
		if p.Unsent > 0 {
			line("", "%s were due but not sent: the server did not keep up with --rate", thousands(p.Unsent))
		}
		if len(p.Errors) > 0 {
			line("", "errors: %s", kindsOf(p.Errors))
		}
	}
	line("Delivered", "%s events in %s: %s/s, %s", thousands(r.Deliveries), seconds(r.DurationSeconds), plot.Format(r.DeliveriesPerSecond), byteSize(r.Bytes))
	if r.Unstamped > 0 {
		line("", "%s more events without a stamp, which can't be checked", thousands(r.Unstamped))
	}
	if r.Stale > 0 {
		line("", "%s more of an earlier run, which the server had kept", thousands(r.Stale))
	}
	if l := r.Latency; r.Deliveries > 0 {
		line("Latency", "p50 %s, p90 %s, p99 %s, p99.9 %s, max %s", millis(l.P50), millis(l.P90), millis(l.P99), millis(l.P999), millis(l.Max))
	}
	line("Checked", "%s lost, %s duplicated, %s reordered", thousands(r.Lost), thousands(r.Duplicated), thousands(r.Reordered))
	for _, s := range r.Storms {
		line("Storm", "%s streams dropped, %s back", thousands(s.Dropped), thousands(s.Back))
		if s.AllBackMs > 0 {
			line("", "half of them in %s, all in %s", millis(s.P50BackMs), millis(s.AllBackMs))
		}
		if s.CaughtUpMs > 0 {
			line("", "all caught up in %s", millis(s.CaughtUpMs))
		}
		if s.Gaps > 0 || s.FailedAttempts > 0 {
			line("", "%s gaps, %s failed tries", thousands(s.Gaps), thousands(s.FailedAttempts))
		}
	}
	if s := r.Slow; s != nil {
		line("Slow", "%s streams, %s of them ended by the server, %s read", thousands(s.Connections), thousands(s.Ended), byteSize(s.Bytes))
	}
	var also []string
	for _, x := range []struct {
		n    int64
		name string
	}{{int64(r.Reconnects), "came back"}, {int64(r.Disconnects), "were ended"}, {int64(r.Refused), "refusals (tidings.unavailable)"}, {r.Gaps, "gaps (tidings.gap)"}, {int64(r.GivenUp), "were given up"}} {
		if x.n > 0 {
			also = append(also, thousands(x.n)+" "+x.name)
		}
	}
	if len(also) > 0 {
		line("Also", "%s", strings.Join(also, ", "))
	}
	if len(r.ConnectErrors) > 0 {
		line("Failed", "to open: %s", kindsOf(r.ConnectErrors))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// kindsOf lists errors by their kind.
func kindsOf(kinds map[string]int) string {
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		parts = append(parts, fmt.Sprintf("%s (%s)", printable(kind), thousands(kinds[kind])))
	}
	return strings.Join(parts, ", ")
}

// thousands writes a number with commas.
func thousands[N int | int64](n N) string {
	s := strconv.FormatInt(int64(n), 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func seconds(s float64) string { return plot.Format(s) + " s" }

// millis writes milliseconds.
func millis(ms float64) string {
	if ms >= 1000 {
		return plot.Format(ms/1000) + " s"
	}
	return plot.Format(ms) + " ms"
}

func byteSize(n int64) string {
	v, unit := float64(n), "bytes"
	for _, u := range []string{"kB", "MB", "GB", "TB"} {
		if v < 1000 {
			break
		}
		v, unit = v/1000, u
	}
	return plot.Format(v) + " " + unit
}

// plotOf draws a report.
func plotOf(r *load.Report) []byte {
	// Percentiles are drawn by how many nines they have: the upper end is what matters.
	nines := func(percentile float64) float64 { return -math.Log10(1 - percentile/100) }
	curve := plot.Series{}
	most := 1.0
	for _, p := range r.LatencyCurve {
		if p.Percentile < 100 {
			curve.Points = append(curve.Points, plot.Point{X: nines(p.Percentile), Y: p.Ms})
			most = max(most, math.Ceil(nines(p.Percentile)))
		}
	}
	ticks := []plot.Tick{{At: nines(0), Label: "0%"}, {At: nines(50), Label: "50%"}, {At: nines(90), Label: "90%"}}
	for n := 2.0; n <= most; n++ {
		ticks = append(ticks, plot.Tick{At: n, Label: "99" + strings.TrimRight("."+strings.Repeat("9", int(n)-2), ".") + "%"})
	}
	var deliveries, p50, p99 []plot.Point
	for i, s := range r.Series {
		at := float64(s.Second)
		if i+1 < len(r.Series) || i == 0 { // the last is not a whole second
			deliveries = append(deliveries, plot.Point{X: at, Y: float64(s.Deliveries)})
		}
		if s.Deliveries > 0 {
			p50, p99 = append(p50, plot.Point{X: at, Y: s.P50}), append(p99, plot.Point{X: at, Y: s.P99})
		}
	}
	end := max(1, float64(len(r.Series)-1))
	note := fmt.Sprintf("%s streams at %s, %s", thousands(r.Connections), hostOf(r.URL), time.Now().Format(time.DateOnly))
	return plot.Stack(
		plot.Lines{
			Title: "Latency, by the part of deliveries that took no longer", Note: note, Series: []plot.Series{curve},
			X: plot.Axis{Label: "part of the deliveries", Max: most, Ticks: ticks}, Y: plot.Axis{Label: "milliseconds", Log: true},
		},
		plot.Lines{
			Title: "Latency over time", Series: []plot.Series{{Name: "p50", Points: p50}, {Name: "p99", Points: p99}},
			X: plot.Axis{Label: "seconds", Max: end}, Y: plot.Axis{Label: "milliseconds", Log: true},
		},
		plot.Lines{
			Title: "Deliveries a second", Series: []plot.Series{{Points: deliveries}},
			X: plot.Axis{Label: "seconds", Max: end}, Y: plot.Axis{Label: "deliveries"},
		},
	)
}

// progress shows how a run goes on: on a terminal as a line that changes, else as a line every few seconds.
type progress struct {
	w        io.Writer
	terminal bool
	plan     *plan
	total    int
	done     chan struct{}
	wg       sync.WaitGroup

	mu   sync.Mutex // guards what
	what string
}

func startProgress(w io.Writer, p *plan, total int) *progress {
	s := &progress{w: w, terminal: isTerminal(w), plan: p, total: total, done: make(chan struct{})}
	every := 3 * time.Second
	if s.terminal {
		every = 200 * time.Millisecond
	}
	s.wg.Go(func() {
		t := time.NewTicker(every)
		defer t.Stop()
		before, at := load.Snapshot{}, time.Now()
		for {
			select {
			case <-t.C:
				now := p.client.Snapshot()
				s.show(now, float64(now.Deliveries-before.Deliveries)/time.Since(at).Seconds())
				before, at = now, time.Now()
			case <-s.done:
				if s.terminal {
					fmt.Fprint(s.w, "\r\x1b[K")
				}
				return
			}
		}
	})
	return s
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}

func (s *progress) phase(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.what = what
}

func (s *progress) show(n load.Snapshot, perSecond float64) {
	s.mu.Lock()
	what := s.what
	s.mu.Unlock()
	const bar = 20
	full := bar * n.Connected / max(s.total, 1)
	line := fmt.Sprintf("%-9s [%s%s] %s/%s open", what, strings.Repeat("=", full), strings.Repeat(" ", bar-full), thousands(n.Connected), thousands(s.total))
	if s.plan.publish != nil {
		line += fmt.Sprintf(", %s published", thousands(s.plan.publish.Sent.Load()))
	}
	line += fmt.Sprintf(", %s delivered (%s/s)", thousands(n.Deliveries), plot.Format(perSecond))
	if bad := n.Missing + n.Duplicated + n.Reordered; bad > 0 {
		line += fmt.Sprintf(", %s missing, %s twice, %s late", thousands(n.Missing), thousands(n.Duplicated), thousands(n.Reordered))
	}
	if n.Failed > 0 {
		line += fmt.Sprintf(", %s failed tries", thousands(n.Failed))
	}
	if s.terminal {
		fmt.Fprintf(s.w, "\r%s\x1b[K", line)
		return
	}
	fmt.Fprintf(s.w, "# %s\n", line)
}

// end ends the display, and leaves the terminal's line empty.
func (s *progress) end() {
	close(s.done)
	s.wg.Wait()
}
