package tidings

import (
	"slices"
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

// conn is a connection as the hub knows it.
type conn struct {
	identity
	remoteAddr  string
	connectedAt time.Time
	hub         *Hub
	stream      *engine.Stream
	expires     time.Time     // of the grant; zero is never
	greeted     chan struct{} // closed when OnConnect has returned; nil without hooks

	expiry *time.Timer // ends the stream at the grant's expiry; nil without. Set under Hub.mu

	places []place // where it stands in the hub's index; guarded by Hub.mu
	mark   uint64  // the last record it was chosen for; guarded by Hub.mu
}

// Beat chooses between a heartbeat and a checkpoint.
func (c *conn) Beat(last uint64, silent bool) *engine.Frame { return c.hub.beat(last, silent) }

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
		ConnectedAt:  c.connectedAt,
	}
}
