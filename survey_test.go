package tidings_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/tidings-sse/tidings"
)

// A node is a log that lets a test ask its hub what other nodes ask. There are no others.
type node struct {
	tidings.Broker
	answer func([]byte) []byte
}

var _ tidings.Peers = (*node)(nil)

func (n *node) Answer(f func([]byte) []byte) {
	if f != nil {
		n.answer = f
	}
}

func (n *node) Ask(context.Context, []byte) ([][]byte, int, error) { return nil, 0, nil }

func TestAPageHoldsAtLeastOneConnectionAndAtMostAThousandWhoeverAsks(t *testing.T) {
	n := &node{Broker: memoryLog(t, nil)}
	hub, err := tidings.New(&tidings.Options{Broker: n})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hub.Close() })
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
