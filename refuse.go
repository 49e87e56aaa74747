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

// refuseData is the record's data.
type refuseData struct {
	UserID    string `json:"userId,omitempty"`
	SessionID string `json:"sessionId,omitempty"`
	Until     int64  `json:"until"` // milliseconds since 1970
}

var errSignedOut = &DeniedError{Unauthenticated: true, Code: CodeInvalidToken, Reason: "the user or the session was signed out: sign in again later"}

// Refuse ends the live connections of a user, a session, or a session of a user, and answers what they ask for over HTTP
// with 401 until the time: for a session that was signed out, or a token that was stolen. Give the time at which the last
// of its credentials expires. It returns how many connections of this node were ended.
//
// Every hub that shares the log does the same, and knows of it for as long as it runs; one that starts later, for as long
// as the log holds the record. A later call with the same target replaces the time; one that is over ends it. For its
// errors see [ErrNotStored].
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
	data := mustJSON(refuseData{t.UserID, t.SessionID, until.UnixMilli()})
	s, err := h.pub.submit(Record{Type: typeRefuse, Data: data, Targets: []Target{nobody}})
	var r Receipt
	if err == nil {
		r, err = h.pub.wait(ctx, s)
	}
	if err != nil {
		return 0, fmt.Errorf("tidings: refuse: %w", err)
	}
	return r.Matched, nil
}

// refuseLocked takes a record of Refuse from the log, and returns how many connections it ended. The lock is held.
func (h *Hub) refuseLocked(rec *Record) (ended int) {
	var d refuseData
	if err := json.Unmarshal(rec.Data, &d); err != nil {
		return 0 // of a version to come
	}
	t := Target{UserID: d.UserID, SessionID: d.SessionID}
	now, until := time.Now(), time.UnixMilli(d.Until)
	for other, at := range h.refusedUntil {
		if !now.Before(at) {
			delete(h.refusedUntil, other)
		}
	}
	if t.IsZero() || !now.Before(until) {
		delete(h.refusedUntil, t)
		return 0
	}
	h.refusedUntil[t] = until
	for c := range h.conns.under(t.key()).all {
		if c.meets(t) {
			c.stream.End(engine.Kicked, h.farewell(ReasonKicked))
			ended++
		}
	}
	return ended
}

// refuses reports whether a user or a session is refused now.
func (h *Hub) refuses(userID, sessionID string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.refusesLocked(userID, sessionID)
}

func (h *Hub) refusesLocked(userID, sessionID string) bool {
	if len(h.refusedUntil) == 0 {
		return false
	}
	now := time.Now()
	for _, t := range [...]Target{{UserID: userID}, {SessionID: sessionID}, {UserID: userID, SessionID: sessionID}} {
		if until, ok := h.refusedUntil[t]; ok && now.Before(until) {
			return true
		}
	}
	return false
}
