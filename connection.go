package tidings

import (
	"slices"
	"strings"
	"time"

	"github.com/tidings-sse/tidings/internal/engine"
)

// Connection is one live stream as it was at one moment: who it is, and what it has carried.
type Connection struct {
	ConnectionID string    `json:"connectionId"` // random, another one after each reconnect
	ClientID     string    `json:"clientId"`     // the page's choice, or the connection id
	UserID       string    `json:"userId,omitempty"`
	SessionID    string    `json:"sessionId,omitempty"`
	Topics       []string  `json:"topics,omitempty"`
	RemoteAddr   string    `json:"remoteAddr"` // of the TCP peer, which may be a proxy
	ConnectedAt  time.Time `json:"connectedAt"`
	LastEventID  string    `json:"lastEventId,omitempty"` // written last; empty if it is no longer in history
	Events       uint64    `json:"events"`                // written since it was registered
	Bytes        uint64    `json:"bytes"`                 // the same, without what HTTP and TLS add
	Queued       int       `json:"queued"`                // events that wait to be written
}

// Reason is why a connection ended. Where it is not "closed", the client comes back and resumes.
type Reason string

// The reasons in [Options.OnDisconnect], logs and [Stats].
const (
	ReasonClosed  = Reason(engine.Closed)  // the client ended it
	ReasonLost    = Reason(engine.Lost)    // the network ended it, or the peer vanished
	ReasonSlow    = Reason(engine.Slow)    // the client didn't read, and its queue was full
	ReasonDrained = Reason(engine.Drained) // Shutdown
	ReasonExpired = Reason(engine.Expired) // its grant expired
	ReasonKicked  = Reason(engine.Kicked)  // Disconnect
	ReasonGap     = Reason(engine.Gapped)  // the log lost events it may have been meant to get, and Options.Snapshot must run again
	ReasonStopped = Reason(engine.Stopped) // Close
)

// conn is a connection as the hub knows it. There are many, and most are idle: what only some need is behind a pointer.
type conn struct {
	identity
	remoteAddr  string
	connectedAt int64 // Unix nanoseconds
	hub         *Hub
	stream      *engine.Stream
	expiry      *expiry       // nil where the grant doesn't expire
	greeted     chan struct{} // closed when OnConnect has returned; nil without hooks

	// Guarded by Hub.mu.
	at    int    // its place among all connections
	nodes *node  // its first place on a roster; nil if it is on none
	mark  uint64 // the last record it was chosen for
}

// expiry is when a connection's grant ends.
type expiry struct {
	at    time.Time
	timer *time.Timer // ends the stream; set under Hub.mu
}

// Ended takes the connection out of the hub.
func (c *conn) Ended(r engine.Reason, err error) { c.hub.unregister(c, Reason(r), err) }

// describe returns who the connection is.
func (c *conn) describe() Connection {
	return Connection{
		ConnectionID: c.connectionID,
		ClientID:     c.clientID,
		UserID:       c.userID,
		SessionID:    c.sessionID,
		Topics:       slices.Clone(c.topics),
		RemoteAddr:   c.remoteAddr,
		ConnectedAt:  time.Unix(0, c.connectedAt),
	}
}

// own has the connection, which outlives its request, keep its ids and address in one string of its own: each of them is a
// part of the request's head, and would hold on to all of it.
func (c *conn) own() {
	parts := make([]*string, 0, 5+len(c.topics))
	parts = append(parts, &c.connectionID, &c.clientID, &c.userID, &c.sessionID, &c.remoteAddr)
	for i := range c.topics {
		parts = append(parts, &c.topics[i])
	}
	var b strings.Builder
	for _, p := range parts {
		b.WriteString(*p)
	}
	rest := b.String()
	for _, p := range parts {
		*p, rest = rest[:len(*p)], rest[len(*p):]
	}
}
