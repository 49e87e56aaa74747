package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// startBrowser starts a headless Chromium, which ends with the test. Each tab is a child of the context.
func startBrowser(t *testing.T, more ...chromedp.ExecAllocatorOption) context.Context {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "headless-shell"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		t.Skip("SKIPPED: nothing was tested in a browser, because there is no Chromium or Chrome on PATH: run ci/install.sh")
	}
	flags := []chromedp.ExecAllocatorOption{chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.WSURLReadTimeout(2 * within)}
	for _, flag := range []string{
		"headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "no-default-browser-check",
		"disable-background-networking", "disable-component-update", "disable-sync", "disable-default-apps", "disable-extensions",
		"disable-dev-shm-usage", "hide-scrollbars", "mute-audio",
		// A tab that is not in front is to run as any other.
		"disable-background-timer-throttling", "disable-backgrounding-occluded-windows", "disable-renderer-backgrounding",
	} {
		flags = append(flags, chromedp.Flag(flag, true))
	}
	flags = append(flags, more...)
	allocator, stop := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), flags...)
	browser, _ := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(browser, within)
		defer cancel()
		if err := chromedp.Cancel(ctx); err != nil {
			t.Logf("closing the browser: %v", err)
		}
		stop()
		chromedp.FromContext(browser).Allocator.Wait()
	})
	if err := chromedp.Do(browser); err != nil {
		t.Fatalf("starting %s: %v", path, err)
	}
	return browser
}

// tab is a tab of the browser.
type tab struct {
	ctx context.Context

	mu         sync.Mutex // guards what follows
	complaints []string   // errors and warnings: the page's, and the browser's about it
}

// newTab opens an empty tab, which is closed with the test. printed, if not nil, gets what the page gives to console.log.
func newTab(t *testing.T, browser context.Context, printed func(string)) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser)
	b := &tab{ctx: ctx}
	messages := chromedp.Console(ctx)
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		for m, err := range messages {
			switch {
			case err != nil:
				return // the tab is closed
			case m.Type == chromedp.ConsoleLog && printed != nil:
				printed(m.Text)
			case m.Type == chromedp.ConsoleError, m.Type == chromedp.ConsoleWarning, m.Type == "assert", m.IsException():
				b.complain(m)
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-heard
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *tab) complain(m chromedp.ConsoleMessage) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.complaints = append(b.complaints, fmt.Sprintf("%s %s: %s (%s:%d)", m.Source, m.Type, m.Text, m.URL, m.Line+1))
}

// complained returns the errors and warnings since the last call.
func (b *tab) complained() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.complaints
	b.complaints = nil
	return c
}

// do runs the actions.
func (b *tab) do(t *testing.T, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, within)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		t.Fatalf("in the browser: %v", err)
	}
}

// until waits until a JavaScript expression is truthy.
func (b *tab) until(t *testing.T, what, expression string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, within+time.Second)
	defer cancel()
	poll := chromedp.Poll[chromedp.Void](expression, chromedp.WithPollingInterval(20*time.Millisecond), chromedp.WithPollingTimeout(within))
	if err := chromedp.Do(ctx, poll); err != nil {
		t.Fatalf("still not so: %s (%s): %v\nthe page shows:\n%s\nand complained: %q", what, expression, err, value[string](t, b, `document.body.innerText`), b.complained())
	}
}

// value evaluates a JavaScript expression.
func value[T any](t *testing.T, b *tab, expression string) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, within)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		t.Fatalf("in the browser: %s: %v", expression, err)
	}
	return v
}
