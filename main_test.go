package tidings_test

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The HTTP/2 client of a test whose peer vanishes: its socket drops all that arrives, so it may never learn that
		// the server has closed. The server's side of it is checked.
		goleak.IgnoreAnyFunction("net/http.(*http2clientConnReadLoop).run"),
	)
}
