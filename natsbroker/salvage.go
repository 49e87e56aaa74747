package natsbroker

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidings-sse/tidings"
)

// Salvage yields the records before a hole, and between holes, and before what a power loss may have taken.
func (b *Broker) Salvage(ctx context.Context) iter.Seq2[tidings.Record, error] {
	return func(yield func(tidings.Record, error) bool) {
		ctx, cancel := b.until(ctx)
		defer cancel()
		s := salvage{b: b, yield: yield}
		if err := s.run(ctx); err != nil && !s.over {
			yield(tidings.Record{}, fmt.Errorf("natsbroker: salvage: %w", cause(ctx, err)))
		}
	}
}

// salvage is one call of Salvage.
type salvage struct {
	b     *Broker
	yield func(tidings.Record, error) bool
	over  bool // nobody wants more

	next, end uint64 // the message that is next, and the last one
}

func (s *salvage) run(ctx context.Context) error {
	info, err := s.b.info(ctx)
	if err != nil {
		return s.b.explain(err)
	}
	if s.end, err = s.b.floorOf(ctx, info); err != nil {
		return err
	}
	s.next = info.State.FirstSeq
	if s.next > s.end {
		return nil
	}
	if err := s.consume(ctx); err != nil {
		return err
	}
	return s.ask(ctx, s.end+1)
}

// consume reads with a consumer, whose server sends ahead, for as long as that goes well.
func (s *salvage) consume(ctx context.Context) error {
	c, ms, err := s.b.consumer(ctx, s.next)
	if err != nil {
		return err
	}
	defer s.b.forget(c.CachedInfo().Name)
	defer ms.Stop()
	for pending := c.CachedInfo().NumPending; pending > 0 && s.next <= s.end && !s.over; {
		m, meta, err := s.receive(ctx, ms)
		if err != nil {
			return ctx.Err() // else the leader has the rest
		}
		pending = meta.NumPending
		seq := meta.Sequence.Stream
		if err := s.ask(ctx, min(seq, s.end+1)); err != nil {
			return err
		}
		if seq != s.next || seq > s.end {
			continue
		}
		blk, err := newBlock(m.Data(), seq, meta.Timestamp.UTC())
		if err != nil && !errors.Is(err, tidings.ErrGap) { // not one of ours
			return err
		}
		s.hand(seq, blk)
	}
	return nil
}

// receive takes the consumer's next message. One that was promised is not there where the log has dropped it meanwhile.
func (s *salvage) receive(ctx context.Context, ms jetstream.MessagesContext) (jetstream.Msg, *jetstream.MsgMetadata, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	m, err := ms.Next(jetstream.NextContext(ctx))
	if err != nil {
		return nil, nil, err
	}
	meta, err := m.Metadata()
	return m, meta, err
}

// ask has the stream's leader read what it has before a message: a consumer is on any server, which may lack some of that.
func (s *salvage) ask(ctx context.Context, before uint64) error {
	for s.next < before && !s.over {
		blk, err := s.b.nextFromLeader(ctx, s.next)
		switch {
		case errors.Is(err, errNoMessage), err == nil && blk.seq >= before:
			s.next = before
		case errors.Is(err, tidings.ErrGap): // not one of ours
			s.next++
		case err != nil:
			return err
		default:
			s.hand(blk.seq, blk)
		}
	}
	return nil
}

// hand yields the records of a message; nil has none.
func (s *salvage) hand(seq uint64, blk *block) {
	s.next = seq + 1
	if blk == nil {
		return
	}
	for _, r := range blk.records {
		if s.over = !s.yield(r, nil); s.over {
			return
		}
	}
}
