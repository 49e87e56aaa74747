package server

import (
	"container/list"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"
)

// unused are the connections on which no request has begun. Browsers open some ahead of need, and who floods a server opens
// as many as it takes. net/http gives each of them its time to send a header, and takes them for busy for their first 5 s,
// so that a server that stops would wait for a request that never comes.
type unused struct {
	most   int                 // silent connections, past which they are given less time
	silent func(net.Conn) bool // whether nothing ever came on it

	mu      sync.Mutex // guards what follows
	conns   map[net.Conn]*list.Element
	opened  list.List // of opening, in order: those that may be silent
	closed  bool
	refused uint64 // closed for there being too many
}

// opening is a connection that was opened then.
type opening struct {
	conn net.Conn
	at   time.Time
}

// silentWithin is how long a connection may say nothing when there are more of them than there may be. Who has a request, or
// a handshake of TLS, to send does so as soon as the connection is open. What a shorter time gains is that fewer can be
// ended at one moment: 10,000 goroutines that wake together keep the rest waiting for 90 ms.
const silentWithin = 500 * time.Millisecond

func newUnused(most int, silent func(net.Conn) bool) *unused {
	return &unused{most: most, silent: silent, conns: make(map[net.Conn]*list.Element)}
}

// state is told what has become of a connection.
func (u *unused) state(c net.Conn, state http.ConnState) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case state != http.StateNew:
		if e, ok := u.conns[c]; ok {
			delete(u.conns, c)
			u.opened.Remove(e)
		}
	case u.closed:
		_ = c.Close()
	default:
		u.conns[c] = u.opened.PushBack(opening{c, time.Now()})
		u.thin()
	}
}

// thin closes the oldest silent connections while there are too many, if they have had their time. One that has said
// something, in the middle of a handshake say, is not looked at again: net/http has a time for it.
func (u *unused) thin() {
	for u.opened.Len() > u.most {
		oldest := u.opened.Front().Value.(opening)
		if time.Since(oldest.at) < silentWithin {
			return
		}
		u.opened.Remove(u.conns[oldest.conn])
		if u.silent(oldest.conn) {
			u.refused++
			_ = oldest.conn.Close() // net/http's read of it fails, and state is told
		}
	}
}

// count returns how many were closed for there being too many.
func (u *unused) count() uint64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.refused
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

// underTLS returns the connection that TLS is spoken on, or the same.
func underTLS(c net.Conn) net.Conn {
	if t, ok := c.(*tls.Conn); ok {
		return t.NetConn()
	}
	return c
}
