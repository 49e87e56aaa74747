package tidings_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidings-sse/tidings"
)

// slowly returns a broker whose Append takes a while, and the sizes of the calls.
func slowly(log tidings.Broker, takes time.Duration) (*rigged, func() []int) {
	var mu sync.Mutex
	var sizes []int
	b := &rigged{Broker: log, append: func(ctx context.Context, rs []tidings.Record) ([]tidings.Appended, error) {
		time.Sleep(takes)
		mu.Lock()
		sizes = append(sizes, len(rs))
		mu.Unlock()
		return log.Append(ctx, rs)
	}}
	return b, func() []int {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(sizes)
	}
}

// appending returns a broker whose Append is what f says.
func appending(t testing.TB, f func(log tidings.Broker, ctx context.Context, rs []tidings.Record) ([]tidings.Appended, error)) *rigged {
	log := memoryLog(t, nil)
	return &rigged{Broker: log, append: func(ctx context.Context, rs []tidings.Record) ([]tidings.Appended, error) {
		return f(log, ctx, rs)
	}}
}

func text(s string) tidings.Event { return tidings.Event{Data: tidings.Text(s), Target: user("u")} }

func TestWhatIsSentWhileAnAppendRunsGoesIntoTheNextOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const senders, each = 50, 20
		log := memoryLog(t, nil)
		b, sizes := slowly(log, 10*time.Millisecond)
		hub := joinHub(t, tidings.Options{Broker: b})
		began := time.Now()
		var wg sync.WaitGroup
		for s := range senders {
			wg.Go(func() {
				for n := range each {
					joinSend(t, hub, text(fmt.Sprint(s, " ", n)))
				}
			})
		}
		wg.Wait()
		if n := len(sizes()); n > 2*each+2 {
			t.Errorf("%d events went into %d calls of Append", senders*each, n)
		}
		if d := time.Since(began); d > (2*each+2)*10*time.Millisecond {
			t.Errorf("it took %v", d)
		}
		next := make([]int, senders)
		rs := heldBy(t, log)
		for _, r := range rs {
			var s, n int
			if _, err := fmt.Sscan(string(r.Data), &s, &n); err != nil || n != next[s] {
				t.Fatalf("%q comes where event %d of sender %d belongs", r.Data, next[s], s)
			}
			next[s]++
		}
		if len(rs) != senders*each {
			t.Errorf("the log holds %d events", len(rs))
		}
		// One that is alone is not kept waiting for others.
		began = time.Now()
		joinSend(t, hub, text("alone"))
		if d := time.Since(began); d != 10*time.Millisecond {
			t.Errorf("a lone event took %v", d)
		}
	})
}

func TestOneAppendIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, sizes := slowly(memoryLog(t, nil), time.Second)
		hub := joinHub(t, tidings.Options{Broker: b})
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { joinSend(t, hub, text(strings.Repeat("x", 1<<20))) })
		}
		for range 10_000 {
			wg.Go(func() { joinSend(t, hub, text("x")) })
		}
		wg.Wait()
		for i, n := range sizes() {
			if n > 4096 {
				t.Errorf("call %d has %d events", i, n)
			}
		}
		if n := len(sizes()); n < 4 || n > 8 { // 4 MiB or 4096 events each
			t.Errorf("there were %d calls", n)
		}
	})
}

func TestASendThatIsGivenUpWhileItIsQueuedIsNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memoryLog(t, nil)
		b, _ := slowly(log, time.Second)
		hub := joinHub(t, tidings.Options{Broker: b})
		go func() { _, _ = hub.Send(t.Context(), text("in front")) }()
		synctest.Wait()
		why := errors.New("the request went away")
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() {
			time.Sleep(100 * time.Millisecond)
			cancel(why)
		}()
		_, err := hub.Send(ctx, text("given up"))
		if !errors.Is(err, tidings.ErrNotStored) || !errors.Is(err, why) {
			t.Errorf("the error is %v, want ErrNotStored and why", err)
		}
		joinSend(t, hub, text("behind"))
		var got []string
		for _, r := range heldBy(t, log) {
			got = append(got, string(r.Data))
		}
		if want := []string{"in front", "behind"}; !slices.Equal(got, want) {
			t.Errorf("the log holds %q, want %q", got, want)
		}
	})
}

