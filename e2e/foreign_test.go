package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tidings-sse/tidings"
	gosse "github.com/tmaxmax/go-sse"
)

// Clients that this project did not write must lose nothing and get nothing twice, whatever happens to their connection.

const foreignID = "foreign" // the clientId of all of them

// foreign is a client under test: start has it listen until the test ends, and put what it gets into the visit's inbox.
type foreign struct {
	name  string
	start func(*testing.T, *visit)

	// earlyID is whether it takes an id from its line, before the event that the id stands in is whole.
	earlyID bool

	tellsOfLoss string // what it puts into the inbox when its stream was lost; empty if nothing
}

func TestForeignClientsResumeWithoutLossOrDuplicate(t *testing.T) {
	for _, client := range []foreign{
		{name: "tmaxmax go-sse", start: startGoSSE},
		{name: "npm eventsource", start: startNode("eventsource.mjs")},
		{name: "npm fetch-event-source", start: startNode("fetch-event-source.mjs"), earlyID: true},
	} {
		t.Run(client.name, client.testResume)
	}
}

// testResume has each of the faults happen to the client.
func (client foreign) testResume(t *testing.T) {
	for _, fault := range faults {
		if fault.early && client.earlyID {
			continue // it loses the event, whatever the server does
		}
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			v := newVisit(t)
			leave := v.occupy(t)
			client.start(t, v)
			eventually(t, "it is refused while the server is full", func() bool { return v.inbox.count("tidings.unavailable") > 0 })
			leave()
			eventually(t, "it is online", func() bool { return v.srv.online(tidings.Target{ClientID: foreignID}) == 1 })
			v.send(t, 3)
			v.complete(t)

			fault.strike(t, v)
			v.complete(t)
			eventually(t, "it is back", func() bool { return v.srv.online(tidings.Target{ClientID: foreignID}) == 1 })
			v.send(t, 1) // live again; and a duplicate of what it has would show now
			v.complete(t)

			resumes := v.inbox.resumes(t)
			if len(resumes) < 2 || resumes[0] != "none" || slices.ContainsFunc(resumes[1:], func(r string) bool { return r != "complete" }) {
				t.Errorf("its streams began as %q, want one none and then complete only", resumes)
			}
			if client.tellsOfLoss != "" && v.inbox.count(client.tellsOfLoss) == 0 {
				t.Errorf("its stream was lost, and it did not tell: no %s", client.tellsOfLoss)
			}
			if fault.wantOnEnd != "" && v.inbox.count(fault.wantOnEnd) == 0 {
				t.Errorf("it was not told: no %s", fault.wantOnEnd)
			}
		})
	}
}

// faults are what happens to a client that has the events up to 3 already. It is sent some more, and must get all.
var faults = []struct {
	name      string
	early     bool // it is torn between the line of an id and the blank line
	strike    func(*testing.T, *visit)
	wantOnEnd string // the event that tells the client of the end, if there is one
}{
	{name: "its connection is cut and the server is gone for a while", strike: func(t *testing.T, v *visit) {
		v.proxy.block()
		v.proxy.cut()
		v.goneFrom(t, v.srv)
		v.send(t, 4)
		v.proxy.unblock()
	}},
	{name: "torn in the middle of data", strike: tornAt(`"n":5`)},
	{name: "torn in the middle of an id", strike: tornAt(`"n":5}\nid: ..`)},
	{name: "torn behind the data's line", strike: tornAt(`"n":5}\n`)},
	{name: "torn behind the line of an id", early: true, strike: tornAt(`"n":5}\nid: \S+\n`)},
	{name: "torn in the middle of its replay", strike: func(t *testing.T, v *visit) {
		v.proxy.block()
		v.proxy.cut()
		v.goneFrom(t, v.srv)
		v.send(t, 80)
		v.proxy.tear(`"n":60}\nid`)
		v.proxy.unblock()
		eventually(t, "its replay is torn", func() bool { return v.proxy.tears() == 1 })
	}},
	{name: "torn before it has anything of its replay", strike: func(t *testing.T, v *visit) {
		v.proxy.block()
		v.proxy.cut()
		v.goneFrom(t, v.srv)
		v.send(t, 3)
		v.proxy.tear(`tidings\.connected\ndata: .*\n`)
		v.proxy.unblock()
		eventually(t, "its new stream is torn", func() bool { return v.proxy.tears() == 1 })
	}},
	{name: "the server disconnects it", wantOnEnd: "tidings.disconnected", strike: func(t *testing.T, v *visit) {
		if n, err := v.srv.hub.Disconnect(tidings.Target{ClientID: foreignID}); err != nil || n != 1 {
			t.Fatalf("%d were disconnected, %v", n, err)
		}
		v.send(t, 2)
	}},
	{name: "the server drains and another one takes over", wantOnEnd: "tidings.disconnected", strike: func(t *testing.T, v *visit) {
		other := serve(t, tidings.Options{Broker: v.log})
		v.proxy.switchTo(other.addr)
		v.srv.drain(t)
		v.srv = other
		v.send(t, 2)
	}},
	{name: "the server is full when it comes back", wantOnEnd: "tidings.unavailable", strike: func(t *testing.T, v *visit) {
		v.proxy.block()
		v.proxy.cut()
		v.goneFrom(t, v.srv)
		leave := v.occupy(t)
		v.proxy.unblock()
		before := v.inbox.count("tidings.unavailable")
		eventually(t, "it is refused twice", func() bool { return v.inbox.count("tidings.unavailable") >= before+2 })
		v.send(t, 3)
		leave()
	}},
}

