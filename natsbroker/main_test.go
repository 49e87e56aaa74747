package natsbroker_test

import (
	"log/slog"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/tidings-sse/tidings/natsbroker"
)

var binDir string

func TestMain(m *testing.M) {
	var err error
	if binDir, err = os.MkdirTemp("", "tidings-nats-"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(binDir)
		os.Exit(code)
	}))
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// embed opens a log in a directory, and closes it when the test ends.
func embed(t testing.TB, o natsbroker.EmbedOptions) *natsbroker.Broker {
	t.Helper()
	if o.Logger == nil {
		o.Logger = quiet()
	}
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	b, err := natsbroker.Embed(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}
