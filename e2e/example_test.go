package e2e

import (
	"bufio"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/chromedp/chromedp"
)

func TestBrowserThePageOfTheExampleGetsAnEventByEachWay(t *testing.T) {
	browser := startBrowser(t)
	cmd := exec.Command(browserExample.built(t), "-addr", "127.0.0.1:0")
	var log lockedBuffer
	cmd.Stderr = &log
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_, _ = io.Copy(io.Discard, stdout)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the example ended with %v", err)
		}
		if t.Failed() {
			t.Logf("it said %s", log.String())
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	page, ok := strings.CutPrefix(strings.TrimSpace(line), "Open ")
	if !ok {
		t.Fatalf("it said %q, %v: %s", line, err, log.String())
	}
	b := newTab(t, browser, nil)
	b.do(t, chromedp.Navigate(page))
	ways := []string{"cookie", "ticket", "header"}
	has := func(way, what string) string {
		return "document.getElementById('" + way + "').textContent.includes('" + what + "')"
	}
	for _, way := range ways {
		b.until(t, way+" is connected", has(way, "connected, resume: none\\n"))
	}
	value[bool](t, b, "(document.getElementById('send').click(), true)")
	for _, way := range ways {
		b.until(t, way+" gets an event", has(way, "note 1\\n"))
	}
	if c := b.complained(); len(c) > 0 {
		t.Errorf("the browser complains: %q", c)
	}
}
