package natsbroker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidings-sse/tidings"
)

// Following the log. nats.go's ordered consumer goes on by itself after whatever happened to the stream, and skips what
// it can't have. So this is a loop over plain consumers: each begins at the message that is next, after a look at which
// stream it is and what it holds, and is given up at the first sign of trouble.

const (
	heartbeat = 500 * time.Millisecond // of an idle consumer; two that are missing are trouble
	// What is fetched ahead: messages, and their bytes, or those of one message, if NATS lets that be larger.
	aheadMessages = 128
	aheadBytes    = 8 << 20
	// Trouble is told after this time; meanwhile it is tried again. Once it was told, the next tail tries for longer, so
	// that it is there when the log comes back.
	patience     = 2 * time.Second
	longPatience = 6 * time.Second
	// consumerGone is when NATS deletes a consumer that nobody asks any more.
	consumerGone = 30 * time.Second
)

// A mark is where a tail was when it ended: the next one goes on from there, if the log is still what it was.
type mark struct {
	of      identity
	nonce   uint64 // of the first record of the newest message that was delivered; meaningless while none was
	some    bool   // one was delivered
	trouble bool   // it ended because the log could not be followed
}

// A tail follows the log for one call of Tail.
type tail struct {
	b       *Broker
	pos     tidings.Position // the newest that was delivered
	mark    mark
	deliver func([]tidings.Record) error
	failed  error     // what deliver returned
	fine    time.Time // when the log could last be followed; the beginning, if it could not yet
	own     own
}

// Tail delivers the records after the position, as they come.
func (b *Broker) Tail(ctx context.Context, after tidings.Position, deliver func([]tidings.Record) error) error {
	ctx, cancel := b.until(ctx)
	defer cancel()
	t := &tail{b: b, pos: after, mark: b.resume(after), deliver: deliver, fine: time.Now(), own: newOwn()}
	b.addTail(t)
	defer b.removeTail(t)
	patient := patience
	if t.mark.trouble {
		patient = longPatience
	}
	for {
		if ctx.Err() != nil {
			b.leave(t, false)
			return context.Cause(ctx)
		}
		err := t.follow(ctx)
		switch {
		case t.failed != nil:
			b.leave(t, false)
			return t.failed
		case ctx.Err() != nil:
			b.leave(t, false)
			return context.Cause(ctx)
		case errors.Is(err, tidings.ErrGap), errors.Is(err, tidings.ErrEpoch):
			b.blocks.drop()
			return fmt.Errorf("natsbroker: tail: %w", err)
		case time.Since(t.fine) > patient, errors.Is(err, errBlockVersion):
			b.leave(t, true)
			return fmt.Errorf("natsbroker: tail: %w", unavailable(err))
		}
		b.counts.restarts.Add(1)
		b.log.Debug(logTail, keyReason, err)
		pause(ctx, retryPause)
	}
}

// resume returns where a tail that goes on after the position left off. A tail that begins takes the stream that State told
// of, as its caller did.
func (b *Broker) resume(after tidings.Position) mark {
	b.mu.Lock()
	defer b.mu.Unlock()
	if m, ok := b.left[after]; ok {
		delete(b.left, after)
		return m
	}
	return mark{of: b.stated}
}

// leave remembers where a tail ended.
func (b *Broker) leave(t *tail, trouble bool) {
	const most = 64 // tails that nobody goes on with
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.left) >= most {
		clear(b.left)
	}
	m := t.mark
	m.trouble = trouble
	b.left[t.pos] = m
}

// follow follows the log until something is wrong with it, or with ctx, or with what it delivers to.
func (t *tail) follow(ctx context.Context) error {
	next := t.pos.Hi + 1 // the message of the next record
	if err := t.check(ctx, next); err != nil {
		return err
	}
	t.own.begin(next)
	defer t.own.end()
	for {
		if err := t.consume(ctx); err != nil {
			return err
		}
		if err := t.followAlone(ctx); err != nil {
			return err
		}
	}
}