func TestASendThatIsGivenUpAfterItWasHandedOverIsUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := slowly(memoryLog(t, nil), time.Second)
		hub := joinHub(t, tidings.Options{Broker: b})
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		e := text("x")
		e.IdempotencyKey = "k"
		_, err := hub.Send(ctx, e)
		if errors.Is(err, tidings.ErrNotStored) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the error is %v, want the context's, and not ErrNotStored", err)
		}
		// The key settles it.
		r := joinSend(t, hub, e)
		time.Sleep(time.Second)
		if again := joinSend(t, hub, e); again.ID != r.ID || hub.Stats().History.Events != 1 {
			t.Errorf("the receipts are %+v and %+v, and the log holds %d events", r, again, hub.Stats().History.Events)
		}
	})
}

func TestASendThatIsGivenUpAfterItWasStoredSucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var v valve
		hub := joinHub(t, tidings.Options{Broker: &rigged{Broker: memoryLog(t, nil), deliver: v.deliver}})
		v.shut()
		e := text("x")
		e.IdempotencyKey = "k"
		// Another one with its key waits for the same receipt, longer.
		again := make(chan tidings.Receipt)
		go func() {
			time.Sleep(time.Second)
			again <- joinSend(t, hub, e)
		}()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		r, err := hub.Send(ctx, e)
		if err != nil || r.ID == "" || r.Hint == "" {
			t.Errorf("%+v, %v; want the event's id, and a hint that it was not routed", r, err)
		}
		time.Sleep(time.Second)
		v.release()
		select {
		case a := <-again:
			if a.ID != r.ID {
				t.Errorf("the receipts are %+v and %+v", r, a)
			}
		case <-time.After(time.Minute):
			t.Fatal("a repeated send never ends when the first one was given up")
		}
	})
}

func TestAFailedAppendSaysIfNothingWasStored(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want []error
		not  []error
	}{
		"certain":   {fmt.Errorf("disk full: %w", errors.Join(tidings.ErrUnavailable, tidings.ErrNotStored)), []error{tidings.ErrNotStored, tidings.ErrUnavailable}, nil},
		"uncertain": {fmt.Errorf("no answer: %w", tidings.ErrUnavailable), []error{tidings.ErrUnavailable}, []error{tidings.ErrNotStored}},
		"unnamed":   {errors.New("no idea"), nil, []error{tidings.ErrNotStored, tidings.ErrUnavailable}},
	} {
		t.Run(name, func(t *testing.T) {
			var fails atomic.Bool
			fails.Store(true)
			hub := joinHub(t, tidings.Options{Broker: appending(t, func(log tidings.Broker, ctx context.Context, rs []tidings.Record) ([]tidings.Appended, error) {
				if fails.Load() {
					return nil, c.err
				}
				return log.Append(ctx, rs)
			})})
			_, err := hub.Send(t.Context(), text("x"))
			for _, want := range append(c.want, c.err) {
				if !errors.Is(err, want) {
					t.Errorf("the error is %v, want %v", err, want)
				}
			}
			for _, not := range c.not {
				if errors.Is(err, not) {
					t.Errorf("the error is %v, and must not be %v", err, not)
				}
			}
			fails.Store(false)
			joinSend(t, hub, text("y"))
		})
	}
}

func TestAnEventThatWasStoredDespiteAnErrorIsDeliveredAndItsKeySettlesIt(t *testing.T) {
	var answers atomic.Bool
	site := joinServe(t, tidings.Options{Broker: appending(t, func(log tidings.Broker, ctx context.Context, rs []tidings.Record) ([]tidings.Appended, error) {
		as, err := log.Append(ctx, rs)
		if !answers.Load() {
			return nil, errors.New("the answer was lost")
		}
		return as, err
	})})
	page := site.tab(t, "userId=u")
	page.open()
	e := text("x")
	e.IdempotencyKey = "k"
	if _, err := site.hub.Send(t.Context(), e); err == nil || errors.Is(err, tidings.ErrNotStored) {
		t.Fatalf("the error is %v", err)
	}
	id := page.until("x").cursor
	answers.Store(true)
	if r := joinSend(t, site.hub, e); r.ID != id {
		t.Errorf("the receipt is %+v, want the id %s", r, id)
	}
	site.to(t, user("u"), "last")
	page.until("last").wants("x", "last")
}

