package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidings-sse/tidings"
)

// What the soak does.
const (
	soakListeners    = 700
	soakEventsPerSec = 200
	soakCutsPerSec   = 5
	soakLeastCuts    = 120 // a short run is cut as often as one of 24 s
	soakMostAway     = 3 * time.Second
	soakMarker       = "soak.end"
)

// soak is one run: a hub under load, listeners that are cut and come back, and a model of who must get what.
type soak struct {
	t     *testing.T
	srv   *server
	seed  uint64
	http  *http.Client
	addrs [soakKinds]string // host:port

	listeners []*listener
	over      chan struct{} // closed when the load has ended: nobody stays away any more
	leaving   chan struct{} // closed when all is there: who is cut now doesn't come back
	cuts      [cutKinds]atomic.Int64
	resumes   atomic.Int64
	missed    atomic.Int64 // events that were sent while their listener was away, and that it then got
	late      atomic.Int64 // the longest wait of a sender for its turn, in nanoseconds

	forgetting sync.RWMutex // held for reading by each listener that has forgotten its cursor; guards what follows
	remembers  bool         // nobody forgets any more

	mu   sync.Mutex // guards what follows
	sent []*planned // by number
}

// How a connection is cut.
type cutKind int

const (
	cutClosed   cutKind = iota // the client closes it
	cutReset                   // the client resets it
	cutTorn                    // the client reads no further than some byte, mostly in the middle of a frame
	cutReplay                  // the same, soon after it came back, while it has not got all it missed
	cutByServer                // the server ends it
	cutKinds
)

func (k cutKind) String() string {
	return [...]string{"closed", "reset", "torn", "torn in mid-replay", "by the server"}[k]
}

func TestSoak(t *testing.T) {
	load := 5 * time.Second
	if s := os.Getenv("TIDINGS_SOAK"); s != "" {
		var err error
		if load, err = time.ParseDuration(s); err != nil || load <= 0 {
			t.Fatalf("TIDINGS_SOAK is %q: give a duration, such as 60s", s)
		}
	}
	seed := rand.Uint64()
	if s := os.Getenv("TIDINGS_SOAK_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("TIDINGS_SOAK_SEED is %q: give a number", s)
		}
	}
	t.Logf("TIDINGS_SOAK=%v TIDINGS_SOAK_SEED=%d: the seed repeats the choices, not the timing", load, seed)

	log := tidings.NewMemoryBroker(nil)
	defer log.Close()
	s := &soak{t: t, seed: seed, over: make(chan struct{}), leaving: make(chan struct{}), http: &http.Client{Transport: &http.Transport{}}}
	defer s.http.CloseIdleConnections()
	s.srv = serve(t, tidings.Options{
		Broker:            log,
		HeartbeatInterval: time.Second, // idle streams get heartbeats, and checkpoints
		HoldBytes:         256 << 10,   // about a second: longer replays read the log
		MaxQueuedBytes:    256 << 10,
	})
	s.addrs = [soakKinds]string{s.srv.addr, soakTLS.listen(t, s.srv), soakH2C.listen(t, s.srv)}

	var listening sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	defer listening.Wait()
	defer stop()
	random := s.random(0)
	for i := range soakListeners {
		l := newListener(s, i, random)
		s.listeners = append(s.listeners, l)
		listening.Go(func() { l.run(ctx) })
	}
	for _, l := range s.listeners {
		s.await(l.joined, "connected", l)
	}

	started := time.Now()
	s.load(load)
	took := time.Since(started)
	s.forgetting.Lock() // who has forgotten its cursor begins behind what was sent by now, and this is yet to come
	s.remembers = true
	s.forgetting.Unlock()
	if _, err := s.srv.hub.Broadcast(t.Context(), soakMarker, nil); err != nil {
		t.Fatal(err)
	}
	close(s.over)
	for _, l := range s.listeners {
		s.await(l.ended, "got the last event", l)
	}
	caughtUp := time.Since(started) - took
	stats := s.srv.hub.Stats()
	// A duplicate may yet come behind the last event: streams are listened to until the server ends them.
	close(s.leaving)
	s.srv.drain(t)
	listening.Wait()

	delivered := s.check(log)
	t.Logf("%d listeners, %d events in %v (%.0f/s), delivered %d times; all was there %v after the last (a sender was late by %v at most)",
		len(s.listeners), len(s.sent), took.Round(time.Millisecond), float64(len(s.sent))/took.Seconds(), delivered, caughtUp.Round(time.Millisecond), time.Duration(s.late.Load()).Round(time.Millisecond))
	total := int64(0)
	for k := range cutKinds {
		n := s.cuts[k].Load()
		t.Logf("cut: %-18v %d", k, n)
		total += n
		if n == 0 {
			t.Errorf("no connection was cut this way: %v", k)
		}
	}
	t.Logf("cut %d times, resumed %d times, and got %d events that were sent meanwhile", total, s.resumes.Load(), s.missed.Load())
	t.Logf("the hub: connected %v, disconnected %v, unfinished %v, delivered %d in %d writes, replayed %d, checkpoints %d, heartbeats %d",
		stats.Connected, stats.Disconnected, stats.Unfinished, stats.Delivered, stats.Writes, stats.Replayed, stats.Checkpoints, stats.Heartbeats)
	gaps := 0
	for _, l := range s.listeners {
		gaps += len(l.gaps)
	}
	t.Logf("%d gaps were asked for and told of", gaps)
	delete(stats.Gaps, "epoch")
	if gaps == 0 || stats.Disconnected[tidings.ReasonSlow] == 0 {
		t.Error("nobody was told of a gap, or nobody was slow")
	}
	if len(stats.Gaps) > 0 || len(stats.Refused) > 0 || len(stats.SendErrors) > 0 {
		t.Errorf("gaps %v, refused %v, failed to send %v", stats.Gaps, stats.Refused, stats.SendErrors)
	}
}

