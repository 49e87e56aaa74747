package tidings

import (
	"context"
	"math/rand/v2"
	"time"
)

// Refusals last until a time, and the log's records only until it is full. So a node repeats those that it knows before
// the log drops them, and reads those that it has skipped.

// repeater writes refusals to the log again. The janitor owns it.
type repeater struct {
	hub     *Hub
	pending []*send // of the last repetition
}

// maxRepeated is how many refusals go into one record: at most 300 KB.
const maxRepeated = 100

// round repeats all refusals when one is in the older half of history, or no longer in the log. Nodes that find this at
// the same time each do it, which is more than is needed, and harmless.
func (r *repeater) round() {
	for _, s := range r.pending {
		if !s.isOver() {
			return
		}
	}
	r.pending = nil
	for _, data := range r.hub.refusalsToRepeat() {
		s, err := r.hub.pub.submit(Record{Type: typeRefuse, Data: data, Targets: []Target{nobody}})
		if err != nil {
			return // the hub closes
		}
		r.pending = append(r.pending, s)
	}
}

// refusalsToRepeat returns the data of the records to append, and forgets what is over and out of the log.
func (h *Hub) refusalsToRepeat() (records [][]byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.refusedUntil) == 0 || !h.warmLocked() {
		return nil
	}
	now := time.Now()
	old := h.history.cursorAt(h.history.aged(2, h.logTime())).pos
	if last := h.newestPosition(); old.Compare(last) > 0 {
		old = last
	}
	due := false
	for t, r := range h.refusedUntil {
		switch live := now.Before(r.until); {
		case live:
			due = due || r.at.Compare(old) < 0 || r.at.Compare(h.history.floor.pos) <= 0
		case r.at.Compare(h.history.floor.pos) <= 0:
			delete(h.refusedUntil, t)
		}
	}
	if !due {
		return nil
	}
	var some []refusalData
	for t, r := range h.refusedUntil {
		if !now.Before(r.until) {
			continue
		}
		some = append(some, refusalData{UserID: t.UserID, SessionID: t.SessionID, Until: r.until.UnixMilli(), Of: &r.of})
		if len(some) == maxRepeated {
			records = append(records, mustJSON(refuseData{Repeated: some}))
			some = nil
		}
	}
	if len(some) > 0 {
		records = append(records, mustJSON(refuseData{Repeated: some}))
	}
	return records
}

// rebaseRefusals is called before the index is reset to go on after a place: where that is of another log, or of one that
// was restored, the records of the refusals are gone, and they are repeated there. The lock is held.
func (h *Hub) rebaseRefusals(after cursor, last Position) {
	other := after.epoch != h.history.floor.epoch
	for t, r := range h.refusedUntil {
		if !other && r.at.Compare(last) <= 0 {
			continue
		}
		if !time.Now().Before(r.until) {
			delete(h.refusedUntil, t)
			continue
		}
		h.refusedUntil[t] = refused{until: r.until}
	}
}

// readSkipped has the refusals among the records that the hub skips be read. They are what the log still holds of it; the
// older ones are repeated by the nodes that know of them.
func (h *Hub) readSkipped(ctx context.Context) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.skips++; h.skips > 1 {
		return // whoever reads begins again
	}
	h.wg.Go(func() {
		for {
			h.mu.Lock()
			skips := h.skips
			h.mu.Unlock()
			h.readRefusals(ctx)
			h.mu.Lock()
			done := h.skips == skips || ctx.Err() != nil
			if done {
				h.skips = 0
			}
			h.mu.Unlock()
			if done {
				return
			}
		}
	})
}

// salvage begins to read the refusals in what the log doesn't hold any more and can still be read: a user who was signed out
// stays so, whatever happened to the log. The janitor repeats them in what it holds. It goes on until it succeeds, and no
// stream is served before.
func (h *Hub) salvage(st State) {
	from, ok := h.broker.(Salvager)
	if !ok || st.Floor.IsZero() {
		return
	}
	h.mu.Lock()
	h.salvaging = true
	h.mu.Unlock()
	h.wg.Go(func() {
		for pause := time.Duration(0); ; {
			err := h.salvageFrom(h.ctx, from, st.Epoch)
			if h.ctx.Err() != nil {
				return
			}
			if err == nil {
				break
			}
			h.log.Error(logUnsalvaged, keyError, err)
			pause = min(max(2*pause, minTailPause), maxTailPause)
			select {
			case <-h.ctx.Done():
				return
			case <-time.After(pause/2 + rand.N(pause/2)):
			}
		}
		h.mu.Lock()
		h.salvaging = false
		h.mu.Unlock()
	})
}

func (h *Hub) salvageFrom(ctx context.Context, from Salvager, epoch string) error {
	for rec, err := range from.Salvage(ctx) {
		if err != nil {
			return err
		}
		if rec.Type != typeRefuse {
			continue
		}
		h.mu.Lock()
		if h.history.floor.epoch == epoch {
			h.refuseLocked(&rec)
		}
		h.mu.Unlock()
	}
	return nil
}

// readRefusals reads the refusals that the log holds. One that drops records faster than they are read is begun again.
func (h *Hub) readRefusals(ctx context.Context) {
	var err error
	var at Position // of the newest record that was read
	for range maxStarts {
		var st State
		if st, err = h.broker.State(ctx); err != nil {
			break
		}
		from := st.Floor
		if at.Compare(from) > 0 {
			from = at
		}
		for rec, failed := range h.broker.Read(ctx, Position{from.Hi, from.Lo + 1}, st.Last) {
			if err = failed; err != nil {
				break
			}
			at = rec.Position
			if rec.Type == typeRefuse {
				h.mu.Lock()
				if h.history.floor.epoch == st.Epoch {
					h.refuseLocked(&rec)
				}
				h.mu.Unlock()
			}
		}
		if err == nil {
			return
		}
	}
	if ctx.Err() == nil {
		h.log.Error(logUnreadRefusals, keyError, err)
	}
}
