package natsbroker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidings-sse/tidings"
)

// Messages that the stream had, and has no more, though older ones are there: its file was cut short, or is damaged. Nobody
// who was not past them can be told everything that came after, so the log begins behind them, for Tidings.

// hole is what is known of the messages that a stream lacks. JetStream counts them in each answer, and says which they are
// when it is asked to.
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
	end, err := b.findHole(ctx, info)
	if err != nil || end == 0 {
		return 0, err
	}
	b.mu.Lock()
	b.hole = hole{id, missing, end}
	b.mu.Unlock()
	if known.of != id || known.end != end { // as the log forgets what is old, fewer are missing
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

// mostListed is how many missing messages are asked for: 11 bytes or so each, in one answer.
const mostListed = 1_000_000

// findHole returns the newest message that the stream lacks; 0 if the log has forgotten meanwhile what is old, and lacks
// nothing else. It is read from one answer: messages that are appended at the same time hide nothing.
func (b *Broker) findHole(ctx context.Context, info *jetstream.StreamInfo) (uint64, error) {
	if info.State.NumDeleted > mostListed {
		return info.State.LastSeq, nil // more than is needed, and never less
	}
	listed, err := b.listed(ctx)
	if err != nil {
		return 0, b.explain(err)
	}
	if identityOf(listed) != identityOf(info) {
		return 0, unavailable(errors.New("the stream was made anew meanwhile"))
	}
	st := listed.State
	if st.LastSeq < st.FirstSeq {
		return 0, nil
	}
	missing := st.LastSeq - st.FirstSeq + 1 - st.Msgs
	switch {
	case missing == 0:
		return 0, nil
	case uint64(len(st.Deleted)) < missing:
		return st.LastSeq, nil // what stands behind the newest that it has isn't listed
	}
	return slices.Max(st.Deleted), nil
}

// listTimeout is how long the leader may take to say which messages it lacks.
const listTimeout = 10 * time.Second

// listed is info with the list of what is missing.
func (b *Broker) listed(ctx context.Context) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	for {
		s, err := b.js.Stream(ctx, b.opts.Stream)
		if err != nil {
			return nil, err
		}
		info, err := s.Info(ctx, jetstream.WithDeletedDetails(true))
		if err != nil || isLeaders(info) {
			return info, err
		}
		if !pause(ctx, retryPause) {
			return nil, unavailable(errNoLeader)
		}
	}
}

// checkFloor returns an error that matches ErrGap where what is to be read next is not after what the log doesn't hold.
func (b *Broker) checkFloor(ctx context.Context, info *jetstream.StreamInfo, next uint64) error {
	floor, err := b.floorOf(ctx, info)
	if err != nil || floor < next {
		return err
	}
	return fmt.Errorf("tail from message %d, while those up to %d are missing, or given up: %w", next, floor, tidings.ErrGap)
}

// floorKnown returns the floor of a stream as far as State and Tail have found it out.
func (b *Broker) floorKnown(id identity) (end uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.hole.of == id {
		end = b.hole.end
	}
	if b.floor.of == id {
		end = max(end, b.floor.seq)
	}
	return end
}
