package tidings_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidings-sse/tidings"
)

// A modelRecord is what the model of a log keeps: everything.
type modelRecord struct {
	tidings.Record
	number uint64
}

// A model answers what should be replayed, by looking at every record. It has the rules of Event and nothing else.
type model []modelRecord

func sameTargets(a, b []tidings.Target) bool {
	order := func(a, b tidings.Target) int { return cmp.Compare(a.String(), b.String()) }
	return slices.Equal(slices.SortedFunc(slices.Values(a), order), slices.SortedFunc(slices.Values(b), order))
}

// superseded reports whether a later record has the collapse key and the targets of the one at i.
func (m model) superseded(i int) bool {
	if m[i].CollapseKey == "" {
		return false
	}
	return slices.ContainsFunc(m[i+1:], func(r modelRecord) bool {
		return r.CollapseKey == m[i].CollapseKey && r.Exclude == m[i].Exclude && sameTargets(r.Targets, m[i].Targets)
	})
}

func isFor(c tidings.Connection, r *tidings.Record) bool {
	meets := func(t tidings.Target) bool {
		return (t.ClientID == "" || t.ClientID == c.ClientID || t.ClientID == c.ConnectionID) &&
			(t.UserID == "" || t.UserID == c.UserID) &&
			(t.SessionID == "" || t.SessionID == c.SessionID) &&
			(t.Topic == "" || slices.Contains(c.Topics, t.Topic))
	}
	if r.Exclude != (tidings.Target{}) && meets(r.Exclude) {
		return false
	}
	return len(r.Targets) == 0 || slices.ContainsFunc(r.Targets, meets)
}

// replay returns the records from index i on that are valid and for the connection.
func (m model) replay(i int, c tidings.Connection, now time.Time) []modelRecord {
	var rs []modelRecord
	for ; i < len(m); i++ {
		r := &m[i]
		if isFor(c, &r.Record) && !m.superseded(i) && (r.TTL == 0 || now.Before(r.Time.Add(r.TTL))) {
			rs = append(rs, *r)
		}
	}
	return rs
}

// A dice makes random targets, identities and records, of few enough words that they meet.
type dice struct{ *rand.Rand }

func newDice(t testing.TB) dice {
	seed, err := strconv.ParseUint(os.Getenv("TIDINGS_SEED"), 10, 64)
	if err != nil {
		seed = rand.Uint64()
	}
	t.Logf("TIDINGS_SEED=%d repeats this", seed)
	return dice{rand.New(rand.NewPCG(seed, 0))}
}

func (d dice) word(prefix string, of int) string { return prefix + strconv.Itoa(d.IntN(of)) }

func (d dice) target() (t tidings.Target) {
	for t.IsZero() {
		if d.IntN(3) == 0 {
			t.ClientID = d.word("c", 4)
		}
		if d.IntN(3) == 0 {
			t.SessionID = d.word("s", 3)
		}
		if d.IntN(2) == 0 {
			t.UserID = d.word("u", 3)
		}
		if d.IntN(3) == 0 {
			t.Topic = d.word("t", 4)
		}
	}
	return t
}

func (d dice) connection() tidings.Connection {
	c := tidings.Connection{ConnectionID: "~" + d.word("conn", 1000), ClientID: d.word("c", 4)}
	if d.IntN(4) > 0 {
		c.UserID = d.word("u", 3)
	}
	if d.IntN(2) > 0 {
		c.SessionID = d.word("s", 3)
	}
	for range d.IntN(4) {
		if topic := d.word("t", 4); !slices.Contains(c.Topics, topic) {
			c.Topics = append(c.Topics, topic)
		}
	}
	return c
}

func (d dice) record() tidings.Record {
	r := tidings.Record{Nonce: d.Uint64(), Type: "x", Data: []byte(strings.Repeat("x", d.IntN(30)))}
	for range []int{0, 1, 1, 1, 2, 3, 5}[d.IntN(7)] {
		r.Targets = append(r.Targets, d.target()) // some of them twice
	}
	if d.IntN(5) == 0 {
		r.Exclude = d.target()
	}
	if d.IntN(4) == 0 {
		r.TTL = time.Duration(1+d.IntN(100)) * time.Second
	}
	if d.IntN(3) == 0 {
		r.CollapseKey = d.word("k", 2)
		r.Targets = r.Targets[:min(1, len(r.Targets))] // so that some are the same
		if len(r.Targets) > 0 {
			r.Targets[0] = user(d.word("u", 3))
		}
	}
	return r
}

