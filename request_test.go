package tidings_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/sse"
)

// FuzzRequest: whatever bytes a client sends, the server answers with HTTP or hangs up, only a request for a stream gets
// one, and nothing of it is left when the client has gone.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		request10, request11, strings.Replace(request11, "clientId=a", "", 1),
		"GET /api/sse?userId=u&sessionId=s&topic=t&topic=t2&lastEventId=x HTTP/1.1\r\nHost: memory\r\n\r\n",
		"GET /api/sse HTTP/1.1\r\nHost: memory\r\nLast-Event-ID: 1a-0.0-0\r\nAccept: */*\r\n\r\n",
		"HEAD /api/sse HTTP/1.1\r\nHost: memory\r\n\r\n",
		"POST /api/sse HTTP/1.1\r\nHost: memory\r\nContent-Length: 2\r\n\r\n{}",
		"GET /api/sse HTTP/1.1\r\nHost: memory\r\nContent-Length: 2\r\n\r\n{}",
		"GET /api/sse HTTP/1.1\r\nHost: memory\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
		"GET /api/sse HTTP/1.1\r\nHost: memory\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
		"GET /api/sse HTTP/1.1\r\nHost: memory\r\nConnection: close\r\n\r\n",
		"GET http://memory/api/sse?clientId=a HTTP/1.1\r\nHost: memory\r\n\r\n",
		"GET /api/../api//sse HTTP/1.1\r\nHost: memory\r\n\r\n",
		"GET /api/sse?clientId=%00&userId=%zz;&topic= HTTP/1.1\r\nHost: memory\r\n\r\n",
		"GET /api/sse?clientId=~x HTTP/1.1\r\nHost: a b\r\n\r\n",
		"GET /api/sse HTTP/3.0\r\n\r\n", "GET /api/sse HTTP/1.1\r\n\r\n", "GET /api/sse HTTP/1.1\r\nHost: memory\r\n", "\r\n\r\n", "\x16\x03\x01\x00\x00",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
		"OPTIONS * HTTP/1.1\r\nHost: memory\r\n\r\n", "CONNECT memory:80 HTTP/1.1\r\nHost: memory\r\n\r\n",
		request11 + request11, request11 + strings.Repeat("x", 5000),
		"GET /api/sse?" + strings.Repeat("topic=a&", 200) + " HTTP/1.1\r\nHost: memory\r\n\r\n",
		"GET /api/sse HTTP/1.1\r\nHost: memory\r\nLast-Event-ID: " + strings.Repeat("x", 10_000) + "\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	p := protocols[1]
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 64<<10 {
			return // the buffer between is not larger, and nobody reads the rest
		}
		synctest.Test(t, func(t *testing.T) {
			// One stream at most: were it not given back, the last one here would be refused.
			s := p.serveInMemory(t, &tidings.Options{MaxConnections: 1}, func(s *site) {
				s.server.ReadHeaderTimeout = time.Second
				s.server.IdleTimeout = time.Second
			})
			conn := s.dialRaw(t, string(raw))
			checkAnswers(t, s, raw, bufio.NewReader(conn))
			_ = conn.Close()
			synctest.Wait()
			// What ends with a moment for its notice has ended then, and a client whose body wasn't read is found gone by a
			// heartbeat.
			time.Sleep(31 * time.Second)
			if n := s.hub.Stats().Connections; n != 0 {
				t.Errorf("%d connections are left", n)
			}
			s.open(t, "clientId=after")
		})
	})
}

// checkAnswers reads what the server answers to the bytes.
func checkAnswers(t *testing.T, s *site, raw []byte, r *bufio.Reader) {
	t.Helper()
	requests := bufio.NewReader(bytes.NewReader(raw))
	for {
		if _, err := r.Peek(1); err != nil {
			return // it hung up
		}
		req, reqErr := http.ReadRequest(requests)
		resp, err := http.ReadResponse(r, req)
		if err != nil {
			t.Fatalf("the answer is no HTTP: %v", err)
		}
		switch resp.StatusCode {
		case http.StatusOK:
		case http.StatusContinue:
			t.Fatal("a body was asked for")
		case http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusPermanentRedirect, // to the clean path
			http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusExpectationFailed,
			http.StatusRequestHeaderFieldsTooLarge, http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
			if n := s.hub.Stats().Connections; n != 0 {
				t.Errorf("%s, and there are %d connections", resp.Status, n)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				return
			}
			if reqErr != nil || resp.StatusCode == http.StatusHTTPVersionNotSupported { // which has a body, for HEAD too, and is the last
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			continue
		default:
			t.Fatalf("status %s", resp.Status)
		}
		if reqErr == nil && req.Method == http.MethodOptions && req.RequestURI == "*" { // net/http's own
			continue
		}
		if reqErr != nil || req.Method != http.MethodGet || req.URL.Path != "/api/sse" || resp.Header.Get("Content-Type") != sse.ContentType {
			t.Fatalf("%s %v to %q, %v", resp.Status, resp.Header, raw, reqErr)
		}
		query, err := url.ParseQuery(req.URL.RawQuery)
		for field, values := range query {
			for _, v := range values {
				if known := strings.Contains(" clientId userId sessionId topic ", " "+field+" "); known && strings.ContainsFunc(v, unicode.IsControl) {
					err = errors.Join(err, fmt.Errorf("%s is %q", field, v))
				}
			}
		}
		if err != nil || len(query["topic"]) > 100 {
			t.Errorf("a stream for %q: %v", req.URL.RawQuery, err)
		}
		st := decode(resp)
		st.greet(t)
		if id := query.Get("clientId"); id != "" && st.connected.ClientID != id {
			t.Errorf("the client %q is called %q", id, st.connected.ClientID)
		}
		return // it lasts
	}
}
