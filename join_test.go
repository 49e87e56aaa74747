package tidings_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/sse"
)

func TestACutAtAnyByteOfAStreamLosesNothingAndRepeatsNothing(t *testing.T) {
	// Each stream is cut one byte later than the one before, until one is whole: in the head, between two chunks, in
	// the middle of an id. Then the page comes back with the cursor that it has. The later events are sent while the
	// first stream lives.
	for name, c := range map[string]struct {
		options tidings.Options
		query   string
		targets []tidings.Target // in turn; % is the page's own number
		others  []tidings.Target // of events that are not for it
	}{
		"replayed from memory": {query: "userId=%", targets: []tidings.Target{user("%")}},
		"replayed from the log": {
			options: tidings.Options{HoldBytes: 1},
			query:   "userId=%", targets: []tidings.Target{user("%")}, others: []tidings.Target{user("other")},
		},
		"one cursor over all of an identity": {
			query: "userId=u%&sessionId=s%&clientId=c%&topic=t%&topic=everything",
			targets: []tidings.Target{
				user("u%"), {SessionID: "s%"}, {ClientID: "c%"}, {Topic: "t%"}, {Topic: "everything", UserID: "u%"}, {UserID: "u%", ClientID: "c%"},
			},
			others: []tidings.Target{user("c%"), {SessionID: "u%"}, {UserID: "u%", Topic: "other"}, {ClientID: "c%", UserID: "other"}, {Topic: "u%"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			site := joinServe(t, c.options)
			for cut := 0; ; cut++ {
				own := func(s string) string { return strings.ReplaceAll(s, "%", strconv.Itoa(cut)) }
				send := func(n int) tidings.Receipt {
					fill := func(t tidings.Target) tidings.Target {
						return tidings.Target{ClientID: own(t.ClientID), UserID: own(t.UserID), SessionID: own(t.SessionID), Topic: own(t.Topic)}
					}
					if len(c.others) > 0 {
						site.to(t, fill(c.others[n%len(c.others)]), "not yours")
					}
					return site.to(t, fill(c.targets[n%len(c.targets)]), strconv.Itoa(n))
				}
				const replayed, live = 6, 9
				first := send(0)
				for n := 1; n <= replayed; n++ {
					send(n)
				}
				page := site.tab(t, own(c.query)).from(first.ID)
				page.request()
				var wg sync.WaitGroup
				wg.Go(func() {
					for n := replayed + 1; n <= live; n++ {
						send(n)
					}
				})
				whole := false
				if err := page.begin(io.LimitReader(page.conn, int64(cut))); err == nil {
					for !whole {
						e, err := page.next()
						if err != nil {
							break
						}
						whole = e.Data == strconv.Itoa(live)
					}
				}
				page.cut()
				wg.Wait()
				if !whole {
					if r := page.open(); r != "complete" {
						t.Fatalf("cut after %d bytes: the resume is %q (%q)", cut, r, page.gaps)
					}
					page.until(strconv.Itoa(live))
				}
				page.cut()
				page.wants(numbered(1, live)...)
				if t.Failed() {
					t.Fatalf("cut after %d bytes", cut)
				}
				if whole {
					if cut < 500 {
						t.Fatalf("the stream had %d bytes", cut)
					}
					return
				}
			}
		})
	}
}

func TestACutAtAnyByteOfAFirstStreamKeepsWhatConnectedPromised(t *testing.T) {
	joined := make(chan string, 1)
	site := joinServe(t, tidings.Options{OnConnect: func(c tidings.Connection) { joined <- c.UserID }})
	for cut := 0; ; cut++ {
		id := strconv.Itoa(cut)
		site.to(t, user(id), "before it came")
		page := site.tab(t, "userId="+id)
		page.request()
		read := make(chan bool)
		go func() {
			whole := false
			if err := page.begin(io.LimitReader(page.conn, int64(cut))); err == nil {
				for !whole {
					e, err := page.next()
					if err != nil {
						break
					}
					whole = e.Data == "3"
				}
			}
			read <- whole
		}()
		<-joined
		for _, text := range numbered(1, 3) {
			site.to(t, user(id), text)
		}
		whole := <-read
		page.cut()
		if whole {
			page.wants(numbered(1, 3)...)
			return
		}
		promised := page.cursor != ""
		want := map[bool]string{true: "complete", false: "none"}[promised]
		if r := page.open(); r != want {
			t.Fatalf("cut after %d bytes, with the cursor %q: the resume is %q", cut, page.cursor, r)
		}
		<-joined
		site.to(t, user(id), "4")
		page.until("4").cut()
		if promised {
			page.wants(numbered(1, 4)...)
		} else {
			page.wants("4")
		}
		if t.Failed() {
			t.Fatalf("cut after %d bytes", cut)
		}
	}
}

// A world is a back end's state: the numbers that it has. It changes before it notifies.
type world struct {
	mu      sync.Mutex
	numbers []int
}

func (w *world) add(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.numbers = append(w.numbers, n)
}

func (w *world) now() []int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.numbers)
}

