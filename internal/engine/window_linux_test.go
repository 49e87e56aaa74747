package engine_test

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"github.com/tidings-sse/tidings/internal/engine"
)

// filled returns a connection whose buffers are full.
func filled(t *testing.T) (peer, server net.Conn) {
	t.Helper()
	peer, server = connect(t, "tcp")
	t.Cleanup(func() { _, _ = peer.Close(), server.Close() })
	if err := peer.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	_ = server.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := io.Copy(server, endless{}); err == nil {
		t.Fatalf("it took %d bytes", n)
	}
	return peer, server
}

// endless is read from for ever.
type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

func TestTheWindowMovesOnlyWhenThePeerReads(t *testing.T) {
	for name, wrap := range map[string]func(net.Conn) net.Conn{
		"a socket":       func(c net.Conn) net.Conn { return c },
		"the one of TLS": func(c net.Conn) net.Conn { return tls.Server(c, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			peer, server := filled(t)
			server = wrap(server)
			before, _ := engine.WindowOf(server)
			await := func(what string, is func(granted uint64, shut bool) bool) (granted uint64) {
				t.Helper()
				for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
					granted, shut := engine.WindowOf(server)
					if is(granted, shut) {
						return granted
					}
				}
				t.Fatal(what)
				return 0
			}
			granted := await("the window is not shut", func(_ uint64, shut bool) bool { return shut })
			if granted != before {
				t.Errorf("%d were granted, then %d, to a peer that reads nothing", before, granted)
			}
			if _, err := io.ReadFull(peer, make([]byte, granted)); err != nil { // what there was room for
				t.Fatal(err)
			}
			await("it has not moved", func(now uint64, shut bool) bool { return now > granted && !shut })
		})
	}
}

func TestNothingIsKnownOfTheWindowWhereThereIsNoTCP(t *testing.T) {
	for _, network := range []string{"unix", "pipe"} {
		var server net.Conn
		if network == "pipe" {
			_, server = net.Pipe()
		} else {
			_, server = connect(t, network)
		}
		if granted, shut := engine.WindowOf(server); granted != 0 || !shut {
			t.Errorf("%s: %d are granted, and shut is %v", network, granted, shut)
		}
	}
}
