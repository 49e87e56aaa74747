package load

import (
	"maps"
	"slices"
	"sync"
)

// A Ledger counts what was sent to each target, which is what each stream must have got. Its methods may be called
// concurrently, but each publisher's stamps must be sent in the order in which Next gave them.
type Ledger struct {
	mu       sync.Mutex
	seq      map[int]uint64
	sent     map[lane]map[int]uint64
	doubtful map[destination][]uint64
}

// A lane is the events of one publisher and one class.
type lane struct {
	publisher int
	class     Class
}

// A destination is a target of a lane.
type destination struct {
	lane
	target int
}

// NewLedger returns an empty ledger.
func NewLedger() *Ledger {
	return &Ledger{seq: map[int]uint64{}, sent: map[lane]map[int]uint64{}, doubtful: map[destination][]uint64{}}
}

// Next counts one more event of the publisher to a target, and returns its stamp.
func (l *Ledger) Next(publisher int, class Class, target int, intended int64) Stamp {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq[publisher]++
	in := lane{publisher, class}
	targets := l.sent[in]
	if targets == nil {
		targets = map[int]uint64{}
		l.sent[in] = targets
	}
	targets[target]++
	return Stamp{Publisher: publisher, Seq: l.seq[publisher], Class: class, Key: targets[target], Intended: intended}
}

// Set says how many events the publisher has sent to a target, where somebody else has counted: a server that publishes in
// its own process, say.
func (l *Ledger) Set(publisher int, class Class, target int, sent uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	in := lane{publisher, class}
	if l.sent[in] == nil {
		l.sent[in] = map[int]uint64{}
	}
	l.sent[in][target] = sent
}

// Doubt says that it is not known whether the server took an event: its absence is no loss.
func (l *Ledger) Doubt(s Stamp, target int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := destination{lane{s.Publisher, s.Class}, target}
	l.doubtful[d] = append(l.doubtful[d], s.Key)
}

// clone returns the ledger as it is now.
func (l *Ledger) clone() *Ledger {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := NewLedger()
	for in, targets := range l.sent {
		c.sent[in] = maps.Clone(targets)
	}
	for d, keys := range l.doubtful {
		c.doubtful[d] = slices.Clone(keys)
	}
	return c
}

// doubtfulIn returns how many of the keys are in doubt.
func (l *Ledger) doubtfulIn(in lane, target int, keys span) (n int64) {
	for _, key := range l.doubtful[destination{in, target}] {
		if keys.first <= key && key < keys.end {
			n++
		}
	}
	return n
}
