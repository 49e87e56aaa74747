// Package server is the program behind "tidings serve": a configuration becomes a hub, its routes, and a net/http server
// that is set up for streams. It uses the library as any other program could.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/natsbroker"
)

// Server is a server that listens. Create it with [New], and call Run once: it ends what New began.
type Server struct {
	cfg     *Config
	log     *slog.Logger
	opts    *tidings.Options // of the hub, without its parts
	node    *natsbroker.Node // of a log that waits for other nodes; nil for others
	live    atomic.Pointer[live]
	proxies *proxies
	door    *door
	access  *access
	http    *http.Server
	ln      *listener
	unused  *unused
	admin   *admin             // nil if there is none
	stop    context.CancelFunc // ends what keeps certificates

	openFiles      int // the limit; 0 is unknown
	maxConnections int // of the hub
}

// live is the log, the hub on it, and its routes: at first, perhaps, those of a server that waits for its log.
type live struct {
	broker tidings.Broker
	hub    *tidings.Hub
	routes http.Handler
	waits  func() string // what it waits for; nil where it doesn't
}

// Log messages and keys.
const (
	logListening = "listening"
	logInsecure  = "--insecure: whoever reaches this address can listen as anyone and send to anyone"
	logCluster   = "--insecure, without --cluster-secret: whoever reaches this address can read and send everything"
	logAdmin     = "metrics and profiles"
	logStopping  = "stopping"
	logStopped   = "stopped"
	logRefused   = "refused"
	logHTTP      = "net/http"
	logNoLog     = "the log was opened, and can't be reached: it is asked again until it can"

	logNoTokens       = "there are API keys, and nothing that verifies tokens: nobody can listen. Set TIDINGS_JWT_SECRET, --jwt-key-file or --jwks-url" // #nosec G101 -- it names variables
	logRandomSessions = "session cookies and tickets are signed with a random secret: they end with this process, and no other node takes them. Set TIDINGS_SESSION_SECRET"

	logOpenFiles    = "limit on open files"
	logFewerStreams = "--max-connections is more than the limit on open files has room for: further streams are told to come back earlier"
	logAcceptFailed = "connections can't be accepted; live streams go on, and new ones wait"

	keyAddr          = "addr"
	keyInsecure      = "insecure"
	keyAuthenticated = "authenticated"
	keyWindow        = "window"
	keyStatus        = "status"
	keyReason        = "reason"
	keyRemote        = "remote"
	keyMethod        = "method"
	keyPath          = "path"
	keyError         = "error"
	keyLimit         = "limit"
	keyWanted        = "wanted"
	keyStreams       = "streams"
	keyFailures      = "failures" // since the last such line
	keyRemedy        = "remedy"
)

const (
	readHeaderWithin = 10 * time.Second // from the connection, or the request's first byte, to the end of its header
	idleWithin       = 2 * time.Minute  // between two requests of one connection
	finishWithin     = 5 * time.Second  // for requests that are answered when the server stops; streams have the drain window
	drainSlack       = 10 * time.Second // what ending a stream may take, beyond the drain window
	baseHeaderBytes  = 32 << 10         // of a request's header, without topics: a token has 16 KiB at most, a cookie 4
	topicHeaderBytes = 3*256 + 7        // of one topic in a query: percent-encoded, with "&topic="
)

// New opens the address that the configuration names, with a hub behind it. An error says what to do about it.
func New(ctx context.Context, cfg *Config, log *slog.Logger) (*Server, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	door, err := newDoor(cfg, log)
	if err != nil {
		return nil, err
	}
	proxies, err := newProxies(cfg)
	if err != nil {
		return nil, err
	}
	background, stop := context.WithCancel(context.Background())
	s := &Server{cfg: cfg, log: log, proxies: proxies, door: door, stop: stop}
	if err := s.open(ctx, background); err != nil {
		stop()
		return nil, err
	}
	return s, nil
}

