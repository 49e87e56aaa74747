package e2e

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"testing"

	"github.com/chromedp/chromedp"
)

// The page is the seed's example of a front end, with the browser's own EventSource. It prints what it gets.
const seedPage = `<!doctype html>
<meta charset="utf-8">
<title>The seed's front end</title>
<script>
const print = (what) => console.log(JSON.stringify(what));

// Connect to SSE
const eventSource = new EventSource('/api/sse?clientId=` + foreignID + `');

// Listen for events
eventSource.addEventListener('notification', (event) => {
  const data = JSON.parse(event.data);
  print({type: 'notification', data: JSON.stringify(data), id: event.lastEventId});
});

// Handle connection events
eventSource.onopen = () => print({type: 'onopen'});
eventSource.onerror = () => {
  const forGood = eventSource.readyState === EventSource.CLOSED;
  print({type: 'onerror', forGood, error: forGood ? 'EventSource is closed' : ''});
};

for (const type of ['connected', 'gap', 'unavailable', 'disconnected']) {
  eventSource.addEventListener('tidings.' + type, (event) => print({type: event.type, data: event.data, id: event.lastEventId}));
}
</script>
`

func TestBrowserEventSourceResumesWithoutLossOrDuplicate(t *testing.T) {
	browser := startBrowser(t)
	foreign{name: "EventSource", start: startPage(browser), tellsOfLoss: "onerror"}.testResume(t)
}

// startPage listens with the seed's page, in a tab of its own.
func startPage(browser context.Context) func(*testing.T, *visit) {
	return func(t *testing.T, v *visit) {
		v.srv.mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = io.WriteString(w, seedPage)
		})
		v.srv.mux.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
		b := newTab(t, browser, func(line string) {
			var r received
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				r = received{Error: "the page printed " + line, ForGood: true}
			}
			v.inbox.add(r)
		})
		b.do(t, chromedp.Navigate("http://"+v.proxy.addr+"/"))
	}
}
