package tidings_test

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/tidings-sse/tidings"
)

// Row 29's other side: what a stream took is given back, however it ended.
func TestConnectionsThatComeAndGoLeaveNothingBehind(t *testing.T) {
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			files, routines := openFiles(t), runtime.NumGoroutine()
			t.Run("with its hub", func(t *testing.T) { comesAndGoes(t, p) })
			eventually(t, "all descriptors are closed", func() bool { return openFiles(t) <= files })
			eventually(t, "all goroutines have ended", func() bool { return runtime.NumGoroutine() <= routines })
		})
	}
}

func comesAndGoes(t *testing.T, p protocol) {
	s := p.serveTCP(t, &tidings.Options{MaxQueuedEvents: 16, IdempotencyWindow: time.Second})
	s.server.ErrorLog = log.New(io.Discard, "", 0) // clients here say what is no HTTP
	ends := []func(id string){
		func(id string) { s.open(t, "clientId="+id).close() },
		func(id string) { // kicked
			st := s.open(t, "clientId="+id+"&topic="+id)
			if n, err := s.hub.Disconnect(tidings.Target{Topic: id}); n != 1 || err != nil {
				t.Errorf("Disconnect: %d, %v", n, err)
			}
			_, _ = st.rest()
			st.close()
		},
		func(string) { // refused
			resp := s.get(t, "clientId=%00")
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		},
		func(id string) { // reset
			conn := s.stream(t, id)
			if tcp, ok := bare(conn).(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
			_ = bare(conn).Close()
		},
		func(id string) { // half-closed
			conn := s.stream(t, id)
			_ = conn.(interface{ CloseWrite() error }).CloseWrite()
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		},
		func(id string) { // no request
			conn, err := s.dial(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(conn, "GET /api/sse?clientId="+id)
			_ = conn.Close()
		},
	}
	if p.hijacked() {
		ends = append(ends, func(id string) { // sends too much
			conn := s.stream(t, id)
			_, _ = conn.Write(make([]byte, 8<<10))
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		})
	}
	round := func() {
		var clients sync.WaitGroup
		for i := range 42 {
			clients.Go(func() { ends[i%len(ends)](fmt.Sprint("c", i)) })
		}
		clients.Wait()
		s.client.CloseIdleConnections()
		eventually(t, "all have gone", func() bool { return s.hub.Stats().Connections == 0 })
	}
	heap := func() int64 {
		runtime.GC()
		runtime.GC() // what pools held survives one
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	round() // what is made once
	files, routines, before := openFiles(t), runtime.NumGoroutine(), heap()
	for range 4 {
		round()
	}
	eventually(t, "all descriptors are closed", func() bool { return openFiles(t) <= files })
	eventually(t, "all goroutines have ended", func() bool { return runtime.NumGoroutine() <= routines })
	// The test itself keeps something of each: its cleanup, and the response.
	if grown := (heap() - before) / (4 * 42); grown > 32<<10 {
		t.Errorf("each connection left %d bytes behind", grown)
	} else {
		t.Logf("each connection left %d bytes behind, the test's own among them", grown)
	}
}

// openFiles counts this process's descriptors, where the system says so.
func openFiles(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