func TestACutAtAnyByteOfAGapOrASnapshotLeavesThePageWithTheWholeState(t *testing.T) {
	for name, c := range map[string]struct {
		snapshot bool
		cursor   string
	}{
		"a gap, and the page fetches the state": {cursor: "1bogus-1.0-1"},
		"a snapshot for a first stream":         {snapshot: true},
		"a snapshot after a gap":                {snapshot: true, cursor: "bogus"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for cut := range 900 { // the greeting, with its snapshot, and some events
				var w world
				o := tidings.Options{}
				if c.snapshot {
					o.Snapshot = func(context.Context, tidings.Connection) ([]tidings.Event, error) {
						return []tidings.Event{{Type: "ignored", Data: 1}, {Type: "state", Data: w.now(), Target: user("ignored")}}, nil
					}
				}
				site := joinServe(t, o)
				send := func(n int) {
					w.add(n)
					site.to(t, user("u"), strconv.Itoa(n))
				}
				for n := range 5 {
					send(n)
				}
				page := site.tab(t, "userId=u").from(c.cursor)
				var has []int // the state that the page shows
				apply := func(e sse.Event) {
					switch e.Type {
					case "state":
						if err := json.Unmarshal([]byte(e.Data), &has); err != nil {
							t.Error(err)
						}
					case "tidings.gap":
						if !c.snapshot {
							has = w.now()
						}
					case "n":
						n, _ := strconv.Atoi(e.Data)
						if !slices.Contains(has, n) {
							has = append(has, n)
						}
					}
				}
				page.request()
				var wg sync.WaitGroup
				wg.Go(func() {
					for n := 5; n < 8; n++ {
						send(n)
					}
				})
				if err := page.begin(io.LimitReader(page.conn, int64(cut))); err == nil {
					for len(has) < 8 {
						e, err := page.next()
						if err != nil {
							break
						}
						apply(e)
					}
				}
				wg.Wait()
				page.cut()
				page.request()
				if err := page.begin(page.conn); err != nil {
					t.Fatal(err)
				}
				for page.resume = ""; page.resume == ""; {
					apply(page.read())
				}
				send(8)
				// It may not be registered yet: what it must not miss is a replay's then, or the state's.
				eventually(t, "it is connected again", func() bool { return site.to(t, user("u"), "end").Matched > 0 })
				for {
					e := page.read()
					if e.Data == "end" {
						break
					}
					apply(e)
				}
				page.cut()
				slices.Sort(has)
				if want := []int{0, 1, 2, 3, 4, 5, 6, 7, 8}; !slices.Equal(has, want) {
					t.Fatalf("cut after %d bytes: the page shows %v, want %v", cut, has, want)
				}
			}
		})
	}
}

