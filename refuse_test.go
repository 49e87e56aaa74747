package tidings_test

import (
	"context"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
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

// statusOf is how a stream with the token is answered.
func statusOf(t *testing.T, s *site, token string) int {
	t.Helper()
	res := s.get(t, "", "Authorization", "Bearer "+token)
	defer res.Body.Close()
	return res.StatusCode
}

func refuseUser(t *testing.T, hub *tidings.Hub, user string, until time.Time) {
	t.Helper()
	if _, err := hub.Refuse(t.Context(), tidings.Target{UserID: user}, until); err != nil {
		t.Fatal(err)
	}
}

func TestARefusalOutlivesItsRecordInABusyLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memoryLog(t, &tidings.MemoryOptions{MaxEvents: 100})
		o := &tidings.Options{Broker: log, Authorizer: everyone}
		first := protocols[1].serveInMemory(t, o)
		refuseUser(t, first.hub, "alice", time.Now().Add(time.Hour))
		refuseUser(t, first.hub, "mallory", time.Now().Add(time.Hour))
		refuseUser(t, first.hub, "mallory", time.Now().Add(-time.Second)) // taken back
		busy := func() {
			for i := range 1000 {
				send(t, first.hub, strconv.Itoa(i))
				synctest.Wait()
			}
		}
		busy()
		second := protocols[1].serveInMemory(t, o)
		synctest.Wait()
		busy() // both repeat it
		third := protocols[1].serveInMemory(t, o)
		synctest.Wait()
		for name, s := range map[string]*site{"first": first, "second": second, "third": third} {
			if alice, mallory := statusOf(t, s, "alice"), statusOf(t, s, "mallory"); alice != 401 || mallory != 200 {
				t.Errorf("%s: alice %d, mallory %d", name, alice, mallory)
			}
		}
		repeated := 0
		for _, r := range heldBy(t, log) {
			if strings.HasPrefix(r.Type, "tidings.") {
				repeated++
			}
		}
		if repeated == 0 || repeated > 10 {
			t.Errorf("%d of the 100 records of the log are refusals", repeated)
		}
		// Taken back, it stays so, though the log still holds what was repeated.
		refuseUser(t, third.hub, "alice", time.Now().Add(-time.Second))
		synctest.Wait()
		fourth := protocols[1].serveInMemory(t, o)
		synctest.Wait()
		for name, s := range map[string]*site{"first": first, "fourth": fourth} {
			if got := statusOf(t, s, "alice"); got != 200 {
				t.Errorf("%s, taken back: %d", name, got)
			}
		}
	})
}

// A salvager can still read some of what its log doesn't hold any more.
type salvager struct {
	tidings.Broker
	salvage func(ctx context.Context, yield func(tidings.Record, error) bool)
}

func (b salvager) Salvage(ctx context.Context) iter.Seq2[tidings.Record, error] {
	return func(yield func(tidings.Record, error) bool) { b.salvage(ctx, yield) }
}

func TestAHubServesNoStreamBeforeItHasReadWhoWasSignedOutInWhatTheLogHasLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memoryLog(t, &tidings.MemoryOptions{MaxEvents: 100})
		before := joinHub(t, tidings.Options{Broker: log})
		refuseUser(t, before, "alice", time.Now().Add(time.Hour))
		lost := heldBy(t, log)[0]
		if err := before.Close(); err != nil {
			t.Fatal(err)
		}
		for range 200 {
			appendTo(t, log, tidings.Record{Type: "n", Data: []byte("1")})
		}
		var calls atomic.Int32
		there := make(chan struct{})
		b := salvager{log, func(ctx context.Context, yield func(tidings.Record, error) bool) {
			if calls.Add(1) <= 3 {
				yield(tidings.Record{}, tidings.ErrUnavailable)
				return
			}
			select {
			case <-there:
				yield(lost, nil)
			case <-ctx.Done():
				yield(tidings.Record{}, ctx.Err())
			}
		}}
		s := protocols[1].serveInMemory(t, &tidings.Options{Broker: b, Authorizer: everyone})
		time.Sleep(time.Minute)
		if err := s.hub.Ready(); err == nil || calls.Load() != 4 {
			t.Errorf("after %d calls: %v", calls.Load(), err)
		}
		other := joinHub(t, tidings.Options{Broker: b})
		synctest.Wait()
		if err := other.Close(); err != nil { // and it is ended in the middle
			t.Error(err)
		}
		close(there)
		synctest.Wait()
		if err := s.hub.Ready(); err != nil {
			t.Error(err)
		}
		if alice, mallory := statusOf(t, s, "alice"), statusOf(t, s, "mallory"); alice != 401 || mallory != 200 {
			t.Errorf("alice %d, mallory %d", alice, mallory)
		}
	})
}