func TestABrokerThatAnswersTheWrongNumberOfRecordsIsAnUnknownOutcome(t *testing.T) {
	hub := joinHub(t, tidings.Options{Broker: appending(t, func(log tidings.Broker, ctx context.Context, rs []tidings.Record) ([]tidings.Appended, error) {
		as, err := log.Append(ctx, rs)
		return as[1:], err
	})})
	if _, err := hub.Send(t.Context(), text("x")); err == nil || errors.Is(err, tidings.ErrNotStored) {
		t.Errorf("the error is %v", err)
	}
}

func TestARepeatedSendHasTheFirstReceipt(t *testing.T) {
	site := joinServe(t, tidings.Options{})
	page := site.tab(t, "userId=u")
	page.open()
	eventually(t, "it is registered", func() bool { return site.hub.Stats().Connections == 1 })
	e := text("x")
	e.IdempotencyKey = "matched"
	nobody := tidings.Event{Data: 1, Target: user("nobody"), IdempotencyKey: "nobody"}
	first, none := joinSend(t, site.hub, e), joinSend(t, site.hub, nobody)
	if first.Matched != 1 || none.Hint == "" {
		t.Errorf("the receipts are %+v and %+v", first, none)
	}
	page.cut()
	eventually(t, "it is gone", func() bool { return site.hub.Stats().Connections == 0 })
	if r := joinSend(t, site.hub, e); r != first {
		t.Errorf("the receipt is %+v, and was %+v", r, first)
	}
	if r := joinSend(t, site.hub, nobody); r != none {
		t.Errorf("the receipt is %+v, and was %+v", r, none)
	}
	e.Data = tidings.Text("y")
	if _, err := site.hub.Send(t.Context(), e); !errors.Is(err, tidings.ErrConflict) || !errors.Is(err, tidings.ErrNotStored) {
		t.Errorf("another event with the key: %v", err)
	}
	if n := site.hub.Stats().History.Events; n != 2 {
		t.Errorf("the log holds %d events", n)
	}
}

func TestConcurrentSendsWithOneKeyHaveOneReceipt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const senders = 20
		var v valve
		b, _ := slowly(memoryLog(t, nil), 10*time.Millisecond)
		b.deliver = v.deliver
		site := joinServe(t, tidings.Options{Broker: b})
		page := site.tab(t, "userId=u")
		page.open()
		synctest.Wait()
		v.shut()
		receipts := make([]tidings.Receipt, senders)
		var wg sync.WaitGroup
		for i := range senders {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 3 * time.Millisecond) // some in one call, some in later ones
				e := text("x")
				e.IdempotencyKey = "k"
				receipts[i] = joinSend(t, site.hub, e)
			})
		}
		time.Sleep(time.Second)
		v.release()
		wg.Wait()
		for _, r := range receipts {
			if r != receipts[0] || r.Matched != 1 || r.ID == "" {
				t.Fatalf("the receipts are %+v", receipts)
			}
		}
		site.to(t, user("u"), "last")
		page.until("last").wants("x", "last")
	})
}

func TestAReceiptIsKeptForItsWindowAndForItsEventOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The log forgets a key before the hub does: then the same key is another event.
		log := memoryLog(t, &tidings.MemoryOptions{IdempotencyWindow: time.Minute})
		a, b := joinHub(t, tidings.Options{Broker: log}), joinHub(t, tidings.Options{Broker: log})
		e := text("x")
		e.IdempotencyKey = "k"
		first := joinSend(t, a, e)
		time.Sleep(61 * time.Second)
		second := joinSend(t, b, e)
		if second.ID == first.ID {
			t.Fatal("the log has not forgotten the key")
		}
		if r := joinSend(t, a, e); r.ID != second.ID {
			t.Errorf("the receipt has the id of an earlier event, %s, want %s", r.ID, second.ID)
		}
		if r := joinSend(t, b, e); r != second {
			t.Errorf("the receipt is %+v, want %+v", r, second)
		}
		time.Sleep(59 * time.Second) // the first receipt is past its window, the second is not
		if r := joinSend(t, b, e); r != second {
			t.Errorf("the receipt is %+v, want %+v", r, second)
		}
	})
}

