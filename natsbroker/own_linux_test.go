package natsbroker_test

import (
	"slices"
	"sync"
	"testing"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/internal/natstest"
	"github.com/tidings-sse/tidings/natsbroker"
)

func TestNodesThatAppendAtTheSameTimeFollowTheSameLog(t *testing.T) {
	// Each delivers its own records when they are acknowledged, and those of the others when they come.
	const appends, senders = 150, 4
	s := natstest.Start(t, natsServer(t), natstest.Config{})
	nodes := make([]*natsbroker.Broker, 3)
	followed := make([][]tidings.Record, len(nodes))
	var reading sync.WaitGroup
	for i := range nodes {
		nodes[i] = connect(t, natsbroker.ConnectOptions{URL: s.URL()})
		state(t, nodes[i])
		f := follow(t, nodes[i], tidings.Position{})
		reading.Go(func() { followed[i] = f.takes(appends * senders * len(nodes)) })
	}
	var mu sync.Mutex
	var stored []tidings.Record
	var wg sync.WaitGroup
	for i, n := range nodes {
		for sender := range senders {
			wg.Go(func() {
				for k := range appends {
					r := record((i*senders+sender)*appends + k)
					as, err := n.Append(bounded(t), []tidings.Record{r})
					if err != nil {
						t.Error(err)
						return
					}
					r.Position = as[0].Position
					mu.Lock()
					stored = append(stored, r)
					mu.Unlock()
				}
			})
		}
	}
	wg.Wait()
	slices.SortFunc(stored, func(a, b tidings.Record) int { return a.Position.Compare(b.Position) })
	reading.Wait()
	for i, got := range followed {
		sameRecords(t, got, stored)
		if nodes[i].DeliveredAsOwn() == 0 {
			t.Errorf("node %d waited for all of its own records to come back", i)
		}
	}
}
