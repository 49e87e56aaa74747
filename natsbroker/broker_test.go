package natsbroker_test

import (
	"testing"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/brokertest"
	"github.com/tidings-sse/tidings/natsbroker"
)

// manyBytes is more than what the suite stores in one log.
const manyBytes = 512 << 20

func TestTheEmbeddedLogKeepsTheContract(t *testing.T) {
	dirs := map[tidings.Broker]string{}
	brokertest.Run(t, func(t *testing.T, o brokertest.Options) tidings.Broker {
		if o.Beside != nil {
			return nil // the directory is one process's; see the log on a server
		}
		dir := dirs[o.Reopen]
		if o.Reopen == nil {
			dir = t.TempDir()
		}
		b, err := natsbroker.Embed(t.Context(), natsbroker.EmbedOptions{
			Options: natsbroker.Options{MaxEvents: o.MaxEvents, MaxBytes: manyBytes, Logger: quiet()}, Dir: dir,
		})
		if err != nil {
			t.Fatal(err)
		}
		dirs[b] = dir
		return b
	})
}
