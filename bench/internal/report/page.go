package report

import (
	_ "embed" // the page's template
	"io"
	"strings"
	"text/template"
)

//go:embed page.md.tmpl
var pageTemplate string

// A Contender is how the page names one.
type Contender struct{ Name, Title, About string }

// A column of the table of contenders.
type column struct {
	Title string
	cell  func(*Results, string) (string, bool)
	from  string // the scenario
}

func columns() []column {
	of := func(title, scenario, metric string, show func(float64) string) column {
		return column{title, func(r *Results, c string) (string, bool) {
			v, ok := r.Median(scenario, c, metric)
			return show(v), ok
		}, scenario}
	}
	return []column{
		of("memory per idle stream", "idle", "resident", kib),
		of("of that, live", "idle", "live", kib),
		of("CPU per delivery", "paced", "CPU per delivery", micros),
		{"over the floor", func(r *Results, c string) (string, bool) {
			v, ok := r.Ratio("paced", c, floor, "CPU per delivery")
			return times(v), ok
		}, "paced"},
		of("p50", "paced", "p50", millis),
		of("p99", "paced", "p99", millis),
		of("p99.9", "paced", "p99.9", millis),
		of("burst", "burst", "deliveries", perS),
		of("unicast", "unicast", "deliveries", perS),
		of("unicast p99 while broadcasting", "mixed", "p99", millis),
		{"all back after a storm (lost, twice)", func(r *Results, c string) (string, bool) {
			v, ok := r.Median("storm", c, "all back")
			lost, _ := r.Max("storm", c, "lost")
			twice, _ := r.Max("storm", c, "twice")
			return seconds(v) + " (" + number(lost) + ", " + number(twice) + ")", ok
		}, "storm"},
		{"others' p99 with stalled clients (without)", func(r *Results, c string) (string, bool) {
			with, ok := r.Median("stalled", c, "p99 with")
			without, _ := r.Median("stalled", c, "p99 without")
			return millis(with) + " (" + number(without) + ")", ok
		}, "stalled"},
		of("kernel memory of a stalled one", "stalled", "kernel memory, the most", func(v float64) string { return kib(v * 1024) }),
	}
}

// Page writes the results as Markdown. plots are the files that stand beside it.
func (r *Results) Page(w io.Writer, contenders []Contender, plots []Plot) error {
	t, err := template.New("page").Funcs(template.FuncMap{
		"join":   func(s []string) string { return strings.Join(s, " | ") },
		"number": number,
		"yes": func(g Goal) string {
			switch {
			case !g.Known:
				return "-"
			case g.AimMet && g.Aim != "":
				return "yes, and the aim"
			case g.Met:
				return "yes"
			}
			return "**no**"
		},
	}).Parse(pageTemplate)
	if err != nil {
		return err
	}
	return t.Execute(w, map[string]any{
		"R": r, "Contenders": contenders, "Plots": plots, "Goals": r.Goals(), "Tables": r.tables(contenders),
	})
}

// A table has a row for each contender.
type table struct {
	Head []string
	Rows [][]string
}

// tables returns the columns, a few to a table, so that they can be read.
func (r *Results) tables(contenders []Contender) []table {
	var all []table
	const wide = 7
	columns := columns()
	for from := 0; from < len(columns); from += wide {
		part := columns[from:min(from+wide, len(columns))]
		t := table{Head: []string{"server"}}
		for _, c := range part {
			t.Head = append(t.Head, c.Title)
		}
		for _, c := range contenders {
			row, any := []string{c.Title}, false
			for _, col := range part {
				text, ok := col.cell(r, c.Name)
				switch {
				case ok && r.Failed(col.from, c.Name) != "":
					text += " (see failures)"
				case ok:
				case r.Failed(col.from, c.Name) != "":
					text = "failed"
				default:
					text = "-"
				}
				any = any || text != "-"
				row = append(row, text)
			}
			if any {
				t.Rows = append(t.Rows, row)
			}
		}
		all = append(all, t)
	}
	return all
}
