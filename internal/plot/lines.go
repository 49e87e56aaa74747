package plot

import (
	"fmt"
	"strings"
)

// Lines is a chart of lines over two axes.
type Lines struct {
	Title  string
	Note   string // below the title
	X, Y   Axis
	Series []Series
}

// Series is one line, in the order of its points. What an axis can't show is a break in it.
type Series struct {
	Name   string
	Points []Point
}

var _ Chart = Lines{}

// SVG returns the chart as a file.
func (l Lines) SVG() []byte { return alone(l) }

const (
	left, right = 76, 36 // of the drawing
	plotHeight  = 240
	belowPlot   = 56 // for the labels of the x axis
	noteHeight  = 20
	titleHeight = 40
)

func (l Lines) names() []string {
	var names []string
	for _, s := range l.Series {
		names = append(names, s.Name)
	}
	return names
}

// top is the height above the drawing.
func top(note string, names []string) float64 {
	h := float64(titleHeight)
	if note != "" {
		h += noteHeight
	}
	if legend := legendHeight(width-left-right, names); legend > 0 {
		h += legend + 6
	}
	return h + 10 // half of a label at the upper end
}

// heading writes what is above the drawing.
func (c *canvas) heading(title, note string, names []string) {
	c.text(left, 28, "title", "start", title)
	y := float64(titleHeight)
	if note != "" {
		c.text(left, y+8, "soft", "start", note)
		y += noteHeight
	}
	if len(names) > 1 {
		c.legend(left, y, width-left-right, names)
	}
}

func (l Lines) size() (float64, float64) {
	return width, top(l.Note, l.names()) + plotHeight + belowPlot
}

func (l Lines) draw(c *canvas) {
	var xs, ys []float64
	for _, s := range l.Series {
		for _, p := range s.Points {
			xs, ys = append(xs, p.X), append(ys, p.Y)
		}
	}
	sx, sy := scaleOf(l.X, xs, 8), scaleOf(l.Y, ys, 6)
	y0 := top(l.Note, l.names())
	px := func(v float64) float64 { return left + sx.at(v)*(width-left-right) }
	py := func(v float64) float64 { return y0 + (1-sy.at(v))*plotHeight }
	c.heading(l.Title, l.Note, l.names())
	for _, t := range sy.ticks {
		c.grid(left, py(t.At), width-right, py(t.At))
		c.text(left-8, py(t.At)+4, "soft", "end", t.label())
	}
	for _, t := range sx.ticks {
		c.grid(px(t.At), y0+plotHeight, px(t.At), y0+plotHeight+5)
		c.text(px(t.At), y0+plotHeight+20, "soft", "middle", t.label())
	}
	c.text(left+(width-left-right)/2, y0+plotHeight+42, "", "middle", l.X.Label)
	fmt.Fprintf(&c.b, "<g transform=\"translate(18 %s) rotate(-90)\">", num(y0+plotHeight/2))
	c.text(0, 0, "", "middle", l.Y.Label)
	c.b.WriteString("</g>\n")
	for i, s := range l.Series {
		var path strings.Builder
		pen := "M"
		for _, p := range s.Points {
			if !sx.shows(p.X) || !sy.shows(p.Y) {
				pen = "M"
				continue
			}
			fmt.Fprintf(&path, "%s%s %s", pen, num(px(p.X)), num(py(p.Y)))
			if pen == "M" { // so that a point alone is seen, as a dot
				path.WriteString("h0")
			}
			pen = "L"
		}
		if path.Len() > 0 {
			fmt.Fprintf(&c.b, "<path class=\"line line%d\" d=\"%s\"/>\n", i%colours, path.String())
		}
	}
}
