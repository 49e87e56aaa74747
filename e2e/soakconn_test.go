package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

// soakKind is how a listener's stream is carried.
type soakKind int

const (
	soakHTTP1 soakKind = iota
	soakTLS
	soakH2C
	soakKinds
)

// listen serves the hub for one more kind of connection, and returns the address. It ends with the test.
func (k soakKind) listen(t *testing.T, srv *server) string {
	ts := httptest.NewUnstartedServer(srv.mux)
	ts.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	switch k {
	case soakTLS:
		ts.StartTLS()
	case soakH2C:
		ts.Config.Protocols = new(http.Protocols)
		ts.Config.Protocols.SetUnencryptedHTTP2(true)
		ts.Start()
	}
	t.Cleanup(func() {
		_ = srv.hub.Close() // or its streams keep the server from closing
		ts.Close()
	})
	return ts.Listener.Addr().String()
}

// get makes the one request of a connection. done must be called when its response isn't read any more.
func (k soakKind) get(s *soak, conn net.Conn, uri string, header http.Header) (res *http.Response, done func(), err error) {
	if k == soakHTTP1 {
		if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\n", uri, s.addrs[k]); err != nil {
			return nil, nil, err
		}
		if err := header.Write(conn); err != nil {
			return nil, nil, err
		}
		if _, err := io.WriteString(conn, "\r\n"); err != nil {
			return nil, nil, err
		}
		res, err = http.ReadResponse(bufio.NewReader(conn), nil)
		return res, func() {}, err
	}
	var dialed atomic.Bool
	tr := &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			if dialed.Swap(true) {
				return nil, errors.New("it has one connection")
			}
			return conn, nil
		},
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		Protocols:       new(http.Protocols),
	}
	url := "https://" + s.addrs[k] + uri
	if k == soakH2C {
		tr.Protocols.SetUnencryptedHTTP2(true)
		url = "http://" + s.addrs[k] + uri
	} else {
		tr.Protocols.SetHTTP1(true)
	}
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return nil, nil, err
	}
	req.Header = header
	res, err = tr.RoundTrip(req)
	if err != nil {
		tr.CloseIdleConnections()
		return nil, nil, err
	}
	return res, func() { _ = conn.Close(); tr.CloseIdleConnections() }, nil
}

// whole is how much a tearable connection reads that is not to be torn.
const whole = -1

// tearable is a client's connection that can be made to read only so much more.
type tearable struct {
	*net.TCPConn
	left atomic.Int64 // bytes; whole is all
	torn atomic.Bool
}

var errTorn = errors.New("torn by the test")

func (c *tearable) Read(p []byte) (int, error) {
	if c.torn.Load() {
		return 0, errTorn
	}
	n, err := c.TCPConn.Read(p)
	for {
		left := c.left.Load()
		if left == whole {
			return n, err
		}
		if int64(n) < left {
			if c.left.CompareAndSwap(left, left-int64(n)) {
				return n, err
			}
			continue
		}
		c.torn.Store(true)
		return int(left), errTorn
	}
}
