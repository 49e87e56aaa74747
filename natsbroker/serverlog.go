package natsbroker

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// serverLog has what nats-server says logged, as a value. What it notices in the ordinary course of things is for those
// who debug, and so is what it says of the other nodes, of which members says each change once. What it repeats is logged
// once a minute.
type serverLog struct {
	log     *slog.Logger
	members *members // nil without a cluster

	mu    sync.Mutex // guards what follows
	fatal error      // the first reason for which it can't start
	said  map[string]time.Time
}

var _ server.Logger = (*serverLog)(nil)

func newServerLog(log *slog.Logger, m *members) *serverLog {
	return &serverLog{log: log, members: m, said: make(map[string]time.Time)}
}

// The beginnings, or parts, of nats-server's messages that are understood here (2.15). One that is worded differently is
// logged as it is.
const (
	saysRouterPort = "Error listening on router port"
	saysDial       = "Error trying to connect to route"
	saysRouteError = "Route Error"
	saysViolation  = "Authorization Violation"
	saysRebuild    = "will rebuild"
	saysIndex      = "Recovering stream state from index errored"
)

// ordinary are parts of warnings and errors that ask nothing of anybody: of the password that this process shows itself, and
// of nodes that are away or refused, or of a majority that isn't there, which members tells of.
var ordinary = [...]string{
	"Plaintext passwords detected", "Waiting for routing to be established", "authentication error", "authentication timeout",
	"Error flushing", "not established contact with a meta leader", "JetStream cluster no metadata leader", "NO quorum",
	"Metalayer blocking snapshot", saysIndex,
}

func (l *serverLog) Noticef(format string, v ...any) {
	l.log.Debug(logServer, keyReason, fmt.Sprintf(format, v...))
}

func (l *serverLog) Warnf(format string, v ...any) { l.say(slog.LevelWarn, fmt.Sprintf(format, v...)) }

func (l *serverLog) Errorf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	if m := l.members; m != nil {
		switch {
		case strings.HasPrefix(text, saysDial):
			if err, ok := lastError(v); ok {
				m.unreachable(err)
			}
			l.log.Debug(logServer, keyReason, text)
			return
		case strings.Contains(text, saysRouteError) && strings.Contains(text, saysViolation):
			addr, _, _ := strings.Cut(text, " - ")
			m.refusedBy(addr)
			l.log.Debug(logServer, keyReason, text)
			return
		}
	}
	l.say(slog.LevelError, text)
}

// Fatalf is called where the server can't start. It must not end this process.
func (l *serverLog) Fatalf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	err := fmt.Errorf("the log's server: %s", text)
	if e, ok := lastError(v); ok && l.members != nil && strings.HasPrefix(text, saysRouterPort) {
		err = l.members.cantListen(e)
	}
	l.log.Debug(logServer, keyError, text)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fatal == nil {
		l.fatal = err
	}
}

func lastError(v []any) (error, bool) {
	if len(v) == 0 {
		return nil, false
	}
	err, ok := v[len(v)-1].(error)
	return err, ok
}

// failed returns why the server can't start; nil as long as it may.
func (l *serverLog) failed() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fatal
}

const sayAgain = time.Minute

// say logs a warning or an error.
func (l *serverLog) say(level slog.Level, text string) {
	switch {
	case strings.Contains(text, saysRebuild): // as after a crash
		l.log.Info(logRebuild, keyReason, text)
		return
	case isOrdinary(text):
		l.log.Debug(logServer, keyReason, text)
		return
	}
	const most = 256 // different messages that are remembered
	l.mu.Lock()
	now := time.Now()
	repeated := now.Sub(l.said[text]) < sayAgain
	if !repeated {
		if len(l.said) >= most {
			clear(l.said)
		}
		l.said[text] = now
	}
	l.mu.Unlock()
	if repeated {
		level = slog.LevelDebug
	}
	l.log.Log(context.Background(), level, logServer, keyReason, text)
}

func isOrdinary(text string) bool {
	for _, part := range ordinary {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

func (l *serverLog) Debugf(string, ...any) {}
func (l *serverLog) Tracef(string, ...any) {}
