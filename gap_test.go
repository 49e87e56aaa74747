package tidings_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidings-sse/tidings"
)

// wantGap opens a stream that must begin with a gap, and proves that the page can go on from there: what comes later
// arrives, and the gap's id is a place to resume from.
func (tb *tab) wantGap(reason string) {
	tb.t.Helper()
	asked := tb.cursor
	if r := tb.open(); r != "gap" || tb.gaps[len(tb.gaps)-1] != reason {
		tb.t.Fatalf("the cursor %.80q: the resume is %q, of %q, want a gap of %q", asked, r, tb.gaps, reason)
	}
	tb.wantGoesOn()
}

// wantGoesOn proves that a page that was told of a gap gets what comes later, also when it is cut.
func (tb *tab) wantGoesOn() {
	tb.t.Helper()
	user := tidings.Target{UserID: tb.query.Get("userId")}
	if r := tb.again(); r != "complete" {
		tb.t.Fatalf("the id of a gap: the resume is %q (%q)", r, tb.gaps)
	}
	tb.cut()
	before := len(tb.got)
	tb.site.to(tb.t, user, "while away")
	if r := tb.open(); r != "complete" {
		tb.t.Fatalf("the id of a gap, one event later: the resume is %q (%q)", r, tb.gaps)
	}
	tb.until("while away")
	eventually(tb.t, "it is connected", func() bool { return tb.site.to(tb.t, user, "live").Matched > 0 })
	tb.until("live").cut()
	if n := len(tb.got) - before; n < 2 {
		tb.t.Fatalf("%d events after the gap", n)
	}
}

func TestACursorThatIsNotOneIsAGapAndReadsNothing(t *testing.T) {
	var reads atomic.Int64
	log := memoryLog(t, nil)
	site := joinServe(t, tidings.Options{Broker: &rigged{Broker: log, read: func(_, _ tidings.Position) { reads.Add(1) }}, HoldBytes: 1})
	first := site.to(t, user("u"), "1")
	site.to(t, user("u"), "2")
	epoch, pos, tag, err := tidings.ParseCursor(first.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{
		"x", "0", "1", "-", "1-", "null", "undefined", "[object Object]", "%00", "日本", "é", "\t",
		"1" + epoch, "1" + epoch + "-", "1" + epoch + "-1.0", "1" + epoch + "-1-1",
		"2" + first.ID[1:], first.ID + "00000", first.ID + "-", " " + first.ID + " x",
		strings.ToUpper(first.ID[:1]+epoch) + "-1.0--1",
		"1" + epoch + "-1.0-zzzzz", // a tag of more bits than there are
		strings.Repeat("9", 128), strings.Repeat("9", 129), strings.Repeat("a", 1024),
		"1" + epoch + "-zzzzzzzzzzzzzzzzzzzz.0-1",
	} {
		page := site.tab(t, "userId=u").from(id)
		if strings.TrimSpace(id) == "" {
			if r := page.open(); r != "none" {
				t.Errorf("a blank cursor: the resume is %q", r)
			}
			page.cut()
			continue
		}
		page.open()
		if page.resume != "gap" || page.gaps[0] != "unknown" {
			t.Errorf("%.40q: the resume is %q, of %q", id, page.resume, page.gaps)
		}
		page.cut()
	}
	if n := reads.Load(); n > 0 {
		t.Errorf("the log was read %d times", n)
	}
	site.tab(t, "userId=u").from("malformed").wantGap("unknown")
	site.tab(t, "userId=u").from(tidings.CursorID("another", pos, tag)).wantGap("epoch")
	site.tab(t, "userId=u").from(tidings.CursorID(epoch, tidings.Position{Hi: 1 << 40}, tag)).wantGap("beyond")
	site.tab(t, "userId=u").from(tidings.CursorID(epoch, tidings.Position{Hi: ^uint64(0), Lo: ^uint64(0)}, tag)).wantGap("beyond")
	site.tab(t, "userId=u").from(tidings.CursorID(epoch, pos, tag^1)).wantGap("replaced")
	site.tab(t, "userId=u").from(tidings.CursorID(epoch, tidings.Position{Hi: pos.Hi, Lo: 7}, tag)).wantGap("replaced")
}

func TestTheGapSaysHowLongToWaitBeforeTheStateIsFetched(t *testing.T) {
	const interval = 2 * time.Second
	site := joinServe(t, tidings.Options{RetryInterval: interval})
	seen := map[int64]bool{}
	for range 20 {
		page := site.tab(t, "userId=u").from("x")
		page.request()
		if err := page.begin(page.conn); err != nil {
			t.Fatal(err)
		}
		page.read()
		var data struct {
			Reason         string
			RefetchAfterMs *int64
		}
		if err := json.Unmarshal([]byte(page.read().Data), &data); err != nil {
			t.Fatal(err)
		}
		if ms := data.RefetchAfterMs; ms == nil || *ms < 0 || *ms >= interval.Milliseconds() {
			t.Fatalf("%+v", data)
		}
		seen[*data.RefetchAfterMs] = true
		page.cut()
	}
	if len(seen) < 5 {
		t.Errorf("20 pages are told %d different times", len(seen))
	}
}

func TestACursorThatHistoryNoLongerReachesBackToIsAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		site := joinServe(t, tidings.Options{Broker: memoryLog(t, &tidings.MemoryOptions{MaxEvents: 10}), HoldBytes: 1})
		var ids []string
		for n := range 30 {
			ids = append(ids, site.to(t, user("u"), strconv.Itoa(n)).ID)
		}
		// Before the index is trimmed, the log says so, in the middle of the replay.
		page := site.tab(t, "userId=u").from(ids[5])
		if r := page.open(); r == "complete" {
			for len(page.gaps) == 0 {
				page.read()
			}
		}
		if page.wants(); page.gaps[0] != "expired" {
			t.Errorf("the gap's reason is %q", page.gaps[0])
		}
		page.cut()
		time.Sleep(2 * time.Second) // now it is
		for n, id := range ids {
			page := site.tab(t, "userId=u").from(id)
			switch r := page.open(); {
			case n < 19 && (r != "gap" || page.gaps[0] != "expired"):
				t.Errorf("the cursor of event %d: the resume is %q, of %q, want expired", n, r, page.gaps)
			case n >= 19 && r != "complete":
				t.Errorf("the cursor of event %d: the resume is %q, of %q, want complete", n, r, page.gaps)
			case n >= 19 && n < 29:
				page.until("29").wants(numbered(n+1, 29)...)
			}
			page.cut()
		}
		site.tab(t, "userId=u").from(ids[0]).wantGap("expired")
	})
}