func TestTheIndexFindsWhatLookingAtEveryRecordFinds(t *testing.T) {
	d := newDice(t)
	for range 20 {
		h := tidings.NewHistory("e", tidings.Position{}, int64(d.IntN(20_000)))
		var m model
		now := time.Unix(1_000_000, 0)
		for step := range 400 {
			now = now.Add(time.Duration(d.IntN(2000)) * time.Millisecond)
			r := d.record()
			r.Position, r.Time = tidings.Position{Hi: uint64(step/3 + 1), Lo: uint64(step % 3)}, now
			m = append(m, modelRecord{r, h.Add(r)})
			if d.IntN(10) == 0 { // drop some, all of them now and then
				n := d.IntN(len(m)) * d.IntN(2)
				if d.IntN(20) == 0 {
					n = len(m) - 1
				}
				h.Trim(m[n].Position)
				m = m[n+1:]
			}
			if len(m) == 0 {
				continue
			}
			c, i := d.connection(), d.IntN(len(m)+1)
			after := m[0].number - 1
			if i > 0 {
				after = m[i-1].number
			}
			if d.IntN(10) == 0 {
				after = 0 // before everything
				i = 0
			}
			numbers, more := h.Since(after, c, now, 10_000, 1<<30)
			if more || !slices.IsSorted(numbers) || len(slices.Compact(slices.Clone(numbers))) != len(numbers) {
				t.Fatalf("since %d: %v, %v", after, numbers, more)
			}
			want := m.replay(i, c, now)
			// The index may name more: a record is listed under one condition of each target.
			got := slices.DeleteFunc(numbers, func(n uint64) bool { return !isFor(c, &m[n-m[0].number].Record) })
			if !slices.EqualFunc(got, want, func(n uint64, r modelRecord) bool { return n == r.number }) {
				t.Fatalf("step %d, since %d, for %+v:\ngot  %v\nwant %v", step, after, c, got, want)
			}
			if first := h.First(); first != m[0].number {
				t.Fatalf("the oldest is %d, want %d", first, m[0].number)
			}
		}
	}
}

func TestTheIndexStopsLookingPastItsLimits(t *testing.T) {
	h := tidings.NewHistory("e", tidings.Position{}, 1<<20)
	c := tidings.Connection{ConnectionID: "~c", ClientID: "c", UserID: "u", Topics: []string{"t"}}
	now := time.Now()
	for n := range 100 {
		h.Add(tidings.Record{Position: tidings.Position{Hi: uint64(n + 1)}, Time: now, Data: make([]byte, 10), Targets: []tidings.Target{user("u")}})
		h.Add(tidings.Record{Position: tidings.Position{Hi: uint64(n + 1), Lo: 1}, Time: now, Data: make([]byte, 1000), Targets: []tidings.Target{user("v")}})
	}
	for _, l := range []struct {
		after  uint64
		events int
		bytes  int64
		want   int // -1 is more
	}{
		{0, 100, 1000, 100}, {0, 99, 1000, -1}, {0, 100, 999, -1}, {0, 0, 0, -1},
		{100, 50, 500, 50}, {100, 49, 500, -1}, {100, 50, 499, -1},
		{199, 0, 0, 0}, {200, 0, 0, 0}, {198, 1, 10, 1}, {1000, 0, 0, 0},
	} {
		numbers, more := h.Since(l.after, c, now, l.events, l.bytes)
		if want := l.want < 0; more != want || !more && len(numbers) != l.want {
			t.Errorf("%+v: %d records, more %v", l, len(numbers), more)
		}
	}
}

