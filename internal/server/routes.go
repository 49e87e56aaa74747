package server

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/internal/web"
)

const (
	streamPath = "/api/sse"
	demoPath   = "/sse-demo"
)

// The types of the problem documents that are this package's, or that it shares with the library: see tidings.Problem.
const (
	problemInvalid     = "urn:tidings:invalid"
	problemMisdirected = "urn:tidings:misdirected"
	problemForbidden   = "urn:tidings:forbidden"
	problemMethod      = "urn:tidings:method"
	problemNotFound    = "urn:tidings:not-found"
)

// routes are everything that is served.
func (s *Server) routes(hub *tidings.Hub) http.Handler {
	mux := http.NewServeMux()
	stream := http.Handler(hub)
	if sessions := s.access.sessions; sessions != nil {
		stream = sessions.Stream(hub)
		mux.Handle(streamPath+"/session", bounded(sessions))
		mux.Handle(streamPath+"/tickets", bounded(sessions))
	}
	mux.Handle(streamPath, stream)
	mux.Handle(streamPath+"/", bounded(hub.API()))
	mux.Handle("/healthz", reads(s.health))
	mux.Handle("/readyz", reads(s.ready))
	hint := fmt.Sprintf("the stream is at %s, and a description of the API at %s/openapi.json", streamPath, streamPath)
	if s.demo() {
		demo := web.Demo()
		mux.Handle(demoPath, demo)
		mux.Handle(demoPath+"/", demo)
		mux.Handle("/{$}", reads(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, demoPath, http.StatusTemporaryRedirect)
		}))
		hint = fmt.Sprintf("the demo is at %s, %s", demoPath, hint)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		(&tidings.Problem{
			Type: problemNotFound, Status: http.StatusNotFound, Detail: fmt.Sprintf("there is nothing at %s", r.URL.Path), Hint: hint,
		}).ServeHTTP(w, r)
	})
	return mux
}

// demo reports whether the demo is served. Its page is whoever it says, and lists who is online: with authentication it
// could do nothing.
func (s *Server) demo() bool { return !s.cfg.authenticates() }

// health says that the program is alive, and with ?verbose what there is to know of it beside the hub's statistics.
func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	text := "ok"
	if r.URL.Query().Has("verbose") {
		failures, _ := s.ln.state()
		text += fmt.Sprintf("\nmax-connections: %d\nopen-files-limit: %d\naccept-failures: %d\nsilent-closed: %d", s.maxConnections, s.openFiles, failures, s.unused.count())
	}
	answer(w, http.StatusOK, text)
}

// ready says whether streams can be served now. A connection that is open already may ask while no other is accepted.
func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	live := s.live.Load()
	err := live.hub.Ready()
	if err != nil && live.waits != nil {
		err = fmt.Errorf("starting: this node waits for its log: %s", live.waits())
	}
	if _, failing := s.ln.state(); err == nil && failing != nil {
		err = fmt.Errorf("connections can't be accepted: %w", failing)
	}
	if err != nil {
		w.Header().Set("Retry-After", "1") // seconds
		answer(w, http.StatusServiceUnavailable, strings.TrimPrefix(err.Error(), "tidings: "))
		return
	}
	answer(w, http.StatusOK, "ready")
}

// reads answers GET and HEAD, and refuses other methods.
func reads(serve http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if methods := []string{http.MethodGet, http.MethodHead}; !slices.Contains(methods, r.Method) {
			allow := strings.Join(methods, ", ")
			w.Header().Set("Allow", allow)
			(&tidings.Problem{
				Type: problemMethod, Status: http.StatusMethodNotAllowed,
				Detail: fmt.Sprintf("%s is not allowed here", r.Method), Hint: "use " + allow,
			}).ServeHTTP(w, r)
			return
		}
		serve(w, r)
	})
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n") // a client that is gone needs no answer
}

// bodyWithin is how long a request's body may take to arrive. Where many events are sent in one request, the library
// sets its own deadline, for each line.
const bodyWithin = time.Minute

// bounded gives up on bodies that come a byte at a time.
func bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyWithin))
		next.ServeHTTP(w, r)
	})
}
