package tidings

import (
	"net/http"
	"net/netip"
)

// A tally counts the streams of each key, where there is a most that one may have. It holds the keys that have a stream
// now, and none while there is no most. It is guarded by Hub.mu.
type tally[K comparable] struct {
	most int // 0 is no bound
	has  map[K]int
}

func newTally[K comparable](most int) tally[K] {
	t := tally[K]{most: most}
	if most > 0 {
		t.has = make(map[K]int)
	}
	return t
}

func (t *tally[K]) full(k K) bool { return t.most > 0 && t.has[k] >= t.most }

func (t *tally[K]) enter(k K) {
	if t.most > 0 {
		t.has[k]++
	}
}

func (t *tally[K]) leave(k K) {
	if t.most == 0 {
		return
	}
	if t.has[k]--; t.has[k] == 0 {
		delete(t.has, k)
	}
}

// connects counts one more attempt of the request's address, or refuses it. It comes before what an attempt costs.
func (h *Hub) connects(r *http.Request) error {
	if from := origin(r.RemoteAddr); from.IsValid() && h.attempts.take(from) > 0 {
		return errTooOften
	}
	return nil
}

// admit makes room for a stream, which must be released, or says why there is none now. A stream has its room from
// before its replay on, so that a burst of them can't be more than a limit allows.
func (h *Hub) admit(c *conn) error {
	origin := h.originOf(c)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.state == hubClosed:
		return errStopped
	case h.state == hubDraining:
		return errDraining
	case h.shaky != nil:
		return errNoLog
	case !h.warmLocked():
		return errStarting
	case h.admitted >= h.opts.MaxConnections:
		return errFull
	case c.userID != "" && h.ofUser.full(c.userID):
		return errUserFull
	case origin.IsValid() && h.ofIP.full(origin):
		return errIPFull
	}
	h.admitted++
	if c.userID != "" {
		h.ofUser.enter(c.userID)
	}
	if origin.IsValid() {
		h.ofIP.enter(origin)
	}
	h.wg.Add(1)
	return nil
}

// release gives back the room of a stream.
func (h *Hub) release(c *conn) {
	origin := h.originOf(c)
	h.mu.Lock()
	h.admitted--
	if c.userID != "" {
		h.ofUser.leave(c.userID)
	}
	if origin.IsValid() {
		h.ofIP.leave(origin)
	}
	h.mu.Unlock()
	h.wg.Done()
}

// originOf returns what the connection is counted under for MaxConnectionsPerIP. It is read from the address again when
// the connection leaves, and not kept: an idle connection is to be small.
func (h *Hub) originOf(c *conn) netip.Prefix {
	if h.opts.MaxConnectionsPerIP == 0 {
		return netip.Prefix{}
	}
	return origin(c.remoteAddr)
}

// origin returns the network that an [net/http.Request.RemoteAddr] belongs to one holder of: an IPv4 address, or the /64
// of an IPv6 address, which is the least that a network gives to one of its customers. The zero Prefix stands for what
// has no IP, such as a Unix socket.
func origin(remoteAddr string) netip.Prefix {
	ap, err := netip.ParseAddrPort(remoteAddr)
	ip := ap.Addr()
	if err != nil {
		if ip, err = netip.ParseAddr(remoteAddr); err != nil { // middleware may leave the port out
			return netip.Prefix{}
		}
	}
	ip = ip.Unmap()
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, err := ip.Prefix(bits) // without its zone
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
