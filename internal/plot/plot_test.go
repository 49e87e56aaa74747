package plot_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/tidings-sse/tidings/internal/plot"
)

// wellFormed fails the test if the file is not XML, and returns its text.
func wellFormed(t *testing.T, svg []byte) string {
	t.Helper()
	var text strings.Builder
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("not XML: %v\n%s", err, svg)
		}
		if c, ok := tok.(xml.CharData); ok {
			text.Write(c)
			text.WriteByte(' ')
		}
	}
	if s := string(svg); strings.Contains(s, "NaN") || strings.Contains(s, "Inf") {
		t.Errorf("a coordinate is no number:\n%s", s)
	}
	return text.String()
}

func TestAChartOfLinesHasItsLabelsAndFollowsTheColourScheme(t *testing.T) {
	svg := plot.Lines{
		Title: "Latency <of> events", Note: "lower is better",
		X: plot.Axis{Label: "seconds"}, Y: plot.Axis{Label: "ms", Log: true},
		Series: []plot.Series{{Name: "p50", Points: []plot.Point{{0, 0.2}, {1, 0.3}}}, {Name: "p99 & more", Points: []plot.Point{{0, 80}, {1, 0}, {2, 90}}}},
	}.SVG()
	text := wellFormed(t, svg)
	for _, want := range []string{"Latency <of> events", "lower is better", "seconds", "ms", "p50", "p99 & more", "0.1", "100"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %q", want, text)
		}
	}
	if !bytes.Contains(svg, []byte("prefers-color-scheme: dark")) {
		t.Error("it has no dark colours")
	}
}

func TestChartsOfNothingAndOfWhatIsNoNumberAreDrawn(t *testing.T) {
	for _, c := range []plot.Chart{
		plot.Lines{}, plot.Bars{},
		plot.Lines{Y: plot.Axis{Log: true}, Series: []plot.Series{{Points: []plot.Point{{0, math.NaN()}, {math.Inf(1), 1}, {2, -1}}}}},
		plot.Lines{Series: []plot.Series{{Points: []plot.Point{{0, 0}}}}},
		plot.Bars{Groups: []plot.Group{{Label: "a", Values: []float64{math.NaN(), 0}}}},
		plot.Bars{Axis: plot.Axis{Log: true}, Groups: []plot.Group{{Label: "a", Values: []float64{0, 5}}}},
	} {
		wellFormed(t, c.SVG())
	}
}

func TestBarsHaveTheirValuesBehindThem(t *testing.T) {
	svg := plot.Stack(
		plot.Bars{Title: "Deliveries", Axis: plot.Axis{Label: "per second"}, Names: []string{"in process", "by POST"}, Groups: []plot.Group{
			{Label: "Tidings", Values: []float64{5_230_000, 2_100_000}}, {Label: "another", Values: []float64{116_000, math.NaN()}}}},
		plot.Bars{Title: "Memory", Groups: []plot.Group{{Label: "Tidings", Values: []float64{1.25}}}},
	)
	text := wellFormed(t, svg)
	for _, want := range []string{"5.23M", "2.1M", "116k", "n/a", "in process", "1.25", "Memory"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %q", want, text)
		}
	}
}

func TestValuesAreWrittenWithThreeDigits(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.0012345: "0.00123", 1: "1", 1.25: "1.25", 12.34: "12.3", 999.6: "1000", 1234: "1234", 10000: "10k", 123456: "123k", 1e6: "1M", 2.5e9: "2.5G", -20000: "-20k", 100: "100"} {
		if got := plot.Format(v); got != want {
			t.Errorf("Format(%v) = %q, want %q", v, got, want)
		}
	}
}
