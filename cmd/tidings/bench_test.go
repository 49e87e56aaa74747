package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidings-sse/tidings/internal/load"
)

func TestBenchReportsWhatArrived(t *testing.T) {
	url, _ := serve(t)
	file := filepath.Join(t.TempDir(), "plot.svg")
	o := run(t, "", "bench", "--url", url, "-n", "20", "--users", "5", "--rate", "100", "--duration", "300ms", "--mix", "broadcast=1,user=1,client=1,topic=1", "--plot", file)
	if o.code != exitOK || !strings.Contains(o.stdout, "20 of 20 open") || !strings.Contains(o.stdout, "30 of 30 events") || !strings.Contains(o.stdout, "0 lost, 0 duplicated, 0 reordered") {
		t.Errorf("%+v", o)
	}
	if svg, err := os.ReadFile(file); err != nil || !strings.HasPrefix(string(svg), "<svg") || !strings.Contains(string(svg), "Latency over time") {
		t.Errorf("the plot: %.100s, %v", svg, err)
	}
}

func TestBenchReportsAsJSONWithAStorm(t *testing.T) {
	url, _ := serve(t)
	o := run(t, "", "bench", "--url", url, "-n", "10", "--rate", "50", "--batch", "10", "--duration", "500ms", "--storm", "200ms", "--json")
	var r load.Report
	if err := json.Unmarshal([]byte(o.stdout), &r); err != nil {
		t.Fatalf("%v: %+v", err, o)
	}
	if o.code != exitOK || r.Deliveries != 250 || r.Publish == nil || r.Publish.Sent != 25 || len(r.Storms) != 1 || r.Storms[0].Back != 10 || !r.Whole() {
		t.Errorf("%+v", o)
	}
}

func TestBenchOnlyListensToAnotherServersStreams(t *testing.T) {
	url, _ := serve(t)
	o := run(t, "", "bench", "--stream", url+"/api/sse?clientId=x{n}", "-n", "3", "--duration", "50ms")
	if o.code != exitOK || !strings.Contains(o.stdout, "3 of 3 open") || strings.Contains(o.stdout, "Published") {
		t.Errorf("%+v", o)
	}
}

func TestBenchPublishesByATemplate(t *testing.T) {
	url, _ := serve(t)
	o := run(t, "", "bench", "--stream", url+"/api/sse?userId=x{user}", "-n", "4", "--duration", "200ms", "--rate", "50", "--mix", "user",
		"--publish", url+"/api/sse/send", "--publish-body", `{"data":{data},"target":{"userId":"x{n}"}}`, "--publish-header", "Content-Type: application/json")
	if o.code != exitOK || !strings.Contains(o.stdout, "10 of 10 events") || !strings.Contains(o.stdout, "Delivered  10 events") {
		t.Errorf("%+v", o)
	}
}

func TestBenchFailsWhereSomethingIsLost(t *testing.T) {
	url, _ := serve(t)
	// The streams listen as other users than those that the events are for.
	o := run(t, "", "bench", "--stream", url+"/api/sse?userId=nobody", "-n", "2", "--duration", "100ms", "--rate", "50", "--settle", "10ms",
		"--publish", url+"/api/sse/send", "--publish-body", `{"data":{data},"target":{"userId":"x"}}`)
	if o.code != exitFailed || !strings.Contains(o.stdout, "10 lost") || !strings.Contains(o.stderr, "10 lost, 0 duplicated, 0 reordered") {
		t.Errorf("%+v", o)
	}
}

func TestBenchSaysWhatIsWrongWithItsFlags(t *testing.T) {
	for want, args := range map[string][]string{
		"--stream: it":      {"--stream", "http://h/{x}"},
		"--url":             {"--url", "nonsense"},
		"--publish: it":     {"--publish", "http://h/{user}"},
		"--rate: it":        {"--rate", "0"},
		"--mix":             {"--mix", "all"},
		"has user twice":    {"--mix", "user=1,user=2"},
		"--header":          {"--header", "nonsense"},
		"--publish-header":  {"--publish-header", ": x"},
		"--slow: it":        {"--slow", "101"},
		"--slow-bytes":      {"--slow-bytes", "1kB"},
		"--storm 10s":       {"--storm", "10s"},
		"say with --storm":  {"--storm-reset"},
		"--storm-share":     {"--storm", "1s", "--storm-share", "2"},
		"--batch: it":       {"--batch", "2", "--stream", "http://h/", "--publish", "http://h/{n}"},
		"--publish-body: ":  {"--publish-body", "x"},
		"--connect-rate: i": {"--connect-rate=-1"},
		"--publishers: it":  {"--publishers", "1000"},
	} {
		if o := run(t, "", append([]string{"bench"}, args...)...); o.code == exitOK || !strings.Contains(o.stderr, want) {
			t.Errorf("%q: %+v", args, o)
		}
	}
	if o := run(t, "", "bench", "-n", "9000000"); o.code != exitFailed || !strings.Contains(o.stderr, "file descriptors") {
		t.Errorf("%+v", o)
	}
}

func TestBenchSaysWhyNoStreamOpens(t *testing.T) {
	url, _ := serve(t)
	for want, args := range map[string][]string{
		"status 404":      {"--stream", url + "/nothing"},
		"nothing listens": {"--url", "http://127.0.0.1:1"},
	} {
		if o := run(t, "", append([]string{"bench", "-n", "2"}, args...)...); o.code != exitFailed || !strings.Contains(o.stderr, want) || o.stdout != "" {
			t.Errorf("%q: %+v", args, o)
		}
	}
}
