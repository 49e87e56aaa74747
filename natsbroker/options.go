package natsbroker

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/tidings-sse/tidings"
)

// Options are those of the log, wherever it is. A zero field has the default that its comment gives.
type Options struct {
	// Stream names the JetStream stream. Letters, digits, - and _. Its messages have the subject Stream + ".log", and the
	// nodes ask each other things under Stream + ".nodes". Default "tidings".
	Stream string

	// MaxEvents, MaxBytes and MaxAge bound what is held. JetStream counts messages, and a message holds the events that
	// were appended together, so at least MaxEvents are held where MaxBytes and MaxAge allow it, and more under load.
	// Defaults 100,000, 64 MiB, 24 hours.
	MaxEvents int
	MaxBytes  int64
	MaxAge    time.Duration

	// IdempotencyWindow is how long an idempotency key is remembered. Default 2 minutes.
	IdempotencyWindow time.Duration

	// MaxEventBytes is how large an event's data may be: what must fit through NATS. Default 1 MiB.
	MaxEventBytes int

	// AppendTimeout is how long an acknowledgement may take before it isn't waited for any more; whether the events are
	// stored is then not known. Default 5 s.
	AppendTimeout time.Duration

	// Logger gets what goes wrong and what is changed. Default slog.Default().
	Logger *slog.Logger
}

// ConnectOptions are those of a log on NATS servers that are there.
type ConnectOptions struct {
	Options

	// URL is of one of the servers, or several with commas between them: nats://HOST:4222, tls://HOST:4222. Required.
	URL string
	// Name is what this node is called in the servers' monitoring. Default "tidings".
	Name string
	// CredentialsFile is a .creds file with a JWT and a key. User and Password, or Token, are the simpler ways; they may
	// stand in the URL, too. Default: none.
	CredentialsFile       string
	User, Password, Token string
	// TLS is used where the URL or the server asks for it. Default: the system's roots.
	TLS *tls.Config
	// Replicas is how many servers hold the stream: 1, 3 or 5. It is used when the stream is created, and must be what an
	// existing one has. Default 1.
	Replicas int
}

// EmbedOptions are those of a log whose NATS server runs in this process.
type EmbedOptions struct {
	Options

	// Dir is the directory for the files. It is made if need be, and may be used by one process at a time. Required.
	Dir string
	// Sync is how often what was written is synced to the disk: what a power loss may lose. After a crash of the process
	// alone nothing is lost. After a power loss the log begins behind what it holds, because its end may be missing, and State
	// says so. Default 1 s.
	Sync time.Duration
	// SyncAlways syncs before each acknowledgement.
	SyncAlways bool
	// ReserveBytes is how much space the file system must have left for an append to be tried: a JetStream that runs out
	// of space is stuck until it is restarted. Default 16 MiB.
	ReserveBytes int64

	// ClusterListen is HOST:PORT to listen on for the other nodes' servers, and ClusterPeers are theirs. With them set,
	// three such processes hold the log together, one copy each; it can be used while two of them run. ClusterPeers may
	// name this node, too. Default: none, and no port is opened.
	ClusterListen string
	ClusterPeers  []string
	// ClusterSecret is what nodes show each other. It is sent as it is: the network between them must be trusted.
	ClusterSecret string
}

const (
	defaultStream    = "tidings"
	defaultMaxEvents = 100_000
	defaultMaxBytes  = 64 << 20
	defaultMaxAge    = 24 * time.Hour
	defaultWindow    = 2 * time.Minute
	defaultEvent     = 1 << 20
	defaultAppend    = 5 * time.Second
	defaultSync      = time.Second
	defaultReserve   = 16 << 20

	// recordSlack is what an event's message may have beside its data: a hundred targets of four conditions, and keys.
	recordSlack = 256 << 10
)

func (o *Options) withDefaults() (Options, error) {
	d := *o
	if d.Stream == "" {
		d.Stream = defaultStream
	}
	if !isStreamName(d.Stream) {
		return d, &tidings.InvalidError{Field: "Stream", Reason: fmt.Sprintf("is %q", d.Stream), Hint: "use 1 to 64 letters, digits, - and _"}
	}
	for _, f := range []struct {
		field string
		value int64
	}{
		{"MaxEvents", int64(d.MaxEvents)}, {"MaxBytes", d.MaxBytes}, {"MaxAge", int64(d.MaxAge)},
		{"IdempotencyWindow", int64(d.IdempotencyWindow)}, {"MaxEventBytes", int64(d.MaxEventBytes)}, {"AppendTimeout", int64(d.AppendTimeout)},
	} {
		if f.value < 0 {
			return d, &tidings.InvalidError{Field: f.field, Reason: fmt.Sprintf("is negative (%d)", f.value), Hint: "leave it zero for the default"}
		}
	}
	d.MaxEvents = or(d.MaxEvents, defaultMaxEvents)
	d.MaxBytes = or(d.MaxBytes, defaultMaxBytes)
	d.MaxAge = or(d.MaxAge, defaultMaxAge)
	d.IdempotencyWindow = or(d.IdempotencyWindow, defaultWindow)
	d.MaxEventBytes = or(d.MaxEventBytes, defaultEvent)
	d.AppendTimeout = or(d.AppendTimeout, defaultAppend)
	if d.Logger == nil {
		d.Logger = slog.Default()
	}
	if d.MaxAge < d.IdempotencyWindow { // JetStream refuses it, too
		return d, &tidings.InvalidError{
			Field: "IdempotencyWindow", Reason: fmt.Sprintf("is %v, and events are held for %v only", d.IdempotencyWindow, d.MaxAge),
			Hint: "a key is remembered no longer than its event: make the window shorter, or the age longer",
		}
	}
	return d, nil
}

func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

func isStreamName(s string) bool {
	const most = 64
	return s != "" && len(s) <= most && strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	}) < 0
}
