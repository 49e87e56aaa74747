package tidings

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/tidings-sse/tidings/internal/ring"
)

// publisher merges concurrent sends: one Append is in flight, and everything that arrives meanwhile goes into the next.
// That keeps order, and turns the broker's latency into batch size.
//
// A send is over when its record was appended and this node has routed it, whichever comes first: only then is it known
// how many connections matched.
type publisher struct {
	hub     *Hub
	wake    chan struct{} // 1: whether there is something in the queue
	settled chan struct{} // 1: whether, since a batch was taken, nothing is pending or as many are queued as are awaited

	mu       sync.Mutex // guards what follows, and the fields of every send
	queue    []*send
	awaited  int              // how many sends gather waits for; 0 while it doesn't
	spare    []*send          // a batch that is over, for the next queue
	pending  map[uint64]*send // handed to the broker and not over, by nonce
	receipts map[string]keptReceipt
	keys     ring.Ring[keptKey] // the keys of receipts, oldest first
	skipTo   Position           // the tail does not come by what is up to it
	unrouted int                // bytes of pending
	closed   bool

	idle sync.Pool // sends that nothing refers to any more
}

type send struct {
	rec  Record
	done chan struct{} // 1: holds a token once it is over

	size     int  // bytes that count towards unrouted
	handed   bool // to the broker
	appended bool
	pos      Position // once it was appended
	routed   bool
	left     bool    // nobody waits for it any more
	repeats  []*send // sends with the same idempotency key, which get the same receipt
	receipt  Receipt
	err      error

	uncounted bool // its sender is not told how many matched; the publisher has nothing to do with it
}

type keptReceipt struct {
	Receipt
	at time.Time
}

type keptKey struct {
	key string
	at  time.Time
}

// What goes into one Append.
const (
	maxAppendEvents = 4096
	maxAppendBytes  = 4 << 20

	// maxUnrouted is how far the log may run ahead of this node's routing of what it appended: past it, senders wait.
	// Else they could push out of history what their own node has not read yet.
	maxUnrouted  = 2 * maxAppendBytes
	sendOverhead = 512 // bytes counted for a send beside its data
)

func newPublisher(h *Hub) *publisher {
	return &publisher{
		hub: h, wake: make(chan struct{}, 1), settled: make(chan struct{}, 1),
		pending: make(map[uint64]*send), receipts: make(map[string]keptReceipt),
		idle: sync.Pool{New: func() any { return &send{done: make(chan struct{}, 1)} }},
	}
}

// submit puts the record into the queue. Records of one goroutine keep their order. The send is to be waited for, once; it
// is another's after that.
func (p *publisher) submit(rec Record) (*send, error) {
	s := p.idle.Get().(*send)
	s.rec = rec
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, notStored(ErrClosed)
	}
	if p.queue = append(p.queue, s); len(p.queue) == p.awaited {
		signal(p.settled)
	}
	signal(p.wake)
	return s, nil
}

