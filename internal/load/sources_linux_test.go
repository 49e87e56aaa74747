package load_test

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"

	"github.com/tidings-sse/tidings/internal/load"
)

func TestSourceAddressesAreUsedInTurn(t *testing.T) {
	for _, portable := range []bool{false, true} {
		var mu sync.Mutex
		from := map[string]int{}
		srv := served(t, func(_ *http.Request, c net.Conn) {
			mu.Lock()
			from[c.RemoteAddr().(*net.TCPAddr).IP.String()]++
			mu.Unlock()
			_, _ = c.Write([]byte(chunkedHead))
			staysOpen(c)
		})
		c := opened(t, load.Config{
			URL: srv.url, Connections: 9, Portable: portable,
			Sources: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.3")},
		})
		mu.Lock()
		if len(from) != 3 || from["127.0.0.2"] != 3 || from["127.0.0.3"] != 3 {
			t.Errorf("portable %v: %v", portable, from)
		}
		mu.Unlock()
		_ = c.Close()
	}
}

func TestAnAddressOfAnotherMachineIsNoSource(t *testing.T) {
	srv := served(t, func(_ *http.Request, c net.Conn) { staysOpen(c) })
	c := opened(t, load.Config{URL: srv.url, Connections: 2, Sources: []netip.Addr{netip.MustParseAddr("192.0.2.1")}})
	if r := c.Report(nil); r.GivenUp != 2 || r.ConnectErrors["the source address is not this machine's"] != 2 {
		t.Errorf("%+v", r)
	}
}
