package tidings

import (
	"context"
	"encoding/json"
	"fmt"
)

// EventType is an event type whose data is always a T: the type's name is written once, and the compiler checks what
// is sent under it. It is a value without state and may be used concurrently.
//
//	var NewMessage = tidings.MustEventType[Message]("new-message")
//
//	receipt, err := NewMessage.NotifyUser(ctx, hub, "user123", Message{Text: "hi"})
//
//	e := NewMessage.Event(Message{Text: "hi"}) // the whole form
//	e.Target, e.TTL = tidings.Target{UserID: "user123"}, time.Minute
//	receipt, err = hub.Send(ctx, e)
type EventType[T any] struct{ name string }

// NewEventType returns the event type with this name, or an [*InvalidError] if no event can have it.
func NewEventType[T any](name string) (EventType[T], error) {
	if err := checkType("type", name); err != nil {
		return EventType[T]{}, err
	}
	return EventType[T]{name}, nil
}

// MustEventType is [NewEventType] for a variable: it panics where that returns an error.
func MustEventType[T any](name string) EventType[T] {
	t, err := NewEventType[T](name)
	if err != nil {
		panic("tidings: MustEventType: " + err.Error())
	}
	return t
}

// Name returns the event type as browsers see it.
func (t EventType[T]) Name() string { return t.name }

// NotifyClient sends data to the connections with the client id.
func (t EventType[T]) NotifyClient(ctx context.Context, s Sender, clientID string, data T) (Receipt, error) {
	return Notifier{s}.NotifyClient(ctx, clientID, t.name, data)
}

// NotifyUser sends data to the user's connections.
func (t EventType[T]) NotifyUser(ctx context.Context, s Sender, userID string, data T) (Receipt, error) {
	return Notifier{s}.NotifyUser(ctx, userID, t.name, data)
}

// NotifySession sends data to the session's connections.
func (t EventType[T]) NotifySession(ctx context.Context, s Sender, sessionID string, data T) (Receipt, error) {
	return Notifier{s}.NotifySession(ctx, sessionID, t.name, data)
}

// NotifyTopic sends data to the connections that listen to the topic.
func (t EventType[T]) NotifyTopic(ctx context.Context, s Sender, topic string, data T) (Receipt, error) {
	return Notifier{s}.NotifyTopic(ctx, topic, t.name, data)
}

// Broadcast sends data to every connection.
func (t EventType[T]) Broadcast(ctx context.Context, s Sender, data T) (Receipt, error) {
	return Notifier{s}.Broadcast(ctx, t.name, data)
}

// Event returns an event of this type, to which targets and options are added before it is sent.
func (t EventType[T]) Event(data T) Event { return Event{Type: t.name, Data: data} }

// Decode returns the data of a received event of this type.
func (t EventType[T]) Decode(data []byte) (T, error) {
	var v T
	if err := json.Unmarshal(data, &v); err != nil {
		return v, fmt.Errorf("tidings: data of %q: %w", t.name, err)
	}
	return v, nil
}
