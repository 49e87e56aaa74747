// Package report keeps what was measured, and writes it: as JSON, as a page with tables and plots, and as text.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

// Results are a run's.
type Results struct {
	Date         time.Time         `json:"date"`
	Seconds      float64           `json:"seconds"` // that the run took
	Reduced      bool              `json:"reduced"` // not the full sizes: the numbers mean nothing
	Machine      Machine           `json:"machine"`
	Commit       string            `json:"commit"`   // of Tidings
	Versions     map[string]string `json:"versions"` // by contender
	LeftOut      []string          `json:"leftOut"`  // what was not measured, and why
	Failures     []Failure         `json:"failures"`
	Notes        []string          `json:"notes"` // what a reader should know of this run
	Scenarios    []Scenario        `json:"scenarios"`
	Measurements []*Measurement    `json:"measurements"`
	Curves       map[string]Curve  `json:"curves"` // latencies by contender, of the first round
}

// A Scenario is one that was run.
type Scenario struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	About string `json:"about"` // with the sizes that were used
}

// A Failure is a contender that could not do a scenario, or not all its rounds.
type Failure struct {
	Scenario  string `json:"scenario"`
	Contender string `json:"contender"`
	Error     string `json:"error"`
}

// A Measurement is one metric of one contender in one scenario, a value for each round that succeeded.
type Measurement struct {
	Scenario  string   `json:"scenario"`
	Contender string   `json:"contender"`
	Metric    string   `json:"metric"`
	Unit      string   `json:"unit"`
	Samples   []Sample `json:"samples"`
}

// A Sample is a value of one round. Rounds with the same number stood side by side.
type Sample struct {
	Round int     `json:"round"`
	Value float64 `json:"value"`
}

// A Curve is a distribution of latencies.
type Curve []CurvePoint

// A CurvePoint says that so many percent took at most so long.
type CurvePoint struct {
	Percentile float64 `json:"percentile"`
	Ms         float64 `json:"ms"`
}

// Add adds a value.
func (r *Results) Add(scenario, contender, metric, unit string, round int, value float64) {
	m := r.find(scenario, contender, metric)
	if m == nil {
		m = &Measurement{Scenario: scenario, Contender: contender, Metric: metric, Unit: unit}
		r.Measurements = append(r.Measurements, m)
	}
	m.Samples = append(m.Samples, Sample{round, value})
}

func (r *Results) find(scenario, contender, metric string) *Measurement {
	n := slices.IndexFunc(r.Measurements, func(m *Measurement) bool {
		return m.Scenario == scenario && m.Contender == contender && m.Metric == metric
	})
	if n < 0 {
		return nil
	}
	return r.Measurements[n]
}

// Median returns the median over the rounds, if there was one.
func (r *Results) Median(scenario, contender, metric string) (float64, bool) {
	return r.over(scenario, contender, metric, median)
}

// Max returns the largest value of all rounds.
func (r *Results) Max(scenario, contender, metric string) (float64, bool) {
	return r.over(scenario, contender, metric, slices.Max[[]float64])
}

func (r *Results) over(scenario, contender, metric string, f func([]float64) float64) (float64, bool) {
	m := r.find(scenario, contender, metric)
	if m == nil {
		return 0, false
	}
	var values []float64
	for _, s := range m.Samples {
		values = append(values, s.Value)
	}
	return f(values), true
}

// Ratio returns the median of the ratios of a to b in the same round, in one scenario.
func (r *Results) Ratio(scenario, a, b, metric string) (float64, bool) {
	return ratio(r.find(scenario, a, metric), r.find(scenario, b, metric))
}

// Within returns the same of two metrics of one contender.
func (r *Results) Within(scenario, contender, a, b string) (float64, bool) {
	return ratio(r.find(scenario, contender, a), r.find(scenario, contender, b))
}

func ratio(a, b *Measurement) (float64, bool) {
	if a == nil || b == nil {
		return 0, false
	}
	under := map[int]float64{}
	for _, s := range b.Samples {
		under[s.Round] = s.Value
	}
	var ratios []float64
	for _, s := range a.Samples {
		if v := under[s.Round]; v > 0 {
			ratios = append(ratios, s.Value/v)
		}
	}
	if len(ratios) == 0 {
		return 0, false
	}
	return median(ratios), true
}

// median returns the middle one, or the mean of the middle two. There is at least one value.
func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	n := len(values)
	if n%2 == 1 {
		return values[n/2]
	}
	return (values[n/2-1] + values[n/2]) / 2
}

// Failed returns why a contender could not do a scenario, or "".
func (r *Results) Failed(scenario, contender string) string {
	for _, f := range r.Failures {
		if f.Scenario == scenario && f.Contender == contender {
			return f.Error
		}
	}
	return ""
}

// Ran reports whether a scenario was run.
func (r *Results) Ran(scenario string) bool {
	return slices.ContainsFunc(r.Scenarios, func(s Scenario) bool { return s.Name == scenario })
}

// Write writes the results as JSON.
func (r *Results) Write(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "\t")
	return e.Encode(r)
}

// Read reads what Write wrote.
func Read(rd io.Reader) (*Results, error) {
	var r Results
	if err := json.NewDecoder(rd).Decode(&r); err != nil {
		return nil, fmt.Errorf("results: %w", err)
	}
	return &r, nil
}

// Text writes all medians, for a terminal.
func (r *Results) Text(w io.Writer) {
	for _, s := range r.Scenarios {
		fmt.Fprintf(w, "\n%s: %s\n", s.Name, s.Title)
		for _, m := range r.Measurements {
			if m.Scenario != s.Name {
				continue
			}
			v, _ := r.Median(m.Scenario, m.Contender, m.Metric)
			fmt.Fprintf(w, "  %-16s %-34s %14s %-14s", m.Contender, m.Metric, number(v), m.Unit)
			for _, s := range m.Samples {
				fmt.Fprintf(w, " %s", number(s.Value))
			}
			fmt.Fprintln(w)
		}
	}
	for _, f := range r.Failures {
		fmt.Fprintf(w, "\nFAILED: %s, %s: %s\n", f.Scenario, f.Contender, f.Error)
	}
	for _, l := range r.LeftOut {
		fmt.Fprintf(w, "\nLEFT OUT: %s\n", l)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Versions)) {
		fmt.Fprintf(w, "%s %s\n", name, r.Versions[name])
	}
}
