package e2e

import (
	"encoding/json"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// flooder is e2e/flooder while it runs.
type flooder struct {
	cmd    *exec.Cmd
	stdout strings.Builder
	stderr strings.Builder
}

// flooded is what it did, as it says, and what that took of processors.
type flooded struct {
	Done, Cut, Failed int64
	Wrong             []string
	Processors        time.Duration
}

// startFlooder floods for so long.
func startFlooder(t *testing.T, addr string, what flood, lasts time.Duration, token string) *flooder {
	t.Helper()
	f := &flooder{cmd: exec.Command(flooderProgram.built(t), "-addr", addr, "-kind", what.kind, "-n", strconv.Itoa(what.n), "-for", lasts.String(), "-token", token)}
	f.cmd.Stdout, f.cmd.Stderr = &f.stdout, &f.stderr
	if err := f.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if f.cmd.ProcessState == nil { // the test has failed before it was waited for
			_ = f.cmd.Process.Kill()
			_ = f.cmd.Wait()
		}
	})
	return f
}

// end waits until the flood is over.
func (f *flooder) end(t *testing.T) (did flooded) {
	t.Helper()
	if err := f.cmd.Wait(); err != nil {
		t.Fatalf("the flooder: %v\n%s", err, f.stderr.String())
	}
	if err := json.Unmarshal([]byte(f.stdout.String()), &did); err != nil {
		t.Fatalf("the flooder said %q: %v", f.stdout.String(), err)
	}
	did.Processors = f.cmd.ProcessState.UserTime() + f.cmd.ProcessState.SystemTime()
	return did
}
