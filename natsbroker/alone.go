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
			there, err := t.look(ctx, next)
			switch {
			case err != nil:
				return err
			case there && next == awaited:
				return nil
			}
			awaited = 0
			if there {
				awaited = next // it may be told of in a moment
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// look finds out whether the log is still there, and the message that is next in it.
func (t *tail) look(ctx context.Context, next uint64) (there bool, _ error) {
	info, err := t.b.ensure(ctx)
	if err != nil {
		return false, err
	}
	if !t.own.waits() { // else it may have been dropped from the log meanwhile, and will be delivered
		if err := t.checkPlace(info, next); err != nil {
			return false, err
		}
	}
	last := info.State.LastSeq
	t.fine = time.Now()
	t.b.counts.last.Store(last)
	return next <= last, nil
}

// miss says that something may have been stored whose place in the log isn't known.
func (b *Broker) miss() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for t := range b.tails {
		t.own.miss()
	}
}