// A node that repeats what another one takes back at that moment does not bring it back.
func TestAnEarlierRefusalThatIsRepeatedDoesNotUndoALaterCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memoryLog(t, &tidings.MemoryOptions{MaxEvents: 100})
		s := protocols[1].serveInMemory(t, &tidings.Options{Broker: log, Authorizer: everyone})
		refuseUser(t, s.hub, "alice", time.Now().Add(time.Hour))
		for i := range 80 {
			send(t, s.hub, strconv.Itoa(i))
			synctest.Wait()
		}
		time.Sleep(2 * time.Second) // a round of the janitor
		var again tidings.Record
		for _, r := range heldBy(t, log) {
			if strings.Contains(string(r.Data), "repeated") {
				again = r
			}
		}
		if again.Type == "" {
			t.Fatal("it was not repeated")
		}
		refuseUser(t, s.hub, "alice", time.Now().Add(-time.Second))
		again.Nonce++
		appendTo(t, log, again)
		synctest.Wait()
		late := protocols[1].serveInMemory(t, &tidings.Options{Broker: log, Authorizer: everyone})
		synctest.Wait()
		for name, s := range map[string]*site{"the node": s, "a late one": late} {
			if got := statusOf(t, s, "alice"); got != 200 {
				t.Errorf("%s: %d", name, got)
			}
		}
	})
}

func TestARefusalThatIsSkippedInAGapIsKnownAllTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var v valve
		log := memoryLog(t, &tidings.MemoryOptions{MaxEvents: 50})
		behind := protocols[1].serveInMemory(t, &tidings.Options{Broker: &rigged{Broker: log, deliver: v.deliver}, Authorizer: everyone})
		other := protocols[1].serveInMemory(t, &tidings.Options{Broker: log, Authorizer: everyone})
		st := behind.open(t, "", "Authorization", "Bearer mallory")
		v.shut()
		for i := range 200 {
			send(t, other.hub, strconv.Itoa(i))
			synctest.Wait()
			if i == 100 {
				refuseUser(t, other.hub, "alice", time.Now().Add(time.Hour)) // the record is dropped, and repeated before
			}
		}
		refuseUser(t, other.hub, "mallory", time.Now().Add(time.Hour))
		send(t, other.hub, "last")
		v.release()
		synctest.Wait()
		for token, want := range map[string]int{"alice": 401, "mallory": 401} {
			if got := statusOf(t, behind, token); got != want {
				t.Errorf("%s: %d, want %d", token, got, want)
			}
		}
		es, err := st.rest()
		if err == nil || len(es) == 0 || es[len(es)-1].Type != "tidings.disconnected" {
			t.Errorf("mallory's stream: %d events, %v", len(es), err)
		}
	})
}

func TestARefusalOfANodeThatSkipsItIsAppliedThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var v valve
		log := memoryLog(t, &tidings.MemoryOptions{MaxEvents: 50})
		s := protocols[1].serveInMemory(t, &tidings.Options{Broker: &rigged{Broker: log, deliver: v.deliver}, Authorizer: everyone})
		v.shut()
		appendTo(t, log, tidings.Record{Type: "x", Data: []byte("x")})
		synctest.Wait() // the tail holds it
		done := make(chan struct{})
		go func() {
			defer close(done)
			refuseUser(t, s.hub, "alice", time.Now().Add(time.Hour))
		}()
		synctest.Wait()
		appendTo(t, log, make([]tidings.Record, 200)...) // it is dropped
		v.release()
		<-done
		if got := statusOf(t, s, "alice"); got != 401 {
			t.Errorf("got %d", got)
		}
	})
}

func TestTokensAreNotAnsweredBeforeItIsKnownWhoIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var v valve
		log := memoryLog(t, nil)
		before := protocols[1].serveInMemory(t, &tidings.Options{Broker: log, Authorizer: everyone})
		refuseUser(t, before.hub, "alice", time.Now().Add(time.Hour))
		v.shut()
		s := protocols[1].serveInMemory(t, &tidings.Options{Broker: &rigged{Broker: log, deliver: v.deliver}, Authorizer: everyone}, withAPI)
		post := func(token, body string) (int, string) {
			req, err := http.NewRequestWithContext(t.Context(), "POST", s.base+"/api/sse/send", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+token)
			req.Header.Set("Content-Type", apiJSON)
			res, err := s.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			return res.StatusCode, readAll(t, res.Body)
		}
		const mine = `{"target":{"userId":"alice"}}`
		if status, body := post("alice", mine); status != 503 || !strings.Contains(body, "reading its log") {
			t.Errorf("before the log was read: %d %s", status, body)
		}
		v.release()
		synctest.Wait()
		if status, body := post("alice", mine); status != 401 {
			t.Errorf("after it was read: %d %s", status, body)
		}
		if status, body := post("backend", `{}`); status != 200 {
			t.Errorf("the back end: %d %s", status, body)
		}
	})
}
