package e2e

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/tidings-sse/tidings"
)

// server is a hub behind a real http.Server on loopback, as a program that embeds the library has it.
type server struct {
	hub  *tidings.Hub
	addr string // host:port
	mux  *http.ServeMux
}

// serve starts a server, which ends with the test. Where options leave them open, everyone is trusted, nothing is
// logged, and clients are told to come back soon.
func serve(t testing.TB, o tidings.Options) *server {
	t.Helper()
	if o.Authorizer == nil {
		o.Authorizer = tidings.TrustQuery{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.RetryInterval == 0 {
		o.RetryInterval = 100 * time.Millisecond
	}
	if o.DrainWindow == 0 {
		o.DrainWindow = 100 * time.Millisecond
	}
	hub, err := tidings.New(&o)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{hub: hub, addr: ln.Addr().String(), mux: http.NewServeMux()}
	s.mux.Handle("/api/sse", hub)
	s.mux.Handle("/api/sse/", hub.API())
	srv := &http.Server{Handler: s.mux, ReadHeaderTimeout: within, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	served := make(chan error, 1) // 1: Serve's result, so that it can end before anyone asks
	go func() { served <- srv.Serve(ln) }()
	t.Cleanup(func() {
		if err := hub.Close(); err != nil {
			t.Errorf("closing the hub: %v", err)
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), within)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			t.Errorf("shutting the server down: %v", err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serving: %v", err)
		}
	})
	return s
}

// online returns how many connections meet the target.
func (s *server) online(target tidings.Target) int {
	n := 0
	for range s.hub.Connections(target) {
		n++
	}
	return n
}

// drain shuts the hub down; its clients are told to come back.
func (s *server) drain(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	if err := s.hub.Shutdown(ctx); err != nil {
		t.Errorf("draining: %v", err)
	}
}
