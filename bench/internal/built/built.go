// Package built builds, for tests, the programs that a benchmark starts.
package built

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// Programs returns a directory with what ci/bench.sh builds, but for the benchmark itself. Without a C compiler there is no
// floor in it. root is the path of this module's directory.
func Programs(t testing.TB, root string) string {
	t.Helper()
	bin := t.TempDir()
	commands := [][]string{
		{"go", "-C", root, "build", "-o", bin, "./cmd/benchserver"},
		{"go", "-C", filepath.Join(root, ".."), "build", "-o", bin, "./cmd/tidings"},
	}
	if cc, err := exec.LookPath("cc"); err == nil {
		commands = append(commands, []string{cc, "-Wall", "-Wextra", "-Werror", "-O2", "-o", filepath.Join(bin, "floor"), filepath.Join(root, "floor", "floor.c")})
	}
	for _, c := range commands {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", c, err, out)
		}
	}
	return bin
}
