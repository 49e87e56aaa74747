package tidings

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"iter"
	"strings"
	"sync"
	"time"

	"github.com/tidings-sse/tidings/internal/ring"
)

// MemoryOptions bound a MemoryBroker. Zero fields have the default.
type MemoryOptions struct {
	MaxEvents int           // records held; default 100,000
	MaxBytes  int64         // bytes of records held, with 256 added for each; default 64 MiB
	MaxAge    time.Duration // age of the oldest record held; default 24 hours

	// IdempotencyWindow is how long an idempotency key is remembered; default 2 minutes. At most a million keys are:
	// past that the oldest is forgotten early.
	IdempotencyWindow time.Duration
}

// MemoryBroker is a log in memory, for one process. It is lost with the process: clients then get a gap, because the
// next log has another epoch. Several hubs of one process may share it.
type MemoryBroker struct {
	opts  MemoryOptions
	epoch string

	mu      sync.Mutex
	grown   sync.Cond         // with mu: records were appended, or the broker was closed, or a tail's context ended
	records ring.Ring[Record] // the records held; the one at number n has Position.Hi n
	bytes   int64             // of the records held
	floor   uint64            // number of the newest record dropped
	last    uint64            // number of the newest record
	keys    map[string]remembered
	byAge   ring.Ring[remembered] // the same, oldest first
	closed  bool
}

// A remembered key answers a repeated append.
type remembered struct {
	key    string
	digest [sha256.Size]byte
	at     time.Time
	first  Appended
}

var _ Broker = (*MemoryBroker)(nil)

const (
	recordOverhead    = 256       // bytes counted for a record beside its strings and data
	maxRememberedKeys = 1_000_000 // at about 250 bytes each
	tailBatch         = 512       // records handed to a tail at once: 80 KiB of slice, reused
)

// NewMemoryBroker returns an empty log. nil options are the defaults.
func NewMemoryBroker(o *MemoryOptions) *MemoryBroker {
	b := &MemoryBroker{epoch: newEpoch(), keys: make(map[string]remembered)}
	if o != nil {
		b.opts = *o
	}
	b.opts.MaxEvents = positive(b.opts.MaxEvents, defaultHistoryEvents)
	b.opts.MaxBytes = positive(b.opts.MaxBytes, defaultHistoryBytes)
	b.opts.MaxAge = positive(b.opts.MaxAge, defaultHistoryAge)
	b.opts.IdempotencyWindow = positive(b.opts.IdempotencyWindow, defaultIdempotencyWindow)
	b.grown.L = &b.mu
	return b
}

// newEpoch returns a random name for a log: 50 bits, 10 characters.
func newEpoch() string { return strings.ToLower(rand.Text()[:10]) }

// Append adds the records to the log.
func (b *MemoryBroker) Append(_ context.Context, rs []Record) ([]Appended, error) {
	out := make([]Appended, len(rs))
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, notStored(ErrClosed)
	}
	now := time.Now()
	b.forgetKeys(now)
	for i := range rs {
		out[i] = b.append(&rs[i], now)
	}
	b.trim(now)
	b.grown.Broadcast()
	return out, nil
}

func (b *MemoryBroker) append(r *Record, now time.Time) Appended {
	var digest [sha256.Size]byte
	if r.IdempotencyKey != "" {
		digest = r.Digest()
		if k, ok := b.keys[r.IdempotencyKey]; ok {
			again := k.first
			again.Outcome = Duplicate
			if k.digest != digest {
				again.Outcome = Conflict
			}
			return again
		}
	}
	b.last++
	rec := *r
	rec.Position, rec.Time = Position{Hi: b.last}, now
	b.records.Push(rec)
	b.bytes += recordBytes(&rec)
	a := Appended{Position: rec.Position, Nonce: rec.Nonce}
	if rec.IdempotencyKey != "" {
		k := remembered{rec.IdempotencyKey, digest, now, a}
		b.keys[k.key] = k
		b.byAge.Push(k)
	}
	return a
}

