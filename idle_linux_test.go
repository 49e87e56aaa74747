package tidings_test

import (
	"bufio"
	"bytes"
	"runtime/pprof"
	"testing"

	"github.com/tidings-sse/tidings"
)

func TestAnIdleStreamOverTLSHasNoGoroutine(t *testing.T) {
	o, ended := endings(tidings.Options{})
	s := named(t, "HTTP 1.1 TLS")[0].serveTCP(t, o)
	conn := s.dialRaw(t, request11)
	r := bufio.NewReader(conn)
	readHead(t, r)
	eventually(t, "the stream is registered", func() bool { return s.hub.Stats().Connections == 1 })
	idle := func() bool {
		var all bytes.Buffer
		if err := pprof.Lookup("goroutine").WriteTo(&all, 1); err != nil {
			t.Fatal(err)
		}
		return !bytes.Contains(all.Bytes(), []byte("(*connWriter)"))
	}
	for range 3 { // each time it is woken, it comes to rest again
		eventually(t, "no goroutine of it is left", idle)
		send(t, s.hub, "x")
		readUntil(t, r, "data: x\n")
		if _, err := conn.Write([]byte("y")); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "no goroutine of it is left", idle)
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if e := await(t, ended); e.reason != tidings.ReasonClosed {
		t.Errorf("it ended: %s, %v", e.reason, e.err)
	}
}
