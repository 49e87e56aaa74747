package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"syscall"

	"github.com/tidings-sse/tidings"
)

// listen opens the server's listener, on loopback unless the configuration allows more.
func listen(ctx context.Context, cfg *Config) (net.Listener, error) {
	at, err := cfg.mayListen(ctx)
	if err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: tidings.ListenControl(cfg.options())}
	if runtime.GOOS == "linux" {
		lc.KeepAlive = -1 // heartbeats are the probe: see ListenControl
	}
	ln, err := lc.Listen(ctx, at.network, at.hostPort)
	if err != nil {
		return nil, listenError(cfg.Addr, err)
	}
	return ln, nil
}

// mayListen returns where to listen, unless that would let everybody in.
func (c *Config) mayListen(ctx context.Context) (address, error) {
	at, err := resolve(ctx, c.Addr)
	if err != nil {
		return address{}, err
	}
	if !at.loopback && !c.Insecure && !c.authenticates() {
		return address{}, fmt.Errorf("refusing to listen on %s: it is not loopback, and without authentication whoever reaches it could listen as anyone and send to anyone. Set TIDINGS_JWT_SECRET to the secret that your tokens are signed with (and TIDINGS_API_KEY to a key for your back ends), or listen on loopback (--addr 127.0.0.1:8080), or, where everybody who can reach it is trusted, add --insecure", c.Addr)
	}
	return at, nil
}

// An address is where to listen, resolved once, so that what was checked is what is listened on.
type address struct {
	network  string // "tcp4" for an IPv4 address: Go has "tcp" on 0.0.0.0 take IPv6 as well
	hostPort string
	loopback bool
}

// resolve reads HOST:PORT. A name is loopback only if all its addresses are.
func resolve(ctx context.Context, addr string) (address, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return address{}, fmt.Errorf("--addr %q is not HOST:PORT: write one like 127.0.0.1:8080, or [::1]:8080", addr)
	}
	if _, err := net.DefaultResolver.LookupPort(ctx, "tcp", port); err != nil || port == "" {
		return address{}, fmt.Errorf("--addr %q has no usable port: write one from 1 to 65535, or 0 for a free one", addr)
	}
	if host == "" {
		return address{network: "tcp", hostPort: addr}, nil
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return address{network: networkOf(ip), hostPort: addr, loopback: ip.IsLoopback()}, nil
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil || len(ips) == 0 {
		return address{}, fmt.Errorf("--addr %q: the name %q has no address here: write an IP address, as 127.0.0.1:8080", addr, host)
	}
	ip, loopback := choose(ips)
	return address{network: networkOf(ip), hostPort: net.JoinHostPort(ip.String(), port), loopback: loopback}, nil
}

// choose returns which of a name's addresses to listen on: the first of IPv4, which most programs that are given the same
// name try, else the first. loopback says that all of them are.
func choose(ips []netip.Addr) (chosen netip.Addr, loopback bool) {
	loopback = true
	for _, ip := range ips {
		ip = ip.Unmap()
		loopback = loopback && ip.IsLoopback()
		if !chosen.IsValid() || ip.Is4() && !chosen.Is4() {
			chosen = ip
		}
	}
	return chosen, loopback
}

func networkOf(ip netip.Addr) string {
	if ip.Is4() {
		return "tcp4"
	}
	return "tcp"
}

// listenError says what to do about an address that can't be listened on.
func listenError(addr string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s is in use by another program: stop that one, or choose another port with --addr (port 0 takes a free one)", addr)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("this user may not listen on %s: choose a port above 1023 with --addr", addr)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s is not an address of this machine: choose one that is with --addr", addr)
	}
	return fmt.Errorf("can't listen on %s: %w", addr, err)
}

// shownHost returns the listener's address as a browser on this machine may have it.
func shownHost(a net.Addr) string {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return a.String()
	}
	if t.IP.IsUnspecified() {
		return fmt.Sprintf("localhost:%d", t.Port)
	}
	return t.String()
}
