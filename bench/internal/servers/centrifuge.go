package servers

import (
	"context"
	"net/http"
	"net/url"

	"github.com/centrifugal/centrifuge"
)

// newCentrifuge serves the library's SSE handler, with server-side subscriptions to the channels: everyone, the user, and
// the topic. The protocol's connect command is put into the request here, as its JavaScript client would.
//
// A stream resumes by an offset for each channel in that command and not by Last-Event-ID, so resuming isn't measured.
func newCentrifuge(Options) (Server, error) {
	node, err := centrifuge.New(centrifuge.Config{
		LogLevel:           centrifuge.LogLevelNone,
		ClientQueueMaxSize: 64 << 20, // bytes; the default of 1 MiB disconnects healthy streams in a burst
	})
	if err != nil {
		return Server{}, err
	}
	node.OnConnecting(func(ctx context.Context, _ centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		q, _ := ctx.Value(queryKey{}).(url.Values)
		channels := map[string]centrifuge.SubscribeOptions{everyone: {}}
		for _, key := range []string{"userId", "topic"} {
			if v := q.Get(key); v != "" {
				channels[v] = centrifuge.SubscribeOptions{}
			}
		}
		return centrifuge.ConnectReply{
			Credentials:        &centrifuge.Credentials{UserID: q.Get("userId")},
			Subscriptions:      channels,
			MaxMessagesInFrame: -1, // whatever is queued goes out together
		}, nil
	})
	if err := node.Run(); err != nil {
		return Server{}, err
	}
	// Nobody answers the protocol's pings here, and its own client would close the stream for that.
	streams := centrifuge.NewSSEHandler(node, centrifuge.SSEConfig{PingPongConfig: centrifuge.PingPongConfig{PongTimeout: -1}})
	mux := http.NewServeMux()
	mux.HandleFunc(StreamPath, func(w http.ResponseWriter, r *http.Request) {
		r = r.WithContext(context.WithValue(r.Context(), queryKey{}, r.URL.Query()))
		r.URL.RawQuery = "cf_connect=" + url.QueryEscape(`{"id":1,"connect":{}}`)
		streams.ServeHTTP(w, r)
	})
	return Server{Handler: mux, Publish: func(_ context.Context, user string, data []byte) error {
		if user == "" {
			user = everyone
		}
		_, err := node.Publish(user, data)
		return err
	}}, nil
}

// queryKey is the context's key for the query of a stream's request.
type queryKey struct{}
