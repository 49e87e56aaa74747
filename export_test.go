package tidings

import (
	"fmt"
	"iter"
	"net"
	"net/http"
	"net/http/httptest"
	"time"
)

// What the tests outside of the package need of its inside.

// ParseCursor reads an event ID.
func ParseCursor(id string) (epoch string, pos Position, tag uint32, err error) {
	c, err := parseCursor(id)
	return c.epoch, c.pos, c.tag, err
}

// CursorID is the event ID of a cursor.
func CursorID(epoch string, pos Position, tag uint32) string {
	return cursor{epoch: epoch, pos: pos, tag: tag}.String()
}

// TagBits is how many bits of an event ID's tag there are.
const TagBits = tagBits

// HasSnapshot reports whether the hub sends snapshots.
func HasSnapshot(h *Hub) bool { return h.opts.Snapshot != nil }

// History is the hub's index, alone.
type History struct{ h *history }

// NewHistory returns an index of a log that is empty up to the floor.
func NewHistory(epoch string, floor Position, holdBytes int64) *History {
	return &History{newHistory(State{Epoch: epoch, Floor: floor, Last: floor}, holdBytes)}
}

// Add indexes the newest record, and returns its number.
func (h *History) Add(r Record) uint64 {
	number := h.h.newest() + 1
	h.h.add(hold(&r, number, h.h.floor.epoch, time.Time{}))
	return number
}

// Trim drops what the log no longer holds.
func (h *History) Trim(floor Position) { h.h.trim(floor) }

// Since returns what since does for an identity.
func (h *History) Since(after uint64, c Connection, now time.Time, maxEvents int, maxBytes int64) (numbers []uint64, more bool) {
	id := identity{connectionID: c.ConnectionID, clientID: c.ClientID, userID: c.UserID, sessionID: c.SessionID, topics: c.Topics}
	numbers, _, more = h.h.since(after, id.keys(), now, maxEvents, maxBytes)
	return numbers, more
}

// First returns the number of the oldest record.
func (h *History) First() uint64 { return h.h.first }

// Aged is aged.
func (h *History) Aged(part uint64, now time.Time) uint64 { return h.h.aged(part, now) }

// Held returns how many records are held whole, and their bytes as they are counted.
func (h *History) Held() (n int, bytes int64) {
	for i := range h.h.entries.Len() {
		if h.h.entries.At(i).held != nil {
			n++
		}
	}
	return n, h.h.holdBytes
}

// Leftovers says what the index still keeps beside its entries.
func (h *History) Leftovers() string {
	x := h.h
	return fmt.Sprint(x.entries.Len(), " entries, ", len(x.listing), " keys, ", len(x.lists)-len(x.spare), " lists, ",
		len(x.extra), " extra links, ", len(x.collapse), "+", len(x.collapsy), " collapse keys, ", x.holdBytes, " bytes")
}

// Lists returns how many lists there were at once.
func (h *History) Lists() int { return len(h.h.lists) }

// Meets reports whether a connection meets a target, as the hub decides it.
func Meets(c Connection, t Target) bool {
	id := identity{connectionID: c.ConnectionID, clientID: c.ClientID, userID: c.UserID, sessionID: c.SessionID, topics: c.Topics}
	return id.meets(t)
}

// Origin is what an address is counted under.
func Origin(remoteAddr string) string { return origin(remoteAddr).String() }

// Rooms returns how many streams have room, and for how many users and origins they are counted.
func (h *Hub) Rooms() (streams, users, origins int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.admitted, len(h.ofUser.has), len(h.ofIP.has)
}

// Register adds a connection without a socket, which must not be sent anything: it is not served.
func (h *Hub) Register(c Connection) error {
	return h.registered(connOf(h, c))
}

// Serve adds a connection that writes to conn.
func (h *Hub) Serve(c Connection, conn net.Conn) error {
	x := connOf(h, c)
	if err := h.admit(x); err != nil {
		return err
	}
	if err := h.registered(x); err != nil {
		h.release(x)
		return err
	}
	x.stream.ServeConn(conn, true, 0)
	return nil
}

func connOf(h *Hub, c Connection) *conn {
	return &conn{hub: h, connectedAt: time.Now().UnixNano(), identity: identity{
		connectionID: c.ConnectionID, clientID: c.ClientID, userID: c.UserID, sessionID: c.SessionID, topics: c.Topics,
	}}
}

func (h *Hub) registered(x *conn) error {
	j, err := h.begin(h.ctx, x, "")
	if err != nil {
		return err
	}
	for {
		if ok, err := h.register(j); ok || err != nil {
			return err
		}
		if err := j.catchUp(h.ctx, h.output(httptest.NewRecorder())); err != nil {
			return err
		}
	}
}

// Replay looks up and fetches what a connection that comes back with the cursor is written, and returns how many events
// that is.
func (h *Hub) Replay(c Connection, lastEventID string, w http.ResponseWriter) (int, error) {
	x := &conn{hub: h, identity: identity{connectionID: c.ConnectionID, clientID: c.ClientID, userID: c.UserID}}
	j, err := h.begin(h.ctx, x, lastEventID)
	if err != nil {
		return 0, err
	}
	if j.resume != resumeComplete {
		return 0, fmt.Errorf("resume %s of %s", j.resume, j.reason)
	}
	err = j.catchUp(h.ctx, h.output(w))
	return j.events, err
}

// EncodeFrame encodes a record as hubs write it, and returns the bytes of its chunk.
func EncodeFrame(r *Record, epoch string) int {
	return len(hold(r, 1, epoch, time.Time{}).frame.Chunk())
}

// Members yields the members of a JSON object.
func Members(object []byte) iter.Seq2[[]byte, []byte] { return members(object) }

// CompactValid returns JSON without the white space between its tokens.
func CompactValid(raw []byte) []byte { return compactValid(raw) }

// IsCompact reports whether JSON stands as it goes into data lines.
func IsCompact(b []byte) bool { return isCompact(b) }