func TestCloseEndsEverySendWithWhatIsKnownOfIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memoryLog(t, nil)
		b, _ := slowly(log, time.Second)
		hub := joinHub(t, tidings.Options{Broker: b})
		type outcome struct {
			text string
			err  error
		}
		outcomes := make(chan outcome, 100)
		for n := range 100 {
			go func() {
				time.Sleep(time.Duration(n) * 30 * time.Millisecond)
				_, err := hub.Send(t.Context(), text(strconv.Itoa(n)))
				outcomes <- outcome{strconv.Itoa(n), err}
			}()
		}
		time.Sleep(1500 * time.Millisecond)
		if err := hub.Close(); err != nil {
			t.Error(err)
		}
		stored := map[string]bool{}
		for _, r := range heldBy(t, log) {
			stored[string(r.Data)] = true
		}
		refused := 0
		for range 100 {
			switch o := <-outcomes; {
			case o.err == nil && !stored[o.text]:
				t.Errorf("event %s was accepted and is not in the log", o.text)
			case errors.Is(o.err, tidings.ErrNotStored) && stored[o.text]:
				t.Errorf("event %s is in the log: %v", o.text, o.err)
			case o.err != nil && !errors.Is(o.err, tidings.ErrClosed) && !errors.Is(o.err, context.Canceled):
				t.Errorf("event %s: %v", o.text, o.err)
			case errors.Is(o.err, tidings.ErrNotStored):
				refused++
			}
		}
		if refused < 40 {
			t.Errorf("%d sends were refused", refused)
		}
		if _, err := hub.Send(t.Context(), text("late")); !errors.Is(err, tidings.ErrClosed) || !errors.Is(err, tidings.ErrNotStored) {
			t.Errorf("a send after Close: %v", err)
		}
	})
}

func TestATailThatFailsIsTakenUpWithoutAHole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memoryLog(t, nil)
		var calls, batches atomic.Int64
		b := &rigged{Broker: log}
		b.tail = func(ctx context.Context, after tidings.Position, deliver func([]tidings.Record) error) error {
			calls.Add(1)
			return log.Tail(ctx, after, func(rs []tidings.Record) error {
				if batches.Add(1)%7 == 0 {
					return errors.New("the connection was reset")
				}
				// A part of what there is, and then the fault: the rest must come again.
				if len(rs) > 1 && batches.Load()%3 == 0 {
					if err := deliver(rs[:len(rs)/2]); err != nil {
						return err
					}
					return errors.New("the connection was reset, in the middle")
				}
				return deliver(rs)
			})
		}
		site := joinServe(t, tidings.Options{Broker: b})
		page := site.tab(t, "userId=u")
		page.open()
		var wg sync.WaitGroup
		wg.Go(func() {
			for n := range 300 {
				appendTo(t, log, tidings.Record{
					Nonce: uint64(n), Type: "n", Data: []byte(strconv.Itoa(n + 1)), Targets: []tidings.Target{user("u")},
				})
				time.Sleep(time.Duration(n%5) * 20 * time.Millisecond)
			}
		})
		page.until("300").wants(numbered(1, 300)...)
		wg.Wait()
		if n := calls.Load(); n < 5 {
			t.Errorf("the tail failed %d times", n-1)
		}
		if len(page.gaps) > 0 {
			t.Errorf("gaps of %q", page.gaps)
		}
	})
}

func TestWhileTheLogCantBeFollowedTheHubSaysSoAndStreamsStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memoryLog(t, nil)
		var down atomic.Bool
		ctxs := make(chan context.CancelFunc, 1)
		b := &rigged{Broker: log}
		b.tail = func(ctx context.Context, after tidings.Position, deliver func([]tidings.Record) error) error {
			if down.Load() {
				return fmt.Errorf("no route: %w", tidings.ErrUnavailable)
			}
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			select {
			case ctxs <- cancel:
			default:
			}
			if err := log.Tail(ctx, after, deliver); !errors.Is(err, context.Canceled) {
				return err
			}
			return errors.New("cut")
		}
		site := joinServe(t, tidings.Options{Broker: b})
		page := site.tab(t, "userId=u")
		page.open()
		if err := site.hub.Ready(); err != nil {
			t.Errorf("at first: %v", err)
		}
		down.Store(true)
		(<-ctxs)()
		time.Sleep(10 * time.Second)
		if err := site.hub.Ready(); !errors.Is(err, tidings.ErrUnavailable) {
			t.Errorf("while it can't: %v", err)
		}
		if s := site.hub.Stats(); s.History.Unavailable == "" || s.Connections != 1 {
			t.Errorf("%+v", s.History)
		}
		appendTo(t, log, tidings.Record{Nonce: 1, Type: "n", Data: []byte("1"), Targets: []tidings.Target{user("u")}})
		down.Store(false)
		page.until("1")
		if err := site.hub.Ready(); err != nil {
			t.Errorf("when it can again: %v", err)
		}
	})
}

