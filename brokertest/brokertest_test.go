package brokertest_test

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/brokertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A handle is one of several on a log in memory that lives as long as the test: what a broker with a server behind it
// looks like.
type handle struct {
	log *tidings.MemoryBroker
	ctx context.Context // ends with Close
	end context.CancelFunc
	wg  *sync.WaitGroup
}

func newHandle(log *tidings.MemoryBroker) *handle {
	ctx, end := context.WithCancel(context.Background())
	return &handle{log, ctx, end, new(sync.WaitGroup)}
}

func (h *handle) Append(ctx context.Context, rs []tidings.Record) ([]tidings.Appended, error) {
	if h.ctx.Err() != nil {
		return nil, errors.Join(tidings.ErrClosed, tidings.ErrNotStored)
	}
	return h.log.Append(ctx, rs)
}

func (h *handle) Tail(ctx context.Context, after tidings.Position, deliver func([]tidings.Record) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(h.ctx, func() { cancel(tidings.ErrClosed) })()
	if h.ctx.Err() != nil {
		return tidings.ErrClosed
	}
	err := h.log.Tail(ctx, after, deliver)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return context.Cause(ctx)
	}
	return err
}

func (h *handle) Read(ctx context.Context, from, to tidings.Position) iter.Seq2[tidings.Record, error] {
	return func(yield func(tidings.Record, error) bool) {
		for r, err := range h.log.Read(ctx, from, to) {
			if h.ctx.Err() != nil {
				r, err = tidings.Record{}, tidings.ErrClosed
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

func (h *handle) State(ctx context.Context) (tidings.State, error) {
	if h.ctx.Err() != nil {
		return tidings.State{}, tidings.ErrClosed
	}
	return h.log.State(ctx)
}

func (h *handle) Close() error {
	h.end()
	return nil
}

func openHandle(t *testing.T, o brokertest.Options) tidings.Broker {
	switch {
	case o.Beside != nil:
		return newHandle(o.Beside.(*handle).log)
	case o.Reopen != nil:
		return newHandle(o.Reopen.(*handle).log)
	}
	log := tidings.NewMemoryBroker(&tidings.MemoryOptions{MaxEvents: o.MaxEvents, MaxBytes: 256 << 20})
	t.Cleanup(func() { _ = log.Close() })
	return newHandle(log)
}

func TestABrokerWithSeveralHandlesPasses(t *testing.T) { brokertest.Run(t, openHandle) }

// faults are brokers that each break one rule, and the subtest that must find it.
var faults = map[string]struct {
	foundBy string
	broken  func(*handle) tidings.Broker
}{
	"answers in another order": {"Append/positions", func(h *handle) tidings.Broker { return &swapsAnswers{h} }},
	"loses the nonce":          {"Append/positions", func(h *handle) tidings.Broker { return &changes{h, func(r *tidings.Record) { r.Nonce = 0 }} }},
	"loses the exclude": {"Append/every_field", func(h *handle) tidings.Broker {
		return &changes{h, func(r *tidings.Record) { r.Exclude = tidings.Target{} }}
	}},
	"text, not bytes": {"Append/every_field", func(h *handle) tidings.Broker {
		return &changes{h, func(r *tidings.Record) { r.Data = []byte(strings.ToValidUTF8(string(r.Data), "?")) }}
	}},
	"one record a call":     {"Append/the_records_of_one_call", func(h *handle) tidings.Broker { return &tearsApart{h} }},
	"passes over gaps":      {"Retention/Tail_from_before", func(h *handle) tidings.Broker { return &hidesGaps{h} }},
	"tail begins too early": {"Tail/from_any_position", func(h *handle) tidings.Broker { return &tailsFromStart{h} }},
	"passes over records":   {"Tail/from_any_position", func(h *handle) tidings.Broker { return &losesOneInTen{handle: h} }},
	"no idempotency":        {"Idempotency/the_same_event", func(h *handle) tidings.Broker { return &changes{h, func(r *tidings.Record) { r.IdempotencyKey = "" }} }},
	"buffers without bound": {"Tail/a_deliver_that_blocks", func(h *handle) tidings.Broker { return &keepsAll{handle: h} }},
	"reads to, exclusive":   {"Read/both_ends", func(h *handle) tidings.Broker { return &readsLess{h} }},
	"never closed":          {"Close/later_calls", func(h *handle) tidings.Broker { return &staysOpen{h} }},
	"a bad epoch":           {"State/the_epoch", func(h *handle) tidings.Broker { return &oneEpoch{h} }},
}

const faultEnv = "BROKERTEST_FAULT"

func TestABrokerThatBreaksARuleFails(t *testing.T) {
	if fault := os.Getenv(faultEnv); fault != "" { // the inner run, which must fail
		brokertest.Run(t, func(t *testing.T, o brokertest.Options) tidings.Broker {
			if o.Beside != nil || o.Reopen != nil {
				return nil
			}
			return faults[fault].broken(openHandle(t, o).(*handle))
		})
		return
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestABrokerThatBreaksARuleFails$/"+fault.foundBy)
			cmd.Env = append(os.Environ(), faultEnv+"="+name)
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Fatal("it passes")
			}
			if !bytes.Contains(out, []byte("--- FAIL: TestABrokerThatBreaksARuleFails/"+fault.foundBy)) {
				t.Fatalf("not found by %s:\n%s", fault.foundBy, out)
			}
		})
	}
}

type swapsAnswers struct{ *handle }

func (b *swapsAnswers) Append(ctx context.Context, rs []tidings.Record) ([]tidings.Appended, error) {
	as, err := b.handle.Append(ctx, rs)
	if len(as) > 1 {
		as[0].Position, as[1].Position = as[1].Position, as[0].Position
	}
	return as, err
}

// changes stores something else than it was given.
type changes struct {
	*handle
	change func(*tidings.Record)
}

func (b *changes) Append(ctx context.Context, rs []tidings.Record) ([]tidings.Appended, error) {
	changed := append([]tidings.Record(nil), rs...)
	for i := range changed {
		b.change(&changed[i])
	}
	as, err := b.handle.Append(ctx, changed)
	for i := range as {
		if as[i].Outcome == tidings.Stored {
			as[i].Nonce = rs[i].Nonce
		}
	}
	return as, err
}

type tearsApart struct{ *handle }

func (b *tearsApart) Append(ctx context.Context, rs []tidings.Record) (as []tidings.Appended, err error) {
	for i := range rs {
		a, err := b.handle.Append(ctx, rs[i:i+1])
		if err != nil {
			return nil, err
		}
		as = append(as, a...)
		runtime.Gosched()
	}
	return as, nil
}

type hidesGaps struct{ *handle }

func (b *hidesGaps) Tail(ctx context.Context, after tidings.Position, deliver func([]tidings.Record) error) error {
	for {
		err := b.handle.Tail(ctx, after, deliver)
		if !errors.Is(err, tidings.ErrGap) {
			return err
		}
		st, err := b.handle.State(ctx)
		if err != nil {
			return err
		}
		after = st.Floor
	}
}

type tailsFromStart struct{ *handle }

func (b *tailsFromStart) Tail(ctx context.Context, _ tidings.Position, deliver func([]tidings.Record) error) error {
	return b.handle.Tail(ctx, tidings.Position{}, deliver)
}

type losesOneInTen struct {
	*handle
	mu sync.Mutex
	n  int
}

func (b *losesOneInTen) Tail(ctx context.Context, after tidings.Position, deliver func([]tidings.Record) error) error {
	return b.handle.Tail(ctx, after, func(rs []tidings.Record) error {
		for i := range rs {
			b.mu.Lock()
			b.n++
			lost := b.n%10 == 0
			b.mu.Unlock()
			if lost {
				continue
			}
			if err := deliver(rs[i : i+1]); err != nil {
				return err
			}
		}
		return nil
	})
}

type keepsAll struct {
	*handle
	kept []tidings.Record
}

func (b *keepsAll) Append(ctx context.Context, rs []tidings.Record) ([]tidings.Appended, error) {
	b.kept = append(b.kept, rs...)
	return b.handle.Append(ctx, rs)
}

type readsLess struct{ *handle }

func (b *readsLess) Read(ctx context.Context, from, to tidings.Position) iter.Seq2[tidings.Record, error] {
	if to.Hi > 0 {
		to.Hi--
	}
	return b.handle.Read(ctx, from, to)
}

type staysOpen struct{ *handle }

func (b *staysOpen) Close() error { return nil }

type oneEpoch struct{ *handle }

func (b *oneEpoch) State(ctx context.Context) (tidings.State, error) {
	st, err := b.handle.State(ctx)
	st.Epoch = "not one!"
	return st, err
}