// open opens all that New names. What was opened is closed again if something can't be.
func (s *Server) open(ctx, background context.Context) (err error) {
	cfg, log := s.cfg, s.log
	if s.access, err = newAccess(cfg, log); err != nil {
		return err
	}
	var tlsConfig *tls.Config
	switch {
	case cfg.TLSCert != "":
		certs, err := newCertificates(cfg.TLSCert, cfg.TLSKey, log)
		if err != nil {
			return err
		}
		tlsConfig = certs.config()
	case len(cfg.ACMEDomain) > 0:
		if tlsConfig, err = acme(background, cfg, log); err != nil {
			return err
		}
	}
	ln, err := listen(ctx, cfg)
	if err != nil {
		return err
	}
	s.opts = cfg.options()
	s.fit(s.opts)
	s.ln = newListener(ln, s.openFiles, log)
	s.unused = newUnused(int(cfg.MaxSilentConnections), isSilent)
	if err := s.openHub(ctx); err != nil {
		return errors.Join(err, s.ln.Close())
	}
	s.http = s.newHTTPServer()
	s.http.TLSConfig = tlsConfig
	return nil
}

// ServeHTTP serves a request from outside. Over HTTP/2, what is on the stack here stays there for as long as a stream
// lasts: with little of it a stack is 4 KiB, and else 8.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r = s.proxies.behind(r); s.door.passes(w, r) {
		s.live.Load().routes.ServeHTTP(w, r)
	}
}

// openHub opens the operators' address, the log, and the hub on it.
func (s *Server) openHub(ctx context.Context) (err error) {
	if s.cfg.AdminAddr != "" {
		if s.admin, err = newAdmin(ctx, s); err != nil {
			return err
		}
	}
	if s.cfg.isOpenCluster() {
		s.log.Warn(logCluster, keyAddr, s.cfg.ClusterListen)
	}
	if err = s.openLog(ctx); err != nil && s.admin != nil {
		err = errors.Join(err, s.admin.stop(false))
	}
	return err
}

// openLog opens the log, or begins to: one that is held with other nodes is there when they are, and Run waits for it.
func (s *Server) openLog(ctx context.Context) (err error) {
	if s.cfg.ClusterListen == "" {
		broker, err := s.cfg.openLog(ctx, s.log)
		if err != nil {
			return err
		}
		if err := s.serveLog(broker, nil); err != nil {
			return errors.Join(err, broker.Close())
		}
		return nil
	}
	if s.node, err = s.cfg.startNode(s.log); err != nil {
		return err
	}
	if err := s.serveLog(notYet{s.node.Waits}, s.node.Waits); err != nil {
		return errors.Join(err, s.node.Close())
	}
	return nil
}

// serveLog puts a hub on a log. waits is what is waited for instead of the log.
func (s *Server) serveLog(broker tidings.Broker, waits func() string) error {
	o := *s.opts
	o.Broker, o.Authorizer, o.Logger = broker, s.access.authorizer, s.log
	if waits != nil {
		o.Logger = slog.New(troubleOnly{s.log.Handler()})
	}
	hub, err := tidings.New(&o)
	if err != nil {
		return flaggedOption(err)
	}
	s.live.Store(&live{broker, hub, s.routes(hub), waits})
	return nil
}

// hub is the one that serves now.
func (s *Server) hub() *tidings.Hub { return s.live.Load().hub }

func (s *Server) newHTTPServer() *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(s.cfg.usesTLS())
	protocols.SetUnencryptedHTTP2(!s.cfg.usesTLS())
	timeout := time.Duration(s.cfg.ConnectionTimeout)
	server := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: readHeaderWithin,
		IdleTimeout:       idleWithin,
		MaxHeaderBytes:    baseHeaderBytes + topicHeaderBytes*min(int(s.cfg.MaxTopics), 10_000),
		Protocols:         &protocols,
		ConnState:         s.unused.state,
		// A peer that vanished answers no ping. The sum is below the timeout; heartbeats are not answered, so they don't count.
		HTTP2:                        &http.HTTP2Config{SendPingTimeout: timeout / 2, PingTimeout: timeout / 4},
		DisableGeneralOptionsHandler: true, // every request passes the door
		ErrorLog:                     log.New(errorLog{s.log}, "", 0),
	}
	server.RegisterOnShutdown(s.unused.close)
	return server
}

// errorLog has what net/http says logged as a value: it may hold what a client sent.
type errorLog struct{ log *slog.Logger }

func (e errorLog) Write(p []byte) (int, error) {
	e.log.Warn(logHTTP, keyError, strings.TrimSpace(string(p)))
	return len(p), nil
}

// Addr returns the address that the server listens on.
func (s *Server) Addr() net.Addr { return s.ln.Addr() }