func TestManyConnectionsThatDropAndComeBackAtOnceAreAllServed(t *testing.T) {
	const pages = 500
	site := joinServeTCP(t, tidings.Options{})
	all := make([]*tab, pages)
	each := func(f func(i int, page *tab)) {
		var wg sync.WaitGroup
		for i, page := range all {
			wg.Go(func() { f(i, page) })
		}
		wg.Wait()
	}
	for i := range all {
		all[i] = site.tab(t, fmt.Sprintf("userId=%d&topic=%d", i, i%10))
	}
	each(func(_ int, page *tab) { page.open() })
	each(func(_ int, page *tab) { page.cut() })
	send := func(text string) {
		for i := range pages {
			site.to(t, user(strconv.Itoa(i)), text)
		}
		for i := range 10 {
			site.to(t, tidings.Target{Topic: strconv.Itoa(i)}, text+" topic")
		}
		site.to(t, tidings.Target{}, text+" all")
	}
	send("away")
	var wg sync.WaitGroup
	wg.Go(func() { send("back") })
	retries := make([]time.Duration, pages)
	each(func(i int, page *tab) {
		if r := page.open(); r != "complete" {
			t.Errorf("page %d: the resume is %q", i, r)
		}
		page.until("back all")
		retries[i], _ = page.dec.Retry()
	})
	wg.Wait()
	for _, page := range all {
		page.wants("away", "away topic", "away all", "back", "back topic", "back all")
	}
	slices.Sort(retries)
	if low, high := retries[pages/10], retries[pages*9/10]; high-low < time.Second {
		t.Errorf("most pages are told to come back after %v to %v: that is no jitter", low, high)
	}
}

func TestTwoConnectionsWithOneClientIDBothLive(t *testing.T) {
	site := joinServe(t, tidings.Options{})
	a, b := site.tab(t, "clientId=c"), site.tab(t, "clientId=c")
	a.open()
	b.open()
	for _, text := range numbered(1, 3) {
		eventually(t, "both are registered", func() bool { return site.hub.Stats().Connections == 2 })
		if r := site.to(t, tidings.Target{ClientID: "c"}, text); r.Matched != 2 {
			t.Errorf("it matched %d connections", r.Matched)
		}
	}
	a.until("3").wants(numbered(1, 3)...)
	b.until("3").wants(numbered(1, 3)...)
}

func TestACursorOfSomeoneElsesEventIsAPlaceLikeAnyOther(t *testing.T) {
	site := joinServe(t, tidings.Options{})
	site.to(t, user("a"), "1")
	theirs := site.to(t, user("b"), "secret")
	site.to(t, user("a"), "2")
	site.to(t, user("b"), "secret, too")
	site.to(t, tidings.Target{}, "3")
	page := site.tab(t, "userId=a").from(theirs.ID)
	if r := page.open(); r != "complete" {
		t.Errorf("the resume is %q", r)
	}
	page.until("3").wants("2", "3")
}