// tornAt has the stream torn in the middle of event 5, and sends on.
func tornAt(at string) func(*testing.T, *visit) {
	return func(t *testing.T, v *visit) {
		v.proxy.tear(at)
		v.send(t, 2)
		eventually(t, "its stream is torn", func() bool { return v.proxy.tears() == 1 })
		v.send(t, 2)
	}
}

// visit is one client at one server, with a proxy between them.
type visit struct {
	log   *tidings.MemoryBroker
	srv   *server
	proxy *proxy
	inbox *inbox
	sent  int
}

// newVisit starts a server that has room for one connection.
func newVisit(t *testing.T) *visit {
	v := &visit{log: tidings.NewMemoryBroker(nil), inbox: new(inbox)}
	t.Cleanup(func() { _ = v.log.Close() })
	v.srv = serve(t, tidings.Options{Broker: v.log, MaxConnections: 1})
	v.proxy = newProxy(t, v.srv.addr)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("sent %d; it got %+v", v.sent, v.inbox.all)
		}
	})
	return v
}

// url returns where the client listens: the stream, behind the proxy.
func (v *visit) url() string { return "http://" + v.proxy.addr + "/api/sse?clientId=" + foreignID }

// send sends the next n events to the client.
func (v *visit) send(t *testing.T, n int) {
	t.Helper()
	for range n {
		v.sent++
		if _, err := v.srv.hub.NotifyClient(t.Context(), foreignID, "notification", map[string]int{"n": v.sent}); err != nil {
			t.Fatal(err)
		}
	}
}

// complete waits until the client has everything that was sent, and fails unless it has it in order and once.
func (v *visit) complete(t *testing.T) {
	t.Helper()
	eventually(t, fmt.Sprintf("it has all %d events", v.sent), func() bool { return v.inbox.count("notification") >= v.sent || v.inbox.failed() != "" })
	got := v.inbox.numbers(t)
	for i := range max(len(got), v.sent) {
		if i >= len(got) || got[i] != i+1 || i >= v.sent {
			t.Fatalf("it got %v, want 1 to %d, in order and once", got, v.sent)
		}
	}
	if f := v.inbox.failed(); f != "" {
		t.Fatal(f)
	}
}

// goneFrom waits until the server has noticed that the client is gone.
func (v *visit) goneFrom(t *testing.T, s *server) {
	t.Helper()
	eventually(t, "the server knows that it is gone", func() bool { return s.hub.Stats().Connections == 0 })
}