func TestAReplayThatIsOvertakenSaysSoInItsMiddle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memoryLog(t, &tidings.MemoryOptions{MaxEvents: 500})
		var overtake atomic.Pointer[func()]
		b := &rigged{Broker: log, read: func(_, _ tidings.Position) {
			if f := overtake.Swap(nil); f != nil {
				(*f)()
			}
		}}
		site := joinServe(t, tidings.Options{Broker: b, HoldBytes: 1})
		var ids []string
		for n := range 400 {
			ids = append(ids, site.to(t, user("u"), strconv.Itoa(n)).ID)
		}
		// While the replay reads, others' events take the log.
		overtake.Store(new(func() {
			appendTo(t, log, make([]tidings.Record, 450)...)
		}))
		page := site.tab(t, "userId=u").from(ids[9])
		if r := page.open(); r != "complete" {
			t.Fatalf("the resume is %q", r)
		}
		for len(page.gaps) == 0 {
			page.read()
		}
		if page.gaps[0] != "expired" {
			t.Errorf("the gap's reason is %q", page.gaps[0])
		}
		page.wantGoesOn()
	})
}

func TestACursorWithMoreAfterItThanAStreamIsSentIsAGap(t *testing.T) {
	const events = 5
	for name, o := range map[string]tidings.Options{
		"events": {MaxReplayEvents: events},
		"bytes":  {MaxReplayBytes: events * 10},
	} {
		t.Run(name, func(t *testing.T) {
			site := joinServe(t, o)
			first := site.to(t, user("u"), strings.Repeat("0", 10))
			for n := range events {
				site.to(t, user("u"), strings.Repeat(strconv.Itoa(1+n), 10))
				site.to(t, user("other"), strings.Repeat("x", 100)) // what others get doesn't count
			}
			page := site.tab(t, "userId=u").from(first.ID)
			if r := page.open(); r != "complete" {
				t.Fatalf("%d events: the resume is %q", events, r)
			}
			page.until("5555555555").cut()
			site.to(t, user("u"), "6")
			site.tab(t, "userId=u").from(first.ID).wantGap("too-many")
		})
	}
}