func TestARecordThatIsForAConnectionTwiceCountsOnce(t *testing.T) {
	h := tidings.NewHistory("e", tidings.Position{}, 1<<20)
	c := tidings.Connection{ConnectionID: "~c", ClientID: "c", UserID: "u", Topics: []string{"t"}}
	for n := range 10 {
		h.Add(tidings.Record{Position: tidings.Position{Hi: uint64(n + 1)}, Data: make([]byte, 10), Targets: []tidings.Target{user("u"), {Topic: "t"}, user("u"), {ClientID: "c"}}})
	}
	if numbers, more := h.Since(0, c, time.Now(), 10, 100); more || len(numbers) != 10 {
		t.Errorf("%d records, more %v", len(numbers), more)
	}
	if _, more := h.Since(0, c, time.Now(), 9, 100); !more {
		t.Error("10 records are within a limit of 9")
	}
}

func TestTheIndexKeepsNothingOfWhatWasDropped(t *testing.T) {
	d := newDice(t)
	h := tidings.NewHistory("e", tidings.Position{}, 50_000)
	empty := h.Leftovers()
	most := 0
	for round := range 30 {
		var last tidings.Position
		for n := range 200 {
			r := d.record()
			r.Targets = append(r.Targets, user(fmt.Sprint("once ", round, n)))
			last = tidings.Position{Hi: uint64(round*1000 + n + 1)}
			r.Position, r.Time = last, time.Now()
			h.Add(r)
			if n >= 100 { // dropped one by one, then all at once
				h.Trim(tidings.Position{Hi: last.Hi - 100})
			}
		}
		h.Trim(last)
		if left := h.Leftovers(); left != empty {
			t.Fatalf("round %d leaves %s, want %s", round, left, empty)
		}
		if round == 0 {
			most = h.Lists()
		}
	}
	if n := h.Lists(); n > most+50 {
		t.Errorf("there are %d lists, after the first round there were %d: they are not used again", n, most)
	}
}

