package natsbroker

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidings-sse/tidings"
)

// Messages that the stream had, and has no more, though older ones are there: its file was cut short, or is damaged. Nobody
// who was not past them can be told everything that came after, so the log begins behind them, for Tidings.

// hole is what is known of the messages that a stream lacks. JetStream counts them, and doesn't say which they are, but in a
// list that may be longer than a message.
type hole struct {
	of      identity
	missing int    // messages between the first and the last
	end     uint64 // the newest of them
}

// holeEnd returns the newest message that the stream lacks, 0 if there is none after its first one.
func (b *Broker) holeEnd(ctx context.Context, info *jetstream.StreamInfo) (uint64, error) {
	missing, id := info.State.NumDeleted, identityOf(info)
	if missing == 0 {
		b.tellOfEmpty(info)
		return 0, nil
	}
	b.mu.Lock()
	known := b.hole
	b.mu.Unlock()
	if known.of == id && known.missing == missing {
		return known.end, nil
	}
	end, err := b.findHole(ctx, info.State.FirstSeq, info.State.LastSeq)
	if err != nil {
		return 0, err
	}
	b.mu.Lock()
	b.hole = hole{id, missing, end}
	b.mu.Unlock()
	if end > 0 && (known.of != id || known.end != end) { // as the log forgets what is old, fewer are missing
		b.log.Error(logHole, keyStream, b.opts.Stream, keyMissing, missing, keyTo, end, keyRemedy, holeRemedy)
	}
	return end, nil
}

const holeRemedy = "nothing needs to be done: the log goes on after them. Read docs/guarantees.md before you put a copy of its directory back"

// floorOf returns the newest message that the log doesn't hold any more, as Tidings sees it.
func (b *Broker) floorOf(ctx context.Context, info *jetstream.StreamInfo) (uint64, error) {
	end, err := b.holeEnd(ctx, info)
	if err != nil {
		return 0, err
	}
	if b.floor.of == identityOf(info) {
		end = max(end, b.floor.seq)
	}
	if first := info.State.FirstSeq; first > 1 {
		end = max(end, first-1)
	}
	return end, nil
}

// Salvage yields the records before a hole, and between holes, and before what a power loss may have taken.
func (b *Broker) Salvage(ctx context.Context) iter.Seq2[tidings.Record, error] {
	return func(yield func(tidings.Record, error) bool) {
		ctx, cancel := b.until(ctx)
		defer cancel()
		var seq, end uint64
		info, err := b.info(ctx)
		if err == nil {
			seq = info.State.FirstSeq
			end, err = b.floorOf(ctx, info)
		}
		for err == nil && seq <= end {
			var blk *block
			blk, err = b.nextFromLeader(ctx, seq)
			switch {
			case errors.Is(err, errNoMessage), err == nil && blk.seq > end:
				return
			case errors.Is(err, tidings.ErrGap): // not one of ours
				seq, err = seq+1, nil
				continue
			case err != nil:
				continue
			}
			for _, r := range blk.records {
				if !yield(r, nil) {
					return
				}
			}
			seq = blk.seq + 1
		}
		if err != nil {
			yield(tidings.Record{}, fmt.Errorf("natsbroker: salvage: %w", cause(ctx, err)))
		}
	}
}

// tellOfEmpty logs once that a log that should hold something holds nothing.
func (b *Broker) tellOfEmpty(info *jetstream.StreamInfo) {
	st := info.State
	if st.Msgs > 0 || st.LastSeq == 0 || info.TimeStamp.Sub(st.LastTime) >= info.Config.MaxAge {
		return
	}
	b.mu.Lock()
	known := b.hole
	b.hole = hole{identityOf(info), 0, st.LastSeq}
	b.mu.Unlock()
	if known != (hole{identityOf(info), 0, st.LastSeq}) {
		b.log.Error(logEmpty, keyStream, b.opts.Stream, keyTo, st.LastSeq, keyRemedy, holeRemedy)
	}
}

// findHole returns the newest message that is missing between first and last, 0 if none is.
func (b *Broker) findHole(ctx context.Context, first, last uint64) (uint64, error) {
	_, err := b.fromLeader(ctx, last)
	if errors.Is(err, errNoMessage) {
		return last, nil
	}
	// How many messages there are from one on falls behind how many there would be, at the newest that is missing.
	low, high := first, last // whole is true of high, and false of what is before low
	for low < high {
		mid := low + (high-low)/2
		whole, err := b.wholeFrom(ctx, mid, last)
		if err != nil {
			return 0, err
		}
		if whole {
			high = mid
		} else {
			low = mid + 1
		}
	}
	if low == first {
		return 0, nil
	}
	return low - 1, nil
}

// wholeFrom reports whether the stream has every message from one to another.
func (b *Broker) wholeFrom(ctx context.Context, from, to uint64) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	c, err := b.js.CreateConsumer(ctx, b.opts.Stream, jetstream.ConsumerConfig{
		Description: "a node of Tidings, that counts", DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from,
		AckPolicy: jetstream.AckNonePolicy, InactiveThreshold: consumerGone, MemoryStorage: true, Replicas: 1,
	})
	if err != nil {
		return false, b.explain(err)
	}
	defer b.forget(c.CachedInfo().Name)
	return c.CachedInfo().NumPending >= to-from+1, nil // there may be newer ones by now
}

// checkHole returns an error that matches ErrGap where the stream lacks a message that is not before next.
func (b *Broker) checkHole(ctx context.Context, info *jetstream.StreamInfo, next uint64) error {
	end, err := b.holeEnd(ctx, info)
	if err != nil || end < next {
		return err
	}
	return fmt.Errorf("tail from message %d, while messages up to %d are missing: %w", next, end, tidings.ErrGap)
}