// restored is a log that is put back to what it was after its first records: the same epoch, the same positions.
func restored(t *testing.T, b tidings.Broker, keep int) tidings.Broker {
	st, err := b.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	copied := memoryLog(t, nil)
	appendTo(t, copied, heldBy(t, b)[:keep]...)
	return &rigged{Broker: copied, state: func(s *tidings.State) error {
		s.Epoch = st.Epoch
		return nil
	}}
}

func TestACursorOfARestoredLogIsNeverAnotherEventsPlace(t *testing.T) {
	log := memoryLog(t, nil)
	before := joinServe(t, tidings.Options{Broker: log})
	var ids []string
	for n := range 10 {
		ids = append(ids, before.to(t, user("u"), strconv.Itoa(n)).ID)
	}
	after := joinServe(t, tidings.Options{Broker: restored(t, log, 5)})
	for n := 5; n < 8; n++ {
		after.to(t, user("u"), "new "+strconv.Itoa(n))
	}
	for n, id := range ids {
		page := after.tab(t, "userId=u").from(id)
		want := map[bool]string{true: "complete", false: "gap"}[n < 5]
		if r := page.open(); r != want {
			t.Errorf("the cursor of event %d: the resume is %q, of %q", n, r, page.gaps)
		}
		if want == "complete" {
			page.until("new 7")
		}
		page.cut()
	}
	after.tab(t, "userId=u").from(ids[9]).wantGap("beyond")
	after.tab(t, "userId=u").from(ids[6]).wantGap("replaced")
}

func TestWhenTheLogRunsAwayFromTheTailEveryConnectionIsToldOfAGap(t *testing.T) {
	for name, epoch := range map[string]string{"dropped": "", "recreated": "another"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var v valve
				var recreated atomic.Bool
				log := memoryLog(t, &tidings.MemoryOptions{MaxEvents: 10})
				b := &rigged{Broker: log, deliver: v.deliver, state: func(st *tidings.State) error {
					if recreated.Load() {
						st.Epoch = epoch
					}
					return nil
				}}
				if epoch != "" {
					b.deliver = func(ctx context.Context, rs []tidings.Record) error {
						if recreated.Load() && string(rs[0].Data) == "away" {
							return tidings.ErrEpoch
						}
						return v.deliver(ctx, rs)
					}
				}
				site := joinServe(t, tidings.Options{Broker: b})
				old := site.to(t, user("u"), "1")
				pages := []*tab{site.tab(t, "userId=u").from(old.ID), site.tab(t, "userId=v"), site.tab(t, "topic=t")}
				for _, page := range pages {
					page.open()
				}
				synctest.Wait()
				if epoch == "" {
					v.shut()
					appendTo(t, log, make([]tidings.Record, 100)...)
					v.release()
				} else {
					recreated.Store(true)
					appendTo(t, log, tidings.Record{Data: []byte("away")})
				}
				for i, page := range pages {
					for len(page.gaps) == 0 {
						page.read()
					}
					if page.gaps[0] != "log-ahead" {
						t.Errorf("page %d is told of a gap of %q", i, page.gaps[0])
					}
				}
				synctest.Wait()
				if n := site.hub.Stats().Gaps["log-ahead"]; n != 3 {
					t.Errorf("%d gaps are counted", n)
				}
				pages[0].wantGoesOn()
				if err := site.hub.Ready(); err != nil {
					t.Errorf("the hub is not ready: %v", err)
				}
				page := site.tab(t, "userId=u").from(old.ID)
				want := map[bool]string{true: "expired", false: "epoch"}[epoch == ""]
				if page.open(); page.resume != "gap" || page.gaps[0] != want {
					t.Errorf("a cursor from before: the resume is %q, of %q, want %q", page.resume, page.gaps, want)
				}
			})
		})
	}
}

