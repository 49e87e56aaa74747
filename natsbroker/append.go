package natsbroker

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/tidings-sse/tidings"
)

// maxBlock is how large a block gets, where it holds more than one record: what is read from the log is a block at least.
const maxBlock = 64 << 10

// A part is a message to be published: records of one append, side by side. One with an idempotency key is alone.
type part struct {
	first, count int // of the records of the append
	start, end   int // of the body among the bodies, with room for the block's head
	body         []byte
	id           string // Nats-Msg-Id; empty without a key
}

// Append publishes the records, one message or one atomic batch of them at a time, and waits for the acknowledgement.
func (b *Broker) Append(ctx context.Context, rs []tidings.Record) ([]tidings.Appended, error) {
	ctx, cancel := b.until(ctx)
	defer cancel()
	select {
	case b.turn <- struct{}{}:
		defer func() { <-b.turn }()
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return nil, notStored(context.Cause(ctx))
	}
	if len(rs) == 0 {
		return nil, nil
	}
	began := time.Now()
	out, err := b.append(ctx, rs)
	b.counts.latency.add(time.Since(began))
	b.counts.appends.Add(1)
	switch {
	case err == nil:
		b.counts.records.Add(uint64(len(rs)))
		return out, nil
	case errors.Is(err, tidings.ErrNotStored):
		b.counts.failed.Add(1)
	default:
		b.counts.unknown.Add(1)
		b.miss()
	}
	return nil, fmt.Errorf("natsbroker: append: %w", err)
}

func (b *Broker) append(ctx context.Context, rs []tidings.Record) ([]tidings.Appended, error) {
	parts, bytes, err := b.pack(rs)
	if err != nil {
		return nil, err
	}
	if b.server != nil {
		if err := b.server.room(bytes); err != nil {
			return nil, notStored(err)
		}
	}
	out := make([]tidings.Appended, len(rs))
	for done := 0; done < len(parts); {
		run := together(parts[done:])
		if err := b.publishRun(ctx, rs, parts[done:done+run], out); err != nil {
			if done > 0 || !errors.Is(err, tidings.ErrNotStored) {
				return nil, partly(err)
			}
			return nil, err
		}
		done += run
	}
	return out, nil
}

// partly takes from an error that nothing was stored.
func partly(err error) error {
	switch {
	case !errors.Is(err, tidings.ErrNotStored):
		return err
	case errors.Is(err, tidings.ErrClosed):
		return fmt.Errorf("a part may have been stored, and then: %w", tidings.ErrClosed)
	}
	return fmt.Errorf("a part may have been stored, and then: %w: %s", tidings.ErrUnavailable, err)
}

// A packer is the memory in which messages are made; NATS's client has copied them when it has published them.
type packer struct {
	bodies, record []byte
	parts          []part
	at             time.Time // of what is being appended, by the log's clock
}

// maxPacker is how much there may be for bodies that is kept for the next append.
const maxPacker = 2 << 20

// pack makes messages of the records. They are good until the next call.
func (b *Broker) pack(rs []tidings.Record) (parts []part, bytes int, _ error) {
	p := &b.packer
	if cap(p.bodies) > maxPacker {
		p.bodies = nil
	}
	if cap(p.record) > maxBlock {
		p.record = nil
	}
	p.bodies = p.bodies[:0]
	clear(p.parts)
	p.parts = p.parts[:0]
	most := int(b.nc.MaxPayload()) - blockHead - 1024 // for the headers, and the block's time
	start := 0                                        // of the records of the last part
	p.at = b.now()
	for i := range rs {
		p.record = appendRecord(p.record[:0], &rs[i])
		size := len(p.record) + binary.MaxVarintLen32
		if size > most {
			return nil, 0, notStored(fmt.Errorf("%w: with its targets it has %d bytes, and NATS takes %d (max_payload)", tidings.ErrTooLarge, size, most))
		}
		bytes += size
		key := rs[i].IdempotencyKey
		if n := len(p.parts); n == 0 || key != "" || p.parts[n-1].id != "" || len(p.bodies)-start+size > maxBlock {
			open := part{first: i, start: len(p.bodies)}
			if key != "" {
				open.id = messageID(key)
			}
			p.parts = append(p.parts, open)
			p.bodies = append(p.bodies, make([]byte, blockHead)...)
			start = len(p.bodies)
			p.record = appendTime(p.record, p.at)
		}
		open := &p.parts[len(p.parts)-1]
		open.count++
		p.bodies = binary.AppendUvarint(p.bodies, uint64(len(p.record)))
		p.bodies = append(p.bodies, p.record...)
		open.end = len(p.bodies)
	}
	for i := range p.parts {
		open := &p.parts[i]
		open.body = finishBlock(p.bodies[open.start:open.end], open.count)
	}
	return p.parts, bytes, nil
}

