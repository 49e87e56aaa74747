package plot

import "fmt"

// Bars is a chart of groups of horizontal bars, from the top down. Each bar has its value behind it.
type Bars struct {
	Title  string
	Note   string   // below the title
	Axis   Axis     // of the values
	Names  []string // of the bars of a group; one needs no name
	Groups []Group
	// Format writes a value; nil is [Format].
	Format func(float64) string
}

// Group is the bars beside one label. A value that the axis can't show is left out, with "n/a" in its place.
type Group struct {
	Label  string
	Values []float64 // one for each of Bars.Names
}

var _ Chart = Bars{}

// SVG returns the chart as a file.
func (b Bars) SVG() []byte { return alone(b) }

const (
	barHeight   = 16
	betweenBars = 3
	betweenSets = 14
)

func (b Bars) perGroup() int {
	most := 1
	for _, g := range b.Groups {
		most = max(most, len(g.Values))
	}
	return most
}

func (b Bars) groupHeight() float64 {
	return float64(b.perGroup()*(barHeight+betweenBars) - betweenBars)
}

func (b Bars) size() (float64, float64) {
	return width, top(b.Note, b.Names) + float64(len(b.Groups))*(b.groupHeight()+betweenSets) + belowPlot
}

func (b Bars) draw(c *canvas) {
	format := b.Format
	if format == nil {
		format = Format
	}
	var values []float64
	labels, behind := 0.0, 0.0
	for _, g := range b.Groups {
		labels = max(labels, textWidth(g.Label))
		values = append(values, g.Values...)
		for _, v := range g.Values {
			behind = max(behind, textWidth(format(v)))
		}
	}
	const mostLabels = 300
	x0 := 24 + min(labels, mostLabels) + 10
	x1 := width - right - behind - 8
	s := scaleOf(b.Axis, values, 6)
	px := func(v float64) float64 { return x0 + s.at(v)*(x1-x0) }
	y := top(b.Note, b.Names)
	c.heading(b.Title, b.Note, b.Names)
	bottom := y + float64(len(b.Groups))*(b.groupHeight()+betweenSets)
	for _, t := range s.ticks {
		c.grid(px(t.At), y-4, px(t.At), bottom)
		c.text(px(t.At), bottom+18, "soft", "middle", t.label())
	}
	c.text((x0+x1)/2, bottom+42, "", "middle", b.Axis.Label)
	for _, g := range b.Groups {
		c.text(x0-10, y+b.groupHeight()/2+4.5, "", "end", g.Label)
		for i, v := range g.Values {
			at := y + float64(i*(barHeight+betweenBars))
			if !s.shows(v) {
				c.text(x0+6, at+12.5, "soft", "start", "n/a")
				continue
			}
			fmt.Fprintf(&c.b, "<rect x=\"%s\" y=\"%s\" width=\"%s\" height=\"%d\" rx=\"2\" class=\"fill%d\"/>\n", num(x0), num(at), num(max(px(v)-x0, 1)), barHeight, i%colours)
			c.text(px(v)+6, at+12.5, "", "start", format(v))
		}
		y += b.groupHeight() + betweenSets
	}
}