func TestAConnectionThatJoinsWhileTheLogRunsAwayIsToldOfAGap(t *testing.T) {
	// It has found its place, and waits for its snapshot, or for the log, while the hub skips events.
	synctest.Test(t, func(t *testing.T) {
		var v valve
		log := memoryLog(t, &tidings.MemoryOptions{MaxEvents: 10})
		asked, answer := make(chan struct{}), make(chan struct{})
		var slow atomic.Bool
		o := tidings.Options{Broker: &rigged{Broker: log, deliver: v.deliver}}
		o.Snapshot = func(context.Context, tidings.Connection) ([]tidings.Event, error) {
			if slow.Swap(false) {
				close(asked)
				<-answer
			}
			return []tidings.Event{{Type: "state", Data: tidings.Text("state")}}, nil
		}
		site := joinServe(t, o)
		site.to(t, user("u"), "1")
		slow.Store(true)
		page := site.tab(t, "userId=u")
		page.request()
		<-asked
		v.shut()
		as := appendTo(t, log, append(make([]tidings.Record, 99), tidings.Record{Targets: []tidings.Target{user("u")}, Data: []byte("lost")})...)
		appendTo(t, log, make([]tidings.Record, 20)...)
		v.release()
		synctest.Wait()
		close(answer)
		if err := page.begin(page.conn); err != nil {
			t.Fatal(err)
		}
		for page.reason == "" {
			if _, err := page.next(); err != nil {
				t.Fatalf("the stream ended without a notice: %v", err)
			}
			synctest.Wait()
			if page.cursor != "" && page.reason == "" && site.hub.Stats().Connections == 1 {
				t.Fatalf("it is connected, and the event at %v was lost without a gap", as[99].Position)
			}
		}
		if page.reason != "gap" {
			t.Errorf("the stream ended for %q, want gap", page.reason)
		}
	})
}

func TestARetriedTailNeverPassesOverWhatWasDropped(t *testing.T) {
	// The node falls behind, the log drops what it has not read, and then the tail fails for another reason. When it
	// follows the log again, what was dropped must be a gap.
	synctest.Test(t, func(t *testing.T) {
		var fail atomic.Bool
		held := make(chan struct{})
		log := memoryLog(t, &tidings.MemoryOptions{MaxEvents: 10})
		b := &rigged{Broker: log, deliver: func(ctx context.Context, _ []tidings.Record) error {
			if !fail.Load() {
				return nil
			}
			select {
			case <-held:
			case <-ctx.Done():
			}
			fail.Store(false)
			return errors.New("the network is down")
		}}
		site := joinServe(t, tidings.Options{Broker: b})
		page := site.tab(t, "userId=u")
		page.open()
		site.to(t, user("u"), "1")
		page.until("1")
		fail.Store(true)
		for n := range 30 {
			appendTo(t, log, tidings.Record{Nonce: uint64(n + 1), Type: "n", Data: []byte(strconv.Itoa(n)), Targets: []tidings.Target{user("u")}})
		}
		time.Sleep(5 * time.Second) // the index learns what the log has dropped
		close(held)
		for len(page.gaps) == 0 {
			e := page.read()
			if e.Type == "n" {
				t.Fatalf("the event %s comes without the ones before it, and without a gap", e.Data)
			}
		}
	})
}

func TestAHubThatStartsOnALogThatDropsAllTheTimeKnowsWhatItHolds(t *testing.T) {
	for name, c := range map[string]struct {
		drops int // how often records are dropped between the hub's asking where the log begins and its reading it
		want  string
	}{"a few times": {3, "complete"}, "always": {1000, "gap"}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := memoryLog(t, &tidings.MemoryOptions{MaxEvents: 100})
				appendTo(t, log, make([]tidings.Record, 200)...)
				calls := 0
				b := &rigged{Broker: log}
				b.tail = func(ctx context.Context, after tidings.Position, deliver func([]tidings.Record) error) error {
					if calls++; calls <= c.drops {
						if st, err := log.State(ctx); err != nil || after == st.Floor {
							appendTo(t, log, tidings.Record{}, tidings.Record{})
						}
					}
					return log.Tail(ctx, after, deliver)
				}
				site := joinServe(t, tidings.Options{Broker: b})
				synctest.Wait()
				held := heldBy(t, log)
				st, err := log.State(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				r := held[len(held)/2]
				page := site.tab(t, "userId=u").from(tidings.CursorID(st.Epoch, r.Position, 0))
				if r := page.open(); r != c.want || calls > 20 {
					t.Errorf("the resume is %q, of %q, after %d calls of Tail", r, page.gaps, calls)
				}
				if err := site.hub.Ready(); err != nil {
					t.Error(err)
				}
				site.to(t, user("u"), "1")
				page.until("1")
			})
		})
	}
}

