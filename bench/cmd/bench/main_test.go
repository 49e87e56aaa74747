package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidings-sse/tidings/bench/internal/built"
	"github.com/tidings-sse/tidings/bench/internal/proc"
	"github.com/tidings-sse/tidings/bench/internal/report"
	"github.com/tidings-sse/tidings/bench/internal/scenario"
)

func TestARunOfTinySizesMeasuresEverythingAndWritesThePage(t *testing.T) {
	docs := t.TempDir()
	var out, progress bytes.Buffer
	err := run(t.Context(), []string{"-tiny", "-bin", built.Programs(t, "../.."), "-contenders", "floor,tidings,tidings-serve,naive", "-docs", docs, "-commit", "abc123"}, &out, &progress)
	if err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	f, err := os.Open(filepath.Join(docs, "benchmarks", "results.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := report.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Failures) > 0 {
		t.Errorf("failures: %+v", r.Failures)
	}
	for _, s := range scenario.Names() {
		if !r.Ran(s) {
			t.Errorf("%s was not run", s)
		}
	}
	// Every goal has its value: one that names no scenario's metric would never have it. But some need what isn't installed
	// everywhere, and the CPU time of so little work may be nothing.
	for _, g := range r.Goals() {
		if !g.Known && !strings.Contains(g.What, "CPU") && !strings.Contains(g.What, "floor") && !strings.Contains(g.What, "kernel memory") {
			t.Errorf("%s: %s", g.What, g.Measured)
		}
	}
	page, err := os.ReadFile(filepath.Join(docs, "benchmarks.md"))
	if err != nil || !strings.Contains(string(page), "abc123") || !strings.Contains(string(page), "reduced run") {
		t.Errorf("the page is %v\n%s", err, page)
	}
	plots, _ := filepath.Glob(filepath.Join(docs, "benchmarks", "*.svg"))
	// Like the goals': the CPU time of so little work may be nothing, of every server.
	want := 3
	if slices.ContainsFunc(r.Measurements, func(m *report.Measurement) bool {
		v, _ := r.Median("paced", m.Contender, scenario.CPU)
		return v > 0
	}) {
		want = 4
	}
	if len(plots) != want {
		t.Errorf("the plots are %q, and not %d", plots, want)
	}
	for _, p := range plots {
		b, err := os.ReadFile(p)
		if err != nil || xml.Unmarshal(b, new(struct{})) != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
	if left := children(); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
}

func TestARunThatIsInterruptedLeavesNoProcess(t *testing.T) {
	stopped := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	var out bytes.Buffer
	progress := &watcher{on: "round", then: func() { time.AfterFunc(100*time.Millisecond, func() { cancel(stopped) }) }}
	err := run(ctx, []string{"-quick", "-only", "paced", "-bin", built.Programs(t, "../.."), "-contenders", "tidings"}, &out, progress)
	if !errors.Is(err, stopped) {
		t.Errorf("it ended with %v", err)
	}
	if left := children(); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
}

func TestAScenarioThatDoesNotExistIsRefused(t *testing.T) {
	var out, progress bytes.Buffer
	err := run(t.Context(), []string{"-only", "idle,bursts"}, &out, &progress)
	if err == nil || !strings.Contains(err.Error(), `"bursts"`) || !strings.Contains(err.Error(), "burst") {
		t.Errorf("it ended with %v", err)
	}
}

// children returns the processes that this one has started and that are still there.
func children() []int {
	return slices.DeleteFunc(proc.Tree(os.Getpid()), func(pid int) bool { return pid == os.Getpid() })
}

// A watcher calls then when on is first written to it.
type watcher struct {
	on   string
	then func()
}

func (w *watcher) Write(p []byte) (int, error) {
	if w.then != nil && strings.Contains(string(p), w.on) {
		w.then()
		w.then = nil
	}
	return len(p), nil
}