// occupy takes the server's one place until leave is called.
func (v *visit) occupy(t *testing.T) (leave func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+v.srv.addr+"/api/sse?clientId=occupant", nil)
	if err != nil {
		t.Fatal(err)
	}
	// The server may need a moment to learn that the one before has left.
	var res *http.Response
	eventually(t, "there is room for one", func() bool {
		if res, err = http.DefaultTransport.RoundTrip(req); err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != http.StatusOK {
			_ = res.Body.Close()
			return false
		}
		return true
	})
	eventually(t, "it is occupied", func() bool { return v.srv.online(tidings.Target{ClientID: "occupant"}) == 1 })
	return func() {
		cancel()
		_ = res.Body.Close()
	}
}

// received is one line of what a client reports.
type received struct {
	Type    string `json:"type"`
	Data    string `json:"data"`
	ID      string `json:"id"`
	Error   string `json:"error"`
	ForGood bool   `json:"forGood"` // it will not come back by itself
}

// inbox is what a client got. It may be used concurrently.
type inbox struct {
	mu  sync.Mutex
	all []received
}

func (b *inbox) add(r received) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all = append(b.all, r)
}

func (b *inbox) of(typ string) (rs []received) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.all {
		if r.Type == typ {
			rs = append(rs, r)
		}
	}
	return rs
}

func (b *inbox) count(typ string) int { return len(b.of(typ)) }

// failed says why the client gave up, if it did.
func (b *inbox) failed() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.all {
		if r.ForGood {
			return "it gave up: " + r.Error
		}
	}
	return ""
}

func (b *inbox) numbers(t *testing.T) (ns []int) {
	t.Helper()
	for _, r := range b.of("notification") {
		var d struct{ N int }
		if err := json.Unmarshal([]byte(r.Data), &d); err != nil || r.ID == "" {
			t.Fatalf("it got %+v: %v", r, err)
		}
		ns = append(ns, d.N)
	}
	return ns
}

// resumes returns how its streams began.
func (b *inbox) resumes(t *testing.T) (how []string) {
	t.Helper()
	for _, r := range b.of("tidings.connected") {
		var d struct{ Resume string }
		if err := json.Unmarshal([]byte(r.Data), &d); err != nil {
			t.Fatalf("it got %+v: %v", r, err)
		}
		how = append(how, d.Resume)
	}
	return how
}

// startGoSSE listens with github.com/tmaxmax/go-sse.
func startGoSSE(t *testing.T, v *visit) {
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, v.url(), nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	client := gosse.Client{HTTPClient: &http.Client{Transport: transport}}
	conn := client.NewConnection(req)
	conn.SubscribeToAll(func(e gosse.Event) { v.inbox.add(received{Type: e.Type, Data: e.Data, ID: e.LastEventID}) })
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := conn.Connect(); !errors.Is(err, context.Canceled) {
			v.inbox.add(received{Error: fmt.Sprint(err), ForGood: true})
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		transport.CloseIdleConnections()
	})
}

// startNode listens with a script of ./node.
func startNode(script string) func(*testing.T, *visit) {
	return func(t *testing.T, v *visit) {
		node, err := exec.LookPath("node")
		if err == nil {
			_, err = os.Stat("node/node_modules/.package-lock.json")
		}
		if err != nil {
			t.Skipf("SKIPPED: npm's clients were not tested, because Node.js or e2e/node/node_modules is missing (%v): run ci/install.sh", err)
		}
		cmd := exec.Command(node, script, v.url())
		cmd.Dir = "node"
		cmd.Stderr = &writer{t: t, prefix: script}
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for lines := bufio.NewScanner(stdout); lines.Scan(); {
				var r received
				if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
					r = received{Error: fmt.Sprintf("%s printed %q: %v", script, lines.Text(), err), ForGood: true}
				}
				v.inbox.add(r)
			}
		}()
		t.Cleanup(func() {
			_ = stdin.Close()
			kill := time.AfterFunc(within, func() {
				t.Errorf("%s does not end", script)
				_ = cmd.Process.Kill()
			})
			defer kill.Stop()
			<-ended
			if err := cmd.Wait(); err != nil {
				t.Errorf("%s: %v", script, err)
			}
		})
	}
}

// writer writes to the test's log.
type writer struct {
	t      testing.TB
	prefix string
}

func (w *writer) Write(p []byte) (int, error) {
	w.t.Logf("%s: %s", w.prefix, p)
	return len(p), nil
}
