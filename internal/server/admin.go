package server

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/tidings-sse/tidings"
)

// admin is the second address, for who operates the server: metrics and profiles, which say more of its inside than those
// who use it should know. It is not behind the door: it has rules of its own, which are stricter.
type admin struct {
	ln   net.Listener
	http *http.Server
	done chan error // 1: what Serve returned
}

const adminWithin = 2 * time.Second // for requests that are answered when the server stops

// adminAddress reads where it is to be. One without a host is on loopback; beyond that, there must be an admin key.
func (c *Config) adminAddress(ctx context.Context) (address, error) {
	host, port, err := net.SplitHostPort(c.AdminAddr)
	if err != nil {
		return address{}, fmt.Errorf("--admin-addr %q is not HOST:PORT: write one like 127.0.0.1:9090", c.AdminAddr)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	at, err := resolve(ctx, net.JoinHostPort(host, port))
	if err != nil {
		return address{}, fmt.Errorf("--admin-addr: %w", err)
	}
	if streams, err := resolve(ctx, c.Addr); err == nil && port != "0" && streams.hostPort == at.hostPort {
		return address{}, fmt.Errorf("--admin-addr is %s, as --addr is: give it a port of its own", c.AdminAddr)
	}
	if !at.loopback && len(c.AdminKey) == 0 {
		return address{}, fmt.Errorf("refusing to serve metrics and profiles on %s: it is not loopback, and there is no admin key. Set TIDINGS_ADMIN_KEY, or listen on loopback (--admin-addr 127.0.0.1:%s)", c.AdminAddr, port)
	}
	return at, nil
}

// newAdmin opens the address. Beyond loopback every request needs the admin key.
func newAdmin(ctx context.Context, s *Server) (*admin, error) {
	at, err := s.cfg.adminAddress(ctx)
	if err != nil {
		return nil, err
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, at.network, at.hostPort)
	if err != nil {
		return nil, listenError(s.cfg.AdminAddr, err)
	}
	h := s.adminRoutes()
	if !at.loopback {
		h = s.onlyAdmins(h)
	}
	return &admin{
		ln: ln, done: make(chan error, 1),
		http: &http.Server{Handler: onlyByAddress(h), ReadHeaderTimeout: readHeaderWithin, IdleTimeout: idleWithin, ErrorLog: log.New(errorLog{s.log}, "", 0)},
	}, nil
}

func (a *admin) run() { a.done <- a.http.Serve(a.ln) }

// stop ends it, whether it has run or not.
func (a *admin) stop(running bool) error {
	if !running {
		return a.ln.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), adminWithin)
	defer cancel()
	if a.http.Shutdown(ctx) != nil { // a profile takes as long as it was asked to
		_ = a.http.Close()
	}
	if err := <-a.done; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (s *Server) adminRoutes() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), newCollector(s))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.Handle("/healthz", reads(s.health))
	mux.Handle("/readyz", reads(s.ready))
	return mux
}

// onlyAdmins asks for the admin key.
func (s *Server) onlyAdmins(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := s.access.authorizer.Authorize(r, tidings.Manage); err != nil {
			tidings.ProblemOf(err).ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// onlyByAddress refuses what a browser's page could have sent: by a name that somebody pointed here (DNS rebinding), or
// with the mark of another site.
func onlyByAddress(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		host, ok := parseAuthority(r.Host)
		site := r.Header.Get("Sec-Fetch-Site")
		if !ok || !host.isLocal() && !host.ip.IsValid() || r.Header.Get("Origin") != "" || site == "cross-site" || site == "same-site" {
			(&tidings.Problem{
				Type: problemForbidden, Status: http.StatusForbidden,
				Detail: "this address is for operators, not for pages", Hint: "address it by its IP address, or as localhost",
			}).ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}
