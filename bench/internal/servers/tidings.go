package servers

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"

	"github.com/tidings-sse/tidings"
)

// TidingsOptions are the hub's: everything is as "tidings serve" has it, but nothing is logged.
func TidingsOptions() *tidings.Options {
	return &tidings.Options{Authorizer: tidings.TrustQuery{}, Logger: slog.New(slog.DiscardHandler)}
}

func newTidings(Options) (Server, error) {
	hub, err := tidings.New(TidingsOptions())
	if err != nil {
		return Server{}, err
	}
	mux := http.NewServeMux()
	mux.Handle(StreamPath, hub)
	return Server{Handler: mux, Publish: func(ctx context.Context, user string, data []byte) error {
		if user == "" {
			_, err := hub.Broadcast(ctx, eventType, json.RawMessage(data))
			return err
		}
		_, err := hub.NotifyUser(ctx, user, eventType, json.RawMessage(data))
		return err
	}}, nil
}