// twoNodes are two hubs on one log, of which the second one's tail can be held up.
func twoNodes(t *testing.T) (ahead, behind *joinSite, v *valve) {
	log := memoryLog(t, nil)
	v = new(valve)
	return joinServe(t, tidings.Options{Broker: log}), joinServe(t, tidings.Options{Broker: &rigged{Broker: log, deliver: v.deliver}}), v
}

func TestACursorAheadOfTheNodeWaitsForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ahead, behind, v := twoNodes(t)
		page := ahead.tab(t, "userId=u")
		page.open()
		ahead.to(t, user("u"), "1")
		synctest.Wait()
		v.shut()
		for n := 2; n <= 5; n++ {
			ahead.to(t, user("u"), strconv.Itoa(n))
		}
		page.until("4").cut()
		page.site = behind
		page.request()
		synctest.Wait()
		time.Sleep(2 * time.Second)
		began := time.Now()
		go func() {
			time.Sleep(500 * time.Millisecond)
			v.release()
		}()
		if err := page.begin(page.conn); err != nil {
			t.Fatal(err)
		}
		for page.resume = ""; page.resume == ""; {
			page.read()
		}
		if waited := time.Since(began); page.resume != "complete" || waited != 500*time.Millisecond {
			t.Errorf("the resume is %q after %v", page.resume, waited)
		}
		ahead.to(t, user("u"), "6")
		page.until("6").wants(numbered(1, 6)...)
	})
}

func TestACursorAheadOfTheNodeIsRefusedForNowAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ahead, behind, v := twoNodes(t)
		v.shut()
		page := behind.tab(t, "userId=u").from(ahead.to(t, user("u"), "1").ID)
		began := time.Now()
		if r := page.open(); r != "unavailable" || page.reason != "behind" {
			t.Errorf("the resume is %q, of %q", r, page.reason)
		}
		if waited := time.Since(began); waited != 3*time.Second {
			t.Errorf("it waited for %v", waited)
		}
		if _, err := page.next(); err == nil {
			t.Error("the stream goes on")
		}
		if page.cursor != ahead.hub.Stats().History.LastID {
			t.Errorf("the cursor is %q after a refusal", page.cursor)
		}
		v.release()
		if r := page.again(); r != "complete" {
			t.Errorf("when the node has caught up, the resume is %q", r)
		}
		ahead.to(t, user("u"), "2")
		page.until("2").wants("2")
	})
}

func TestACursorAheadOfTheNodeAndBeyondTheLogIsAGapAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ahead, behind, v := twoNodes(t)
		v.shut()
		epoch, pos, tag, err := tidings.ParseCursor(ahead.to(t, user("u"), "1").ID)
		if err != nil {
			t.Fatal(err)
		}
		pos.Hi++
		began := time.Now()
		page := behind.tab(t, "userId=u").from(tidings.CursorID(epoch, pos, tag))
		if page.open(); page.resume != "gap" || page.gaps[0] != "beyond" || time.Since(began) > 0 {
			t.Errorf("the resume is %q, of %q, after %v", page.resume, page.gaps, time.Since(began))
		}
		v.release()
	})
}

func TestACursorAheadOfTheNodeIsRefusedForNowWhenTheLogCantBeAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		log := memoryLog(t, nil)
		site := joinServe(t, tidings.Options{Broker: &rigged{Broker: log, state: func(*tidings.State) error {
			if down.Load() {
				return fmt.Errorf("no route: %w", tidings.ErrUnavailable)
			}
			return nil
		}}})
		epoch, pos, tag, err := tidings.ParseCursor(site.to(t, user("u"), "1").ID)
		if err != nil {
			t.Fatal(err)
		}
		down.Store(true)
		page := site.tab(t, "userId=u").from(tidings.CursorID(epoch, pos, tag))
		if r := page.open(); r != "complete" {
			t.Errorf("a cursor that this node knows: the resume is %q", r)
		}
		page.cut()
		pos.Hi++
		page = site.tab(t, "userId=u").from(tidings.CursorID(epoch, pos, tag))
		if r := page.open(); r != "unavailable" || page.reason != "log" {
			t.Errorf("a cursor that it does not know: the resume is %q, of %q", r, page.reason)
		}
	})
}
