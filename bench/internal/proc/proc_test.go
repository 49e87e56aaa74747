package proc_test

import (
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/tidings-sse/tidings/bench/internal/proc"
)

func TestCPUTimeIsReadWhateverAProcessIsCalled(t *testing.T) {
	for stat, want := range map[string]time.Duration{
		"42 (nginx) S 1 42 42 0 -1 4194560 500 0 0 0 150 50 7 3 20 0 1 0 100 1000 10":      2100 * time.Millisecond,
		"42 (a) b (c) 9) R 1 42 42 0 -1 4194560 500 0 0 0 1 0 0 0 20 0 1 0 100 1000 10 \n": 10 * time.Millisecond,
	} {
		if got, err := proc.ParseStat([]byte(stat)); err != nil || got != want {
			t.Errorf("%q: got %v, %v, want %v", stat, got, err, want)
		}
	}
	for _, stat := range []string{"", "42 (x", "42 (x) S 1 2", "42 (x) S 1 42 42 0 -1 4194560 500 0 0 0 a 50 7 3 20"} {
		if got, err := proc.ParseStat([]byte(stat)); err == nil {
			t.Errorf("%q: got %v", stat, got)
		}
	}
}

func TestMemoryIsTheProportionalSetSize(t *testing.T) {
	const rollup = "00400000-7ffd [rollup]\nRss:                2048 kB\nPss:                1024 kB\nPss_Dirty: 12 kB\n"
	if got, err := proc.ParseRollup([]byte(rollup)); err != nil || got != 1<<20 {
		t.Errorf("got %d, %v", got, err)
	}
	if got, err := proc.ParseRollup([]byte("Rss: 2048 kB\n")); err == nil {
		t.Errorf("got %d without a Pss", got)
	}
}

func TestAMachineIsBusyWhenItIsNotIdle(t *testing.T) {
	const stat = "cpu  100 20 30 9999 888 4 5 6 70 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n"
	if got, err := proc.ParseBusy(stat); err != nil || got != 1650*time.Millisecond {
		t.Errorf("got %v, %v", got, err)
	}
	for _, stat := range []string{"", "cpu 1 2", "cpu 1 2 3 4 5 6 7 x 0 0", "intr 1 2 3 4 5 6 7 8 9"} {
		if got, err := proc.ParseBusy(stat); err == nil {
			t.Errorf("%q: got %v", stat, got)
		}
	}
}

func TestKernelMemoryIsWhatIsQueuedAndPutBy(t *testing.T) {
	const shown = `0      0      127.0.0.1:8080   127.0.0.77:40000 skmem:(r0,rb131072,t0,tb87040,f1024,w65536,o0,bl0,d0)
0      99      127.0.0.1:8080   127.0.0.77:40001 skmem:(r512,rb131072,t0,tb87040,f0,w0,o0,bl0,d0)
`
	if got, err := proc.ParseSocketMemory(shown); err != nil || !slices.Equal(got, []int64{66560, 512}) {
		t.Errorf("got %d, %v", got, err)
	}
	if got, err := proc.ParseSocketMemory("skmem:(r0,w1"); err == nil {
		t.Errorf("got %d of a line that was cut", got)
	}
}

func TestAProcessIsMeasuredWithItsChildren(t *testing.T) {
	sh := exec.Command("sh", "-c", "exec 3<&0; sh -c 'read line <&3; :' & echo; wait")
	stdin, err := sh.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := sh.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := sh.Start(); err != nil {
		t.Fatal(err)
	}
	defer sh.Wait()
	defer stdin.Close()
	if _, err := stdout.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if tree := proc.Tree(sh.Process.Pid); len(tree) != 2 {
		t.Errorf("the processes are %v, want 2", tree)
	}
	if m, err := proc.Memory(sh.Process.Pid); err != nil || m < 100<<10 {
		t.Errorf("they have %d bytes, %v", m, err)
	}
	if cpu, err := proc.CPU(os.Getpid()); err != nil || cpu < 0 {
		t.Errorf("this process has used %v, %v", cpu, err)
	}
	if cpu, err := proc.CPU(1 << 30); err == nil {
		t.Errorf("a process that doesn't exist has used %v", cpu)
	}
}
