package server

import (
	"net"
	"net/http"
	"sync"
)

// unused are the connections on which no request has begun. Browsers open some ahead of need. net/http takes them for busy
// for their first 5 s, so that a server that stops would wait for a request that never comes.
type unused struct {
	mu     sync.Mutex // guards what follows
	conns  map[net.Conn]struct{}
	closed bool
}

func newUnused() *unused { return &unused{conns: make(map[net.Conn]struct{})} }

// state is told what has become of a connection.
func (u *unused) state(c net.Conn, state http.ConnState) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case state != http.StateNew:
		delete(u.conns, c)
	case u.closed:
		_ = c.Close()
	default:
		u.conns[c] = struct{}{}
	}
}

// close closes them, and those that come after.
func (u *unused) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	for c := range u.conns {
		_ = c.Close()
	}
}
