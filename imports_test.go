package tidings_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestTheLibraryImportsTheStandardLibraryAndXSysOnly(t *testing.T) {
	const module = "github.com/tidings-sse/tidings"
	allowed := []string{module, module + "/sse", module + "/internal/engine", module + "/internal/ring"}
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	deps := strings.Fields(string(out))
	if !slices.Contains(deps, module) {
		t.Fatalf("go list answered %q", deps)
	}
	for _, dep := range deps {
		if !slices.Contains(allowed, dep) && !strings.HasPrefix(dep, "golang.org/x/sys/") {
			t.Errorf("the root package depends on %s", dep)
		}
	}
}