func TestWhatIsSentWhileReplaysRunArrivesOnceAndInOrder(t *testing.T) {
	// Pages come and go, cut anywhere, while events are sent to them, to others and to everyone. Each page has in the
	// end exactly what was for it, in the order of the log.
	const pages, senders, each = 12, 4, 500
	for name, o := range map[string]tidings.Options{
		"from memory":  {MaxQueuedEvents: 64},
		"from the log": {HoldBytes: 20_000, MaxQueuedEvents: 64},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seed := time.Now().UnixNano()
			t.Logf("seed %d", seed)
			site := joinServe(t, o)
			var mu sync.Mutex
			want := map[int][]sent{} // by page
			note := func(page int, r tidings.Receipt, text string) {
				_, p, _, _ := tidings.ParseCursor(r.ID)
				want[page] = append(want[page], sent{p, text})
			}
			var sending, reading sync.WaitGroup
			all := make([]*tab, pages)
			for i := range all {
				all[i] = site.tab(t, fmt.Sprintf("userId=u%d&topic=t%d", i, i%3))
				all[i].open()
				reading.Go(func() {
					rnd := rand.New(rand.NewPCG(uint64(seed), uint64(i)))
					page := all[i]
					for {
						for range rnd.IntN(200) {
							if _, err := page.next(); err != nil {
								t.Errorf("page %d: %v", i, err)
								return
							}
							if n := len(page.got); n > 0 && page.got[n-1] == "end" {
								return
							}
						}
						page.cut()
						page.request()
						if err := page.begin(io.LimitReader(page.conn, rnd.Int64N(8000))); err == nil {
							for {
								if _, err := page.next(); err != nil || page.got != nil && page.got[len(page.got)-1] == "end" {
									break
								}
							}
						}
						if n := len(page.got); n > 0 && page.got[n-1] == "end" {
							return
						}
						if r := page.again(); r != "complete" {
							t.Errorf("page %d: the resume is %q, of %q", i, r, page.gaps)
							return
						}
					}
				})
			}
			for s := range senders {
				sending.Go(func() {
					rnd := rand.New(rand.NewPCG(uint64(seed), uint64(1000+s)))
					for n := range each {
						text, i := fmt.Sprint(s, " ", n, strings.Repeat(" ", rnd.IntN(300))), rnd.IntN(pages)
						var r tidings.Receipt
						var to func(page int) bool
						switch rnd.IntN(4) {
						case 0:
							r, to = site.to(t, user(fmt.Sprint("u", i)), text), func(page int) bool { return page == i }
						case 1:
							r, to = site.to(t, tidings.Target{Topic: fmt.Sprint("t", i%3)}, text), func(page int) bool { return page%3 == i%3 }
						case 2:
							r, to = site.to(t, tidings.Target{}, text), func(int) bool { return true }
						default:
							r, to = site.to(t, tidings.Target{UserID: fmt.Sprint("u", i), Topic: "t0"}, text), func(page int) bool { return page == i && i%3 == 0 }
						}
						mu.Lock()
						for page := range pages {
							if to(page) {
								note(page, r, text)
							}
						}
						mu.Unlock()
					}
				})
			}
			sending.Wait()
			site.to(t, tidings.Target{}, "end")
			reading.Wait()
			for i, page := range all {
				slices.SortFunc(want[i], func(a, b sent) int { return a.at.Compare(b.at) })
				for n, w := range want[i] {
					if n >= len(page.got) || page.got[n] != w.text {
						t.Fatalf("page %d: event %d of %d is not %q", i, n, len(want[i]), w.text)
					}
				}
				if len(page.got) != len(want[i])+1 {
					t.Errorf("page %d got %d events, want %d", i, len(page.got)-1, len(want[i]))
				}
			}
		})
	}
}

// sent is an event, and where it is in the log.
type sent struct {
	at   tidings.Position
	text string
}

func TestAReplayReadsOldEventsFromTheLogAndOnlyThose(t *testing.T) {
	// Only the newest few are held in memory. What a page is to get may be next to each other in the log, or far apart.
	const mine = 300
	for name, gap := range map[string]int{"side by side": 0, "a few between": 5, "many between": 40} {
		t.Run(name, func(t *testing.T) {
			var reads, asked atomic.Int64
			log := memoryLog(t, nil)
			site := joinServe(t, tidings.Options{HoldBytes: 5_000, Broker: &rigged{Broker: log, read: func(from, to tidings.Position) {
				reads.Add(1)
				asked.Add(int64(to.Hi - from.Hi + 1))
			}}})
			first := site.to(t, user("u"), "0")
			for n := 1; n <= mine; n++ {
				appendTo(t, log, slices.Repeat([]tidings.Record{{Targets: []tidings.Target{user("other")}}}, gap)...)
				site.to(t, user("u"), strconv.Itoa(n))
			}
			page := site.tab(t, "userId=u").from(first.ID)
			if r := page.open(); r != "complete" {
				t.Fatalf("the resume is %q", r)
			}
			page.until(strconv.Itoa(mine)).wants(numbered(1, mine)...)
			if n, most := asked.Load(), int64(mine)*int64(min(gap, 16)+1); n > most {
				t.Errorf("%d records were read for %d events, want at most %d", n, mine, most)
			}
			if n := reads.Load(); n > mine {
				t.Errorf("there were %d reads for %d events", n, mine)
			}
		})
	}
}

