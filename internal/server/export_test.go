package server

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/tidings-sse/tidings"
)

// HTTP returns the server that net/http runs, to see how it is set up.
func (s *Server) HTTP() *http.Server { return s.http }

// WithReadHeaderTimeout shortens it, before Run.
func (s *Server) WithReadHeaderTimeout(d time.Duration) { s.http.ReadHeaderTimeout = d }

// Bounded is the handler that limits how long a body may take.
var Bounded = bounded

// BodyWithin is how long.
const BodyWithin = bodyWithin

// Listener is what the server accepts connections from.
type Listener = listener

// NewListener returns one that accepts from another.
func NewListener(ln net.Listener, log *slog.Logger) *Listener { return newListener(ln, 1000, log) }

// State returns how many accepts have failed, and with what they fail now.
func (l *listener) State() (uint64, error) { return l.state() }

// Unused are connections on which no request has begun.
type Unused struct{ u *unused }

// The methods of unused.
func NewUnused(most int, silent func(net.Conn) bool) Unused { return Unused{newUnused(most, silent)} }
func (u Unused) State(c net.Conn, state http.ConnState)     { u.u.state(c, state) }
func (u Unused) Count() uint64                              { return u.u.count() }
func (u Unused) Close()                                     { u.u.close() }

// IsSilent reports whether no byte ever came on a connection.
var IsSilent = isSilent

// StreamsWithin returns how many streams fit into a limit on open files.
var StreamsWithin = streamsWithin

// Choose chooses among a name's addresses.
var Choose = choose

// Trimmer gives memory back.
type Trimmer struct{ t *trimmer }

// The trimmer's methods.
func NewTrimmer() Trimmer          { return Trimmer{newTrimmer()} }
func (t Trimmer) Look() bool       { return t.t.look() }
func (t Trimmer) Resident() uint64 { t.t.read(); return t.t.resident }

// Certificates serve a certificate from files.
type Certificates struct{ c *certificates }

// NewCertificates reads the files.
func NewCertificates(certFile, keyFile string, log *slog.Logger) (Certificates, error) {
	c, err := newCertificates(certFile, keyFile, log)
	return Certificates{c}, err
}

// LookAgain makes the next handshake look at the files.
func (c Certificates) LookAgain() { c.c.looked = time.Time{} }

// Get returns what a handshake is served.
func (c Certificates) Get() (*tls.Certificate, error) { return c.c.get(nil) }

// NewProxies returns what finds out a client's address, before a handler.
func NewProxies(cfg *Config, next http.Handler) (http.Handler, error) {
	p, err := newProxies(cfg)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(w, p.behind(r)) }), err
}

// NewDoor returns the door, before a handler.
func NewDoor(cfg *Config, next http.Handler) (http.Handler, error) {
	d, err := newDoor(cfg, slog.New(slog.DiscardHandler))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if d.passes(w, r) {
			next.ServeHTTP(w, r)
		}
	}), err
}

// Warm has the collector run more often until the hub is ready.
func Warm(ctx context.Context, ready func() error) { warm(ctx, ready) }

// TakeOver puts a hub on a log that was opened, in the place of the one that serves.
func (s *Server) TakeOver(ctx context.Context, broker tidings.Broker) error {
	return s.takeOver(ctx, broker)
}

// TroubleOnly returns the handler that passes on warnings and errors.
func TroubleOnly(h slog.Handler) slog.Handler { return troubleOnly{h} }
