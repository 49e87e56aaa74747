package natsbroker

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/tidings-sse/tidings"
)

// members are the other nodes of the cluster, as this node's server is connected to them. What changes is logged once.
type members struct {
	log    *slog.Logger
	listen string
	secret string

	others []*member

	looking  sync.Mutex // is held while names are looked up
	lookedUp time.Time  // guarded by looking: when they were

	mu       sync.Mutex      // guards what follows, and what changes of others
	refused  map[string]bool // hosts that showed another secret, since one showed the right one
	refusers map[string]bool // addresses of nodes that take another one, and are none of others as far as is known
	nameless int             // nodes that are connected, of which it isn't known which of others they are
	had      bool            // at least one was connected
	reason   error           // why the log can't be opened yet
	told     time.Time       // when that was logged
}

var _ server.Authentication = (*members)(nil)

func newMembers(o *EmbedOptions, routes []*url.URL, log *slog.Logger) *members {
	m := &members{log: log, listen: o.ClusterListen, secret: o.ClusterSecret, refused: make(map[string]bool), refusers: make(map[string]bool)}
	for _, u := range routes {
		m.others = append(m.others, newMember(u))
	}
	return m
}

// nameAt returns the name of a node that the others find at an address.
func nameAt(listen string) string {
	sum := sha256.Sum256([]byte(listen))
	return "tidings-" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:])[:10])
}

const secretRemedy = "give all nodes the same secret (--cluster-secret)" // #nosec G101 -- it is advice, and no secret

// mostRefused is how many hosts, or addresses, are remembered.
const mostRefused = 256

// Check reports whether a node that connects shows the secret.
func (m *members) Check(c server.ClientAuthentication) bool {
	shown := c.GetOpts()
	good := m.secret == "" || subtle.ConstantTimeCompare([]byte(shown.Username), []byte(clusterName))&
		subtle.ConstantTimeCompare([]byte(shown.Password), []byte(m.secret)) == 1
	host := "unknown"
	if addr := c.RemoteAddress(); addr != nil {
		host = hostOf(addr.String())
	}
	m.mu.Lock()
	told := m.refused[host]
	if good {
		delete(m.refused, host)
	} else if len(m.refused) < mostRefused {
		m.refused[host] = true
	}
	m.mu.Unlock()
	if !good && !told {
		m.log.Error(logRefusedNode, keyPeer, host, keyReason, "it shows another secret than this one", keyRemedy, secretRemedy)
	}
	return good
}

func hostOf(addr string) string {
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return addr
}

// refusedBy notes that the node at an address doesn't take this node's secret.
func (m *members) refusedBy(addr string) {
	o := m.locate(addrPort(addr))
	m.mu.Lock()
	told := m.refusers[addr]
	if o != nil {
		addr, told = o.addr, o.refusesUs
		o.refusesUs, o.dial = true, ""
	} else if len(m.refusers) < mostRefused {
		m.refusers[addr] = true
	}
	m.mu.Unlock()
	if !told {
		m.log.Error(logRefusesUs, keyPeer, addr, keyRemedy, secretRemedy)
	}
}

// unreachable notes why a node, which the error names, can't be reached.
func (m *members) unreachable(err error) {
	var at *member
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Addr != nil {
		at = m.locate(addrPort(op.Addr.String()))
	}
	reason := err.Error()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range m.others {
		if o == at || o.isName() && strings.Contains(reason, o.host) {
			o.dial = strings.TrimSpace(reason[strings.LastIndex(reason, ": ")+1:])
		}
	}
}

// cantListen says what to do about the address that the others are to find this node at.
func (m *members) cantListen(err error) error {
	hint := "give an address of this machine, and the same one to the other nodes"
	if errors.Is(err, syscall.EADDRINUSE) {
		hint = "another program listens there: stop that one, or give another port, and the same one to the other nodes"
	}
	return &tidings.InvalidError{Field: "ClusterListen", Reason: fmt.Sprintf("is %s, where it can't listen: %v", m.listen, err), Hint: hint}
}

