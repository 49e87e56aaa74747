package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// The demo page, in a browser, served by the program.

const (
	alice = `.panel[data-panel="0"]`
	bob   = `.panel[data-panel="1"]`
)

func TestBrowserDemoShowsWhoGetsAnEventAndThatNothingIsLost(t *testing.T) {
	browser := startBrowser(t)
	p := run(t, "--retry-interval", "300ms")
	proxy := newProxy(t, p.addr)
	d := &demo{tab: newTab(t, browser, nil)}
	d.do(t, chromedp.EmulateViewport(1280, 1000), chromedp.Navigate("http://"+proxy.addr+"/sse-demo"))

	// It connects two clients, and shows both online.
	d.untilState(t, alice, "open")
	d.untilState(t, bob, "open")
	d.untilOnline(t, "alice-laptop", "bob-phone")

	// What is sent to one arrives at that one. The broadcast behind it is the first that the other one sees.
	toAlice := d.send(t, "clientId", "alice-laptop", 1)
	d.untilShown(t, alice, toAlice)
	toAll := d.send(t, "everyone", "", 2)
	d.untilShown(t, alice, toAll)
	d.untilShown(t, bob, toAll)
	d.wantShown(t, alice, toAlice, toAll)
	d.wantShown(t, bob, toAll)

	// Cut, and with events sent meanwhile, it resumes with them.
	d.choose(t, alice+` [data-field=hold]`, "manual")
	d.click(t, alice+` [data-action=cut]`)
	d.untilState(t, alice, "retrying")
	d.untilOnline(t, "bob-phone")
	missed := d.send(t, "clientId", "alice-laptop", 0)
	missedByOne := d.send(t, "everyone", "", 1)
	d.untilShown(t, bob, missedByOne)
	d.click(t, alice+` [data-action=resume]`)
	d.untilState(t, alice, "open")
	d.untilShown(t, alice, missed)
	d.untilShown(t, alice, missedByOne)
	d.until(t, "the panel says that nothing was lost", exists(alice+` .note[data-note=resumed]`))
	d.untilOnline(t, "alice-laptop", "bob-phone")
	d.wantShown(t, alice, toAlice, toAll, missed, missedByOne)
	d.wantShown(t, bob, toAll, missedByOne)

	if c := d.complained(); len(c) > 0 {
		t.Errorf("the page, or the browser about it, complained:\n%s", strings.Join(c, "\n"))
	}

	// Disconnected by the server, it comes back by itself.
	d.click(t, `#online-rows [aria-label="Disconnect bob-phone"]`)
	d.until(t, "bob is told", exists(bob+` .entry[data-type="tidings.disconnected"]`))
	d.untilState(t, bob, "open")
	d.untilOnline(t, "alice-laptop", "bob-phone")

	// The network is gone for a while. Both come back by themselves, with what they missed.
	proxy.block()
	proxy.cut()
	d.untilState(t, alice, "retrying")
	d.untilState(t, bob, "retrying")
	unseen := post(t, "http://"+p.addr+"/api/sse/send", `{"type": "notification", "data": {"message": "Hello!"}, "target": {"topic": "news"}}`).ID
	proxy.unblock()
	d.untilShown(t, alice, unseen)
	d.untilShown(t, bob, unseen)
	d.untilState(t, alice, "open")
	d.untilState(t, bob, "open")
	d.wantShown(t, alice, toAlice, toAll, missed, missedByOne, unseen)
	d.wantShown(t, bob, toAll, missedByOne, unseen)
	for _, c := range d.complained() {
		// The browser says itself that a request failed: streams that the server ends are truncated.
		if !strings.HasPrefix(c, "network error: Failed to load resource: net::ERR_") {
			t.Errorf("the page, or the browser about it, complained: %s", c)
		}
	}
}

// demo is the demo page in a tab.
type demo struct{ *tab }

func exists(selector string) string {
	return fmt.Sprintf("document.querySelector(%q) !== null", selector)
}

func (d *demo) click(t *testing.T, selector string) {
	t.Helper()
	d.until(t, "it can be clicked", fmt.Sprintf("(e => e && !e.hidden && !e.disabled)(document.querySelector(%q))", selector))
	d.do(t, chromedp.Click(chromedp.CSS(selector)))
}

// choose enters a value as a person would, as far as the page can tell.
func (d *demo) choose(t *testing.T, selector, choice string) {
	t.Helper()
	value[chromedp.Void](t, d.tab, fmt.Sprintf(`(e => {
		e.value = %q;
		e.dispatchEvent(new Event('input', {bubbles: true}));
		e.dispatchEvent(new Event('change', {bubbles: true}));
	})(document.querySelector(%q))`, choice, selector))
}

// send sends an event with the form, and returns its id. The receipt must say that it matched so many.
func (d *demo) send(t *testing.T, kind, whom string, matched int) (id string) {
	t.Helper()
	const receipt = `document.querySelector('#receipt').dataset`
	before := value[string](t, d.tab, receipt+`.id ?? ''`)
	d.choose(t, "#send-target-kind", kind)
	if kind != "everyone" {
		d.choose(t, "#send-target-value", whom)
	}
	d.click(t, "#send-button")
	d.until(t, "the receipt shows", fmt.Sprintf(`%[1]s.status === 'accepted' && %[1]s.id !== %[2]q`, receipt, before))
	if got := value[string](t, d.tab, receipt+`.matched`); got != fmt.Sprint(matched) {
		t.Errorf("to %s %s, the receipt says that %s matched, want %d", kind, whom, got, matched)
	}
	return value[string](t, d.tab, receipt+`.id`)
}

func (d *demo) untilState(t *testing.T, panel, state string) {
	t.Helper()
	d.until(t, "the panel is "+state, exists(panel+fmt.Sprintf(`[data-state=%s]`, state)))
}

func (d *demo) untilShown(t *testing.T, panel, id string) {
	t.Helper()
	d.until(t, "the panel shows the event", exists(panel+fmt.Sprintf(` .entry.event[data-id=%q]`, id)))
}

// untilOnline waits until these clients are shown as online, and no others.
func (d *demo) untilOnline(t *testing.T, clients ...string) {
	t.Helper()
	const shown = `[...document.querySelectorAll('#online-rows tr')].map(row => row.cells[0].innerText.trim()).sort().join()`
	d.until(t, "these are online, and nobody else", fmt.Sprintf(`%s === %q && document.querySelector('[data-online-count]').innerText === '%d'`, shown, strings.Join(clients, ","), len(clients)))
}

// wantShown fails unless a panel shows exactly these events, in order, and counts no gap and no duplicate.
func (d *demo) wantShown(t *testing.T, panel string, ids ...string) {
	t.Helper()
	got := value[string](t, d.tab, fmt.Sprintf(`[...document.querySelectorAll(%q)].map(entry => entry.dataset.id).join()`, panel+" .entry.event"))
	if want := strings.Join(ids, ","); got != want {
		t.Errorf("the panel shows %s, want %s", got, want)
	}
	// The counts are drawn a moment later.
	d.until(t, "the panel counts these events, no duplicate and no gap", fmt.Sprintf(`(({events, duplicates, gaps}) => [events, duplicates, gaps].join())(document.querySelector(%q).dataset) === '%d,0,0'`, panel, len(ids)))
}
