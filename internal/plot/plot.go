// Package plot draws plain charts as SVG: lines over two axes, and groups of horizontal bars. A chart needs nothing beside
// its own file, is readable at the width of a page, and follows the reader's light or dark colour scheme.
//
//	svg := plot.Lines{
//		Title: "Latency", X: plot.Axis{Label: "seconds"}, Y: plot.Axis{Label: "ms", Log: true},
//		Series: []plot.Series{{Name: "p99", Points: []plot.Point{{0, 1.2}, {1, 1.4}}}},
//	}.SVG()
//
// [Stack] puts several into one file.
package plot

import (
	"bytes"
	"fmt"
	"html"
	"math"
	"strconv"
)

// A Chart is one drawing.
type Chart interface {
	// SVG returns the chart as a file.
	SVG() []byte
	// size is in user units, which are pixels where the file is not scaled.
	size() (width, height float64)
	draw(c *canvas)
}

// Axis says how values are laid out along one direction.
type Axis struct {
	Label string
	// Log is a logarithmic scale: of values above 0, what is not is left out.
	Log bool
	// Min and Max bound the axis. Both 0 is what the values need; a linear one then begins at 0.
	Min, Max float64
	// Ticks are where the axis has labels. Nil is round values.
	Ticks []Tick
}

// Tick is a label on an axis. An empty one is the value.
type Tick struct {
	At    float64
	Label string
}

// Point is a pair of values.
type Point struct{ X, Y float64 }

// Stack draws charts below one another in one file.
func Stack(charts ...Chart) []byte {
	var width, height float64
	for _, c := range charts {
		w, h := c.size()
		width, height = max(width, w), height+h
	}
	c := &canvas{}
	c.begin(width, height)
	var y float64
	for _, chart := range charts {
		fmt.Fprintf(&c.b, "<g transform=\"translate(0 %s)\">\n", num(y))
		chart.draw(c)
		c.b.WriteString("</g>\n")
		_, h := chart.size()
		y += h
	}
	return c.end()
}

const width = 760 // of every chart

// canvas is an SVG that is being written.
type canvas struct{ b bytes.Buffer }

// colours is how many series look different.
const colours = 8

// The colours are Okabe and Ito's, which stay apart for the colour-blind, made darker on white and lighter on black. They are
// written out for each scheme, because not everything that shows SVG knows variables.
func style() string {
	light := scheme{"#fff", "#1f2328", "#59636e", "#d1d9e0", [colours]string{"#0072b2", "#c04d00", "#007a5a", "#a8497f", "#8a6d00", "#2b7fb8", "#555", "#7a3fb0"}}
	dark := scheme{"#0d1117", "#f0f6fc", "#9198a1", "#3d444d", [colours]string{"#58a6ff", "#f0883e", "#3fb68b", "#e58fc0", "#e3c53a", "#8ecbff", "#b1bac4", "#c297ff"}}
	return `<style>
text { font: 13px system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
.title { font-size: 16px; font-weight: 600; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
` + light.css() + "@media (prefers-color-scheme: dark) {\n" + dark.css() + "}\n</style>\n"
}

// scheme is colours.
type scheme struct {
	ground, text, soft, grid string
	series                   [colours]string
}

func (s scheme) css() string {
	css := fmt.Sprintf(".ground { fill: %s; }\ntext { fill: %s; }\n.soft { fill: %s; }\n.grid { stroke: %s; }\n", s.ground, s.text, s.soft, s.grid)
	for i, c := range s.series {
		css += fmt.Sprintf(".fill%d { fill: %s; } .line%d { stroke: %s; }\n", i, c, i, c)
	}
	return css
}

func (c *canvas) begin(width, height float64) {
	fmt.Fprintf(&c.b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %s %s" width="%s" height="%s" role="img">`+"\n", num(width), num(height), num(width), num(height))
	c.b.WriteString(style())
	fmt.Fprintf(&c.b, `<rect class="ground" width="%s" height="%s"/>`+"\n", num(width), num(height))
}

func (c *canvas) end() []byte {
	c.b.WriteString("</svg>\n")
	return c.b.Bytes()
}

// alone returns a file with one chart.
func alone(chart Chart) []byte { return Stack(chart) }

// text writes a label. anchor is start, middle or end.
func (c *canvas) text(x, y float64, class, anchor, s string) {
	fmt.Fprintf(&c.b, `<text x="%s" y="%s" class="%s" text-anchor="%s">%s</text>`+"\n", num(x), num(y), class, anchor, html.EscapeString(s))
}

func (c *canvas) grid(x1, y1, x2, y2 float64) {
	fmt.Fprintf(&c.b, `<line class="grid" x1="%s" y1="%s" x2="%s" y2="%s"/>`+"\n", num(x1), num(y1), num(x2), num(y2))
}

// legend writes the names of series in lines, from y down.
func (c *canvas) legend(x, y, most float64, names []string) {
	for i, at := range legendPlaces(most, names) {
		fmt.Fprintf(&c.b, `<rect x="%s" y="%s" width="12" height="12" rx="2" class="fill%d"/>`+"\n", num(x+at.X), num(y+at.Y), i%colours)
		c.text(x+at.X+18, y+at.Y+10.5, "", "start", names[i])
	}
}

const legendLine = 20

// legendPlaces lays out a legend's entries within a width.
func legendPlaces(most float64, names []string) []Point {
	places := make([]Point, len(names))
	var at Point
	for i, name := range names {
		w := 18 + textWidth(name) + 18
		if at.X > 0 && at.X+w > most {
			at = Point{0, at.Y + legendLine}
		}
		places[i] = at
		at.X += w
	}
	return places
}

// legendHeight is 0 for a legend that says nothing: of one series, or of those without names.
func legendHeight(most float64, names []string) float64 {
	if len(names) < 2 {
		return 0
	}
	places := legendPlaces(most, names)
	return places[len(places)-1].Y + legendLine
}

// textWidth is about how wide a label is.
func textWidth(s string) float64 {
	const each = 7.2
	return each * float64(len([]rune(s)))
}

// num writes a coordinate.
func num(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return "0"
	}
	return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64)
}
