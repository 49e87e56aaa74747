// Bench compares Tidings with others: see docs/benchmarks.md, which it writes. "make bench" builds what it needs and runs it.
//
//	bench -bin DIR [-quick] [-only burst,idle] [-docs DIR] [-commit ID]
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/tidings-sse/tidings/bench/internal/contender"
	"github.com/tidings-sse/tidings/bench/internal/report"
	"github.com/tidings-sse/tidings/bench/internal/scenario"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// fullWithin bounds a whole run.
const fullWithin = 40 * time.Minute

// run measures, prints what was measured, and writes the page and its plots to the directory that -docs names. The error is
// also that Tidings itself failed in a scenario.
func run(ctx context.Context, args []string, out, progress io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	bin := flags.String("bin", "", "the directory with benchserver, tidings and floor")
	quick := flags.Bool("quick", false, "small sizes, to see that it works; the numbers mean nothing")
	tiny := flags.Bool("tiny", false, "smaller still, for tests")
	only := flags.String("only", "", "the scenarios to run, with commas: "+strings.Join(scenario.Names(), ","))
	peers := flags.String("contenders", "", "the contenders to run, with commas; all if empty")
	docs := flags.String("docs", "", "the directory to write benchmarks.md and benchmarks/ to; nowhere if empty")
	commit := flags.String("commit", "", "what is measured, for the page")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, fullWithin, fmt.Errorf("the run took longer than %v", fullWithin))
	defer cancel()

	scale := scenario.Full()
	switch {
	case *tiny:
		scale = scenario.Tiny()
	case *quick:
		scale = scenario.Quick()
	}
	all, leftOut := contender.List(*bin)
	for _, l := range leftOut {
		fmt.Fprintln(progress, "LEFT OUT:", l)
	}
	bench := &scenario.Bench{Contenders: chosen(all, *peers), Scale: scale, Progress: progress, Results: &report.Results{
		Date: time.Now().UTC(), Reduced: scale.Reduced, Machine: report.ThisMachine(), Commit: *commit,
		Versions: map[string]string{}, LeftOut: leftOut, Curves: map[string]report.Curve{},
	}}
	others := startOthers()
	err := bench.Run(ctx, list(*only)...)
	if note := others.note(); note != "" {
		bench.Results.Notes = append(bench.Results.Notes, note)
		fmt.Fprintln(progress, note)
	}
	bench.Results.Text(out)
	if err != nil {
		return err
	}
	if *docs != "" {
		if err := write(*docs, bench.Results, all); err != nil {
			return err
		}
	}
	for _, f := range bench.Results.Failures {
		if f.Contender == contender.Tidings || f.Contender == contender.TidingsServe {
			return fmt.Errorf("%s failed in %s: %s", f.Contender, f.Scenario, f.Error)
		}
	}
	return nil
}

func list(commas string) []string {
	return strings.FieldsFunc(commas, func(r rune) bool { return r == ',' || r == ' ' })
}

func chosen(all []contender.Contender, names string) []contender.Contender {
	if names == "" {
		return all
	}
	var some []contender.Contender
	for _, name := range list(names) {
		for _, c := range all {
			if c.Name == name {
				some = append(some, c)
			}
		}
	}
	return some
}

// write writes the page, the plots and the raw results.
func write(docs string, r *report.Results, all []contender.Contender) error {
	var named []report.Contender
	for _, c := range all {
		named = append(named, report.Contender{Name: c.Name, Title: c.Title, About: c.About})
	}
	beside := filepath.Join(docs, "benchmarks")
	if err := os.MkdirAll(beside, 0o755); err != nil {
		return err
	}
	plots := r.Plots(named)
	for _, p := range plots {
		if err := os.WriteFile(filepath.Join(beside, p.File), p.SVG, 0o644); err != nil {
			return err
		}
	}
	var page, raw bytes.Buffer
	if err := r.Page(&page, named, plots); err != nil {
		return err
	}
	if err := r.Write(&raw); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(beside, "results.json"), raw.Bytes(), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(docs, "benchmarks.md"), page.Bytes(), 0o644)
}
