package tidings

import (
	"context"
	"log/slog"
)

// Log messages and keys. What came from outside is always a value, and no payload or credential is logged.
const (
	logConnected      = "connected"
	logDisconnected   = "disconnected"
	logUnfinished     = "stream ended before it was connected"
	logRefused        = "refused"
	logAuthFailed     = "authorizer failed"
	logSnapshot       = "snapshot failed"
	logTailFailed     = "can't follow the log"
	logSurvey         = "the other nodes can't be asked"
	logGap            = "the log lost events: every connection gets a gap"
	logUnsalvaged     = "who was signed out in what the log has lost can't be read yet: no stream begins until it is"
	logUnreadRefusals = "the log lost events, and who was signed out by them can't be read"
	logDraining       = "draining"
	logClosed         = "closed"
	logKicked         = "disconnected by a call"

	keyClient      = "clientId"
	keyConnection  = "connectionId"
	keyUser        = "userId"
	keySession     = "sessionId"
	keyTopics      = "topics"
	keyRemote      = "remote"
	keyResume      = "resume"
	keyReason      = "reason"
	keyReplayed    = "replayed"
	keyAfter       = "after"
	keyError       = "error"
	keyEpoch       = "epoch"
	keyStatus      = "status"
	keyProto       = "proto"
	keyConnections = "connections"
	keyTarget      = "target"
	keyBy          = "by"
	keyPath        = "path"
	keyUntil       = "until"
)

// logConn logs a line about a connection, which says who that is. Where nothing is logged at the level, it costs nothing.
func (h *Hub) logConn(ctx context.Context, level slog.Level, message string, c *conn, more ...slog.Attr) {
	if !h.log.Enabled(ctx, level) {
		return
	}
	attrs := append(make([]slog.Attr, 0, 6+len(more)),
		slog.String(keyClient, c.clientID),
		slog.String(keyConnection, c.connectionID),
		slog.String(keyRemote, c.remoteAddr),
	)
	if c.userID != "" {
		attrs = append(attrs, slog.String(keyUser, c.userID))
	}
	if c.sessionID != "" {
		attrs = append(attrs, slog.String(keySession, c.sessionID))
	}
	if len(c.topics) > 0 {
		attrs = append(attrs, slog.Any(keyTopics, c.topics))
	}
	h.log.LogAttrs(ctx, level, message, append(attrs, more...)...)
}
