package brokertest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidings-sse/tidings"
)

func (s *suite) testAppend(t *testing.T) {
	t.Run("positions increase, and are the same in the answers, in Tail and in Read", func(t *testing.T) {
		l := s.new(t, Options{})
		var stored []tidings.Record
		for _, n := range []int{1, 3, 1, 10, 2} {
			stored = append(stored, l.store(events(len(stored), n)...)...)
		}
		last := tidings.Position{}
		for _, r := range stored {
			if r.Position.Compare(last) <= 0 {
				t.Fatalf("%v does not follow %v", r.Position, last)
			}
			last = r.Position
		}
		l.tail(tidings.Position{}).want(stored...)
		wantRecords(t, l.all(), stored)
	})
	t.Run("the records of one call stand side by side in their order, whatever is appended at the same time", s.testSideBySide)
	t.Run("every field survives", s.testFields)
	t.Run("data of a mebibyte survives", func(t *testing.T) {
		l := s.new(t, Options{})
		big := event(0)
		big.Data = make([]byte, 1<<20)
		rnd := rand.New(rand.NewPCG(1, 2))
		for i := range big.Data {
			big.Data[i] = byte(rnd.Uint32())
		}
		stored := l.store(event(1), big, event(2), big)
		l.tail(tidings.Position{}).want(stored...)
		wantRecords(t, l.all(), stored)
	})
	t.Run("a call with thousands of records is one piece", func(t *testing.T) {
		l := s.new(t, Options{})
		stored := l.store(events(0, 4096)...)
		l.tail(tidings.Position{}).want(stored...)
	})
	t.Run("a call without records appends nothing", func(t *testing.T) {
		l := s.new(t, Options{})
		stored := l.store(event(1))
		l.append()
		stored = append(stored, l.store(event(2))...)
		wantRecords(t, l.all(), stored)
	})
	t.Run("the slice is not changed, and may be used again", func(t *testing.T) {
		l := s.new(t, Options{})
		rs := events(0, 3)
		stored := l.store(rs...)
		for i := range rs {
			if !rs[i].Position.IsZero() || !rs[i].Time.IsZero() || rs[i].Nonce != stored[i].Nonce {
				t.Fatalf("Append changed record %d to %+v", i, rs[i])
			}
			rs[i] = tidings.Record{Type: "overwritten", Nonce: 1, Data: []byte("overwritten")}
		}
		clear(rs)
		l.tail(tidings.Position{}).want(stored...)
		wantRecords(t, l.all(), stored)
	})
	t.Run("an error matches ErrNotStored only if nothing was stored", func(t *testing.T) {
		l := s.new(t, Options{})
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		r := event(1)
		as, err := l.Append(ended, []tidings.Record{r})
		l.store(event(2)) // everything before it is decided now
		var found bool
		for _, h := range l.all() {
			found = found || h.Nonce == r.Nonce
		}
		switch {
		case err == nil && (len(as) != 1 || !found):
			t.Fatalf("Append answered %v and no error, and the record is not in the log", as)
		case errors.Is(err, tidings.ErrNotStored) && found:
			t.Fatalf("Append returned %v, and the record is in the log", err)
		}
	})
}

