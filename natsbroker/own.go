package natsbroker

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/internal/ring"
)

// What this node appended itself. Its acknowledgement says where in the log it stands, so a tail that has got as far
// delivers it then, and not when the consumer brings it, which takes several times as long as the append. When the
// consumer does bring it, it must be the same message; else the log is not what it was.

const (
	maxOwnWaiting  = 256     // messages that wait for a tail; it gets more of them by the consumer
	maxOwnBytes    = 8 << 20 // of the data of their records, but for one of them
	maxOwnUnproven = 4096    // messages that were delivered, and that the consumer has not brought yet
	maxOwnSpare    = 512     // records of a slice that is kept to be used again
)

// own is what a tail knows of what its node appended.
type own struct {
	wake chan struct{} // 1: whether something waits

	mu       sync.Mutex // guards what follows
	next     uint64     // the message to be delivered next; 0 while the log is not followed
	waiting  ring.Ring[ownMessage]
	bytes    int // of the data of those
	spare    [][]tidings.Record
	unproven ring.Ring[delivered]
	alone    bool   // there is no consumer
	newest   uint64 // that was offered
	missed   uint64 // the newest message that there may be without having been offered
}

type ownMessage struct {
	seq     uint64
	bytes   int
	records []tidings.Record
}

// A delivered message, and its nonce.
type delivered struct{ seq, nonce uint64 }

func newOwn() own { return own{wake: make(chan struct{}, 1)} }

// begin says that the log is followed from a message on.
func (o *own) begin(next uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.next = next
}

// end says that it is not followed any more.
func (o *own) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.next, o.newest, o.missed, o.bytes = 0, 0, 0, 0
	o.waiting, o.unproven = ring.Ring[ownMessage]{}, ring.Ring[delivered]{}
}

// unconsumed says whether there is no consumer from now on, which would bring again what was delivered.
func (o *own) unconsumed(alone bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.alone, o.unproven = alone, ring.Ring[delivered]{}
}

// miss says that a message may have been stored without being offered.
func (o *own) miss() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.missed = max(o.missed, o.newest+1, o.next)
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// misses reports whether a message that is still to be delivered may only come by a consumer.
func (o *own) misses() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.missed >= o.next
}

// offer has the tail deliver a message of this node, if it is near enough. The records are copied.
func (o *own) offer(seq uint64, at time.Time, rs []tidings.Record) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.next == 0 || seq < o.next {
		return
	}
	o.newest = seq
	if o.waiting.Len() >= maxOwnWaiting || o.bytes >= maxOwnBytes || o.unproven.Len() >= maxOwnUnproven {
		o.missed = seq
		return
	}
	m := ownMessage{seq: seq}
	if n := len(o.spare); n > 0 {
		m.records, o.spare = o.spare[n-1], o.spare[:n-1]
	}
	m.records = append(m.records, rs...)
	for i := range m.records {
		m.records[i].Position, m.records[i].Time = place(seq, i, len(rs)), at
		m.bytes += len(rs[i].Data)
	}
	o.waiting.Push(m)
	o.bytes += m.bytes
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// take returns the message that is next, if it waits.
func (o *own) take() (m ownMessage, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.waiting.Len() > 0 {
		switch m := o.waiting.At(0); {
		case m.seq > o.next: // another one comes first
			o.missed = max(o.missed, m.seq-1)
			return ownMessage{}, false
		case m.seq == o.next:
			if !o.alone {
				o.unproven.Push(delivered{m.seq, m.records[0].Nonce})
			}
			return o.pop(), true
		}
		o.pop() // the consumer was faster
	}
	return ownMessage{}, false
}

func (o *own) pop() ownMessage {
	m := o.waiting.Pop()
	o.bytes -= m.bytes
	return m
}

// waits reports whether the message that is next waits.
func (o *own) waits() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.waiting.Len() > 0 && o.waiting.At(0).seq == o.next
}

// done takes the records of a message that take returned, to be used again.
func (o *own) done(rs []tidings.Record) {
	clear(rs)
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.spare) < maxOwnWaiting && cap(rs) <= maxOwnSpare {
		o.spare = append(o.spare, rs[:0])
	}
}

// delivered says that a message was delivered, whoever it is from.
func (o *own) delivered(seq uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.next = seq + 1
}

// prove reports whether a message that the consumer brought was delivered as this node's own. Its error says that another
// one was.
func (o *own) prove(a arrival) (known bool, _ error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.unproven.Len() == 0 || o.unproven.At(0).seq != a.seq {
		return false, nil
	}
	was := o.unproven.Pop()
	if nonce, ok := nonceOf(a.body); !ok || nonce != was.nonce {
		return false, fmt.Errorf("message %d is another one than was acknowledged: %w", a.seq, tidings.ErrGap)
	}
	return true, nil
}

// takeOwn delivers the messages of this node that are next, and returns how many there were.
func (t *tail) takeOwn(ctx context.Context) (n int, _ error) {
	for ; ; n++ {
		m, ok := t.own.take()
		if !ok {
			return n, nil
		}
		if err := t.hand(ctx, m.seq, m.records); err != nil {
			return n, err
		}
		t.b.counts.own.Add(1)
		t.own.done(m.records)
	}
}

// offer has the tails deliver a message of this node.
func (b *Broker) offer(seq uint64, at time.Time, rs []tidings.Record) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for t := range b.tails {
		t.own.offer(seq, at, rs)
	}
}

func (b *Broker) addTail(t *tail) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tails[t] = struct{}{}
}

func (b *Broker) removeTail(t *tail) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.tails, t)
}
