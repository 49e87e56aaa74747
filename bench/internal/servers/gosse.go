package servers

import (
	"context"
	"net/http"
	"strconv"
	"sync/atomic"

	"github.com/tmaxmax/go-sse"
)

const (
	eventType = "new-message"
	everyone  = "everyone" // a topic that every stream has, where the server has nothing else for a broadcast
	history   = 100_000    // events kept for streams that resume: as many as Tidings keeps
)

// newGoSSE gives a stream the topics: everyone, its user, and its topic. Publish returns when the event was handed to the
// one goroutine that writes to all streams.
func newGoSSE(o Options) (Server, error) {
	joe := &sse.Joe{}
	if o.Resume {
		// With ids of its own, v0.12.0 sends all of its history to a client that has missed nothing.
		replayer, err := sse.NewFiniteReplayer(history, false)
		if err != nil {
			return Server{}, err
		}
		joe.Replayer = replayer
	}
	server := &sse.Server{Provider: joe, OnSession: func(_ http.ResponseWriter, r *http.Request) ([]string, bool) {
		topics := []string{everyone}
		q := r.URL.Query()
		for _, key := range []string{"userId", "topic"} {
			if v := q.Get(key); v != "" {
				topics = append(topics, v)
			}
		}
		return topics, true
	}}
	mux := http.NewServeMux()
	mux.HandleFunc(StreamPath, func(w http.ResponseWriter, r *http.Request) {
		// The library sends the head with the first event. A browser's onopen waits for it, and so does the load.
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		server.ServeHTTP(w, r)
	})
	var sent atomic.Uint64
	return Server{Handler: mux, Publish: func(_ context.Context, user string, data []byte) error {
		m := &sse.Message{Type: sse.Type(eventType)}
		if o.Resume {
			m.ID = sse.ID(strconv.FormatUint(sent.Add(1), 10))
		}
		m.AppendData(string(data))
		if user == "" {
			user = everyone
		}
		return server.Publish(m, user)
	}}, nil
}