// mayForget reports whether a listener may forget its cursor. If so, the listener unlocks forgetting once it has another one.
func (s *soak) mayForget() bool {
	s.forgetting.RLock()
	if s.remembers {
		s.forgetting.RUnlock()
		return false
	}
	return true
}

func (s *soak) isOver() bool {
	select {
	case <-s.over:
		return true
	default:
		return false
	}
}

// random returns a source of choices for one goroutine.
func (s *soak) random(stream uint64) *rand.Rand { return rand.New(rand.NewPCG(s.seed, stream)) }

func (s *soak) await(c <-chan struct{}, what string, l *listener) {
	s.t.Helper()
	timer := time.NewTimer(2 * within)
	defer timer.Stop()
	select {
	case <-c:
	case <-l.gone:
		s.t.Fatalf("%v gave up and has not %s", l.who, what)
	case <-timer.C:
		s.t.Fatalf("after %v, %v has not %s", 2*within, l.who, what)
	}
}

// load sends and cuts for a while.
func (s *soak) load(during time.Duration) {
	var busy sync.WaitGroup
	defer busy.Wait()
	const senders = 2
	cuts := max(soakLeastCuts, int(soakCutsPerSec*during.Seconds()))
	every := func(n int, do func(i int)) {
		begin := time.Now()
		for i := range n {
			due := begin.Add(during / time.Duration(n) * time.Duration(i))
			time.Sleep(time.Until(due)) // paces; nothing is awaited by it
			if late := int64(time.Since(due)); late > s.late.Load() {
				s.late.Store(late)
			}
			if time.Since(begin) > 2*during {
				s.t.Logf("this machine is too busy for the whole load: %d of %d sends or cuts by one goroutine in %v", i, n, 2*during)
				return
			}
			do(i)
		}
	}
	n := int(soakEventsPerSec*during.Seconds()) / senders
	for i, send := range [senders]func(*planned) error{s.sendHere, s.sendByHTTP} {
		random := s.random(uint64(1 + i))
		busy.Go(func() { every(n, func(int) { s.send(random, i, send) }) })
	}
	random := s.random(100)
	busy.Go(func() { every(cuts, func(int) { s.cut(random) }) })
}

// send sends one event to random targets, and notes who must get it.
func (s *soak) send(random *rand.Rand, sender int, send func(*planned) error) {
	e := plan(random, s.listeners)
	e.sender = sender
	s.mu.Lock()
	e.number = len(s.sent)
	e.fill()
	e.begun = time.Now()
	s.sent = append(s.sent, e) // whole: listeners read it from here on
	s.mu.Unlock()
	if err := send(e); err != nil {
		s.t.Errorf("sending event %d: %v", e.number, err)
		return
	}
	s.mu.Lock()
	e.accepted = time.Now()
	s.mu.Unlock()
	for _, l := range s.listeners {
		if l.who.gets(e) {
			e.listeners = append(e.listeners, l)
			if e.certain() {
				l.owed.Add(1)
			}
		}
	}
}

// sendHere sends in the process, by the short calls where there is one.
func (s *soak) sendHere(e *planned) error {
	ctx, hub, data := s.t.Context(), s.srv.hub, json.RawMessage(e.data)
	goTarget := func(t target) tidings.Target {
		return tidings.Target{ClientID: t["clientId"], UserID: t["userId"], SessionID: t["sessionId"], Topic: t["topic"]}
	}
	var err error
	switch {
	case e.key == "" && e.ttl == 0 && e.exclude == nil && len(e.targets) == 1 && len(e.targets[0]) == 1:
		for condition, id := range e.targets[0] {
			notify := map[string]func(context.Context, string, string, any) (tidings.Receipt, error){
				"clientId": hub.NotifyClient, "userId": hub.NotifyUser, "sessionId": hub.NotifySession, "topic": hub.NotifyTopic,
			}[condition]
			_, err = notify(ctx, id, e.typ, data)
		}
	case e.ttl == 0 && e.exclude == nil && len(e.targets) == 0:
		_, err = hub.Broadcast(ctx, e.typ, data)
	default:
		event := tidings.Event{Type: e.typ, Data: data, Everyone: len(e.targets) == 0, Exclude: goTarget(e.exclude), CollapseKey: e.key, TTL: e.ttl}
		for _, t := range e.targets {
			event.Targets = append(event.Targets, goTarget(t))
		}
		_, err = hub.Send(ctx, event)
	}
	return err
}

