package report_test

import (
	"bytes"
	"encoding/xml"
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tidings-sse/tidings/bench/internal/report"
)

var update = flag.Bool("update", false, "write testdata anew")

// contenders are of the page in testdata.
var contenders = []report.Contender{
	{Name: "floor", Title: "The floor", About: "One write each."},
	{Name: "tidings", Title: "Tidings", About: "As it is."},
	{Name: "peer", Title: "A <peer>", About: "As well as it can."},
	{Name: "absent", Title: "Absent", About: "Not here."},
}

func results() *report.Results {
	r := &report.Results{
		Date: time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC), Seconds: 1234.5, Commit: "abc123",
		Machine:  report.Machine{CPU: "A CPU", Cores: 2, Memory: "24 GiB", Kernel: "6.18", System: "Debian", Go: "go1.26"},
		Versions: map[string]string{"peer": "v1.2.3"},
		LeftOut:  []string{"Absent: it is not installed"},
		Failures: []report.Failure{{Scenario: "storm", Contender: "peer", Error: "not all streams were back"}},
		Notes:    []string{"A note."},
		Curves: map[string]report.Curve{
			"floor":   {{Percentile: 0, Ms: 0.1}, {Percentile: 50, Ms: 3}, {Percentile: 99, Ms: 9}, {Percentile: 100, Ms: 20}},
			"tidings": {{Percentile: 0, Ms: 0.2}, {Percentile: 50, Ms: 4}, {Percentile: 99, Ms: 10}, {Percentile: 100, Ms: 30}},
		},
	}
	for _, name := range []string{"idle", "paced", "burst", "storm", "flood"} {
		r.Scenarios = append(r.Scenarios, report.Scenario{Name: name, Title: "the title of " + name, About: "How it is done."})
	}
	for n, v := range []float64{6, 7, 5} {
		r.Add("paced", "floor", "CPU per delivery", "us", n, v)
		r.Add("paced", "tidings", "CPU per delivery", "us", n, v*1.25)
		r.Add("paced", "floor", "p99", "ms", n, 9)
		r.Add("paced", "tidings", "p99", "ms", n, 12)
		r.Add("burst", "tidings", "deliveries", "/s", n, 4e6+float64(n))
		r.Add("burst", "peer", "deliveries", "/s", n, 123_456)
		r.Add("idle", "tidings", "resident", "B/stream", n, 1000)
		r.Add("idle", "peer", "resident", "B/stream", n, 30_000)
		r.Add("flood", "tidings", "lost", "events", n, float64(n))
		r.Add("flood", "tidings", "streams ended", "streams", n, 0)
	}
	return r
}

func TestARatioIsTheMedianOfTheRatiosOfEachRound(t *testing.T) {
	r := &report.Results{}
	for n, v := range []float64{10, 30, 22} {
		r.Add("s", "a", "m", "us", n, v)
	}
	for n, v := range []float64{10, 10, 20, 7} { // the last has no counterpart
		r.Add("s", "b", "m", "us", n, v)
	}
	if got, ok := r.Ratio("s", "a", "b", "m"); !ok || got != 1.1 {
		t.Errorf("the ratio is %v, %v", got, ok)
	}
	if got, ok := r.Median("s", "b", "m"); !ok || got != 10 {
		t.Errorf("the median of four is %v, %v", got, ok)
	}
	if got, ok := r.Max("s", "a", "m"); !ok || got != 30 {
		t.Errorf("the largest is %v, %v", got, ok)
	}
	if got, ok := r.Ratio("s", "a", "c", "m"); ok {
		t.Errorf("the ratio to nothing is %v", got)
	}
}

func TestResultsAreReadAsTheyWereWritten(t *testing.T) {
	var b bytes.Buffer
	if err := results().Write(&b); err != nil {
		t.Fatal(err)
	}
	if got, err := report.Read(&b); err != nil || !reflect.DeepEqual(got, results()) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestThePageIsAsInTestdata(t *testing.T) {
	r := results()
	var b bytes.Buffer
	if err := r.Page(&b, contenders, r.Plots(contenders)); err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/page.md"
	if *update {
		if err := os.WriteFile(golden, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), want) {
		t.Errorf("the page is not as in %s: see what \"go test ./internal/report -update\" changes there\n%s", golden, b.Bytes())
	}
}

func TestGoalsSayWhatIsMetAndWhatIsNot(t *testing.T) {
	r := results()
	r.Failures = append(r.Failures, report.Failure{Scenario: "mixed", Contender: "tidings", Error: "it ended"})
	want := map[string]report.Goal{
		"resident memory per idle stream, HTTP/1.1":           {Must: "<= 2 KiB", Aim: "1 KiB", Measured: "0.98 KiB", Met: true, AimMet: true},
		"CPU per delivery, over the C floor's":                {Must: "<= 1.30 x", Aim: "1.20 x", Measured: "1.25 x", Met: true},
		"p99 latency, over the C floor's":                     {Must: "<= 1.20 x", Aim: "1 x", Measured: "1.33 x"},
		"burst of broadcasts, in process":                     {Must: ">= 3,000,000/s", Aim: "5,000,000/s", Measured: "4,000,000/s", Met: true},
		"burst, over the best peer's":                         {Must: ">= 15 x", Measured: "32.4 x", Met: true, AimMet: true},
		"broadcasts at full speed: lost, in the worst round":  {Must: "<= 0", Measured: "2"},
		"p99 of a unicast while broadcasts go out":            {Must: "<= 20 ms", Aim: "7 ms", Measured: "failed"},
		"all streams drop and resume: all back":               {Must: "<= 3 s", Aim: "1.50 s", Measured: "not measured"},
		"kernel memory that a stalled client pins, the worst": {Must: "<= 256 KiB", Measured: "not measured"},
	}
	for _, got := range r.Goals() {
		w, ok := want[got.What]
		if !ok {
			continue
		}
		delete(want, got.What)
		if w.What, w.Known = got.What, w.Measured != "not measured"; got != w {
			t.Errorf("got %+v, want %+v", got, w)
		}
	}
	if len(want) > 0 {
		t.Errorf("there is no goal %v", want)
	}
}

func TestPlotsAreWellFormed(t *testing.T) {
	plots := results().Plots(contenders)
	if len(plots) != 4 {
		t.Errorf("there are %d plots", len(plots))
	}
	for _, p := range plots {
		if err := xml.Unmarshal(p.SVG, new(struct{})); err != nil || !strings.Contains(string(p.SVG), p.Title) {
			t.Errorf("%s: %v\n%s", p.File, err, p.SVG)
		}
	}
	if plots := (&report.Results{}).Plots(contenders); len(plots) > 0 {
		t.Errorf("there are %d plots of nothing", len(plots))
	}
}