// wait returns when the send is over, or ctx is.
func (p *publisher) wait(ctx context.Context, s *send) (Receipt, error) {
	select {
	case <-s.done:
		receipt, err := s.receipt, s.err
		*s = send{done: s.done, repeats: s.repeats[:0]}
		p.idle.Put(s)
		return receipt, err
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s.left = true
	switch {
	case s.isOver():
		return s.receipt, s.err
	case s.appended:
		s.receipt.Hint = "it is in the log, and this node has not routed it yet"
		p.finish(s)
		return s.receipt, nil
	case s.handed:
		return Receipt{}, fmt.Errorf("it is not known whether the event was stored: %w", context.Cause(ctx))
	}
	p.queue = slices.DeleteFunc(p.queue, func(q *send) bool { return q == s })
	return Receipt{}, notStored(context.Cause(ctx))
}

// isOver reports whether the send is over. It may be called until the send was waited for.
func (s *send) isOver() bool { return len(s.done) > 0 }

// over ends the send.
func (s *send) over() { s.done <- struct{}{} }

// run appends what is queued until ctx ends.
func (p *publisher) run(ctx context.Context) {
	var rs []Record
	for {
		select {
		case <-p.wake:
		case <-ctx.Done():
			p.close()
			return
		}
		for ctx.Err() == nil {
			batch := p.next()
			if len(batch) == 0 {
				break
			}
			rs = rs[:0]
			for _, s := range batch {
				rs = append(rs, s.rec)
			}
			began := time.Now()
			out, err := p.hub.broker.Append(ctx, rs)
			took := time.Since(began)
			p.appended(batch, out, err)
			if err == nil {
				p.gather(ctx, len(rs), took)
			}
			clear(rs)
		}
	}
}

// gather lets those whose sends are over go on before the next append is begun: they may send again, and n of them share it.
// It waits until all that was appended is routed, or n are queued again, but for half the time that the last append took at
// most, and not for long.
func (p *publisher) gather(ctx context.Context, n int, took time.Duration) {
	if p.gathers(n) {
		return
	}
	if most := min(took/2, maxGather); most > 0 {
		patience := time.NewTimer(most)
		select {
		case <-p.settled:
		case <-patience.C:
		case <-ctx.Done():
		}
		patience.Stop()
	}
	for range gatherTurns {
		if p.gathers(n) {
			return
		}
		runtime.Gosched()
	}
}

// maxGather bounds what the first sender after a slow append waits.
const maxGather = 5 * time.Millisecond

// gatherTurns is enough for senders that were woken to send again.
const gatherTurns = 4

// gathers reports whether n sends are queued, and has settled say so when they are.
func (p *publisher) gathers(n int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.awaited = n
	return len(p.queue) >= n
}

// next takes a batch from the queue and gives each record its nonce.
func (p *publisher) next() []*send {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.unrouted >= maxUnrouted {
		return nil // forget wakes the publisher
	}
	n, bytes := 0, 0
	for n < len(p.queue) && n < maxAppendEvents && bytes < maxAppendBytes {
		s := p.queue[n]
		bytes += len(s.rec.Data)
		s.handed = true
		s.rec.Nonce = rand.Uint64()
		p.pending[s.rec.Nonce] = s
		s.size = len(s.rec.Data) + sendOverhead
		p.unrouted += s.size
		n++
	}
	p.awaited = 0
	select {
	case <-p.settled: // of the batch before
	default:
	}
	batch := p.queue[:n:n]
	if p.queue = p.queue[n:]; len(p.queue) == 0 {
		p.queue, p.spare = p.spare, nil
	}
	return batch
}

// appended takes the broker's answers for a batch.
func (p *publisher) appended(batch []*send, out []Appended, err error) {
	if err == nil && len(out) != len(batch) {
		err = fmt.Errorf("the broker answered %d of %d records", len(out), len(batch))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	epoch := p.hub.epoch()
	for i, s := range batch {
		s.rec.Data, s.rec.Targets = nil, nil // the log has them
		switch {
		case err != nil:
			p.fail(s, brokerError(err))
		case out[i].Outcome == Stored:
			s.appended, s.pos = true, out[i].Position
			s.receipt.ID = eventID(epoch, out[i].Position, out[i].Nonce)
			s.receipt.Scope = ScopeNode
			switch {
			case s.routed:
				p.finish(s)
			case out[i].Position.Compare(p.skipTo) <= 0:
				p.skip(s)
			case s.left:
				p.forget(s)
			}
		case out[i].Outcome == Duplicate:
			p.repeat(s, eventID(epoch, out[i].Position, out[i].Nonce), out[i].Nonce)
		default:
			p.fail(s, notStored(ErrConflict))
		}
	}
	clear(batch)
	p.spare = batch[:0:len(batch)]
}

// brokerError says what a failed Append means to a sender.
func brokerError(err error) error {
	if errors.Is(err, ErrNotStored) {
		return err
	}
	return fmt.Errorf("it is not known whether the event was stored: %w", err)
}

// forget takes a send that is over out of what is pending.
func (p *publisher) forget(s *send) {
	if p.pending[s.rec.Nonce] != s {
		return
	}
	delete(p.pending, s.rec.Nonce)
	p.unrouted -= s.size
	signal(p.wake)
	if len(p.pending) == 0 {
		signal(p.settled)
	}
}

// signal leaves a token in the channel, which has room for one.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (p *publisher) fail(s *send, err error) {
	p.forget(s)
	s.err = err
	s.over()
}

// repeat gives a send the receipt of the first one with its key.
func (p *publisher) repeat(s *send, id string, first uint64) {
	p.forget(s)
	if f := p.pending[first]; f != nil {
		f.repeats = append(f.repeats, s)
		return
	}
	r := p.receipts[s.rec.IdempotencyKey].Receipt
	if r.ID != id {
		r = Receipt{ID: id, Scope: ScopeNode, Hint: "it was sent before; how many connections it matched then is not known here"}
	}
	s.receipt = r
	s.over()
}

// wonders finds the records that nobody matched and a send waits for, and reports whether there are any.
func (p *publisher) wonders(results []routing) (any bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range results {
		r := &results[i]
		r.wonders = r.known && r.matched == 0 && p.pending[r.nonce] != nil
		any = any || r.wonders
	}
	return any
}

// routed takes this node's routing of records, which may be another node's.
func (p *publisher) routed(results []routing) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range results {
		r := &results[i]
		s := p.pending[r.nonce]
		if s == nil || !r.known {
			continue
		}
		s.routed = true
		s.receipt.Matched, s.receipt.Hint = r.matched, r.hint
		if s.appended {
			p.finish(s)
		}
	}
}

// skipped tells the sends that were appended that the tail will not come by them: it goes on after end.
func (p *publisher) skipped(end Position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.skipTo = end
	for _, s := range p.pending {
		if s.appended && s.pos.Compare(end) <= 0 {
			p.skip(s)
		}
	}
}

func (p *publisher) skip(s *send) {
	s.receipt.Hint = "it is in the log, and this node skipped it: connections were told of a gap"
	p.finish(s)
}

func (p *publisher) finish(s *send) {
	p.forget(s)
	if s.rec.IdempotencyKey != "" {
		p.keep(s.rec.IdempotencyKey, s.receipt)
	}
	for _, r := range s.repeats {
		r.receipt = s.receipt
		r.over()
	}
	clear(s.repeats)
	s.over()
}

// keep remembers a receipt for the window.
func (p *publisher) keep(key string, r Receipt) {
	now := time.Now()
	for p.keys.Len() > 0 {
		oldest := p.keys.At(0)
		if p.keys.Len() < maxRememberedKeys && now.Sub(oldest.at) < p.hub.opts.IdempotencyWindow {
			break
		}
		if p.receipts[oldest.key].at.Equal(oldest.at) { // else the key was used again since
			delete(p.receipts, oldest.key)
		}
		p.keys.Pop()
	}
	p.receipts[key] = keptReceipt{r, now}
	p.keys.Push(keptKey{key, now})
}

// close fails what is queued and what is pending.
func (p *publisher) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, s := range p.queue {
		p.fail(s, notStored(ErrClosed))
	}
	p.queue = nil
	for _, s := range p.pending {
		if s.appended {
			s.receipt.Hint = "it is in the log, and this node closed before it routed it"
			p.finish(s)
		} else {
			p.fail(s, brokerError(ErrClosed))
		}
	}
}