const lookInterval = time.Second

// watch logs what changes, until ctx ends.
func (m *members) watch(ctx context.Context, s *server.Server) {
	for {
		m.look(s)
		if !pause(ctx, lookInterval) {
			return
		}
	}
}

// look finds out which of the others are connected.
func (m *members) look(s *server.Server) {
	routes, err := s.Routez(nil)
	if err != nil {
		return // it is being shut down
	}
	for _, r := range routes.Routes {
		if r.DidSolicit {
			m.isCalled(routeAddr(r), r.RemoteName)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	connected := make(map[*member]bool)
	strangers := make(map[string]bool) // nodes that came here from an address of their own, and whose name says nothing
	for _, r := range routes.Routes {
		if o := m.named(r.RemoteName); o != nil {
			connected[o] = true
		} else {
			strangers[r.RemoteName] = true
		}
		delete(m.refusers, routeAddr(r).String())
	}
	has := min(len(connected)+len(strangers), len(m.others))
	if has == len(m.others) { // whichever they are: there are no others
		for _, o := range m.others {
			connected[o] = true
		}
	}
	m.nameless = has - len(connected)
	for _, o := range m.others {
		m.sees(o, connected[o], has)
	}
	if m.had && has == 0 {
		m.log.Error(logNoMajority, keyRemedy, "start the others again, or look whether they and this one reach each other at their --cluster-listen addresses; nothing else needs to be done")
	}
	m.had = has > 0
}

// sees notes whether a node is connected, as one of so many. That it is not any more is only said once no node that is can be
// this one. The lock is held.
func (m *members) sees(o *member, here bool, connected int) {
	if o.here = here; here {
		o.dial, o.refusesUs = "", false
	}
	switch {
	case here && !o.connected:
		m.log.Info(logJoined, keyPeer, o.addr, keyConnected, connected, keyOf, len(m.others))
		o.connected = true
	case !here && o.connected && m.nameless == 0:
		m.log.Warn(logLeft, keyPeer, o.addr, keyConnected, connected, keyOf, len(m.others))
		o.connected = false
	}
}

// waitingAgain is after how long it is said again what a start waits for.
const waitingAgain = 30 * time.Second

const waitingRemedy = "start the other nodes, each with the same three addresses (--cluster-peers) and the same --cluster-secret, and look whether they reach each other"

// waitsFor is told, again and again, why the log can't be opened yet, and logs it now and then.
func (m *members) waitsFor(err error) {
	now := time.Now()
	m.mu.Lock()
	m.reason = err
	level := slog.LevelWarn
	if m.told.IsZero() {
		level = slog.LevelInfo // the others may only start a moment later
	}
	again := now.Sub(m.told) >= waitingAgain
	if again {
		m.told = now
	}
	m.mu.Unlock()
	if again {
		m.log.Log(context.Background(), level, logWaiting, keyFor, m.String(), keyRemedy, waitingRemedy)
	}
}

// String says what is missing, to somebody who waits for the log.
func (m *members) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	has := m.nameless
	var away []string
	for _, o := range m.others {
		switch {
		case o.here:
			has++
		case o.refusesUs:
			away = append(away, o.addr+" (it refuses this node: its --cluster-secret is another one)")
		case o.dial != "":
			away = append(away, fmt.Sprintf("%s (%s)", o.addr, o.dial))
		default:
			away = append(away, o.addr)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d of the %d nodes of the cluster are connected, this one included", 1+has, 1+len(m.others))
	if len(away) > 0 {
		but := ""
		if m.nameless > 0 {
			but = fmt.Sprintf(", but for %d that came from another address", m.nameless)
		}
		fmt.Fprintf(&b, "; not connected%s: %s; two must be, and at the very first start all three", but, strings.Join(away, ", "))
	}
	if has > 0 && m.reason != nil {
		fmt.Fprintf(&b, "; what they say: %v", m.reason)
	}
	return b.String()
}
