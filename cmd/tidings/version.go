package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

type versionCmd struct{}

// Run prints one line: the version, what it was built from, and with what.
func (versionCmd) Run(p *program) error {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	_, err := fmt.Fprintln(p.stdout, describeBuild(info))
	return err
}

func describeBuild(info *debug.BuildInfo) string {
	version, from := info.Main.Version, ""
	if version == "" {
		version = "(devel)"
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && s.Value != "":
			from = " " + s.Value[:min(12, len(s.Value))] + from
		case s.Key == "vcs.modified" && s.Value == "true":
			from += " with changes"
		}
	}
	return fmt.Sprintf("tidings %s%s, %s %s/%s", version, from, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
