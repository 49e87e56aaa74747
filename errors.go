package tidings

import (
	"errors"
	"fmt"
	"time"
)

// Errors of [Sender.Send] and the Notify methods. Match them with [errors.Is].
//
// An error leaves the outcome unknown (the event may or may not be delivered) unless it also matches [ErrNotStored].
// Sending again with the same [Event.IdempotencyKey] settles it: the event is stored once, whichever send stored it.
var (
	// ErrNotStored marks an error after which it is certain that nothing was sent.
	ErrNotStored = errors.New("nothing was sent")

	// ErrNoTarget is returned for an event that names nobody: no target, a target without a condition, an empty id.
	// An event for everyone says so: [Notifier.Broadcast], or [Event.Everyone].
	ErrNoTarget = errors.New("the event has no target")

	// ErrTooLarge is returned for an event whose data is over [Options.MaxEventBytes].
	ErrTooLarge = errors.New("the event is too large")

	// ErrConflict is returned for an idempotency key that was used, within the window, for another event.
	ErrConflict = errors.New("the idempotency key was used for another event")

	// ErrUnavailable is returned when the log can't be reached, or can't take more.
	ErrUnavailable = errors.New("the log is unavailable")

	// ErrStorageFull is returned when the log's storage has no room for the event. It matches [ErrNotStored], too: nothing
	// was sent.
	ErrStorageFull = errors.New("the log's storage is full")

	// ErrClosed is returned by a hub after Close.
	ErrClosed = errors.New("the hub is closed")
)

// InvalidError says which part of what was given can't be used, why, and what to do instead.
// Nothing was sent or changed: it matches [ErrNotStored].
type InvalidError struct {
	Field  string // where, in the words of the HTTP API: "type", "targets[1].userId", "topic"
	Reason string // what is wrong with it
	Hint   string // what to do; empty when the reason says it all
	Err    error  // a sentinel it also matches, such as ErrNoTarget; may be nil
}

func (e *InvalidError) Error() string {
	s := e.Field + " " + e.Reason
	if e.Field == "" {
		s = e.Reason
	}
	if e.Hint != "" {
		s += ": " + e.Hint
	}
	return s
}

// Unwrap returns the sentinel the error belongs to, if any.
func (e *InvalidError) Unwrap() error { return e.Err }

// Is reports that nothing was stored.
func (e *InvalidError) Is(target error) bool { return target == ErrNotStored }

// tooOftenError is a sender's who sends more often than one may.
type tooOftenError struct{ wait time.Duration }

func (e *tooOftenError) Error() string { return "you send more events a second than one sender may" }

// Is reports that nothing was stored.
func (e *tooOftenError) Is(target error) bool { return target == ErrNotStored }

// notStored marks err as one after which it is certain that nothing was sent.
func notStored(err error) error {
	if errors.Is(err, ErrNotStored) {
		return err
	}
	return fmt.Errorf("%w (%w)", err, ErrNotStored)
}
