package natsbroker_test

import (
	"sync"
	"testing"

	"github.com/tidings-sse/tidings/internal/natstest"
)

var build sync.Once

// natsServer returns the path of a nats-server.
func natsServer(t testing.TB) string {
	t.Helper()
	build.Do(func() { natstest.Binary(t, binDir) })
	return binDir + "/nats-server"
}
