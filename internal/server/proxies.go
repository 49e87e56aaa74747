package server

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// proxies know which of a request's addresses is the client's: the nearest one that is not a trusted proxy. What is
// farther away is what the client wrote itself.
type proxies struct {
	trusted []netip.Prefix
	header  string // canonical: the one that they write
}

const headerForwarded = "Forwarded"

// newProxies returns what the configuration trusts.
func newProxies(cfg *Config) (*proxies, error) {
	p := &proxies{header: http.CanonicalHeaderKey(cfg.TrustedProxyHeader)}
	for _, s := range cfg.TrustedProxy {
		network, err := netip.ParsePrefix(s)
		if err != nil {
			var ip netip.Addr
			if ip, err = netip.ParseAddr(s); err == nil {
				network = netip.PrefixFrom(ip.Unmap(), ip.Unmap().BitLen())
			}
		}
		if err != nil || !network.IsValid() {
			return nil, fmt.Errorf("--trusted-proxy %q is neither an IP address nor a network: write one like 10.0.0.7 or 10.0.0.0/8", s)
		}
		if network.Bits() == 0 {
			return nil, fmt.Errorf("--trusted-proxy %q is everybody: any client could claim any address. Name the proxy's", s)
		}
		p.trusted = append(p.trusted, network.Masked())
	}
	return p, nil
}

// behind returns the request with the client's address where the proxy's was.
func (p *proxies) behind(r *http.Request) *http.Request {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !p.trusts(peer.Addr()) {
		return r
	}
	client := p.client(r.Header)
	if !client.IsValid() {
		return r
	}
	behind := *r // the header and the body are shared, and not changed
	behind.RemoteAddr = client.String()
	return &behind
}

func (p *proxies) trusts(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	for _, n := range p.trusted {
		if n.Contains(ip) {
			return true
		}
	}
	return false
}

// client returns the nearest address that is not a trusted proxy's; the farthest that can be read where all are, or where
// something is not an address: nothing beyond that is believed.
func (p *proxies) client(h http.Header) (client netip.Addr) {
	for _, line := range slices.Backward(h.Values(p.header)) {
		hops, ok := strings.Split(line, ","), true
		if p.header == headerForwarded {
			if hops, ok = splitQuoted(line, ','); !ok {
				return client
			}
		}
		for _, hop := range slices.Backward(hops) {
			if p.header == headerForwarded {
				hop = forwardedFor(hop)
			}
			ip, ok := hopAddr(strings.TrimSpace(hop))
			if !ok {
				return client
			}
			if client = ip; !p.trusts(ip) {
				return client
			}
		}
	}
	return client
}

// forwardedFor returns the for parameter of an element of the Forwarded header (RFC 7239, section 4).
func forwardedFor(element string) string {
	pairs, _ := splitQuoted(element, ';') // the line that it is of could be split
	for _, pair := range pairs {
		name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
		if strings.EqualFold(name, "for") {
			return strings.Trim(value, `"`)
		}
	}
	return ""
}

// splitQuoted splits at sep, where it is not inside a quoted string (RFC 9110, section 5.6.4). It fails where a quoted
// string is not the whole value of a parameter: else a client that leaves one open, in a line that a proxy adds to, would
// have what the proxy wrote read as a part of it, and be believed itself.
func splitQuoted(s string, sep byte) (parts []string, ok bool) {
	start, quoted := 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++ // what it escapes is no end
		case quoted && c == '"':
			if quoted = false; i+1 < len(s) && !strings.ContainsRune(",; \t", rune(s[i+1])) {
				return nil, false
			}
		case c == '"':
			if quoted = true; i == 0 || s[i-1] != '=' {
				return nil, false
			}
		case c == sep && !quoted:
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	return append(parts, s[start:]), !quoted
}

// hopAddr reads an address as proxies write them: with or without a port, IPv6 with or without brackets.
func hopAddr(s string) (netip.Addr, bool) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	if inner, ok := strings.CutPrefix(s, "["); ok {
		s = strings.TrimSuffix(inner, "]")
	}
	ip, err := netip.ParseAddr(s)
	return ip.Unmap().WithZone(""), err == nil
}
