package tidings

import (
	"context"
	"fmt"
)

// Sender sends events. [Hub] sends them in the process, [Remote] over HTTP, and a test's recorder keeps them.
//
// Send returns after the event is in the log and was queued for the connections that match on this node. Events of one
// goroutine keep their order. It may be called concurrently. For its errors see [ErrNotStored].
type Sender interface {
	Send(ctx context.Context, e Event) (Receipt, error)
}

var (
	_ Sender = (*Hub)(nil)
	_ Sender = (*Remote)(nil)
	_ Sender = Notifier{}
)

// Notifier adds the short calls to a Sender. [Hub] and [Remote] have them already.
type Notifier struct{ Sender }

// NotifyClient sends to the connections with the client id: the one a page chose (there may be several, such as two
// tabs), or a connection id. A hub whose Authorizer knows users refuses one that a page chose, because any user's page may
// choose it: send to a [Target] that names the user, too.
func (n Notifier) NotifyClient(ctx context.Context, clientID, eventType string, data any) (Receipt, error) {
	return n.notify(ctx, Target{ClientID: clientID}, "clientId", eventType, data)
}

// NotifyUser sends to all connections of the user.
func (n Notifier) NotifyUser(ctx context.Context, userID, eventType string, data any) (Receipt, error) {
	return n.notify(ctx, Target{UserID: userID}, "userId", eventType, data)
}

// NotifySession sends to all connections of the session.
func (n Notifier) NotifySession(ctx context.Context, sessionID, eventType string, data any) (Receipt, error) {
	return n.notify(ctx, Target{SessionID: sessionID}, "sessionId", eventType, data)
}

// NotifyTopic sends to all connections that listen to the topic.
func (n Notifier) NotifyTopic(ctx context.Context, topic, eventType string, data any) (Receipt, error) {
	return n.notify(ctx, Target{Topic: topic}, "topic", eventType, data)
}

// Broadcast sends to every connection.
func (n Notifier) Broadcast(ctx context.Context, eventType string, data any) (Receipt, error) {
	return n.Send(ctx, Event{Type: eventType, Data: data, Everyone: true})
}

// notify sends to one condition, and names it where it is empty.
func (n Notifier) notify(ctx context.Context, t Target, field, eventType string, data any) (Receipt, error) {
	if t.IsZero() {
		return Receipt{}, fmt.Errorf("tidings: send: %w", &InvalidError{Field: "target." + field, Reason: "is empty", Err: ErrNoTarget, Hint: "for everyone, use Broadcast"})
	}
	return n.Send(ctx, Event{Type: eventType, Data: data, Target: t})
}
