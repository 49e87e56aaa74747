package tidings

import (
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/tidings-sse/tidings/internal/engine"
	"github.com/tidings-sse/tidings/internal/ring"
	"github.com/tidings-sse/tidings/sse"
)

// history is the hub's index over the records that the log holds: which of them are for whom, without looking at the
// others. Each record has a number, counted by this node, and is listed under the key of each of its targets as "the
// previous number under this key", so that a replay walks from a key's newest record back to the cursor and costs what
// it returns. The newest records are held whole, with their frames, up to a byte bound; older ones are read from the
// broker by position.
//
// It has no lock of its own: the hub's guards it.
type history struct {
	entries ring.Ring[entry]
	first   uint64 // number of entries' oldest
	holdMax int64  // bytes of records to hold

	listing map[key]uint32 // key to its place in lists
	lists   []list
	spare   []uint32 // places in lists that are free

	extra    map[uint64][]link // links beyond the first, for records with several targets
	collapse map[string]uint64 // collapse identity to the newest record with it
	collapsy map[uint64]string // the same, by number

	holdFrom  uint64 // number of the oldest record that is held whole
	holdBytes int64

	total   uint64 // bytes of data of all records ever indexed
	dropped uint64 // the same, of those that were dropped

	floor cursor // position and tag of the newest record dropped; where the log begins, if none was
	known bool   // whether floor's tag is known; until then it is 0, in the cursors that are given out, too
}

// An entry is what is kept of every record: 64 bytes, beside the keys.
type entry struct {
	pos     Position
	held    *held  // nil once it is only in the broker
	total   uint64 // bytes of data of all records up to and with this one
	expires int64  // Unix milliseconds of the log's clock; 0 is never
	at      uint32 // Unix seconds of the log's clock
	tag     uint32
	link
	dead bool // superseded by a later record with its collapse key
}

// A link lists a record under a key.
type link struct {
	list uint32 // place in lists
	back uint32 // how many numbers before this one the previous record under the key is; 0 if there is none
}

// A list is a key under which records are listed.
type list struct {
	key    key
	newest uint64 // number
}

// held is a record that is held whole, and its frame.
type held struct {
	Record
	number uint64
	epoch  string // of its cursor
	frame  *engine.Frame
}

const heldOverhead = 512 // bytes counted for a held record beside twice its data

func newHistory(st State, holdMax int64) *history {
	h := &history{holdMax: holdMax}
	h.reset(cursor{epoch: st.Epoch, pos: st.Floor}, st.Floor.IsZero())
	return h
}

// reset empties the index, for a log that begins after the floor. Numbers go on, and one is left out: a connection that
// had got as far as the newest record is not as far as the floor.
func (h *history) reset(floor cursor, known bool) {
	h.first += uint64(h.entries.Len()) + 1
	h.holdFrom, h.holdBytes, h.dropped = h.first, 0, h.total
	h.entries = ring.Ring[entry]{}
	h.listing, h.lists, h.spare = make(map[key]uint32), nil, nil
	h.extra, h.collapse, h.collapsy = make(map[uint64][]link), make(map[string]uint64), make(map[uint64]string)
	h.floor, h.known = floor, known
}

// newest returns the number of the newest record, or of the place before the first one.
func (h *history) newest() uint64 { return h.first + uint64(h.entries.Len()) - 1 }

// entry returns the entry with the number, which must be indexed.
func (h *history) entry(number uint64) *entry { return h.entries.At(int(number - h.first)) }

// cursorAt returns the cursor of a number from the place before the first record on to the newest.
func (h *history) cursorAt(number uint64) cursor {
	if number < h.first {
		return h.floor
	}
	e := h.entry(number)
	return cursor{epoch: h.floor.epoch, pos: e.pos, tag: e.tag}
}

// lookup returns the number of a cursor that lies in what is indexed. ok is false when it doesn't, or when another
// record has its position now.
func (h *history) lookup(c cursor) (number uint64, ok bool) {
	if c.pos == h.floor.pos {
		return h.first - 1, c.tag == h.floor.tag
	}
	i, found := h.search(c.pos)
	if !found || h.entries.At(i).tag != c.tag {
		return 0, false
	}
	return h.first + uint64(i), true
}

