package tidings

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/tidings-sse/tidings/internal/engine"
	"github.com/tidings-sse/tidings/sse"
)

// janitor keeps the index in step with what the log still holds, and cursors from falling out of it.
type janitor struct {
	hub   *Hub
	kick  chan struct{} // 1: whether a round is due before its time
	since atomic.Int64  // records since the last round
	due   atomic.Int64  // how many of them make a round due before its time

	// stale is the number below which a cursor is a quarter of history old: an idle stream with such a one gets a
	// checkpoint instead of its next heartbeat.
	stale uint64
	// nudged is the newest number when idle streams were last told to look.
	nudged uint64

	repeater repeater
}

const (
	janitorInterval = time.Second
	// How many records are routed at most before the index is trimmed: it is then that much larger than what the log
	// holds. An eighth of history, so that a small one doesn't turn over between two rounds, within these bounds.
	minJanitorRecords = 64
	maxJanitorRecords = 8192
)

func newJanitor(h *Hub) *janitor {
	j := &janitor{hub: h, kick: make(chan struct{}, 1), repeater: repeater{hub: h}}
	j.due.Store(minJanitorRecords)
	return j
}

// grown counts records that were routed.
func (j *janitor) grown(n int) {
	if j.since.Add(int64(n)) < j.due.Load() {
		return
	}
	select {
	case j.kick <- struct{}{}:
	default:
	}
}

func (j *janitor) run(ctx context.Context) {
	tick := time.NewTicker(janitorInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-j.kick:
		case <-ctx.Done():
			return
		}
		j.since.Store(0)
		j.round(ctx)
		j.repeater.round()
	}
}

func (j *janitor) round(ctx context.Context) {
	h := j.hub
	asked := time.Now()
	st, err := h.broker.State(ctx)
	answered := time.Now()
	if err != nil {
		return // the tail finds out, and says so
	}
	h.mu.Lock()
	if st.Epoch != h.history.floor.epoch {
		h.mu.Unlock()
		return // the tail finds out
	}
	h.history.trim(st.Floor)
	h.skew = skew(h.skew, asked, st.Time, answered)
	if h.newestPosition().Compare(h.owed) >= 0 {
		h.owed, h.owedAt = st.Last, time.Now()
	}
	if !h.tailing.IsZero() && time.Since(h.tailing) >= janitorInterval {
		h.shaky = nil // it is followed again, though nothing new came
	}
	now := h.logTime()
	j.due.Store(int64(min(max(h.history.entries.Len()/8, minJanitorRecords), maxJanitorRecords)))
	stale := h.history.aged(4, now)
	// Where history turns over faster than heartbeats come, idle streams are asked before theirs is due: each time that
	// the cursors they were given last have become a quarter of history old. None is then more than half of it old.
	nudge := h.history.first > 1 && stale > j.nudged
	if nudge {
		j.nudged = h.history.newest()
	}
	if stale > j.stale || nudge {
		j.stale = stale
		h.engine.Checkpoint(stale, h.checkpoint(), nudge)
	}
	h.mu.Unlock()
}

// checkpoint returns the frame that says that all up to the newest record was delivered. The lock is held.
func (h *Hub) checkpoint() *engine.Frame {
	number := h.history.newest()
	id := h.history.cursorAt(number).String()
	return engine.NewFrame(number, time.Time{}, engine.Encode(func(dst []byte) []byte {
		return sse.AppendBlock(dst, typeCheckpoint, []byte("{}"), id)
	}))
}