// URL returns where a program on this machine finds the server, without a slash at its end.
func (s *Server) URL() string {
	scheme := "http://"
	if s.cfg.usesTLS() {
		scheme = "https://"
	}
	return scheme + shownHost(s.ln.Addr())
}

// AdminURL returns where metrics and profiles are; "" if they are not served.
func (s *Server) AdminURL() string {
	if s.admin == nil {
		return ""
	}
	return "http://" + shownHost(s.admin.ln.Addr())
}

// DemoURL returns where the demo page is; "" if it is not served.
func (s *Server) DemoURL() string {
	if !s.demo() {
		return ""
	}
	return s.URL() + demoPath
}

// StreamURL returns where the stream is.
func (s *Server) StreamURL() string { return s.URL() + streamPath }

// Run serves until ctx ends, and then stops in order: it reports that it isn't ready, refuses new streams, ends the live
// ones over the drain window, each with what was queued for it, and finishes the requests that are being answered. The
// error is nil after that, and otherwise what kept it from serving or from stopping in order.
func (s *Server) Run(ctx context.Context) error {
	s.log.Info(logListening, keyAddr, s.ln.Addr().String(), keyInsecure, s.cfg.Insecure, keyAuthenticated, s.cfg.authenticates())
	if s.cfg.Insecure && !s.cfg.authenticates() {
		s.log.Warn(logInsecure, keyAddr, s.ln.Addr().String())
	}
	memory, stopMemory := context.WithCancel(context.Background())
	var keepers sync.WaitGroup
	keepers.Go(func() {
		warm(memory, func() error { return s.hub().Ready() })
		trim(memory)
	})
	defer keepers.Wait()
	defer stopMemory()
	served := make(chan error, 1) // so that Serve can end before it is asked for
	go func() { served <- s.serve() }()
	if s.admin != nil {
		s.log.Info(logAdmin, keyAddr, s.admin.ln.Addr().String())
		go s.admin.run()
	}
	defer s.stop()
	err := s.await(ctx, served)
	if err != nil {
		return errors.Join(err, s.hub().Close(), s.closeParts())
	}
	s.log.Info(logStopping, keyWindow, s.cfg.DrainWindow.String())
	err = errors.Join(s.drain(), s.closeParts())
	<-served
	s.log.Info(logStopped)
	return err
}

// await opens the log where that has to wait, and returns when ctx ends, or with what keeps the server from serving.
func (s *Server) await(ctx context.Context, served chan error) error {
	ctx, cancel := context.WithCancel(ctx)
	opened := make(chan error, 1) // so that it can end before it is asked for
	var opening sync.WaitGroup
	if s.node != nil {
		opening.Go(func() {
			if err := s.openWaiting(ctx); err != nil {
				opened <- err
			}
		})
	}
	defer opening.Wait()
	defer cancel()
	select {
	case err := <-served:
		return fmt.Errorf("can't serve on %s any more: %w", s.ln.Addr(), err)
	case err := <-opened:
		return errors.Join(err, s.http.Close())
	case <-ctx.Done():
		return nil
	}
}

// serve accepts connections until the server is shut down.
func (s *Server) serve() error {
	if s.cfg.usesTLS() {
		return s.http.ServeTLS(s.ln, "", "") // TLSConfig has the certificate
	}
	return s.http.Serve(s.ln)
}

// closeParts ends what is behind the hub, and beside it.
func (s *Server) closeParts() error {
	err := errors.Join(s.access.close(), s.live.Load().broker.Close())
	if s.admin != nil {
		err = errors.Join(err, s.admin.stop(true))
	}
	return err
}

// drain ends the streams first, because the http.Server doesn't know those that were taken over from it, and would wait
// for the others.
func (s *Server) drain() error {
	drain, cancel := context.WithTimeout(context.Background(), time.Duration(s.cfg.DrainWindow)+drainSlack)
	defer cancel()
	err := s.hub().Shutdown(drain)
	if err != nil {
		err = fmt.Errorf("streams were cut: %w", err)
	}
	finish, cancel := context.WithTimeout(context.Background(), finishWithin)
	defer cancel()
	if s.http.Shutdown(finish) != nil {
		err = errors.Join(err, fmt.Errorf("requests that took more than %v were cut", finishWithin), s.http.Close())
	}
	return err
}
