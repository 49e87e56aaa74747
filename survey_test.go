package tidings_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tidings-sse/tidings"
)

// A node is a log that lets a test ask its hub what other nodes ask, and the hub ask others.
type node struct {
	tidings.Broker
	answer func([]byte) []byte
	others []*node
}

var _ tidings.Peers = (*node)(nil)

func (n *node) Answer(f func([]byte) []byte) {
	if f != nil {
		n.answer = f
	}
}

func (n *node) Ask(_ context.Context, question []byte) (answers [][]byte, others int, _ error) {
	for _, o := range n.others {
		answers = append(answers, o.answer(question))
	}
	return answers, len(n.others), nil
}

// newNode returns a hub on a log of its own that can be asked what others ask.
func newNode(t testing.TB) (*node, *tidings.Hub) {
	t.Helper()
	n := &node{Broker: memoryLog(t, nil)}
	hub, err := tidings.New(&tidings.Options{Broker: n})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hub.Close() })
	return n, hub
}

func TestAPageHoldsAtLeastOneConnectionAndAtMostAThousandWhoeverAsks(t *testing.T) {
	n, hub := newNode(t)
	for i := range 1001 {
		if err := hub.Register(tidings.Connection{ConnectionID: fmt.Sprintf("~%04d", i), UserID: "u"}); err != nil {
			t.Fatal(err)
		}
	}
	for limit, want := range map[int]int{0: 1, -1: 1, -1 << 62: 1, 1: 1, 7: 7, 1000: 1000, 1001: 1000, 1 << 62: 1000} {
		p, err := hub.AllConnections(t.Context(), tidings.Target{}, limit, "")
		if err != nil || len(p.Connections) != want || p.Total != 1001 || p.Next != fmt.Sprintf("~%04d", want-1) {
			t.Errorf("limit %d: %d connections of %d, next %q, %v; want %d", limit, len(p.Connections), p.Total, p.Next, err, want)
		}
		var answer tidings.ConnectionPage
		raw := n.answer(fmt.Appendf(nil, `{"ask":"list","limit":%d}`, limit))
		if err := json.Unmarshal(raw, &answer); err != nil || len(answer.Connections) != want {
			t.Errorf("another node's limit %d: %d connections, %v; want %d", limit, len(answer.Connections), err, want)
		}
	}
	if raw := n.answer([]byte(`{"ask":"list"}`)); !json.Valid(raw) {
		t.Errorf("without a limit: %s", raw)
	}
}

func TestReachCountsEachConnectionThatAnEventIsForOnce(t *testing.T) {
	hub, err := tidings.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hub.Close() })
	var all []tidings.Connection
	for i := range 200 { // more than are looked at one by one
		c := tidings.Connection{
			ConnectionID: fmt.Sprintf("~%04d", i), ClientID: fmt.Sprintf("c%d", i%7), UserID: fmt.Sprintf("u%d", i%3), SessionID: fmt.Sprintf("s%d", i%50),
			Topics: []string{"all", fmt.Sprintf("t%d", i%2)},
		}
		if err := hub.Register(c); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	some := []tidings.Target{
		{UserID: "u1"}, {Topic: "all"}, {Topic: "t1"}, {ClientID: "c3"}, {ClientID: "~0007"}, {SessionID: "s7"}, {SessionID: "s49"}, {UserID: "nobody"},
		{UserID: "u1", Topic: "t1"}, {ClientID: "c3", UserID: "u2"}, {SessionID: "s7", Topic: "nothing"},
	}
	sets := [][]tidings.Target{nil}
	for i, a := range some {
		sets = append(sets, []tidings.Target{a})
		for _, b := range some[i:] {
			sets = append(sets, []tidings.Target{a, b}, []tidings.Target{b, a, {UserID: "u0"}})
		}
	}
	for _, targets := range sets {
		for _, exclude := range append([]tidings.Target{{}}, some...) {
			want := 0
			for _, c := range all {
				meets := func(t tidings.Target) bool { return tidings.Meets(c, t) }
				if (targets == nil || slices.ContainsFunc(targets, meets)) && (exclude.IsZero() || !meets(exclude)) {
					want++
				}
			}
			n, nodes, err := hub.Reach(t.Context(), targets, exclude)
			if n != want || nodes != nil || err != nil {
				t.Errorf("to %v, without %v: %d, %v, %v; want %d", targets, exclude, n, nodes, err, want)
			}
		}
	}
}

func TestAListOfLargeConnectionsIsToldInPartsThatFitIntoAMessage(t *testing.T) {
	asks, hub := newNode(t)
	large, there := newNode(t)
	small, elsewhere := newNode(t)
	asks.others = []*node{large, small}
	var topics []string
	for i := range 50 {
		topics = append(topics, fmt.Sprintf("%d-%s", i, strings.Repeat("x", 200)))
	}
	var want []string
	for i := range 300 { // ten KB each on one node
		c := tidings.Connection{ConnectionID: fmt.Sprintf("~%04d", i)}
		on := []*tidings.Hub{there, hub, there, elsewhere}[i%4]
		if on == there {
			c.Topics = topics
		}
		if err := on.Register(c); err != nil {
			t.Fatal(err)
		}
		want = append(want, c.ConnectionID)
	}
	if raw := large.answer([]byte(`{"ask":"list","limit":1000}`)); len(raw) > 600<<10 {
		t.Errorf("a reply has %d bytes", len(raw))
	}
	var got []string
	after, pages := "", 0
	for {
		p, err := hub.AllConnections(t.Context(), tidings.Target{}, 1000, after)
		if err != nil || p.Total != len(want) || *p.Nodes != (tidings.Nodes{Answered: 3, Of: 3}) {
			t.Fatalf("%d in total of %v, %v", p.Total, p.Nodes, err)
		}
		for _, c := range p.Connections {
			got = append(got, c.ConnectionID)
		}
		pages++
		if after = p.Next; after == "" {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("in %d pages: %q", pages, got)
	}
	if pages < 3 {
		t.Errorf("%d pages", pages)
	}
}
