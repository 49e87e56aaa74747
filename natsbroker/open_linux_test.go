package natsbroker_test

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/internal/natstest"
	"github.com/tidings-sse/tidings/natsbroker"
)

// Both answers come from servers that are in trouble at the moment of the repetition, which can't be arranged: another
// client gives them here in the place of a stream that was deleted.
func TestARepetitionWhoseFirstCantBeReadLeavesTheOutcomeOpen(t *testing.T) {
	for name, answer := range map[string]string{
		"its first is still being stored": `{"error":{"code":400,"err_code":10158,"description":"duplicate message id is in process"}}`,
		"its first can't be read":         `{"stream":"tidings","seq":7,"duplicate":true}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := natstest.Start(t, natsServer(t), natstest.Config{})
			b := connect(t, natsbroker.ConnectOptions{URL: s.URL(), Options: natsbroker.Options{AppendTimeout: time.Second}})
			state(t, b)
			js := admin(t, s.URL())
			if err := js.DeleteStream(t.Context(), "tidings"); err != nil {
				t.Fatal(err)
			}
			_, err := js.Conn().Subscribe("tidings.log", func(m *nats.Msg) { _ = m.Respond([]byte(answer)) })
			if err == nil {
				err = js.Conn().Flush()
			}
			if err != nil {
				t.Fatal(err)
			}
			_, err = b.Append(bounded(t), []tidings.Record{keyed(0, "k")})
			if err == nil || errors.Is(err, tidings.ErrNotStored) || !errors.Is(err, tidings.ErrUnavailable) {
				t.Errorf("got %v", err)
			}
		})
	}
}
