package natsbroker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tidings-sse/tidings"
)

// Reading by position, a block at a time.

// errNoMessage says that the stream has no message with the sequence.
var errNoMessage = errors.New("no such message")

// Read yields the records between two positions.
func (b *Broker) Read(ctx context.Context, from, to tidings.Position) iter.Seq2[tidings.Record, error] {
	return func(yield func(tidings.Record, error) bool) {
		ctx, cancel := b.until(ctx)
		defer cancel()
		if to.Hi == math.MaxUint64 {
			to.Lo = 0 // the message that it is in has no number
		}
		b.mu.Lock()
		id := b.stated
		b.mu.Unlock()
		first := max(messageOf(from), 1)
		if floor := b.floorKnown(id); first <= min(floor, messageOf(to)) {
			yield(tidings.Record{}, fmt.Errorf("natsbroker: read: message %d, while those up to %d are missing, or given up: %w", first, floor, tidings.ErrGap))
			return
		}
		for seq := first; seq <= messageOf(to); seq++ {
			if ctx.Err() != nil {
				yield(tidings.Record{}, context.Cause(ctx))
				return
			}
			blk, err := b.block(ctx, seq)
			if errors.Is(err, errNoMessage) {
				if err = b.missing(ctx, seq); err == nil {
					return
				}
			}
			if err != nil {
				yield(tidings.Record{}, fmt.Errorf("natsbroker: read: %w", cause(ctx, err)))
				return
			}
			for _, r := range blk.records {
				if r.Position.Compare(from) < 0 {
					continue
				}
				if r.Position.Compare(to) > 0 {
					return
				}
				if !yield(r, nil) {
					return
				}
			}
		}
	}
}

// missing says why there is no message with the sequence: nil where the log has not come as far.
func (b *Broker) missing(ctx context.Context, seq uint64) error {
	info, err := b.info(ctx)
	if err != nil {
		return b.explain(err)
	}
	if seq > info.State.LastSeq {
		return nil
	}
	return fmt.Errorf("message %d, while those from %d to %d are held: %w", seq, info.State.FirstSeq, info.State.LastSeq, tidings.ErrGap)
}

// block returns a block of the log: one that was read before, or from a server near by, or from the stream's leader.
func (b *Broker) block(ctx context.Context, seq uint64) (*block, error) {
	b.mu.Lock()
	id := b.stated
	b.mu.Unlock()
	if blk := b.blocks.get(id, seq); blk != nil {
		return blk, nil
	}
	blk, err := b.fromAnyone(ctx, seq)
	if err != nil { // that one may lag
		if blk, err = b.fromLeader(ctx, seq); err != nil {
			return nil, err
		}
	}
	b.blocks.put(id, blk)
	return blk, nil
}

// fromAnyone reads a message from whichever server answers.
func (b *Broker) fromAnyone(ctx context.Context, seq uint64) (*block, error) {
	res, err := b.ask(ctx, "$JS.API.DIRECT.GET."+b.opts.Stream, fmt.Appendf(nil, `{"seq":%d}`, seq))
	if err != nil {
		return nil, err
	}
	if res.Header.Get("Status") != "" {
		return nil, errNoMessage
	}
	at, err := time.Parse(time.RFC3339Nano, res.Header.Get("Nats-Time-Stamp"))
	if err != nil || res.Header.Get("Nats-Sequence") != strconv.FormatUint(seq, 10) {
		return nil, fmt.Errorf("NATS answered a read of message %d with another one", seq)
	}
	return newBlock(res.Data, seq, at)
}

// fromLeader reads a message from the stream's leader, which knows whether there is one.
func (b *Broker) fromLeader(ctx context.Context, seq uint64) (*block, error) {
	return b.leaders(ctx, fmt.Appendf(nil, `{"seq":%d}`, seq), seq, false)
}

// nextFromLeader reads the first message that there is from a sequence on.
func (b *Broker) nextFromLeader(ctx context.Context, seq uint64) (*block, error) {
	return b.leaders(ctx, fmt.Appendf(nil, `{"seq":%d,"next_by_subj":%q}`, seq, b.want.Subjects[0]), seq, true)
}

func (b *Broker) leaders(ctx context.Context, request []byte, seq uint64, orLater bool) (*block, error) {
	res, err := b.ask(ctx, "$JS.API.STREAM.MSG.GET."+b.opts.Stream, request)
	if err != nil {
		return nil, unavailable(err)
	}
	var got struct {
		Message *struct {
			Seq  uint64    `json:"seq"`
			Data []byte    `json:"data"`
			Time time.Time `json:"time"`
		} `json:"message"`
		Error *ackError `json:"error"`
	}
	const codeNoMessage = 10037 // JSNoMessageFoundErr
	switch err := json.Unmarshal(res.Data, &got); {
	case err != nil:
		return nil, fmt.Errorf("NATS answered a read of message %d with %q", seq, res.Data)
	case got.Error != nil && got.Error.ErrCode == codeNoMessage:
		return nil, errNoMessage
	case got.Error != nil:
		return nil, unavailable(got.Error)
	case got.Message == nil || got.Message.Seq != seq && !(orLater && got.Message.Seq > seq):
		return nil, fmt.Errorf("NATS answered a read of message %d with another one", seq)
	}
	return newBlock(got.Message.Data, got.Message.Seq, got.Message.Time)
}

func (b *Broker) ask(ctx context.Context, subject string, request []byte) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return b.nc.RequestWithContext(ctx, subject, request)
}

// newBlock parses a message. One that is not a block is a hole in the log.
func newBlock(body []byte, seq uint64, at time.Time) (*block, error) {
	rs, err := parseBlock(body, seq, at)
	if errors.Is(err, errBlockTorn) {
		return nil, fmt.Errorf("%w: %w", tidings.ErrGap, err)
	}
	if err != nil {
		return nil, err
	}
	const overhead = 200 // bytes counted for a record beside its part of the message
	return &block{seq: seq, at: at, records: rs, size: len(body) + overhead*len(rs)}, nil
}
