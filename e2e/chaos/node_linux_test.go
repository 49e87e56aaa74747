package chaos

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/tidings-sse/tidings/internal/natstest"
)

// A node is a "tidings serve" process, which may be started again at the same address.
type node struct {
	t    testing.TB
	name string
	addr string
	args []string

	mu   sync.Mutex
	cmd  *exec.Cmd
	gone chan struct{} // closed when the process has ended
	log  *os.File
}

// newNode starts a node.
func newNode(t testing.TB, name string, flags ...string) *node {
	t.Helper()
	n := &node{t: t, name: name, addr: fmt.Sprintf("127.0.0.1:%d", natstest.FreePort(t))}
	n.args = append([]string{
		"serve", "--addr", n.addr, "--retry-interval", "200ms", "--drain-window", "100ms",
		"--history-events", "2000000", "--history-bytes", "512MiB", "--max-replay-events", "1000000", "--max-replay-bytes", "256MiB",
	}, flags...)
	var err error
	if n.log, err = os.CreateTemp(t.TempDir(), name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.kill()
		if t.Failed() {
			b, _ := os.ReadFile(n.log.Name())
			lines := strings.SplitAfter(string(b), "\n")
			t.Logf("the end of the log of %s:\n%s", name, strings.Join(lines[max(0, len(lines)-60):], ""))
		}
		_ = n.log.Close()
	})
	n.start()
	return n
}

func (n *node) start() {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cmd = exec.Command(built.tidings, n.args...)
	n.cmd.Stderr = n.log
	n.cmd.Stdout = io.Discard
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	for _, env := range os.Environ() {
		if !strings.HasPrefix(env, "TIDINGS_") {
			n.cmd.Env = append(n.cmd.Env, env)
		}
	}
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.gone = make(chan struct{})
	go func(cmd *exec.Cmd, gone chan struct{}) {
		defer close(gone)
		_ = cmd.Wait()
	}(n.cmd, n.gone)
}

// running reports whether the process has not ended.
func (n *node) running() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-n.gone:
		return false
	default:
		return true
	}
}

// ready waits until the node serves streams.
func (n *node) ready() {
	n.t.Helper()
	eventually(n.t, n.name+" is ready", n.isReady)
}

func (n *node) isReady() error {
	res, err := client.Get("http://" + n.addr + "/readyz")
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%d %s", res.StatusCode, b)
	}
	return nil
}

// kill ends the process without warning.
func (n *node) kill() {
	n.mu.Lock()
	cmd, gone := n.cmd, n.gone
	n.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Signal(syscall.SIGKILL) // it may have ended
	<-gone
}

// client makes the requests that are short. It keeps no connection.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: within}
