package servers

import (
	"context"
	"net/http"

	"github.com/r3labs/sse/v2"
)

// newR3labs has one stream for everyone, or one for each user: a connection of this library has one stream and no more.
// It has no bound for its replay but time, and sends the event that the client names once more.
func newR3labs(o Options) (Server, error) {
	server := sse.New()
	server.BufferSize = 4096
	server.AutoStream = o.Unicast
	server.AutoReplay = o.Resume
	server.CreateStream(everyone)
	mux := http.NewServeMux()
	mux.HandleFunc(StreamPath, func(w http.ResponseWriter, r *http.Request) {
		stream := everyone
		if o.Unicast {
			stream = r.URL.Query().Get("userId")
		}
		r.URL.RawQuery = "stream=" + stream
		server.ServeHTTP(w, r)
	})
	return Server{Handler: mux, Publish: func(_ context.Context, user string, data []byte) error {
		if user == "" {
			user = everyone
		}
		server.Publish(user, &sse.Event{Event: []byte(eventType), Data: data})
		return nil
	}}, nil
}
