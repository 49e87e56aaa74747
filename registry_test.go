package tidings_test

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/tidings-sse/tidings"
)

func TestRoutingFindsWhoLookingAtEveryConnectionFinds(t *testing.T) {
	// Connections come and go at random; each event's receipt must count those that meet it, by the model of the
	// replays, and each must get it.
	d := newDice(t)
	site := joinServe(t, tidings.Options{})
	type online struct {
		tidings.Connection
		page *tab
		want []string
	}
	var all []*online
	for step := range 400 {
		switch n := d.IntN(10); {
		case n < 3 || len(all) == 0:
			c := d.connection()
			query := "clientId=" + c.ClientID
			if c.UserID != "" {
				query += "&userId=" + c.UserID
			}
			if c.SessionID != "" {
				query += "&sessionId=" + c.SessionID
			}
			if len(c.Topics) > 0 {
				query += "&topic=" + strings.Join(c.Topics, "&topic=")
			}
			o := &online{Connection: c, page: site.tab(t, query)}
			o.page.open()
			all = append(all, o)
		case n < 5 && len(all) > 3:
			i := d.IntN(len(all))
			all[i].page.cut()
			all = slices.Delete(all, i, i+1)
		}
		eventually(t, "all are registered, and the others gone", func() bool { return site.hub.Stats().Connections == len(all) })
		r := d.record()
		text := strconv.Itoa(step)
		matched := 0
		for _, o := range all {
			if isFor(o.Connection, &r) {
				matched++
				o.want = append(o.want, text)
			}
		}
		got := joinSend(t, site.hub, tidings.Event{Data: tidings.Text(text), Targets: r.Targets, Everyone: len(r.Targets) == 0, Exclude: r.Exclude})
		if got.Matched != matched {
			t.Fatalf("step %d, to %v without %v: matched %d, want %d", step, r.Targets, r.Exclude, got.Matched, matched)
		}
		target := d.target()
		online := 0
		for _, o := range all {
			if isFor(o.Connection, &tidings.Record{Targets: []tidings.Target{target}}) {
				online++
			}
		}
		listed := 0
		for c := range site.hub.Connections(target) {
			if !tidings.Meets(c, target) {
				t.Errorf("%+v is listed under %v", c, target)
			}
			listed++
		}
		if listed != online {
			t.Fatalf("step %d: %d connections are listed under %v, want %d", step, listed, target, online)
		}
	}
	joinSend(t, site.hub, tidings.Event{Data: tidings.Text("end"), Everyone: true})
	for _, o := range all {
		o.page.until("end").wants(append(o.want, "end")...)
	}
}

func TestConnectionsThatComeAndGoAllAtOnceAreCountedRight(t *testing.T) {
	const pages, rounds = 50, 10
	site := joinServe(t, tidings.Options{})
	var wg sync.WaitGroup
	for i := range pages {
		page := site.tab(t, "userId=u&topic=t&clientId="+strconv.Itoa(i%7))
		wg.Go(func() {
			for range rounds {
				page.open()
				site.to(t, tidings.Target{}, "x")
				page.cut()
			}
		})
	}
	wg.Wait()
	eventually(t, "nobody is left", func() bool { return site.hub.Stats().Connections == 0 })
	if r := site.to(t, tidings.Target{Topic: "t"}, "x"); r.Matched != 0 || r.Hint != "no connection has topic t" {
		t.Errorf("the receipt is %+v", r)
	}
	// A stream that was cut before it was registered is not among the connections, and may not have noticed yet.
	var s tidings.Stats
	begun, ended := uint64(0), uint64(0)
	eventually(t, "all have ended", func() bool {
		s, begun, ended = site.hub.Stats(), 0, 0
		for _, n := range s.Connected {
			begun += n
		}
		for _, n := range s.Disconnected {
			ended += n
		}
		return begun+s.Unfinished[tidings.ReasonClosed]+s.Unfinished[tidings.ReasonLost] >= pages*rounds && ended >= begun
	})
	if begun != ended || begun+s.Unfinished[tidings.ReasonClosed]+s.Unfinished[tidings.ReasonLost] != pages*rounds {
		t.Errorf("%d streams began, %d ended, and %v ended before that; want %d", begun, ended, s.Unfinished, pages*rounds)
	}
}
