package tidings

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/tidings-sse/tidings/internal/engine"
)

// janitor keeps the index in step with what the log still holds, and cursors from falling out of it.
type janitor struct {
	hub   *Hub
	kick  chan struct{} // 1: whether a round is due before its time
	since atomic.Int64  // records since the last round

	// stale is the number below which a cursor is a quarter of history old: an idle stream with such a one gets a
	// checkpoint instead of its next heartbeat.
	stale atomic.Uint64
	// nudged is the number below which cursors were half of history old when idle streams were last told to look.
	nudged uint64
}

const (
	janitorInterval = time.Second
	// janitorRecords is how many records are routed at most before the index is trimmed: it is then that much larger
	// than what the log holds.
	janitorRecords = 8192
)

func newJanitor(h *Hub) *janitor { return &janitor{hub: h, kick: make(chan struct{}, 1)} }

// grown counts records that were routed.
func (j *janitor) grown(n int) {
	if j.since.Add(int64(n)) < janitorRecords {
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
	}
}

func (j *janitor) round(ctx context.Context) {
	h := j.hub
	st, err := h.broker.State(ctx)
	if err != nil {
		return // the tail finds out, and says so
	}
	h.mu.Lock()
	if st.Epoch != h.history.floor.epoch {
		h.mu.Unlock()
		return // the tail finds out
	}
	h.history.trim(st.Floor)
	h.skew = time.Until(st.Time)
	now := h.logTime()
	j.stale.Store(h.history.aged(4, now))
	half := h.history.aged(2, now)
	first := h.history.first
	var streams []*engine.Stream
	// Where history turns over faster than heartbeats come, idle streams are asked before theirs is due: each time all
	// that was newer than half of history has become the older half.
	if first > 1 && half > j.nudged {
		for _, m := range h.conns.under(key{kind: kindEveryone}) {
			streams = append(streams, m.conn.stream)
		}
		j.nudged = h.history.newest()
	}
	h.mu.Unlock()
	for _, s := range streams {
		if s.Usage().Last < half {
			s.Nudge()
		}
	}
}
