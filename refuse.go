package tidings

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/tidings-sse/tidings/internal/engine"
)

// Refusing a user or a session until a time goes through the log, as events do: every node of a deployment hears of it,
// and one that starts later reads it there.

// typeRefuse is the type of the record. It is routed to the hubs, and to no connection.
const typeRefuse = ReservedPrefix + "refuse"

// nobody is a target that no connection meets: a client id can't begin with the mark, and a connection id is longer.
var nobody = Target{ClientID: connectionIDMark}

// refuseData is the record's data: one refusal of a call, or those that a node repeats.
type refuseData struct {
	refusalData
	Repeated []refusalData `json:"repeated,omitempty"`
}

type refusalData struct {
	UserID    string `json:"userId,omitempty"`
	SessionID string `json:"sessionId,omitempty"`
	Until     int64  `json:"until"` // milliseconds since 1970
	// Of is where the call's record stood, in what is repeated; zero where that was in a log that is lost.
	Of *Position `json:"of,omitempty"`
}

// refused is what the node knows of a user or a session.
type refused struct {
	until time.Time // one that is over is kept while the log may hold a repetition of what it ended
	of    Position  // of the call's record
	at    Position  // of the newest record that says it
}

var errSignedOut = &DeniedError{Unauthenticated: true, Code: CodeInvalidToken, Reason: "the user or the session was signed out: sign in again later"}

// Refuse ends the live connections of a user, a session, or a session of a user, and answers what they ask for over HTTP
// with 401 until the time: for a session that was signed out, or a token that was stolen. Give the time at which the last
// of its credentials expires. It returns how many connections of this node were ended.
//
// Every hub that shares the log does the same, also one that starts later: the record is repeated before the log drops it,
// for as long as a hub runs that knows of it. Where the log is lost with the last hub, as that of a [MemoryBroker] is, so is
// this. A later call with the same target replaces the time; one that is over ends it. For its errors see [ErrNotStored].
func (h *Hub) Refuse(ctx context.Context, t Target, until time.Time) (disconnected int, err error) {
	if t.ClientID != "" || t.Topic != "" || t.IsZero() {
		return 0, fmt.Errorf("tidings: refuse: %w", &InvalidError{Field: "target", Reason: "is not a user or a session", Hint: "give a userId, a sessionId, or both, and nothing else"})
	}
	if err := t.check("target"); err != nil {
		return 0, fmt.Errorf("tidings: refuse: %w", err)
	}
	if y := until.Year(); y < 1970 || y > 9999 {
		return 0, fmt.Errorf("tidings: refuse: %w", &InvalidError{Field: "refuseUntil", Reason: "is not a time that can be written", Hint: "give one until the year 9999"})
	}
	data := refuseData{refusalData: refusalData{UserID: t.UserID, SessionID: t.SessionID, Until: until.UnixMilli()}}
	s, err := h.pub.submit(Record{Type: typeRefuse, Data: mustJSON(data), Targets: []Target{nobody}})
	var r Receipt
	if err == nil {
		r, err = h.pub.wait(ctx, s)
	}
	if err != nil {
		return 0, fmt.Errorf("tidings: refuse: %w", err)
	}
	return r.Matched + h.refuseNow(data.refusalData, r.ID), nil
}

// refuseNow takes what was appended and the tail has not come by: it may be skipping it.
func (h *Hub) refuseNow(d refusalData, id string) (ended int) {
	cur, err := parseCursor(id)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil || cur.epoch != h.history.floor.epoch {
		return 0
	}
	return h.refuseOneLocked(d, cur.pos, cur.pos)
}

// refuseLocked takes a record of Refuse from the log, and returns how many connections it ended. The lock is held.
func (h *Hub) refuseLocked(rec *Record) (ended int) {
	var d refuseData
	if err := json.Unmarshal(rec.Data, &d); err != nil {
		return 0 // of a version to come
	}
	if d.Repeated == nil {
		return h.refuseOneLocked(d.refusalData, rec.Position, rec.Position)
	}
	for _, r := range d.Repeated {
		var of Position
		if r.Of != nil {
			of = *r.Of
		}
		ended += h.refuseOneLocked(r, of, rec.Position)
	}
	return ended
}

// refuseOneLocked takes what a call at a place in the log said, from the record at another: an earlier call ends nothing
// that a later one began, however late its repetition comes.
func (h *Hub) refuseOneLocked(d refusalData, of, at Position) (ended int) {
	t := Target{UserID: d.UserID, SessionID: d.SessionID}
	if t.IsZero() {
		return 0
	}
	until := time.UnixMilli(d.Until)
	if known, ok := h.refusedUntil[t]; ok {
		switch known.of.Compare(of) {
		case 1:
			return 0
		case 0: // the same, repeated
			if at.Compare(known.at) > 0 {
				known.at = at
			}
			if until.After(known.until) {
				known.until = until
			}
			h.refusedUntil[t] = known
			return 0
		}
	}
	h.refusedUntil[t] = refused{until, of, at}
	if !time.Now().Before(until) {
		return 0
	}
	for c := range h.conns.under(t.key()).all {
		if c.meets(t) {
			c.stream.End(engine.Kicked, h.farewell(ReasonKicked))
			ended++
		}
	}
	return ended
}

// standing says why what was granted to a user or a session is worth nothing now. Before the log was read it isn't known
// who is refused.
func (h *Hub) standing(userID, sessionID string) error {
	if userID == "" && sessionID == "" {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.refusesLocked(userID, sessionID) {
		return errSignedOut
	}
	if !h.warmLocked() {
		return errStarting
	}
	return nil
}

func (h *Hub) refusesLocked(userID, sessionID string) bool {
	if len(h.refusedUntil) == 0 {
		return false
	}
	now := time.Now()
	for _, t := range [...]Target{{UserID: userID}, {SessionID: sessionID}, {UserID: userID, SessionID: sessionID}} {
		if r, ok := h.refusedUntil[t]; ok && now.Before(r.until) {
			return true
		}
	}
	return false
}
