package natsbroker_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/natsbroker"
)

// followAlone returns a log that only this process appends to, and who follows it, without a consumer by now.
func followAlone(t *testing.T) (*natsbroker.Broker, *follower) {
	b := embed(t, natsbroker.EmbedOptions{})
	state(t, b)
	f := follow(t, b, tidings.Position{})
	becomesAlone(t, b, f)
	return b, f
}

// becomesAlone appends until there is no consumer: the first records may be brought by it before they are acknowledged.
func becomesAlone(t *testing.T, b *natsbroker.Broker, f *follower) {
	t.Helper()
	eventually(t, "a log without a consumer", func() error {
		f.wants(store(t, b, 0, 1)...)
		n, err := b.Consumers(bounded(t))
		if err == nil && n > 0 {
			err = fmt.Errorf("there are %d", n)
		}
		return err
	})
}

func TestALogThatNobodyElseAppendsToNeedsNoConsumer(t *testing.T) {
	b, f := followAlone(t)
	before := b.DeliveredAsOwn()
	f.wants(store(t, b, 0, 200)...)
	eventually(t, "the count", func() error {
		if n := b.DeliveredAsOwn() - before; n != 200 {
			return fmt.Errorf("%d messages were delivered when they were acknowledged, of 200", n)
		}
		return nil
	})
}

func TestWhatIsInTheLogWithoutAnAcknowledgementIsDelivered(t *testing.T) {
	for name, next := range map[string]int{"and nothing after it": 0, "before others": 3} {
		t.Run(name, func(t *testing.T) {
			b, f := followAlone(t)
			r := record(5)
			if err := b.Beside(r); err != nil {
				t.Fatal(err)
			}
			rest := store(t, b, 6, next)
			if got := f.takes(1); len(got) != 1 || got[0].Nonce != r.Nonce {
				t.Fatalf("%v came, want %s", got, r.Data)
			}
			f.wants(rest...)
			f.wants(store(t, b, 20, 3)...)
			becomesAlone(t, b, f)
		})
	}
}

func TestWhatItsSenderDidNotWaitForIsDeliveredOnceInItsPlace(t *testing.T) {
	b, f := followAlone(t)
	seq := state(t, b).Last.Hi     // all of it was delivered
	fate := make(map[uint64]error) // by nonce
	for i, unknown := 0, 0; unknown < 20; i++ {
		r := record(i)
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%100)*5*time.Microsecond)
		_, err := b.Append(ctx, []tidings.Record{r})
		cancel()
		fate[r.Nonce] = err
		if err != nil && !errors.Is(err, tidings.ErrNotStored) {
			unknown++
		}
	}
	newest := store(t, b, 0, 1)[0]
	for last := uint64(0); last != newest.Nonce; {
		got := f.takes(1)
		if len(got) == 0 {
			return
		}
		if seq++; got[0].Position.Hi != seq {
			t.Fatalf("message %d came where %d belongs", got[0].Position.Hi, seq)
		}
		last = got[0].Nonce
		if err := fate[last]; errors.Is(err, tidings.ErrNotStored) {
			t.Errorf("%s came, of which it was said: %v", got[0].Data, err)
		}
		delete(fate, last)
	}
	for _, err := range fate {
		if err == nil {
			t.Error("an event that was acknowledged never came")
		}
	}
}