func TestAnEventWithACollapseKeyReplacesTheEarlierOneInReplays(t *testing.T) {
	for name, o := range map[string]tidings.Options{"from memory": {}, "from the log": {HoldBytes: 1}} {
		t.Run(name, func(t *testing.T) {
			site := joinServe(t, o)
			first := site.to(t, user("u"), "first")
			send := func(text, key string, targets ...tidings.Target) string {
				return joinSend(t, site.hub, tidings.Event{Data: tidings.Text(text), CollapseKey: key, Targets: targets}).ID
			}
			u, v := user("u"), user("v")
			send("price 1", "price", u)
			send("a", "", u)
			seen := send("price 2", "price", u)
			send("other targets 1", "price", u, v)
			send("b", "", u)
			send("another key", "size", u)
			send("price 3", "price", u)
			send("other targets 2", "price", v, u) // the same targets in another order
			send("price of another", "price", v)
			send("c", "", u)

			page := site.tab(t, "userId=u").from(first.ID)
			if r := page.open(); r != "complete" {
				t.Errorf("the resume is %q", r)
			}
			page.until("c").wants("a", "b", "another key", "price 3", "other targets 2", "c")
			// The cursor of one that was replaced is a place like any other.
			page = site.tab(t, "userId=u").from(seen)
			if r := page.open(); r != "complete" {
				t.Errorf("the resume from an event that was replaced is %q", r)
			}
			page.until("c").wants("b", "another key", "price 3", "other targets 2", "c")
		})
	}
}

func TestAnEventWithACollapseKeyReplacesTheEarlierOneInQueues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		site := joinServe(t, tidings.Options{})
		page := site.tab(t, "userId=u&clientId=parked")
		page.open()
		page.park()
		for n := range 50 {
			joinSend(t, site.hub, tidings.Event{Data: tidings.Text("price " + strconv.Itoa(n)), CollapseKey: "price", Target: user("u")})
			site.to(t, user("u"), "between "+strconv.Itoa(n))
		}
		page.unpark().until("between 49")
		var want []string
		for n := range 49 {
			want = append(want, "between "+strconv.Itoa(n))
		}
		page.wants(append(want, "price 49", "between 49")...)
	})
}

func TestAnEventIsNotWrittenAfterItsTTL(t *testing.T) {
	for name, o := range map[string]tidings.Options{"from memory": {}, "from the log": {HoldBytes: 1}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				site := joinServe(t, o)
				first := site.to(t, user("u"), "first")
				send := func(text string, ttl time.Duration) {
					joinSend(t, site.hub, tidings.Event{Data: tidings.Text(text), TTL: ttl, Target: user("u")})
				}
				queued := site.tab(t, "userId=u&clientId=parked")
				queued.open()
				queued.park()
				send("half a minute", 30*time.Second)
				send("an hour", time.Hour)
				send("for ever", 0)
				time.Sleep(30*time.Second - time.Millisecond)
				page := site.tab(t, "userId=u").from(first.ID)
				page.open()
				page.until("for ever").wants("half a minute", "an hour", "for ever")
				time.Sleep(time.Millisecond)
				page = site.tab(t, "userId=u").from(first.ID)
				if r := page.open(); r != "complete" { // everything that is still valid
					t.Errorf("the resume is %q", r)
				}
				page.until("for ever").wants("an hour", "for ever")
				queued.unpark().until("for ever").wants("an hour", "for ever")
			})
		})
	}
}

func TestATTLIsMeasuredByTheLogsClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ahead = time.Hour // of the log's clock
		log := memoryLog(t, nil)
		b := &rigged{Broker: log, state: func(st *tidings.State) error {
			st.Time = st.Time.Add(ahead)
			return nil
		}}
		b.tail = func(ctx context.Context, after tidings.Position, deliver func([]tidings.Record) error) error {
			return log.Tail(ctx, after, func(rs []tidings.Record) error {
				for i := range rs {
					rs[i].Time = rs[i].Time.Add(ahead)
				}
				return deliver(rs)
			})
		}
		site := joinServe(t, tidings.Options{Broker: b})
		live := site.tab(t, "userId=u")
		live.open()
		first := site.to(t, user("u"), "first")
		joinSend(t, site.hub, tidings.Event{Data: tidings.Text("a minute"), TTL: time.Minute, Target: user("u")})
		live.until("a minute") // it has not expired, though this machine's clock would say so of nothing
		for _, want := range [][]string{{"a minute", "last"}, {"last"}} {
			page := site.tab(t, "userId=u").from(first.ID)
			page.open()
			site.to(t, user("u"), "last")
			page.until("last")
			page.wants(want...)
			page.cut()
			first.ID = page.cursor
			if len(want) == 2 {
				first = site.to(t, user("u"), "second")
				joinSend(t, site.hub, tidings.Event{Data: tidings.Text("a minute"), TTL: time.Minute, Target: user("u")})
				time.Sleep(time.Minute)
			}
		}
	})
}

