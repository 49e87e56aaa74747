package server

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"time"

	"github.com/tidings-sse/tidings"
)

// A log that three nodes hold together is there when two of them are. Until then this node answers: it is alive, it isn't
// ready, and for everything else it is a hub that is still reading its log.

// notYet is the log until there is one.
type notYet struct{ waits func() string }

var _ tidings.Broker = notYet{}

// State tells of one record, which never comes: a hub that has not read what its log held at the start serves no stream.
func (notYet) State(context.Context) (tidings.State, error) {
	return tidings.State{Epoch: "starting", Last: tidings.Position{Hi: 1}, Time: time.Now()}, nil
}

// Append stores nothing.
func (b notYet) Append(context.Context, []tidings.Record) ([]tidings.Appended, error) {
	return nil, fmt.Errorf("%w: this node has just been started, and waits for its log: %s (%w)", tidings.ErrUnavailable, b.waits(), tidings.ErrNotStored)
}

// Tail waits.
func (notYet) Tail(ctx context.Context, _ tidings.Position, _ func([]tidings.Record) error) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

// Read has nothing.
func (notYet) Read(context.Context, tidings.Position, tidings.Position) iter.Seq2[tidings.Record, error] {
	return func(yield func(tidings.Record, error) bool) { yield(tidings.Record{}, tidings.ErrUnavailable) }
}

// Close has nothing to close.
func (notYet) Close() error { return nil }

// openWaiting opens the log of the node that was started, however long that takes, and puts a hub on it in the place of the
// one that serves nothing. Where ctx ends first, nothing is wrong.
func (s *Server) openWaiting(ctx context.Context) error {
	broker, err := s.node.Open(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("the log can't be opened: %w", flaggedOption(err))
	}
	return s.takeOver(ctx, broker)
}

// takeOver puts a hub on a log that is open, as soon as that says what it holds: another node may be away again by now. It
// closes the log where ctx ends first, and where no hub can be put on it.
func (s *Server) takeOver(ctx context.Context, broker tidings.Broker) error {
	before := s.hub()
	tick := time.NewTicker(openInterval)
	defer tick.Stop()
	for told := false; ; told = true {
		err := s.serveLog(broker, nil)
		if err == nil {
			return before.Close() // what it is still refusing
		}
		if !errors.Is(err, tidings.ErrUnavailable) {
			return errors.Join(err, broker.Close())
		}
		if !told {
			s.log.Warn(logNoLog, keyError, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return broker.Close()
		}
	}
}

// openInterval is how often a log is asked what it holds, until it says so.
const openInterval = time.Second

// troubleOnly passes on warnings and errors: the hub that serves nothing has nothing else to say.
type troubleOnly struct{ slog.Handler }

// Enabled reports whether it is one.
func (h troubleOnly) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && h.Handler.Enabled(ctx, l)
}

// WithAttrs keeps it so for a logger with attributes.
func (h troubleOnly) WithAttrs(as []slog.Attr) slog.Handler {
	return troubleOnly{h.Handler.WithAttrs(as)}
}

// WithGroup keeps it so for a logger with a group.
func (h troubleOnly) WithGroup(name string) slog.Handler {
	return troubleOnly{h.Handler.WithGroup(name)}
}