// sendByHTTP posts the event, in JSON that the library has no part in.
func (s *soak) sendByHTTP(e *planned) error {
	form := map[string]any{"type": e.typ, "data": json.RawMessage(e.data)}
	switch {
	case len(e.targets) == 1:
		form["target"] = e.targets[0]
	case len(e.targets) > 1:
		form["targets"] = e.targets
	}
	if e.exclude != nil {
		form["exclude"] = e.exclude
	}
	if e.key != "" {
		form["collapseKey"] = e.key
	}
	if e.ttl > 0 {
		form["ttlMs"] = e.ttl.Milliseconds()
	}
	body, err := json.Marshal(form)
	if err != nil {
		return err
	}
	res, err := s.http.Post("http://"+s.srv.addr+"/api/sse/send", "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", res.Status, answer)
	}
	return err
}

// cut cuts a listener that is live.
func (s *soak) cut(random *rand.Rand) {
	for range len(s.listeners) {
		l := s.listeners[random.IntN(len(s.listeners))]
		if random.IntN(4) == 0 {
			l = s.listeners[random.IntN(soakEager)] // these miss most
		}
		if random.IntN(8) == 0 {
			l = s.listeners[soakEager+soakSlow+soakFleeting+random.IntN(soakForgetful)]
		}
		if l.cut([...]cutKind{cutClosed, cutReset, cutTorn, cutTorn, cutByServer}[random.IntN(5)], random) {
			return
		}
	}
	s.t.Error("nobody was there to be cut")
}

// disconnect has the server end a connection, in the process or over HTTP, and returns how many that were: none, if it is
// still being replayed to.
func (s *soak) disconnect(connectionID string, byHTTP bool) (n int, err error) {
	if !byHTTP {
		return s.srv.hub.Disconnect(tidings.Target{ClientID: connectionID})
	}
	req, err := http.NewRequest(http.MethodDelete, "http://"+s.srv.addr+"/api/sse/connections?clientId="+url.QueryEscape(connectionID), nil)
	if err != nil {
		return 0, err
	}
	res, err := s.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	var answer struct{ Disconnected int }
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || res.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s, %w", res.Status, err)
	}
	return answer.Disconnected, nil
}

// check holds what each listener got against what it must have got, and returns how many events that were.
func (s *soak) check(log *tidings.MemoryBroker) (delivered int) {
	// Two goroutines have sent: which event came first is what the log says.
	state, err := log.State(context.Background())
	if err != nil {
		s.t.Fatal(err)
	}
	want := make(map[*listener][]*planned)
	logged, last := 0, [2]int{-1, -1}
	newest := make(map[string]*planned) // by collapse key and target
	for rec, err := range log.Read(context.Background(), tidings.Position{}, state.Last) {
		if err != nil {
			s.t.Fatal(err)
		}
		if rec.Type == soakMarker {
			continue
		}
		n, err := numberIn(string(rec.Data))
		if err != nil || n >= len(s.sent) || string(rec.Data) != s.sent[n].data || rec.Type != s.sent[n].typ {
			s.t.Fatalf("the log holds what was never sent: %s %.60q", rec.Type, rec.Data)
		}
		e := s.sent[n]
		if n <= last[e.sender] {
			s.t.Errorf("sender %d: event %d is in the log after %d", e.sender, n, last[e.sender])
		}
		last[e.sender] = n
		logged++
		if e.key != "" {
			k := e.key + " " + e.targets[0]["topic"]
			if older := newest[k]; older != nil {
				older.newer = e
			}
			newest[k] = e
		}
		for _, l := range e.listeners {
			want[l] = append(want[l], e)
		}
	}
	if logged != len(s.sent) {
		s.t.Errorf("the log holds %d events, %d were sent", logged, len(s.sent))
	}
	wrong := 0
	for _, l := range s.listeners {
		delivered += len(l.got)
		if fault := l.compare(want[l]); fault != "" {
			if wrong++; wrong <= 20 {
				s.t.Error(fault)
			}
		}
	}
	if wrong > 0 {
		s.t.Errorf("%d listeners of %d did not get what was meant for them", wrong, len(s.listeners))
	}
	if delivered == 0 {
		s.t.Error("nothing was delivered at all")
	}
	return delivered
}
