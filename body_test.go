package tidings_test

import (
	"bufio"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// net/http reads the rest of a request's body before it writes the head, and waits for it.
func TestAStreamWhoseRequestPromisesABodyThatNeverComesIsServedAndEnds(t *testing.T) {
	for _, p := range protocols {
		if p.version != "HTTP/1.1" || !p.inMemory() {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := p.serveInMemory(t, nil)
				conn := s.dialRaw(t, strings.Replace(request11, "\r\n\r\n", "\r\nContent-Length: 1000\r\n\r\n", 1))
				_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
				r := bufio.NewReader(conn)
				readHead(t, r)
				start := time.Now()
				if err := s.hub.Close(); err != nil {
					t.Error(err)
				}
				if took := time.Since(start); took > 6*time.Second {
					t.Errorf("Close took %v", took)
				}
			})
		})
	}
}
