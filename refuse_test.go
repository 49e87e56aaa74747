package tidings_test

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidings-sse/tidings"
)

func TestAReplayEndsWhenItsUserIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memoryLog(t, nil)
		var s *site
		var refuse sync.Once
		b := &rigged{Broker: log, read: func(_, _ tidings.Position) {
			refuse.Do(func() {
				if _, err := s.hub.Refuse(context.WithoutCancel(t.Context()), tidings.Target{UserID: "alice"}, time.Now().Add(time.Hour)); err != nil {
					t.Error(err)
				}
			})
		}}
		s = protocols[1].serveInMemory(t, &tidings.Options{Broker: b, Authorizer: everyone, HoldBytes: 1})
		first := send(t, s.hub, "first")
		const n = 1000
		for i := range n {
			send(t, s.hub, strconv.Itoa(i))
		}
		st := decode(s.get(t, "", "Authorization", "Bearer alice", "Last-Event-ID", first.ID))
		st.greet(t)
		es, err := st.rest()
		if err == nil || len(es) == 0 || es[len(es)-1].Type != "tidings.disconnected" {
			t.Fatalf("%d events, %v", len(es), err)
		}
		// The events that were being looked up at that moment may still have come.
		if len(es) > n/4 {
			t.Errorf("%d events came after the user was refused", len(es)-1)
		}
	})
}
