package tidings

import (
	"sync"
	"sync/atomic"
	"time"
)

// Stats are counts of this hub since it was created, but for those that say "now".
type Stats struct {
	Since time.Time `json:"since"`

	Connections  int               `json:"connections"`  // now
	Connected    map[string]uint64 `json:"connected"`    // streams, by how they began: "none", "complete" or "gap"
	Disconnected map[Reason]uint64 `json:"disconnected"` // of those, by how they ended
	Unfinished   map[Reason]uint64 `json:"unfinished"`   // streams that ended during their replay
	Refused      map[string]uint64 `json:"refused"`      // streams not served, by reason

	Sent       uint64            `json:"sent"`       // events accepted by this hub
	SendErrors map[string]uint64 `json:"sendErrors"` // sends that failed, by kind
	Routed     uint64            `json:"routed"`     // events of the log, whoever sent them

	Delivered   uint64            `json:"delivered"` // events written to a stream from its queue, once for each stream
	Replayed    uint64            `json:"replayed"`  // events that streams were resumed with; the last few of each go by its queue
	Bytes       uint64            `json:"bytes"`     // of streams, from their queues
	Writes      uint64            `json:"writes"`    // system calls, about, that carried them
	Heartbeats  uint64            `json:"heartbeats"`
	Checkpoints uint64            `json:"checkpoints"`
	Gaps        map[string]uint64 `json:"gaps"` // streams told of a gap, by reason

	History HistoryStats `json:"history"`
	Log     *LogStats    `json:"log,omitempty"` // of the broker, where it counts
}

// HistoryStats say what can be replayed now.
type HistoryStats struct {
	Events      int    `json:"events"`
	FirstID     string `json:"firstId,omitempty"` // the oldest cursor that can be resumed from
	LastID      string `json:"lastId,omitempty"`
	HeldBytes   int64  `json:"heldBytes"`   // of records in memory
	LogAheadMs  int64  `json:"logAheadMs"`  // the log's clock, ahead of this machine's
	Unavailable string `json:"unavailable"` // why the log can't be followed; empty when it is
}

// counts are what Stats is made from.
type counts struct {
	since    time.Time
	sent     atomic.Uint64
	routed   atomic.Uint64
	replayed atomic.Uint64

	mu     sync.Mutex // guards byKind
	byKind map[countKind]map[string]uint64
}

type countKind uint8

const (
	countConnected countKind = iota
	countDisconnected
	countUnfinished
	countRefused
	countSendErrors
	countGaps
)

func newCounts() *counts {
	return &counts{since: time.Now(), byKind: make(map[countKind]map[string]uint64)}
}

func (c *counts) add(k countKind, label string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.byKind[k]
	if m == nil {
		m = make(map[string]uint64)
		c.byKind[k] = m
	}
	m[label]++
}

func (c *counts) connected(j *join) {
	c.add(countConnected, j.resume)
	c.replayed.Add(uint64(j.events))
}

func (c *counts) disconnected(r Reason) { c.add(countDisconnected, string(r)) }
func (c *counts) unfinished(r Reason)   { c.add(countUnfinished, string(r)) }
func (c *counts) refused(reason string) { c.add(countRefused, reason) }
func (c *counts) gap(reason string)     { c.add(countGaps, reason) }
func (c *counts) sendFailed(err error)  { c.add(countSendErrors, ProblemOf(err).reason()) }

// labels returns a copy of the counts of a kind.
func labels[L ~string](c *counts, k countKind) map[L]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := make(map[L]uint64, len(c.byKind[k]))
	for label, n := range c.byKind[k] {
		m[L(label)] = n
	}
	return m
}

// Stats returns the counts as they are now.
func (h *Hub) Stats() Stats {
	e := h.engine.Counts()
	s := Stats{
		Since:        h.counts.since,
		Connected:    labels[string](h.counts, countConnected),
		Disconnected: labels[Reason](h.counts, countDisconnected),
		Unfinished:   labels[Reason](h.counts, countUnfinished),
		Refused:      labels[string](h.counts, countRefused),
		Sent:         h.counts.sent.Load(),
		SendErrors:   labels[string](h.counts, countSendErrors),
		Routed:       h.counts.routed.Load(),
		Delivered:    e.Events.Load(),
		Replayed:     h.counts.replayed.Load(),
		Bytes:        e.Bytes.Load(),
		Writes:       e.Writes.Load(),
		Heartbeats:   e.Beats.Load(),
		Checkpoints:  e.Checkpoints.Load(),
		Gaps:         labels[string](h.counts, countGaps),
	}
	if m, ok := h.broker.(Monitor); ok {
		l := m.LogStats()
		s.Log = &l
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s.Connections = len(h.conns.all)
	s.History = HistoryStats{
		Events:     h.history.entries.Len(),
		FirstID:    h.history.cursorAt(h.history.first - 1).String(),
		LastID:     h.history.cursorAt(h.history.newest()).String(),
		HeldBytes:  h.history.holdBytes,
		LogAheadMs: h.skew.Milliseconds(),
	}
	if h.shaky != nil {
		s.History.Unavailable = h.shaky.Error()
	}
	return s
}
