package natsbroker

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// A member is one of the other nodes. Its addr is as it was given, and nats-server tells of IP addresses, and of names of
// servers; so both are found out.
type member struct {
	addr, host string
	port       uint16
	name       string // what its server is called, if it listens at addr itself

	at        []netip.AddrPort // what addr is, as far as it is known
	called    string           // what its server said that it is called, at addr; random where it listens at every address
	here      bool             // it is connected now
	connected bool             // as was logged
	dial      string           // why it could not be reached, lately
	refusesUs bool
}

func newMember(u *url.URL) *member {
	o := &member{addr: u.Host, host: u.Hostname(), name: nameAt(u.Host)}
	_, _ = fmt.Sscan(u.Port(), &o.port) // it was checked
	if a := addrPort(u.Host); a.IsValid() {
		o.at = []netip.AddrPort{a}
	}
	return o
}

// isName reports whether the host is to be looked up.
func (o *member) isName() bool { return net.ParseIP(o.host) == nil }

// addrPort reads the address of a socket; what is none is invalid.
func addrPort(s string) netip.AddrPort {
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

func routeAddr(r *server.RouteInfo) netip.AddrPort {
	return addrPort(net.JoinHostPort(r.IP, fmt.Sprint(r.Port)))
}

// locate returns the member that is at an address, nil where none is. Where none is known to be, it looks up those that were
// given by name.
func (m *members) locate(a netip.AddrPort) *member {
	if !a.IsValid() {
		return nil
	}
	m.looking.Lock()
	defer m.looking.Unlock()
	o := m.knownAt(a)
	if o == nil && m.lookUp() {
		o = m.knownAt(a)
	}
	return o
}

func (m *members) knownAt(a netip.AddrPort) *member {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range m.others {
		if slices.Contains(o.at, a) {
			return o
		}
	}
	return nil
}

const (
	lookUpAgain  = 5 * time.Second
	lookUpWithin = time.Second // nats-server has just done it
)

// lookUp looks up the names of hosts, if it was not done lately. The lock on looking is held.
func (m *members) lookUp() bool {
	if !slices.ContainsFunc(m.others, (*member).isName) || time.Since(m.lookedUp) < lookUpAgain {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookUpWithin)
	defer cancel()
	for _, o := range m.others {
		if !o.isName() {
			continue
		}
		ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", o.host)
		if err != nil {
			continue // unreachable is told of it
		}
		at := make([]netip.AddrPort, len(ips))
		for i, ip := range ips {
			at[i] = netip.AddrPortFrom(ip.Unmap(), o.port)
		}
		m.mu.Lock()
		o.at = at
		m.mu.Unlock()
	}
	m.lookedUp = time.Now()
	return true
}

// isCalled notes what the server at an address is called.
func (m *members) isCalled(a netip.AddrPort, name string) {
	m.mu.Lock()
	known := m.named(name)
	m.mu.Unlock()
	if known != nil {
		return
	}
	if o := m.locate(a); o != nil {
		m.mu.Lock()
		o.called = name
		m.mu.Unlock()
	}
}

// named returns the member whose server is called so, nil where none is. The lock is held.
func (m *members) named(name string) *member {
	for _, o := range m.others {
		if name == o.name || name == o.called && name != "" {
			return o
		}
	}
	return nil
}