// search returns the index of the first entry at or after the position, and whether it is at it.
func (h *history) search(p Position) (i int, found bool) {
	return sort.Find(h.entries.Len(), func(i int) int { return p.Compare(h.entries.At(i).pos) })
}

// hold makes what is held of a record: its frame carries its cursor. deadline is when it expires by this machine's clock.
func hold(rec *Record, number uint64, epoch string, deadline time.Time) *held {
	hd := &held{Record: *rec, number: number, epoch: epoch}
	hd.frame = engine.NewFrame(number, deadline, hd)
	return hd
}

// AppendFrame appends the record's block.
func (hd *held) AppendFrame(dst []byte) []byte {
	typ := hd.Type
	if typ == defaultType {
		typ = "" // what an absent type means
	}
	return sse.AppendBlock(dst, typ, hd.Data, eventID(hd.epoch, hd.Position, hd.Nonce))
}

// add indexes the record, which is the newest.
func (h *history) add(hd *held) {
	h.total += uint64(len(hd.Data))
	e := entry{pos: hd.Position, held: hd, total: h.total, at: uint32(hd.Time.Unix()), tag: tagOf(hd.Nonce)}
	if hd.TTL > 0 {
		e.expires = hd.Time.Add(hd.TTL).UnixMilli()
	}
	if len(hd.Targets) == 0 {
		e.link = h.listUnder(key{kind: kindEveryone}, hd.number)
	}
	for i, t := range hd.Targets {
		if i == 0 {
			e.link = h.listUnder(t.key(), hd.number)
		} else if k := t.key(); !h.listed(k, hd.number) {
			h.extra[hd.number] = append(h.extra[hd.number], h.listUnder(k, hd.number))
		}
	}
	h.entries.Push(e)
	if hd.CollapseKey != "" {
		h.supersede(hd)
	}
	h.holdBytes += heldBytes(hd)
	for h.holdBytes > h.holdMax && h.holdFrom < hd.number {
		h.letGo(h.holdFrom)
	}
}

func heldBytes(hd *held) int64 { return int64(2*len(hd.Data) + heldOverhead) }

// letGo stops holding the oldest record that is held.
func (h *history) letGo(number uint64) {
	e := h.entry(number)
	h.holdBytes -= heldBytes(e.held)
	e.held = nil
	h.holdFrom = number + 1
}

// listUnder makes number the newest under the key.
func (h *history) listUnder(k key, number uint64) link {
	at, ok := h.listing[k]
	if !ok {
		if n := len(h.spare); n > 0 {
			at, h.spare = h.spare[n-1], h.spare[:n-1]
		} else {
			at = uint32(len(h.lists))
			h.lists = append(h.lists, list{})
		}
		k.value = strings.Clone(k.value) // the record's own string may be a part of a larger one
		h.listing[k] = at
		h.lists[at] = list{key: k, newest: number}
		return link{list: at}
	}
	l := link{list: at, back: uint32(number - h.lists[at].newest)}
	h.lists[at].newest = number
	return l
}

// listed reports whether number is under the key already.
func (h *history) listed(k key, number uint64) bool {
	at, ok := h.listing[k]
	return ok && h.lists[at].newest == number
}

// supersede marks the earlier record that the new one replaces, and drops it from queues.
func (h *history) supersede(hd *held) {
	id := collapseID(&hd.Record)
	if old, ok := h.collapse[id]; ok {
		e := h.entry(old)
		e.dead = true
		if e.held != nil {
			e.held.frame.Supersede()
		}
		delete(h.collapsy, old)
	}
	h.collapse[id] = hd.number
	h.collapsy[hd.number] = id
}

// collapseID is the collapse key together with exactly whom the record is for, in any order.
func collapseID(r *Record) string {
	parts := make([]string, 0, len(r.Targets))
	for _, t := range r.Targets {
		parts = append(parts, targetID(t))
	}
	slices.Sort(parts)
	return strings.Join(append(parts, targetID(r.Exclude), r.CollapseKey), "\x01")
}

// targetID can't be the same for two targets: no condition holds a control character.
func targetID(t Target) string {
	return t.ClientID + "\x00" + t.SessionID + "\x00" + t.UserID + "\x00" + t.Topic
}