// testSideBySide has several goroutines append calls of several sizes, while a tail follows.
func (s *suite) testSideBySide(t *testing.T) {
	const senders, calls = 8, 20
	l := s.new(t, Options{})
	live := l.tail(tidings.Position{})
	data := func(sender, call, i, of int) string { return fmt.Sprintf("%d %d %d/%d", sender, call, i, of) }
	var wg sync.WaitGroup
	var mu sync.Mutex
	answered := map[string]tidings.Position{}
	total := 0
	for sender := range senders {
		rnd := rand.New(rand.NewPCG(uint64(sender), 0))
		sizes := make([]int, calls)
		for i := range sizes {
			sizes[i] = 1 + rnd.IntN(9)
			total += sizes[i]
		}
		wg.Go(func() {
			for call, n := range sizes {
				rs := events(0, n)
				for i := range rs {
					rs[i].Data = []byte(data(sender, call, i, n))
				}
				as, err := l.Append(l.ctx, rs)
				if err != nil || len(as) != n {
					t.Errorf("Append of %d records: %d answers, %v", n, len(as), err)
					return
				}
				mu.Lock()
				for i, a := range as {
					answered[string(rs[i].Data)] = a.Position
				}
				mu.Unlock()
			}
		})
	}
	var got []tidings.Record
	for range total {
		r, err := live.next()
		if err != nil {
			t.Fatalf("Tail ended after %d of %d records: %v", len(got), total, err)
		}
		got = append(got, r)
	}
	wg.Wait()
	next := make([]int, senders) // calls of each sender that were seen
	for at := 0; at < len(got); {
		var sender, call, i, of int
		if _, err := fmt.Sscanf(string(got[at].Data), "%d %d %d/%d", &sender, &call, &i, &of); err != nil {
			t.Fatalf("a record that was never appended: %q", got[at].Data)
		}
		if call != next[sender] {
			t.Fatalf("call %d of sender %d comes where call %d belongs", call, sender, next[sender])
		}
		next[sender]++
		for i := range of {
			want := data(sender, call, i, of)
			if at == len(got) || string(got[at].Data) != want {
				t.Fatalf("record %d is %q, want %q: the call was torn apart", at, got[at].Data, want)
			}
			if at > 0 && got[at].Position.Compare(got[at-1].Position) <= 0 {
				t.Fatalf("%v follows %v", got[at].Position, got[at-1].Position)
			}
			if answered[want] != got[at].Position {
				t.Fatalf("Append answered %v for %q, and Tail has it at %v", answered[want], want, got[at].Position)
			}
			at++
		}
	}
	wantRecords(t, l.all(), got)
}

func (s *suite) testFields(t *testing.T) {
	var everyByte []byte
	for b := range 256 {
		everyByte = append(everyByte, byte(b))
	}
	longest := strings.Repeat("é", 128) // 256 bytes
	many := make([]tidings.Target, 100)
	for i := range many {
		many[i] = tidings.Target{ClientID: fmt.Sprint("c", i), UserID: longest, SessionID: "s", Topic: "a/b c?d=e&f,{}\"'<>"}
	}
	rs := []tidings.Record{
		{Type: "message", Data: []byte("null")},
		{Type: "x", Data: nil},
		{Type: "x", Data: []byte{}},
		{Type: "x", Data: everyByte},
		{Type: "x", Data: []byte("line\r\nline\rline\n\x00\u2028\ufeff end ")},
		{Type: strings.Repeat("t", 128), Data: []byte("1"), Nonce: 1},
		{Type: "x", Nonce: 1<<64 - 1},
		{Type: "é.日本", Targets: []tidings.Target{{ClientID: "~a"}}, Exclude: tidings.Target{ClientID: "b", UserID: "c", SessionID: "d", Topic: "e"}},
		{Type: "x", Targets: []tidings.Target{{UserID: "u"}, {UserID: "u"}, {Topic: "u"}, {SessionID: "u"}, {ClientID: "u"}}},
		{Type: "x", Targets: many},
		{Type: "x", TTL: time.Millisecond},
		{Type: "x", TTL: 100 * 365 * 24 * time.Hour},
		{Type: "x", CollapseKey: longest, IdempotencyKey: longest},
		{Type: "all", Data: []byte("{}"), Targets: []tidings.Target{{ClientID: "c", UserID: "u", SessionID: "s", Topic: "t"}}, Exclude: tidings.Target{Topic: "x"}, TTL: 90 * time.Second, CollapseKey: "ck", IdempotencyKey: "ik"},
	}
	for i := range rs {
		if rs[i].Nonce == 0 {
			rs[i].Nonce = rand.Uint64()
		}
	}
	l := s.new(t, Options{})
	stored := l.store(rs...)
	l.tail(tidings.Position{}).want(stored...)
	wantRecords(t, l.all(), stored)
	for i, r := range stored {
		got, err := l.read(r.Position, r.Position)
		if err != nil {
			t.Fatalf("Read of record %d alone: %v", i, err)
		}
		wantRecords(t, got, stored[i:i+1])
	}
}