// consume follows the log by a consumer. It returns nil once there need be none: what comes after a message of this node in a log
// that nobody else appends to is its own, too.
func (t *tail) consume(ctx context.Context) error {
	next := t.pos.Hi + 1
	t.own.unconsumed(false)
	c, ms, err := t.b.consumer(ctx, next)
	if err != nil {
		return err
	}
	defer t.b.forget(c.CachedInfo().Name)
	defer ms.Stop()
	defer func(began time.Time) {
		if time.Since(began) > patience { // it was idle, and not without a consumer that answers
			t.fine = time.Now()
		}
	}(time.Now())
	t.b.counts.read.Store(next - 1)

	var fetching sync.WaitGroup
	defer fetching.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	came := make(chan arrival)
	fetching.Go(func() { t.fetch(ctx, ms, next, came) })
	for {
		n, err := t.takeOwn(ctx)
		if err != nil || n > 0 && t.b.alone && !t.own.misses() {
			return err
		}
		select {
		case a := <-came:
			if a.err != nil {
				return a.err
			}
			if err := t.take(ctx, a); err != nil {
				return err
			}
		case <-t.own.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// consumer returns one that begins at a message, and has its server send ahead. Its caller stops that, and forgets it.
func (b *Broker) consumer(ctx context.Context, next uint64) (jetstream.Consumer, jetstream.MessagesContext, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	c, err := b.js.CreateConsumer(ctx, b.opts.Stream, jetstream.ConsumerConfig{
		Description:       "a node of Tidings",
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       next,
		AckPolicy:         jetstream.AckNonePolicy,
		InactiveThreshold: consumerGone,
		MemoryStorage:     true,
		Replicas:          1,
	})
	if err != nil {
		return nil, nil, b.explain(err)
	}
	const headers = 64 << 10 // at most, and what NATS counts beside a message
	ahead := max(aheadBytes, int(b.nc.MaxPayload())) + headers
	ms, err := c.Messages(jetstream.PullMaxMessagesWithBytesLimit(aheadMessages, ahead), jetstream.PullHeartbeat(heartbeat), jetstream.PullExpiry(10*time.Second))
	if err != nil {
		b.forget(c.CachedInfo().Name)
	}
	return c, ms, err
}

// An arrival is a message that the consumer brought, or why there are no more.
type arrival struct {
	seq  uint64
	at   time.Time
	body []byte
	err  error
}

// fetch hands over the consumer's messages from next on, but for those that were delivered as this node's own.
func (t *tail) fetch(ctx context.Context, ms jetstream.MessagesContext, next uint64, came chan<- arrival) {
	for ; ; next++ {
		a := t.fetchOne(ctx, ms, next)
		known := false
		if a.err == nil {
			known, a.err = t.own.prove(a)
		}
		if known {
			continue
		}
		select {
		case came <- a:
		case <-ctx.Done():
			return
		}
		if a.err != nil {
			return
		}
	}
}

func (t *tail) fetchOne(ctx context.Context, ms jetstream.MessagesContext, next uint64) arrival {
	m, err := ms.Next(jetstream.NextContext(ctx))
	if err != nil {
		return arrival{err: err}
	}
	meta, err := m.Metadata()
	if err != nil {
		return arrival{err: err}
	}
	t.b.counts.last.Store(meta.Sequence.Stream + meta.NumPending)
	if meta.Sequence.Stream != next {
		// A consumer that can't have a message goes on with the next one: what it is that it can't have, check finds.
		return arrival{err: fmt.Errorf("message %d came where %d belongs", meta.Sequence.Stream, next)}
	}
	return arrival{seq: next, at: meta.Timestamp.UTC(), body: m.Data()}
}

// take delivers a message that the consumer brought.
func (t *tail) take(ctx context.Context, a arrival) error {
	if known, err := t.own.prove(a); known || err != nil {
		return err // it was delivered meanwhile
	}
	blk, err := newBlock(a.body, a.seq, a.at)
	if err != nil {
		return err
	}
	return t.hand(ctx, blk.seq, blk.records)
}

// hand delivers the records of the message that is next.
func (t *tail) hand(ctx context.Context, seq uint64, rs []tidings.Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	nonce := rs[0].Nonce
	rs = after(rs, t.pos)
	if len(rs) == 0 {
		return fmt.Errorf("%w: message %d ends before the position", tidings.ErrGap, seq)
	}
	if err := t.deliver(rs); err != nil {
		t.failed = err
		return err
	}
	t.pos = tidings.Position{Hi: seq}
	t.mark.nonce, t.mark.some = nonce, true
	t.own.delivered(seq)
	t.fine = time.Now()
	t.b.counts.read.Store(seq)
	t.b.saw(seq)
	return nil
}

// check finds out whether the log still goes on where the tail is.
func (t *tail) check(ctx context.Context, next uint64) error {
	info, err := t.b.ensure(ctx)
	if err != nil {
		return err
	}
	if err := t.checkPlace(info, next); err != nil {
		return err
	}
	first, last := info.State.FirstSeq, info.State.LastSeq
	if err := t.b.checkFloor(ctx, info, next); err != nil {
		return err
	}
	if next <= last {
		// A hole, or a consumer near by that lags: the leader has it, or nobody.
		if _, err := t.b.fromLeader(ctx, next); errors.Is(err, errNoMessage) {
			if err = t.b.missing(ctx, next); err != nil {
				return err
			}
			return fmt.Errorf("message %d is not there: %w", next, tidings.ErrGap)
		}
	}
	if !t.mark.some || next-1 < first {
		return nil
	}
	// A log that was restored from a copy has the same identity, and other messages with the same numbers.
	blk, err := t.b.fromLeader(ctx, next-1)
	switch {
	case errors.Is(err, errNoMessage):
		return nil // dropped meanwhile: it was looked for
	case err != nil:
		return err
	case blk.records[0].Nonce != t.mark.nonce:
		return fmt.Errorf("message %d is another one than was delivered: the log was restored from a copy: %w", next-1, tidings.ErrGap)
	}
	return nil
}

// checkPlace finds out whether it is the same stream, and holds the message that is next, or all but that.
func (t *tail) checkPlace(info *jetstream.StreamInfo, next uint64) error {
	if id := identityOf(info); id != t.mark.of {
		if !t.mark.of.isZero() {
			return fmt.Errorf("the stream was created at %v, and not at %v: %w", id.created, t.mark.of.created, tidings.ErrEpoch)
		}
		t.mark.of = id
	}
	switch first, last := info.State.FirstSeq, info.State.LastSeq; {
	case next < first:
		return fmt.Errorf("tail from message %d, while the oldest is %d: %w", next, first, tidings.ErrGap)
	case next > last+1:
		return fmt.Errorf("tail from message %d, while the newest is %d: %w", next, last, tidings.ErrGap)
	}
	return nil
}

// forget deletes a consumer that is done with. One that can't be deleted now goes by itself.
func (b *Broker) forget(consumer string) {
	if b.nc.Status() == nats.CONNECTED {
		_ = b.nc.Publish("$JS.API.CONSUMER.DELETE."+b.opts.Stream+"."+consumer, nil)
	}
}
