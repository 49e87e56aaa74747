package server_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidings-sse/tidings/internal/server"
)

// quiet is a connection that remembers that it was closed.
type quiet struct {
	net.Conn
	speaks, closed bool
}

func (c *quiet) Close() error {
	c.closed = true
	return nil
}

func TestPastTheirBoundSilentConnectionsAreClosedTheOldestFirstAfterHalfASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := server.NewUnused(3, func(c net.Conn) bool { return !c.(*quiet).speaks })
		var conns []*quiet
		open := func() *quiet {
			c := &quiet{}
			conns = append(conns, c)
			u.State(c, http.StateNew)
			return c
		}
		closed := func() (which []int) {
			for i, c := range conns {
				if c.closed {
					which = append(which, i)
				}
			}
			return which
		}
		for range 5 {
			open()
		}
		if got := closed(); got != nil {
			t.Fatalf("%v were closed at once", got)
		}
		time.Sleep(500*time.Millisecond - 1)
		open()
		if got := closed(); got != nil {
			t.Fatalf("%v were closed before their time", got)
		}
		time.Sleep(time.Nanosecond)
		conns[1].speaks = true                            // a handshake that is under way
		u.State(conns[2], http.StateActive)               // a request
		u.State(&quiet{}, http.StateClosed)               // one that it never knew
		if open(); !slices.Equal(closed(), []int{0, 3}) { // which leaves 4, 5 and the new one
			t.Errorf("%v were closed, want the oldest two of those that are silent", closed())
		}
		if n := u.Count(); n != 2 {
			t.Errorf("%d are counted, want 2", n)
		}
		time.Sleep(time.Hour)
		u.State(conns[4], http.StateClosed)
		if open(); len(closed()) != 2 {
			t.Errorf("%v were closed within the bound", closed())
		}
		u.Close()
		if c := open(); !c.closed || conns[2].closed || !conns[1].closed || !conns[5].closed {
			t.Errorf("at the end, %v are closed, want those without a request, and those that come after", closed())
		}
	})
}

func TestTheKernelKnowsWhetherAnythingWasSaid(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SKIPPED: only Linux is asked how many bytes came: run it there")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if !server.IsSilent(conn) {
		t.Error("nothing was said, and it is not silent")
	}
	if _, err := client.Write([]byte("G")); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if server.IsSilent(conn) {
		t.Error("a byte was read, and it is silent")
	}
	_ = conn.Close()
	if server.IsSilent(conn) {
		t.Error("a closed connection is silent")
	}
}

func TestAFloodOfSilentConnectionsIsClosedAndWhoSpeaksIsServed(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SKIPPED: only Linux is asked how many bytes came: run it there")
	}
	t.Parallel()
	cfg := config(t)
	cfg.MaxSilentConnections = 5
	srv := start(t, cfg, func(s *server.Server) { s.WithReadHeaderTimeout(time.Hour) })
	stream := srv.listen(t, "clientId=before")
	first := srv.dial(t)
	cut := make(chan error, 1) // its one result
	go func() {
		_, err := first.Read(make([]byte, 1))
		cut <- err
	}()
	for pace := time.NewTicker(100 * time.Millisecond); ; {
		srv.dial(t)
		select {
		case err := <-cut:
			pace.Stop()
			if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
				t.Fatal("none was closed")
			}
			if _, body := srv.get(t, "/healthz?verbose"); strings.Contains(body, "silent-closed: 0") {
				t.Errorf("it was not counted: %s", body)
			}
			const body = `{"type":"after"}`
			if _, err := fmt.Fprintf(srv.dial(t), "POST /api/sse/send HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
				t.Error(err)
			}
			stream.await("after")
			return
		case <-pace.C:
		}
	}
}