// forgetKeys drops the keys that are past the window, and the oldest past the bound.
func (b *MemoryBroker) forgetKeys(now time.Time) {
	for b.byAge.Len() > 0 {
		oldest := b.byAge.At(0)
		if b.byAge.Len() <= maxRememberedKeys && now.Sub(oldest.at) < b.opts.IdempotencyWindow {
			return
		}
		delete(b.keys, oldest.key)
		b.byAge.Pop()
	}
}

// trim drops the oldest records until the log is within its bounds. The newest stays, whatever its size.
func (b *MemoryBroker) trim(now time.Time) {
	for n := b.records.Len(); n > 0; n-- {
		oldest := b.records.At(0)
		over := n > b.opts.MaxEvents || n > 1 && b.bytes > b.opts.MaxBytes || now.Sub(oldest.Time) >= b.opts.MaxAge
		if !over {
			return
		}
		b.bytes -= recordBytes(oldest)
		b.floor = oldest.Position.Hi
		b.records.Pop()
	}
}

func recordBytes(r *Record) int64 {
	n := recordOverhead + len(r.Type) + len(r.Data) + len(r.CollapseKey) + len(r.IdempotencyKey)
	for _, t := range r.Targets {
		n += len(t.ClientID) + len(t.UserID) + len(t.SessionID) + len(t.Topic)
	}
	return int64(n)
}

// Tail delivers the records after the position, as they come.
func (b *MemoryBroker) Tail(ctx context.Context, after Position, deliver func([]Record) error) error {
	stop := context.AfterFunc(ctx, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.grown.Broadcast()
	})
	defer stop()
	batch := make([]Record, 0, tailBatch)
	next := after.Hi + 1
	for {
		var err error
		if batch, err = b.wait(ctx, next, batch[:0]); err != nil {
			return err
		}
		if err := deliver(batch); err != nil {
			return err
		}
		next += uint64(len(batch))
		clear(batch) // an idle tail holds no payloads
	}
}

// wait blocks until there are records from number next on, and appends them to batch, up to its capacity.
func (b *MemoryBroker) wait(ctx context.Context, next uint64, batch []Record) ([]Record, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case b.closed:
			return nil, ErrClosed
		case next <= b.floor:
			return nil, fmt.Errorf("tail from %d, while records up to %d were dropped: %w", next, b.floor, ErrGap)
		case next <= b.last:
			for i := next - b.floor - 1; len(batch) < cap(batch) && i < uint64(b.records.Len()); i++ {
				batch = append(batch, *b.records.At(int(i)))
			}
			return batch, nil
		}
		b.grown.Wait()
	}
}

// Read yields the records between two positions.
func (b *MemoryBroker) Read(ctx context.Context, from, to Position) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		next := from.Hi
		if from.Lo > 0 || next == 0 {
			next++
		}
		for {
			r, err := b.get(ctx, next, to)
			if err != nil {
				yield(Record{}, err)
				return
			}
			if r.Position.IsZero() || !yield(r, nil) {
				return
			}
			next++
		}
	}
}

// get returns the record with number n, or a zero one past the end of the range or the log.
func (b *MemoryBroker) get(ctx context.Context, n uint64, to Position) (Record, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return Record{}, ctx.Err()
	case b.closed:
		return Record{}, ErrClosed
	case n > to.Hi || n > b.last:
		return Record{}, nil
	case n <= b.floor:
		return Record{}, fmt.Errorf("read of %d, while records up to %d were dropped: %w", n, b.floor, ErrGap)
	}
	return *b.records.At(int(n - b.floor - 1)), nil
}

// State returns what the log holds, after dropping what is too old.
func (b *MemoryBroker) State(context.Context) (State, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return State{}, ErrClosed
	}
	now := time.Now()
	b.trim(now)
	return State{Epoch: b.epoch, Floor: Position{Hi: b.floor}, Last: Position{Hi: b.last}, Time: now}, nil
}

// Close ends all tails and drops the log.
func (b *MemoryBroker) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.records, b.byAge, b.keys = ring.Ring[Record]{}, ring.Ring[remembered]{}, nil
	b.grown.Broadcast()
	return nil
}

// positive returns n, or the default where n was not set.
func positive[T int | int64 | time.Duration](n, def T) T {
	if n <= 0 {
		return def
	}
	return n
}
