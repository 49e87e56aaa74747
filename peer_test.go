package tidings_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"testing"

	"github.com/tidings-sse/tidings"
)

func TestHowAClientEndsItsStreamIsToldRightAndItIsGoneFromThenOn(t *testing.T) {
	closed, gone := []tidings.Reason{tidings.ReasonClosed}, []tidings.Reason{tidings.ReasonClosed, tidings.ReasonLost}
	for _, p := range protocols {
		for _, c := range []struct {
			name string
			end  func(testing.TB, *site, net.Conn)
			// reasons are those of a stream whose connection was taken over. Of another, net/http only says that the client has gone.
			reasons []tidings.Reason
		}{
			{"it closes", func(t testing.TB, _ *site, c net.Conn) { _ = c.Close() }, closed},
			{"it closes its half", func(t testing.TB, _ *site, c net.Conn) {
				if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
					t.Error(err)
				}
			}, closed},
			{"it closes with events unread", func(t testing.TB, s *site, c net.Conn) {
				for range 3 {
					send(t, s.hub, "unread")
				}
				eventually(t, "they are written", func() bool { return s.hub.Stats().Delivered >= 6 })
				_ = c.Close()
			}, gone},
			{"it resets", func(t testing.TB, _ *site, c net.Conn) {
				if tcp, ok := bare(c).(*net.TCPConn); ok {
					_ = tcp.SetLinger(0)
					_ = tcp.Close()
				}
				_ = c.Close()
			}, []tidings.Reason{tidings.ReasonLost}},
		} {
			if c.name == "it resets" && p.network == "unix" {
				continue // there is no such thing
			}
			t.Run(p.name+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				o, ended := endings(tidings.Options{})
				s := p.serveTCP(t, o)
				stays := s.another().open(t, "clientId=stays")
				conn := s.stream(t, "a")
				c.end(t, s, conn)
				e := await(t, ended)
				reasons := c.reasons
				if !p.hijacked() {
					reasons = gone
				}
				if e.ClientID != "a" || !slices.Contains(reasons, e.reason) {
					t.Errorf("%s ended: %s, %v; want one of %q", e.ClientID, e.reason, e.err, reasons)
				}
				if n := online(s.hub, tidings.Target{ClientID: "a"}); n != 0 {
					t.Errorf("%d connections are still there", n)
				}
				if r, err := s.hub.NotifyClient(t.Context(), "a", "", nil); err != nil || r.Matched != 0 {
					t.Errorf("%+v, %v", r, err)
				}
				if c.name == "it closes its half" { // and learns that the other half has ended
					if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
						t.Error("the server keeps its half")
					}
				}
				send(t, s.hub, "for who stays")
				for e := stays.next(t); e.Data != "for who stays"; e = stays.next(t) {
				}
				if len(ended) > 0 {
					t.Errorf("ended, too: %+v", <-ended)
				}
			})
		}
	}
}

// another returns the site with a client that has its own connections.
func (s *site) another() *site {
	other := *s
	if s.version != "HTTP/1.0" { // where each request has one anyway
		other.client = &http.Client{Transport: s.transport()}
	}
	return &other
}

// stream opens a stream with a clientId, reads its greeting, and returns the connection that carries it: below TLS over
// HTTP/2 only.
func (s *site) stream(t testing.TB, clientID string) net.Conn {
	t.Helper()
	if s.version == "HTTP/2.0" {
		one := s.another()
		tr := one.client.Transport.(*http.Transport)
		t.Cleanup(tr.CloseIdleConnections)
		var conn net.Conn
		dial := tr.DialContext
		tr.DialContext = func(ctx context.Context, network, address string) (c net.Conn, err error) {
			conn, err = dial(ctx, network, address)
			return conn, err
		}
		one.open(t, "clientId="+clientID)
		return conn
	}
	conn := s.dialRaw(t, fmt.Sprintf("GET /api/sse?clientId=%s %s\r\nHost: memory\r\nAccept: text/event-stream\r\n\r\n", clientID, s.version))
	r := bufio.NewReader(conn)
	readHead(t, r)
	end := "\n\n" // of the greeting
	if s.version == "HTTP/1.1" {
		end = "\n\n\r\n"
	}
	readUntil(t, r, end)
	eventually(t, "the stream is registered", func() bool { return online(s.hub, tidings.Target{ClientID: clientID}) == 1 })
	return conn
}

// bare returns the connection below TLS.
func bare(c net.Conn) net.Conn {
	if t, ok := c.(*tls.Conn); ok {
		return t.NetConn()
	}
	return c
}