// trim drops the records up to the position, which the log no longer holds. It doesn't go past the newest: if the log
// has dropped what was not indexed yet, the tail finds that gap.
func (h *history) trim(floor Position) {
	for h.entries.Len() > 0 && h.entries.At(0).pos.Compare(floor) <= 0 {
		h.dropOldest()
	}
}

func (h *history) dropOldest() {
	n, e := h.first, h.entries.At(0)
	if e.held != nil {
		h.letGo(n)
	}
	h.unlist(e.link, n)
	for _, l := range h.extra[n] {
		h.unlist(l, n)
	}
	delete(h.extra, n)
	if id, ok := h.collapsy[n]; ok {
		delete(h.collapse, id)
		delete(h.collapsy, n)
	}
	h.floor.pos, h.floor.tag, h.known = e.pos, e.tag, true
	h.dropped = e.total
	h.entries.Pop()
	h.first++
	h.holdFrom = max(h.holdFrom, h.first)
}

// unlist forgets a key whose newest record is dropped. Links that point before first are never followed.
func (h *history) unlist(l link, number uint64) {
	if li := &h.lists[l.list]; li.newest == number {
		delete(h.listing, li.key)
		*li = list{}
		h.spare = append(h.spare, l.list)
	}
}

// since returns the numbers of the records after the number that are listed under one of the keys, oldest first, and
// their bytes. It stops, with more set, past maxEvents or maxBytes. Some of them may not be for a connection that has
// these keys: a record is listed under one condition of each target.
func (h *history) since(after uint64, keys []key, now time.Time, maxEvents int, maxBytes int64) (numbers []uint64, bytes int64, more bool) {
	after = max(after, h.first-1)
	ms := now.UnixMilli()
	// The lists are walked together, from the newest record down, so that one that is in several is counted once.
	type walk struct {
		list uint32
		at   uint64
	}
	walks := make([]walk, 0, len(keys))
	for _, k := range keys {
		if l, ok := h.listing[k]; ok && h.lists[l].newest > after {
			walks = append(walks, walk{l, h.lists[l].newest})
		}
	}
	for len(walks) > 0 {
		var n uint64
		for _, w := range walks {
			n = max(n, w.at)
		}
		e := h.entry(n)
		if !e.dead && (e.expires == 0 || e.expires > ms) {
			numbers = append(numbers, n)
			if bytes += h.size(n); len(numbers) > maxEvents || bytes > maxBytes {
				return nil, bytes, true
			}
		}
		left := walks[:0]
		for _, w := range walks {
			if w.at == n {
				back := uint64(h.linkUnder(e, n, w.list).back)
				if back == 0 || back >= n-after {
					continue
				}
				w.at = n - back
			}
			left = append(left, w)
		}
		walks = left
	}
	slices.Reverse(numbers)
	return numbers, bytes, false
}

// size returns the bytes of a record's data.
func (h *history) size(number uint64) int64 {
	if number == h.first {
		return int64(h.entry(number).total - h.dropped)
	}
	return int64(h.entry(number).total - h.entry(number-1).total)
}

// aged returns the number below which a cursor is more than the fraction 1/part of history old, counted in events, in
// bytes or in time, whichever is most.
func (h *history) aged(part uint64, now time.Time) uint64 {
	n := h.entries.Len()
	if n == 0 {
		return h.first - 1
	}
	oldest, newest := h.entries.At(0), h.entries.At(n-1)
	bytes := newest.total - (newest.total-h.dropped)/part
	secs := uint32(now.Unix())
	secs -= (secs - min(secs, oldest.at)) / uint32(part)
	byBytes := sort.Search(n, func(i int) bool { return h.entries.At(i).total >= bytes })
	byTime := sort.Search(n, func(i int) bool { return h.entries.At(i).at >= secs })
	i := max(n-1-n/int(part), byBytes, min(byTime, n-1))
	return h.first + uint64(i)
}

// linkUnder returns the entry's link in a list that it is in.
func (h *history) linkUnder(e *entry, number uint64, at uint32) link {
	if e.list == at {
		return e.link
	}
	for _, l := range h.extra[number] {
		if l.list == at {
			return l
		}
	}
	return link{}
}