func TestTheIndexDoesNotGrowOverManyTurnsOfHistory(t *testing.T) {
	const retained, turns = 5_000, 20
	h := tidings.NewHistory("e", tidings.Position{}, 1<<20)
	var before, after runtime.MemStats
	for n := range uint64(retained * turns) {
		p := tidings.Position{Hi: n + 1}
		r := tidings.Record{Position: p, Time: time.Now(), Data: make([]byte, 100), CollapseKey: strconv.FormatUint(n, 10)}
		r.Targets = []tidings.Target{user(strconv.FormatUint(n, 10)), {Topic: strconv.FormatUint(n, 10)}}
		h.Add(r)
		if n >= retained {
			h.Trim(tidings.Position{Hi: n + 1 - retained})
		}
		if n == 3*retained {
			runtime.GC()
			runtime.ReadMemStats(&before)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 2<<20 {
		t.Errorf("it has grown by %d KiB over %d turns of history", grown>>10, turns-3)
	}
	runtime.KeepAlive(h)
}

func TestTheIndexHoldsTheNewestRecordsWithinItsBytes(t *testing.T) {
	const each, bound = 512 + 2*100, 10_000 // 512 are counted beside twice the data
	h := tidings.NewHistory("e", tidings.Position{}, bound)
	for n := range uint64(100) {
		h.Add(tidings.Record{Position: tidings.Position{Hi: n + 1}, Data: make([]byte, 100)})
		if held, bytes := h.Held(); held != min(int(n)+1, bound/each) || bytes != int64(held*each) {
			t.Fatalf("after %d records, %d are held, and %d bytes", n+1, held, bytes)
		}
	}
	h.Add(tidings.Record{Position: tidings.Position{Hi: 101}, Data: make([]byte, 1<<20)})
	if held, _ := h.Held(); held != 1 {
		t.Errorf("%d records are held, want the newest, whatever its size", held)
	}
}

func TestACursorIsAgedByEventsBytesOrTimeWhicheverIsMost(t *testing.T) {
	start := time.Unix(1_000_000, 0)
	// fill indexes 100 records; size and at say how large and how old each is.
	fill := func(size func(n int) int, at func(n int) time.Duration) *tidings.History {
		h := tidings.NewHistory("e", tidings.Position{}, 1<<20)
		for n := range 100 {
			h.Add(tidings.Record{Position: tidings.Position{Hi: uint64(n + 1)}, Data: make([]byte, size(n)), Time: start.Add(at(n))})
		}
		return h
	}
	same := func(int) int { return 10 }
	steady := func(n int) time.Duration { return time.Duration(n) * time.Minute }
	late := func(n int) int { // the newest tenth has nearly all bytes
		if n >= 90 {
			return 10_000
		}
		return 1
	}
	long := func(n int) time.Duration { // the oldest ninety came at once, the others over the whole time
		return time.Duration(max(0, n-89)) * time.Hour
	}
	for name, c := range map[string]struct {
		h       *tidings.History
		now     time.Duration
		low, up uint64 // the newest number that is a quarter of history old
	}{
		"by events": {fill(same, steady), 100 * time.Minute, 74, 77},
		"by bytes":  {fill(late, steady), 100 * time.Minute, 96, 99},
		"by time":   {fill(same, long), 10 * time.Hour, 97, 99},
	} {
		if n := c.h.Aged(4, start.Add(c.now)); n < c.low || n > c.up {
			t.Errorf("%s: a cursor below %d is a quarter of history old, want %d to %d", name, n, c.low, c.up)
		}
	}
	// The newest record is never old: there is nothing after it.
	h := fill(same, steady)
	if n := h.Aged(4, start.Add(1000*time.Hour)); n > 100 {
		t.Errorf("the newest record, 100, is below %d", n)
	}
	empty := tidings.NewHistory("e", tidings.Position{}, 1)
	if n, newest := empty.Aged(4, start), empty.First()-1; n > newest {
		t.Errorf("in an empty history, the cursor %d is below %d", newest, n)
	}
}

func TestAPageThatComesBackGetsWhatLookingAtEveryRecordFinds(t *testing.T) {
	// The same through a hub, a log that drops, and streams: any identity, from any cursor, at any time.
	synctest.Test(t, func(t *testing.T) {
		d := newDice(t)
		for _, o := range []tidings.Options{{}, {HoldBytes: 1}, {HoldBytes: 20_000}} {
			log := memoryLog(t, &tidings.MemoryOptions{MaxEvents: 150})
			o.Broker = log
			site := joinServe(t, o)
			var m model
			ids := []string{site.hub.Stats().History.LastID}
			for step := range 600 {
				time.Sleep(time.Duration(d.IntN(2000)) * time.Millisecond)
				r := d.record()
				e := tidings.Event{
					Data: tidings.Text(strconv.Itoa(step)), Targets: r.Targets, Everyone: len(r.Targets) == 0,
					Exclude: r.Exclude, TTL: r.TTL, CollapseKey: r.CollapseKey,
				}
				ids = append(ids, joinSend(t, site.hub, e).ID)
				held := heldBy(t, log)
				m = append(m, modelRecord{held[len(held)-1], 0})
				if d.IntN(3) > 0 {
					continue
				}
				c, i := d.connection(), d.IntN(len(ids))
				if d.IntN(2) == 0 {
					i = max(0, len(ids)-1-d.IntN(150))
				}
				query := "clientId=" + c.ClientID
				if c.UserID != "" {
					query += "&userId=" + c.UserID
				}
				if c.SessionID != "" {
					query += "&sessionId=" + c.SessionID
				}
				for _, topic := range c.Topics {
					query += "&topic=" + topic
				}
				page := site.tab(t, query).from(ids[i])
				reaches := i >= len(m)-len(held)
				if r := page.open(); r != "complete" && reaches {
					t.Fatalf("step %d: %q from event %d, which is held: the resume is %q, of %q", step, query, i, r, page.gaps)
				}
				want := m.replay(i, c, time.Now())
				if len(want) > 0 && page.resume == "complete" {
					for last := string(want[len(want)-1].Data); len(page.gaps) == 0 && (len(page.got) == 0 || page.got[len(page.got)-1] != last); {
						page.read()
					}
				}
				page.cut()
				if page.resume != "complete" || len(page.gaps) > 0 {
					if reaches {
						t.Fatalf("step %d: %q from event %d: a gap of %q", step, query, i, page.gaps)
					}
					continue
				}
				if !slices.EqualFunc(page.got, want, func(text string, r modelRecord) bool { return text == string(r.Data) }) {
					t.Fatalf("step %d: %q from event %d:\ngot  %v\nwant %v", step, query, i, page.got, want)
				}
			}
		}
	})
}
