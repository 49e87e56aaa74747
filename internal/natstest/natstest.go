//go:build linux

// Package natstest runs NATS servers as processes of their own, for tests: built from the module that this one names.
package natstest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// within is how long a server may take to start, on a machine that is busy.
const within = 60 * time.Second

// Binary returns the path of a nats-server, which is built if it was not yet. The build cache is Go's.
func Binary(t testing.TB, into string) string {
	t.Helper()
	bin := filepath.Join(into, "nats-server")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "github.com/nats-io/nats-server/v2").CombinedOutput(); err != nil { // #nosec G204 -- a test names the directory
		t.Fatalf("building nats-server: %v\n%s", err, out)
	}
	return bin
}

// A Server is a nats-server process. It is killed when the test ends.
type Server struct {
	Dir  string // its files
	Port int

	t    testing.TB
	bin  string
	args []string

	mu  sync.Mutex
	cmd *exec.Cmd
	log strings.Builder
}

// Config is what a server is to be like.
type Config struct {
	Dir  string // default: a temporary one
	Port int    // default: a free one
	More string // further lines of its configuration
}

// Start starts a server with JetStream on loopback, and waits until it takes connections.
func Start(t testing.TB, bin string, c Config) *Server {
	t.Helper()
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	if c.Port == 0 {
		c.Port = FreePort(t)
	}
	s := &Server{Dir: c.Dir, Port: c.Port, t: t, bin: bin}
	file := filepath.Join(t.TempDir(), "nats.conf")
	text := fmt.Sprintf("listen: 127.0.0.1:%d\nmax_payload: 8MB\n", c.Port) + c.More
	if !strings.Contains(c.More, "jetstream") {
		text += fmt.Sprintf("\njetstream { store_dir: %q, sync_interval: 1s, max_file_store: 1TB }\n", c.Dir)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.args = []string{"-c", file}
	t.Cleanup(s.Kill)
	s.Run()
	s.Await()
	return s
}

// URL returns where clients connect.
func (s *Server) URL() string { return fmt.Sprintf("nats://127.0.0.1:%d", s.Port) }

// Run starts the process.
func (s *Server) Run() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		s.t.Fatal("the NATS server is running already")
	}
	s.cmd = exec.Command(s.bin, s.args...) // #nosec G204 -- a test starts the server that it has built
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	r, w := io.Pipe()
	s.cmd.Stderr = w
	go func() {
		for lines := bufio.NewScanner(r); lines.Scan(); {
			s.mu.Lock()
			s.log.WriteString(lines.Text() + "\n")
			s.mu.Unlock()
		}
	}()
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func(cmd *exec.Cmd) {
		_ = cmd.Wait()
		_ = w.Close()
	}(s.cmd)
}

// Await waits until the server takes connections.
func (s *Server) Await() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	if err := Reachable(ctx, fmt.Sprintf("127.0.0.1:%d", s.Port)); err != nil {
		s.t.Fatalf("the NATS server did not start: %v\n%s", err, s.Log())
	}
}

// Log returns what the server wrote.
func (s *Server) Log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// Kill ends the process without warning, and waits for its end.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

// Stop ends the process in order, and waits for its end.
func (s *Server) Stop() { s.end(syscall.SIGTERM) }

func (s *Server) end(with syscall.Signal) {
	s.mu.Lock()
	cmd := s.cmd
	s.cmd = nil
	s.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Signal(syscall.SIGCONT)
	_ = cmd.Process.Signal(with)
	Gone(cmd.Process)
}

// Pause stops the process where it is, and returns when it has stopped. Resume has it go on.
func (s *Server) Pause() {
	s.signal(syscall.SIGSTOP)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !s.stopped() {
		<-tick.C
	}
}

// Resume has a process go on that was paused.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

// stopped reports whether every thread of the process stands still, where the system says so: a signal takes a moment.
func (s *Server) stopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return true
	}
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", s.cmd.Process.Pid))
	if err != nil {
		return true
	}
	for _, file := range threads {
		b, err := os.ReadFile(file)
		if _, state, ok := strings.Cut(string(b), ") "); err == nil && ok && state[0] != 'T' {
			return false
		}
	}
	return true
}

func (s *Server) signal(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		_ = s.cmd.Process.Signal(sig)
	}
}

// Gone waits until a process that was ended, and that somebody waits for, is not there any more.
func Gone(p *os.Process) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for p.Signal(syscall.Signal(0)) == nil {
		<-tick.C
	}
}

// Reachable waits until something listens at an address.
func Reachable(ctx context.Context, addr string) error {
	var d net.Dialer
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := d.DialContext(ctx, "tcp", addr)
		if err == nil {
			return c.Close()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
}

// Cluster starts n servers that form a cluster.
func Cluster(t testing.TB, bin string, n int) []*Server {
	t.Helper()
	routes := make([]string, n)
	ports := FreePorts(t, n)
	for i := range n {
		routes[i] = fmt.Sprintf("nats://127.0.0.1:%d", ports[i])
	}
	servers := make([]*Server, n)
	for i := range n {
		servers[i] = Start(t, bin, Config{More: fmt.Sprintf("server_name: n%d\ncluster { name: test, listen: 127.0.0.1:%d, routes: [%s] }\n", i, ports[i], strings.Join(routes, ", "))})
	}
	return servers
}