func TestASendWhoseEventTheNodeSkippedEndsAndSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var v valve
		log := memoryLog(t, &tidings.MemoryOptions{MaxEvents: 10})
		hub := joinHub(t, tidings.Options{Broker: &rigged{Broker: log, deliver: v.deliver}})
		joinSend(t, hub, text("first"))
		v.shut()
		appendTo(t, log, tidings.Record{}) // the one that is held up
		synctest.Wait()
		receipt := make(chan tidings.Receipt)
		for range 3 {
			go func() { receipt <- joinSend(t, hub, text("skipped")) }()
		}
		synctest.Wait()
		appendTo(t, log, make([]tidings.Record, 100)...)
		v.release()
		for range 3 {
			if r := <-receipt; r.ID == "" || !strings.Contains(r.Hint, "skipped") {
				t.Errorf("the receipt is %+v, want a hint that it was skipped", r)
			}
		}
		if r := joinSend(t, hub, text("later")); strings.Contains(r.Hint, "skipped") {
			t.Errorf("the receipt of a later event is %+v", r)
		}
	})
}

func TestSendsOfManyGoroutinesAndCloseDoNotHang(t *testing.T) {
	for range 20 {
		hub := joinHub(t, tidings.Options{})
		var wg sync.WaitGroup
		for s := range 8 {
			wg.Go(func() {
				for n := 0; ; n++ {
					e := text(strconv.Itoa(n))
					if n%3 == 0 {
						e.Data, e.IdempotencyKey = tidings.Text(strconv.Itoa(n)), strconv.Itoa(n)
					}
					ctx, cancel := context.WithCancel(t.Context())
					if (n+s)%5 == 0 {
						go cancel()
					}
					_, err := hub.Send(ctx, e)
					cancel()
					if errors.Is(err, tidings.ErrClosed) {
						return
					}
				}
			})
		}
		eventually(t, "some are stored", func() bool { return hub.Stats().Sent > 100 })
		if err := hub.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
	}
}

func TestTheLogRunsNoFurtherAheadOfItsOwnNodeThanABound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var appended atomic.Int64
		log := memoryLog(t, nil)
		b := &rigged{Broker: log, append: func(ctx context.Context, rs []tidings.Record) ([]tidings.Appended, error) {
			for _, r := range rs {
				appended.Add(int64(len(r.Data)))
			}
			return log.Append(ctx, rs)
		}}
		release := make(chan struct{})
		b.deliver = func(context.Context, []tidings.Record) error { <-release; return nil }
		hub := joinHub(t, tidings.Options{Broker: b})
		const sends, size = 40, 1 << 20
		var wg sync.WaitGroup
		for range sends {
			wg.Go(func() { joinSend(t, hub, text(strings.Repeat("x", size))) })
		}
		synctest.Wait()
		if n := appended.Load(); n < 8<<20 || n > 13<<20 { // the bound, and the batch that passes it
			t.Errorf("%d MiB were appended while nothing was routed", n>>20)
		}
		close(release)
		wg.Wait()
		if n := appended.Load(); n != sends*size {
			t.Errorf("%d of %d bytes were appended in the end", n, sends*size)
		}
	})
}

func TestStreamsAreRefusedForNowWhileTheLogCantBeFollowedAndServedOnceItIsThoughNothingNewCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var broken atomic.Bool
		broken.Store(true)
		log := memoryLog(t, nil)
		b := &rigged{Broker: log}
		b.tail = func(ctx context.Context, after tidings.Position, deliver func([]tidings.Record) error) error {
			if broken.Load() {
				return errors.New("unreachable")
			}
			return log.Tail(ctx, after, deliver)
		}
		hub := joinHub(t, tidings.Options{Broker: b})
		synctest.Wait()
		answer := func() int {
			w := httptest.NewRecorder()
			r := httptest.NewRequest("GET", "/api/sse", nil).WithContext(t.Context())
			if hub.Ready() == nil {
				return 200
			}
			hub.ServeHTTP(w, r)
			return w.Code
		}
		if code := answer(); code != 503 {
			t.Errorf("while the log is away: %d", code)
		}
		broken.Store(false)
		time.Sleep(10 * time.Second)
		if code := answer(); code != 200 {
			t.Errorf("once it is back: %d", code)
		}
	})
}
