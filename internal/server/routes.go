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
func routes(hub *tidings.Hub) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(streamPath, hub)
	mux.Handle(streamPath+"/", bounded(hub.API()))
	demo := web.Demo()
	mux.Handle(demoPath, demo)
	mux.Handle(demoPath+"/", demo)
	mux.Handle("/healthz", reads(func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") }))
	mux.Handle("/readyz", reads(func(w http.ResponseWriter, _ *http.Request) {
		if err := hub.Ready(); err != nil {
			w.Header().Set("Retry-After", "1") // seconds
			answer(w, http.StatusServiceUnavailable, strings.TrimPrefix(err.Error(), "tidings: "))
			return
		}
		answer(w, http.StatusOK, "ready")
	}))
	mux.Handle("/{$}", reads(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, demoPath, http.StatusTemporaryRedirect)
	}))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		(&tidings.Problem{
			Type: problemNotFound, Status: http.StatusNotFound, Detail: fmt.Sprintf("there is nothing at %s", r.URL.Path),
			Hint: fmt.Sprintf("the demo is at %s, the stream at %s, and a description of the API at %s/openapi.json", demoPath, streamPath, streamPath),
		}).ServeHTTP(w, r)
	})
	return mux
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
