package contender

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Deadlines of a process.
const (
	startWithin = 20 * time.Second
	stopWithin  = 2 * time.Second // before it is killed
)

// A process is a child whose group ends with it, and with the benchmark.
type process struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	lines  chan string   // what it says; closed when it says no more
	ended  chan struct{} // closed when it has ended
	stderr *tail
	once   sync.Once // it is stopped
}

// startProcess starts the program. Its standard output is read by line, whether anybody wants it or not.
func startProcess(name string, args ...string) (*process, error) {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	p := &process{cmd: cmd, lines: make(chan string, 16), ended: make(chan struct{}), stderr: &tail{}}
	cmd.Stderr = p.stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.stdin = stdin
	started := make(chan error)
	go func() {
		// The death signal comes when the thread that started the child ends, so the thread stays for as long.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.ended)
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		s := bufio.NewScanner(stdout)
		for s.Scan() {
			select {
			case p.lines <- s.Text():
			default: // nobody reads what isn't an answer
			}
		}
		close(p.lines)
		_ = cmd.Wait() // how it ended is seen from what it didn't answer
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("can't start %s: %w", name, err)
	}
	return p, nil
}

// pid returns the process's id.
func (p *process) pid() int { return p.cmd.Process.Pid }

// ask writes a line, if it isn't empty, and returns the answer.
func (p *process) ask(ctx context.Context, line string) (string, error) {
	if line != "" {
		if _, err := io.WriteString(p.stdin, line+"\n"); err != nil {
			return "", p.failed(err)
		}
	}
	select {
	case answer, ok := <-p.lines:
		if !ok {
			return "", p.failed(errors.New("it ended"))
		}
		return answer, nil
	case <-ctx.Done():
		return "", p.failed(context.Cause(ctx))
	}
}

// failed adds what the process said on its standard error.
func (p *process) failed(err error) error {
	if said := p.stderr.String(); said != "" {
		return fmt.Errorf("%s: %w; it said: %s", filepath.Base(p.cmd.Path), err, said)
	}
	return fmt.Errorf("%s: %w", filepath.Base(p.cmd.Path), err)
}

// stop ends the process and its children, and returns when they have ended.
func (p *process) stop() { p.once.Do(p.end) }

func (p *process) end() {
	_ = p.stdin.Close()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(stopWithin):
	}
	_ = syscall.Kill(-p.pid(), syscall.SIGKILL) // whoever is left of the group, which may be nobody
	<-p.ended
}

// A tail keeps the last of what is written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const tailBytes = 2000

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if len(t.b) > tailBytes {
		t.b = append(t.b[:0], t.b[len(t.b)-tailBytes:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.b))
}
