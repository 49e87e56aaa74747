package report

import (
	"fmt"
	"math"

	"github.com/tidings-sse/tidings/internal/plot"
)

// A Plot is an SVG file.
type Plot struct {
	File, Title string
	SVG         []byte
}

// Plots returns the plots for which there are values.
func (r *Results) Plots(contenders []Contender) []Plot {
	var all []Plot
	for _, p := range []struct {
		file, title, scenario, metric string
		show                          func(float64) string
	}{
		{"memory.svg", "Resident memory per idle stream (less is better)", "idle", "resident", kib},
		{"cpu.svg", "Server CPU per delivery, at a paced rate (less is better)", "paced", "CPU per delivery", micros},
		{"burst.svg", "Deliveries per second in a burst (more is better)", "burst", "deliveries", perS},
	} {
		bars := plot.Bars{Title: p.title, Note: r.Machine.describe(), Format: p.show}
		for _, c := range contenders {
			if v, ok := r.Median(p.scenario, c.Name, p.metric); ok && v > 0 {
				bars.Groups = append(bars.Groups, plot.Group{Label: c.Title, Values: []float64{v}})
			}
		}
		if len(bars.Groups) > 0 {
			all = append(all, Plot{p.file, p.title, bars.SVG()})
		}
	}
	lines := r.latencies(contenders)
	if len(lines.Series) > 0 {
		all = append(all, Plot{"latency.svg", lines.Title, lines.SVG()})
	}
	return all
}

// latencies draws the latency over the percentile, which is laid out by its number of nines.
func (r *Results) latencies(contenders []Contender) plot.Lines {
	const most = 4 // nines: 99.99 %
	nines := func(percentile float64) float64 { return -math.Log10(1 - percentile/100) }
	lines := plot.Lines{
		Title: "Latency at a paced rate (less is better)", Note: r.Machine.describe(),
		X: plot.Axis{Label: "percentile", Max: most}, Y: plot.Axis{Label: "ms", Log: true},
	}
	for _, p := range []float64{0, 50, 90, 99, 99.9, 99.99} {
		lines.X.Ticks = append(lines.X.Ticks, plot.Tick{At: nines(p), Label: fmt.Sprintf("%g%%", p)})
	}
	for _, c := range contenders {
		s := plot.Series{Name: c.Title}
		for _, p := range r.Curves[c.Name] {
			if n := nines(p.Percentile); n <= most && p.Ms > 0 {
				s.Points = append(s.Points, plot.Point{X: n, Y: p.Ms})
			}
		}
		if len(s.Points) > 0 {
			lines.Series = append(lines.Series, s)
		}
	}
	return lines
}
