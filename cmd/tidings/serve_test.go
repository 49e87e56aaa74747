package main

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/tidings-sse/tidings/internal/server"
)

// parse returns the configuration that serve would run with.
func parse(t testing.TB, args ...string) (server.Config, error) {
	t.Helper()
	c := &cli{}
	parser, err := kong.New(c)
	if err != nil {
		t.Fatal(err)
	}
	_, err = parser.Parse(append([]string{"serve"}, args...))
	return c.Serve.Config, err
}

// file writes a configuration file.
func file(t testing.TB, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "tidings.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestFlagsWinOverTheEnvironmentAndThatOverTheFile(t *testing.T) {
	name := file(t, "max-topics: 1\nmax-targets: 1\nmax-connections: 1\nallow-host: [file.example, other.example]\nallow-origin: https://file.example\ninsecure: true\nlog-level: warn\nmax-event-bytes: 64KiB\n")
	t.Setenv("TIDINGS_MAX_TOPICS", "2")
	t.Setenv("TIDINGS_MAX_TARGETS", "2")
	t.Setenv("TIDINGS_ALLOW_ORIGIN", "https://a.example,https://b.example")
	t.Setenv("TIDINGS_INSECURE", "false")
	t.Setenv("TIDINGS_HISTORY_AGE", "1h")
	cfg, err := parse(t, "--config", name, "--max-topics", "3", "--allow-host=flag.example", "--allow-host=more.example")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		from      string
		got, want any
	}{
		{"flag, over environment and file", cfg.MaxTopics, server.Count(3)},
		{"flag, over a list in the file", cfg.AllowHost, []string{"flag.example", "more.example"}},
		{"environment, over the file", cfg.MaxTargets, server.Count(2)},
		{"environment, over a value in the file", cfg.AllowOrigin, []string{"https://a.example", "https://b.example"}},
		{"environment that says no, over the file", cfg.Insecure, false},
		{"environment", cfg.HistoryAge, server.Duration(time.Hour)},
		{"file", cfg.MaxConnections, server.Count(1)},
		{"file, with a unit", cfg.MaxEventBytes, server.Size(64 << 10)},
		{"file, of a few words", cfg.LogLevel, "warn"},
		{"default", cfg.HeartbeatInterval, server.Duration(30 * time.Second)},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s: got %v, want %v", c.from, c.got, c.want)
		}
	}
	t.Setenv("TIDINGS_CONFIG", name)
	if cfg, err := parse(t); err != nil || cfg.MaxConnections != 1 || !reflect.DeepEqual(cfg.AllowHost, []string{"file.example", "other.example"}) {
		t.Errorf("with the file named by the environment: %+v, %v", cfg, err)
	}
}

func TestAMistakeInTheConfigurationSaysWhereItIs(t *testing.T) {
	for text, want := range map[string]string{
		"addr: 127.0.0.1:0\nheartbeat-intervall: 10s": `line 2: "heartbeat-intervall" is not a key: did you mean heartbeat-interval?`,
		"heartbeatInterval: 30000":                    `did you mean heartbeat-interval?`,
		"config: other.yaml":                          `"config" is not a key`,
		"help: true":                                  `"help" is not a key`,
		"max-topics: 1\nheartbeat-interval: 30000":    `line 2: "30000" has no unit`,
		"max-event-bytes: 1.5MiB":                     `line 1: "1.5MiB" is not a size`,
		"max-topics: many":                            `line 1: "many" is not a whole number`,
		"insecure: perhaps":                           `line 1: bool value`,
		"addr: [a, b]":                                `it takes one value, not a list`,
		"log-level: loud":                             `--log-level must be one of`,
	} {
		name := file(t, text)
		out := run(t, "", "serve", "--config", name)
		if out.code != exitUsage || !strings.Contains(out.stderr, want) {
			t.Errorf("%q: got %+v, want %q", text, out, want)
		}
		if strings.Contains(want, "line") && !strings.Contains(out.stderr, name) {
			t.Errorf("%q: the error doesn't name the file: %s", text, out.stderr)
		}
	}
	if out := run(t, "", "serve", "--config", filepath.Join(t.TempDir(), "absent.yaml")); out.code == exitOK || !strings.Contains(out.stderr, "absent.yaml") {
		t.Errorf("got %+v", out)
	}
	t.Setenv("TIDINGS_MAX_TOPICS", "many")
	if out := run(t, "", "serve"); out.code == exitOK || !strings.Contains(out.stderr, "TIDINGS_MAX_TOPICS") {
		t.Errorf("got %+v", out)
	}
}