// messageID returns a key as a header may carry it, whatever is in it.
func messageID(key string) string {
	sum := sha256.Sum256([]byte(key))
	return base64.RawURLEncoding.EncodeToString(sum[:24]) // 192 bits
}

// maxTogether is how many messages NATS takes as one.
const maxTogether = 1000

// together returns how many of the parts may be published as one: a key that comes again is looked at after its first.
func together(parts []part) int {
	var seen map[string]bool // most have no key
	for i, p := range parts {
		if i == maxTogether || seen[p.id] {
			return i
		}
		if p.id == "" {
			continue
		}
		if seen == nil {
			seen = make(map[string]bool, min(len(parts), maxTogether))
		}
		seen[p.id] = true
	}
	return len(parts)
}

// publishRun publishes the parts, as one if it can be, and fills in the answers. The error matches ErrNotStored only when
// none of them was stored.
func (b *Broker) publishRun(ctx context.Context, rs []tidings.Record, parts []part, out []tidings.Appended) error {
	if len(parts) > 1 && b.atomic && !b.alone {
		last, err := b.publishTogether(ctx, parts)
		if err == nil {
			for i, p := range parts {
				b.stored(rs, p, last-uint64(len(parts)-1-i), out)
			}
			return nil
		}
		if !errors.Is(err, errOneByOne) {
			return err
		}
	}
	for i, p := range parts {
		ack, err := b.publishOne(ctx, p)
		if err == nil && ack.Duplicate {
			out[p.first], err = b.repeated(ctx, &rs[p.first], ack.Sequence)
			if err == nil {
				continue
			}
		}
		if err != nil {
			if i > 0 {
				err = partly(err)
			}
			return err
		}
		b.stored(rs, p, ack.Sequence, out)
	}
	return nil
}

// stored fills in the answers of a part that was stored.
func (b *Broker) stored(rs []tidings.Record, p part, seq uint64, out []tidings.Appended) {
	b.counts.messages.Add(1)
	b.saw(seq)
	b.offer(seq, b.packer.at, rs[p.first:p.first+p.count])
	for i := range p.count {
		out[p.first+i] = tidings.Appended{Position: place(seq, i, p.count), Nonce: rs[p.first+i].Nonce}
	}
	if r := &rs[p.first]; p.id != "" {
		b.keys.put(r.IdempotencyKey, used{digest: r.Digest(), first: out[p.first], at: time.Now()})
	}
}

// repeated answers for a record whose key was used for the message with this sequence.
func (b *Broker) repeated(ctx context.Context, r *tidings.Record, seq uint64) (tidings.Appended, error) {
	first, digest := tidings.Appended{Position: tidings.Position{Hi: seq}}, r.Digest()
	if u, ok := b.keys.byKey[r.IdempotencyKey]; ok && u.first.Position == first.Position {
		return answer(u.first, u.digest == digest), nil
	}
	ctx, cancel := context.WithTimeout(ctx, b.opts.AppendTimeout)
	defer cancel()
	for {
		blk, err := b.fromLeader(ctx, seq)
		switch {
		case errors.Is(err, errNoMessage):
			// It was dropped since. That the key was used is certain, and for what can't be known any more.
			return answer(first, true), nil
		case err == nil && len(blk.records) == 1:
			first.Nonce = blk.records[0].Nonce
			return answer(first, blk.records[0].Digest() == digest), nil
		case err == nil:
			return tidings.Appended{}, notStored(fmt.Errorf("message %d, which has the idempotency key, is not one of Tidings", seq))
		case !pause(ctx, retryPause):
			// It may be this very event, sent before.
			return tidings.Appended{}, unavailable(fmt.Errorf("the event that the key was used for can't be read: %w", err))
		}
	}
}

func answer(first tidings.Appended, same bool) tidings.Appended {
	first.Outcome = tidings.Duplicate
	if !same {
		first.Outcome = tidings.Conflict
	}
	return first
}

// retryPause is how long to wait before asking NATS the same again.
const retryPause = 50 * time.Millisecond

// pause waits, and reports false when ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