func TestAnAnswerThatWaitsSaysNothingOfTheLogsClock(t *testing.T) {
	type clock struct{ ahead, before, after, want time.Duration }
	synctest.Test(t, func(t *testing.T) {
		var now atomic.Pointer[clock]
		now.Store(new(clock))
		b := &rigged{Broker: memoryLog(t, nil), state: func(st *tidings.State) error {
			c := now.Load()
			time.Sleep(c.before)
			st.Time = time.Now().Add(c.ahead)
			time.Sleep(c.after)
			return nil
		}}
		site := joinServe(t, tidings.Options{Broker: b})
		for _, c := range []clock{
			{0, 0, 2 * time.Second, 0},
			{0, 2 * time.Second, 0, 0},
			{time.Minute, 2 * time.Second, 0, time.Minute},
			{time.Minute, 0, 0, time.Minute},
			{time.Minute, 2 * time.Second, 2 * time.Second, time.Minute},
			{-time.Minute, 0, 2 * time.Second, -time.Minute},
			{-time.Minute, 0, 0, -time.Minute},
			{0, 0, 0, 0},
		} {
			now.Store(&c)
			time.Sleep(10 * time.Second) // the log is asked once a second
			if got := time.Duration(site.hub.Stats().History.LogAheadMs) * time.Millisecond; got != c.want {
				t.Errorf("%v ahead, read %v after it was asked, and answered %v later: %v", c.ahead, c.before, c.after, got)
			}
		}
	})
}

func TestASnapshotIsTheFirstThingOnAFirstStreamAndAfterAGapOnly(t *testing.T) {
	var asked []tidings.Connection
	var fail atomic.Bool
	site := joinServe(t, tidings.Options{Snapshot: func(_ context.Context, c tidings.Connection) ([]tidings.Event, error) {
		asked = append(asked, c)
		if fail.Load() {
			return nil, errors.New("the database is down")
		}
		return []tidings.Event{{Data: tidings.Text("state 1")}, {Type: "x", Data: tidings.Text("state 2")}}, nil
	}})
	page := site.tab(t, "userId=u&clientId=c&topic=t")
	if r := page.open(); r != "none" || page.cursor != "" {
		t.Errorf("the resume is %q, with the cursor %q before the snapshot", r, page.cursor)
	}
	if page.read(); page.cursor != "" {
		t.Errorf("the cursor is %q in the middle of the snapshot", page.cursor)
	}
	page.read()
	if e := page.read(); e.Type != "tidings.checkpoint" || page.cursor == "" {
		t.Errorf("after the snapshot comes %+v", e)
	}
	site.to(t, user("u"), "1")
	page.until("1").wants("state 1", "state 2", "1")
	if r := page.again(); r != "complete" || len(asked) != 1 {
		t.Errorf("the resume is %q, and the snapshot was asked for %d times", r, len(asked))
	}
	page.from("gone")
	if r := page.again(); r != "gap" {
		t.Errorf("the resume is %q", r)
	}
	for page.checkpoints < 2 {
		page.read()
	}
	page.wants("state 1", "state 2", "1", "state 1", "state 2")
	if c := asked[1]; len(asked) != 2 || c.UserID != "u" || c.ClientID != "c" || !slices.Equal(c.Topics, []string{"t"}) || c.ConnectionID == "" {
		t.Errorf("the snapshot was asked for %+v", asked)
	}
	fail.Store(true)
	page = site.tab(t, "userId=u")
	if r := page.open(); r != "unavailable" || page.reason != "snapshot" {
		t.Errorf("without its state, the resume is %q, of %q", r, page.reason)
	}
	if page.cursor != "" {
		t.Errorf("a refusal gave the cursor %q", page.cursor)
	}
}