func TestOtherCommandsDontReadTheConfiguration(t *testing.T) {
	t.Setenv("TIDINGS_CONFIG", file(t, "nonsense: true"))
	t.Setenv("TIDINGS_MAX_TOPICS", "many")
	if out := run(t, "", "version"); out.code != exitOK {
		t.Errorf("got %+v", out)
	}
}

func TestEachFlagOfServeHasAVariableAndAKeyOfItsName(t *testing.T) {
	parser, err := kong.New(&cli{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../docs/tidings.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range parser.Model.Children {
		if command.Name != "serve" {
			continue
		}
		for _, f := range command.Flags {
			if f.Name == "help" {
				continue
			}
			want := "TIDINGS_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
			if len(f.Envs) != 1 || f.Envs[0] != want {
				t.Errorf("--%s has the variables %v, want %s", f.Name, f.Envs, want)
			}
			if f.Name != "config" && !strings.Contains(string(text), "\n"+f.Name+": ") {
				t.Errorf("docs/tidings.yaml lacks %s", f.Name)
			}
		}
	}
}

func TestTheExampleConfigurationIsTheDefaults(t *testing.T) {
	want, err := parse(t)
	if err != nil {
		t.Fatal(err)
	}
	got, err := parse(t, "--config", "../../docs/tidings.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestServeRefusesWhatIsNotLoopback(t *testing.T) {
	out := run(t, "", "serve", "--addr", "0.0.0.0:0")
	if out.code != exitFailed || out.stdout != "" || !strings.HasPrefix(out.stderr, "tidings: refusing to listen on 0.0.0.0:0") || strings.Count(out.stderr, "\n") != 1 {
		t.Errorf("got %+v", out)
	}
}

func TestAnAddressInUseIsOneLine(t *testing.T) {
	url, _ := serve(t)
	out := run(t, "", "serve", "--addr", strings.TrimPrefix(url, "http://"))
	if out.code != exitFailed || !strings.Contains(out.stderr, "in use by another program") || strings.Count(out.stderr, "\n") != 1 {
		t.Errorf("got %+v", out)
	}
}

// process is the program as a process of its own.
type process struct {
	*exec.Cmd
	stdout *bufio.Reader
	stderr *buffer
	url    string
}

func startProcess(t *testing.T, args ...string) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return startCommand(t, append([]string{exe, "serve", "--addr", "127.0.0.1:0"}, args...)...)
}

func startCommand(t *testing.T, command ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.CommandContext(t.Context(), command[0], command[1:]...), stderr: &buffer{}}
	p.Env = append(os.Environ(), asProgram+"=1")
	p.Stderr = p.stderr
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Process.Kill(); _ = p.Wait() })
	p.stdout = bufio.NewReader(out)
	line, err := p.stdout.ReadString('\n')
	if err != nil {
		t.Fatalf("%v: %s", err, p.stderr.String())
	}
	p.url = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(line), "Demo: "), "/sse-demo")
	return p
}

// wait returns how the process ended.
func (p *process) wait(t *testing.T) *os.ProcessState {
	t.Helper()
	watch := time.AfterFunc(within, func() { _ = p.Process.Kill() })
	defer watch.Stop()
	err := p.Wait()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	return p.ProcessState
}

// stream opens a stream of the process.
func (p *process) stream(t *testing.T) *bufio.Reader {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(p.url + "/api/sse")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	r := bufio.NewReader(res.Body)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line == "\n" {
			return r
		}
	}
}

func TestSIGTERMEndsStreamsInOrder(t *testing.T) {
	p := startProcess(t, "--drain-window", "100ms")
	r := p.stream(t)
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(r)
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the stream ended with %v, and not truncated", err)
	}
	if !strings.HasPrefix(string(rest), "retry: ") || !strings.Contains(string(rest), "event: tidings.disconnected\n") || !strings.HasSuffix(string(rest), "\n\n") {
		t.Errorf("the stream ended with %q", rest)
	}
	if state := p.wait(t); state.ExitCode() != exitOK {
		t.Errorf("it ended with %v: %s", state, p.stderr.String())
	}
}

func TestASecondSignalEndsItAtOnce(t *testing.T) {
	p := startProcess(t, "--drain-window", "10m")
	p.stream(t) // ended at once
	p.stream(t) // in the middle of the window
	if err := p.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it drains", func() bool { return strings.Contains(p.stderr.String(), "draining") })
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	state := p.wait(t)
	if status, ok := state.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.Signal() != syscall.SIGTERM {
		t.Errorf("it ended with %v: %s", state, p.stderr.String())
	}
}
