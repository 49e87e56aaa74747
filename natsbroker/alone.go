package natsbroker

import (
	"context"
	"time"
)

// lookAgain is how often a log without a consumer is looked at.
const lookAgain = time.Second

// followAlone follows a log that only this process can append to, without a consumer: a fifth of what a message costs. What
// it appends it is told of with the acknowledgement. It returns nil when there may be a message that it was not told of.
func (t *tail) followAlone(ctx context.Context) error {
	t.own.unconsumed(true)
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	awaited := uint64(0) // by the last look, which found it in the log
	for {
		if _, err := t.takeOwn(ctx); err != nil {
			return err
		}
		if t.own.misses() {
			return nil
		}
		select {
		case <-t.own.wake:
		case <-tick.C:
			next := t.pos.Hi + 1
			last, err := t.check(ctx, next)
			if err != nil {
				return err
			}
			t.fine = time.Now()
			t.b.counts.last.Store(last)
			switch {
			case next > last: // all was delivered
				awaited = 0
			case next == awaited:
				return nil
			default:
				awaited = next
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// miss says that something may have been stored whose place in the log isn't known.
func (b *Broker) miss() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for t := range b.tails {
		t.own.miss()
	}
}
