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

	mu      sync.Mutex // guards what follows
	others  []*member
	refused map[string]bool // hosts that showed another secret, since one showed the right one
	had     bool            // at least one was connected
	reason  error           // why the log can't be opened yet
	told    time.Time       // when that was logged
}

// A member is one of them.
type member struct {
	addr, host string
	name       string // what its server is called; random where it listens at every address
	connected  bool
	dial       string // why it could not be reached, lately
	refusesUs  bool
}

var _ server.Authentication = (*members)(nil)

func newMembers(o *EmbedOptions, routes []*url.URL, log *slog.Logger) *members {
	m := &members{log: log, listen: o.ClusterListen, secret: o.ClusterSecret, refused: make(map[string]bool)}
	for _, u := range routes {
		m.others = append(m.others, &member{addr: u.Host, host: u.Hostname(), name: nameAt(u.Host)})
	}
	return m
}

// nameAt returns the name of a node that the others find at an address.
func nameAt(listen string) string {
	sum := sha256.Sum256([]byte(listen))
	return "tidings-" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:])[:10])
}

const secretRemedy = "give all nodes the same secret (--cluster-secret)"

// Check reports whether a node that connects shows the secret.
func (m *members) Check(c server.ClientAuthentication) bool {
	shown := c.GetOpts()
	good := m.secret == "" || subtle.ConstantTimeCompare([]byte(shown.Username), []byte(clusterName))&
		subtle.ConstantTimeCompare([]byte(shown.Password), []byte(m.secret)) == 1
	host := "unknown"
	if addr := c.RemoteAddress(); addr != nil {
		host = hostOf(addr.String())
	}
	const most = 256 // hosts that are remembered
	m.mu.Lock()
	told := m.refused[host]
	if good {
		delete(m.refused, host)
	} else if len(m.refused) < most {
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
	m.mu.Lock()
	told := m.refused["by "+addr]
	m.refused["by "+addr] = true
	for _, o := range m.others {
		if o.addr == addr {
			o.refusesUs, o.dial = true, ""
		}
	}
	m.mu.Unlock()
	if !told {
		m.log.Error(logRefusesUs, keyPeer, addr, keyRemedy, secretRemedy)
	}
}

// unreachable notes why a node, which the reason names, can't be reached.
func (m *members) unreachable(reason string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range m.others {
		if strings.Contains(reason, o.addr) || net.ParseIP(o.host) == nil && strings.Contains(reason, o.host) {
			o.dial = reason[strings.LastIndex(reason, ": ")+1:]
			o.dial = strings.TrimSpace(o.dial)
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
	m.mu.Lock()
	defer m.mu.Unlock()
	connected := make(map[*member]bool)
	strangers := make(map[string]bool) // names of nodes that listen at every address
	for _, r := range routes.Routes {
		known := false
		for _, o := range m.others {
			if o.name == r.RemoteName || r.DidSolicit && o.addr == fmt.Sprintf("%s:%d", r.IP, r.Port) {
				connected[o], known = true, true
			}
		}
		if !known {
			strangers[r.RemoteName] = true
		}
	}
	for _, o := range m.others { // whichever they are: there are no others
		if !connected[o] && len(strangers) > 0 && len(connected)+len(strangers) >= len(m.others) {
			connected[o] = true
		}
	}
	for _, o := range m.others {
		if connected[o] == o.connected {
			continue
		}
		if o.connected = connected[o]; o.connected {
			o.dial, o.refusesUs = "", false
			delete(m.refused, "by "+o.addr)
			m.log.Info(logJoined, keyPeer, o.addr, keyConnected, len(connected), keyOf, len(m.others))
		} else {
			m.log.Warn(logLeft, keyPeer, o.addr, keyConnected, len(connected), keyOf, len(m.others))
		}
	}
	if has := len(connected) > 0; m.had && !has {
		m.log.Error(logNoMajority, keyRemedy, "start the others again, or look whether they and this one reach each other at their --cluster-listen addresses; nothing else needs to be done")
		m.had = false
	} else if has && !m.had {
		m.had = true
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
	var here, away []string
	for _, o := range m.others {
		switch {
		case o.connected:
			here = append(here, o.addr)
		case o.refusesUs:
			away = append(away, o.addr+" (it refuses this node: its --cluster-secret is another one)")
		case o.dial != "":
			away = append(away, fmt.Sprintf("%s (%s)", o.addr, o.dial))
		default:
			away = append(away, o.addr)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d of the %d nodes of the cluster are connected, this one included", 1+len(here), 1+len(m.others))
	if len(away) > 0 {
		fmt.Fprintf(&b, "; not connected: %s; two must be, and at the very first start all three", strings.Join(away, ", "))
	}
	if len(here) > 0 && m.reason != nil {
		fmt.Fprintf(&b, "; what they say: %v", m.reason)
	}
	return b.String()
}
