package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidings-sse/tidings/internal/natstest"
)

// behindNginx runs nginx with the configuration of deploy, in front of one server or two, and returns its URL.
func behindNginx(t *testing.T, backends ...string) string {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/nginx") // not everybody has that on PATH
	}
	if err != nil {
		t.Skip("SKIPPED: nginx is not installed: apt-get install nginx-light, or whatever your system calls it")
	}
	text, err := os.ReadFile(filepath.Join("..", "deploy", "nginx.conf"))
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", natstest.FreePort(t))
	dir := t.TempDir()
	here := fmt.Sprintf("http {\n    access_log off;\n    client_body_temp_path %[1]s/body;\n    proxy_temp_path %[1]s/proxy;\n"+
		"    fastcgi_temp_path %[1]s/fastcgi;\n    uwsgi_temp_path %[1]s/uwsgi;\n    scgi_temp_path %[1]s/scgi;", dir)
	const second = "server tidings-2:8080 max_fails=1 fail_timeout=2s;"
	other := ""
	if len(backends) > 1 {
		other = strings.Replace(second, "tidings-2:8080", backends[1], 1)
	}
	conf := "daemon off;\npid " + dir + "/pid;\nerror_log stderr;\n" + strings.NewReplacer(
		"worker_rlimit_nofile 200000;", "", "worker_connections 50000;", "worker_connections 500;", "worker_processes auto;", "worker_processes 1;",
		"tidings-1:8080", backends[0], second, other, "listen 80;", "listen "+addr+";", "http {", here,
	).Replace(string(text))
	name := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(name, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cmd := exec.Command(program, "-p", dir, "-e", "stderr", "-c", name)
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1) // what Wait returned, once
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		<-ended
		if t.Failed() {
			t.Log(said.String())
		}
	})
	for deadline := time.Now().Add(within); ; {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
			return "http://" + addr
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("nginx ended: %v: %s", err, said.String())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func TestManyEventsInOneRequestPassNginxAndAreAnsweredWhileTheyCome(t *testing.T) {
	p := run(t, "--jwt-secret", doorSecret, "--api-key", doorKey, "--trusted-proxy", "127.0.0.1", "--log-level", "error")
	url := behindNginx(t, p.addr)
	body, lines := io.Pipe()
	defer lines.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/api/sse/send", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	req.Header.Set("Authorization", "Bearer "+doorKey)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	line := `{"data":"` + strings.Repeat("x", 100<<10) + "\"}\n"
	const n = 30 // 3 MiB, in lines that are each below --max-event-bytes
	go func() { _, _ = io.WriteString(lines, line) }()
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answers := bufio.NewReader(res.Body)
	for i := range n {
		if i > 0 {
			if _, err := io.WriteString(lines, line); err != nil {
				t.Fatalf("line %d: %v", i+1, err)
			}
		}
		answer, err := answers.ReadString('\n')
		if err != nil || res.StatusCode != http.StatusOK || !strings.Contains(answer, `"id"`) {
			t.Fatalf("line %d: %s: %s, %v", i+1, res.Status, answer, err)
		}
	}
	tooLong, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/api/sse/session", strings.NewReader(strings.Repeat("x", 2<<20)))
	if err != nil {
		t.Fatal(err)
	}
	other, err := transport.RoundTrip(tooLong)
	if err != nil {
		t.Fatal(err)
	}
	_ = other.Body.Close()
	if other.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("elsewhere a body of 2 MiB is answered with %s", other.Status)
	}
}
