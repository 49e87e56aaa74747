package server

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/tidings-sse/tidings"
)

// The door of open mode. There is no authentication: whoever can reach the server is trusted, and it is reached by
// programs on this machine only. Three things make others look like such a program, and each is refused before anything
// is registered, on every route:
//
//   - a web page that has its own name point at 127.0.0.1 (DNS rebinding): its requests carry that name as Host;
//   - a web page of another site: its requests carry its Origin, or are marked cross-site;
//   - a proxy on this machine, behind which the whole internet looks like loopback: what it forwards says so. (One that
//     is configured to say nothing can't be told from a local program. Nothing in a request could.)
//
// Config.Insecure lifts the third, so that a proxy can be used at all, and lets a page use the server it came from
// whatever its name; the Host of that name must still be allowed.
type door struct {
	hosts    []string // allowed, beside IP addresses and localhost; canonical
	origins  []string // allowed, beside those on loopback
	insecure bool
	log      *slog.Logger
	next     http.Handler // set before the first request
}

// newDoor returns a door with nothing behind it yet. It refuses names and origins that no request could match.
func newDoor(cfg *Config, log *slog.Logger) (*door, error) {
	d := &door{insecure: cfg.Insecure, log: log}
	for _, h := range cfg.AllowHost {
		name, ok := parseAuthority(h)
		if !ok || name.port != "" || name.ip.IsValid() {
			return nil, fmt.Errorf("--allow-host %q is not a host name: write it without scheme and port, as app.example.com (IP addresses are allowed already; a name outside ASCII is written in its xn-- form)", h)
		}
		d.hosts = append(d.hosts, name.host)
	}
	for _, o := range cfg.AllowOrigin {
		if !isOrigin(o) {
			return nil, fmt.Errorf("--allow-origin %q is not an origin: write scheme, host and, if it is not the scheme's own, port, as https://app.example.com (\"*\" and \"null\" would let any site in)", o)
		}
		d.origins = append(d.origins, strings.ToLower(o))
	}
	return d, nil
}

func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// What is answered depends on the origin: a cache must not give one's answer to another.
	w.Header().Add("Vary", "Origin")
	origin, problem := d.check(r)
	if problem != nil {
		d.log.LogAttrs(r.Context(), slog.LevelWarn, logRefused,
			slog.Int(keyStatus, problem.Status), slog.String(keyReason, problem.Detail), slog.String(keyRemote, r.RemoteAddr),
			slog.String(keyMethod, r.Method), slog.String(keyPath, r.URL.Path))
		problem.ServeHTTP(w, r)
		return
	}
	if origin != "" {
		w.Header().Set("Access-Control-Allow-Origin", origin)
		w.Header().Set("Access-Control-Expose-Headers", "Retry-After")
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			w.Header().Set("Access-Control-Allow-Methods", "GET, POST, DELETE")
			w.Header().Set("Access-Control-Allow-Headers", "Content-Type, Last-Event-ID, Idempotency-Key, Cache-Control")
			w.Header().Set("Access-Control-Max-Age", "600") // seconds
			w.WriteHeader(http.StatusNoContent)
			return
		}
	}
	d.next.ServeHTTP(w, r)
}

// check returns the request's origin, if it has one, or why it is refused.
func (d *door) check(r *http.Request) (origin string, _ *tidings.Problem) {
	host, ok := parseAuthority(r.Host)
	if !ok {
		return "", &tidings.Problem{
			Type: problemInvalid, Status: http.StatusBadRequest, Field: "Host",
			Detail: fmt.Sprintf("the Host %q is not a host and a port", r.Host), Hint: "address the server as the URL it printed at its start does",
		}
	}
	if !host.isLocal() && !host.ip.IsValid() && !slices.Contains(d.hosts, host.host) {
		return "", &tidings.Problem{
			Type: problemMisdirected, Title: "Not a name of this server", Status: http.StatusMisdirectedRequest, Field: "Host",
			Detail: fmt.Sprintf("the Host %q is not a name of this server", r.Host),
			Hint:   fmt.Sprintf("use localhost or an IP address, or start the server with --allow-host %s", host.host),
		}
	}
	if name := forwarded(r.Header); name != "" && !d.insecure {
		return "", &tidings.Problem{
			Type: problemForbidden, Status: http.StatusForbidden, Field: name,
			Detail: fmt.Sprintf("the request came through a proxy: it has the header %s", name),
			Hint:   "without authentication this server answers local programs only; start it with --insecure if everybody who can reach the proxy is trusted",
		}
	}
	values, sent := r.Header["Origin"]
	if !sent {
		return "", d.checkSite(r)
	}
	if len(values) == 1 && d.allows(values[0], r.Host, host) {
		return values[0], nil
	}
	value := strings.Join(values, ", ")
	hint := "pages on localhost may use this server; for pages of another site, start it with --allow-origin and their origin"
	if value == "null" {
		hint = "the page was opened from a file, a sandboxed frame or a redirect: serve it from localhost, or from an origin that is allowed with --allow-origin"
	}
	return "", &tidings.Problem{
		Type: problemForbidden, Status: http.StatusForbidden, Field: "Origin",
		Detail: fmt.Sprintf("pages of the origin %q may not use this server", value), Hint: hint,
	}
}

// checkSite refuses what another site's page embeds, such as an image whose address is a stream: it could read nothing,
// but would be registered. Following a link is not that.
func (d *door) checkSite(r *http.Request) *tidings.Problem {
	if r.Header.Get("Sec-Fetch-Site") != "cross-site" || r.Header.Get("Sec-Fetch-Mode") == "navigate" {
		return nil
	}
	return &tidings.Problem{
		Type: problemForbidden, Status: http.StatusForbidden, Field: "Sec-Fetch-Site",
		Detail: "a page of another site embeds this", Hint: "use EventSource or fetch, from an origin that is allowed with --allow-origin",
	}
}

// allows reports whether pages of the origin may use the server: those on loopback, those that were allowed, and those
// that the server itself gave under a name that was.
func (d *door) allows(origin, authority string, host authority) bool {
	if slices.Contains(d.origins, strings.ToLower(origin)) {
		return true
	}
	scheme, rest, _ := strings.Cut(origin, "://")
	if scheme != "http" && scheme != "https" {
		return false
	}
	from, ok := parseAuthority(rest)
	if !ok {
		return false
	}
	if from.isLocal() || from.ip.IsLoopback() {
		return true
	}
	same := strings.EqualFold(rest, authority)
	return same && (d.insecure || slices.Contains(d.hosts, host.host))
}

// forwarded returns the name of a header that a proxy adds, if there is one.
func forwarded(h http.Header) string {
	for name := range h {
		if strings.HasPrefix(name, "X-Forwarded") {
			return name
		}
		switch name {
		case "Forwarded", "Forwarded-For", "Via", "X-Real-Ip", "X-Client-Ip", "X-Cluster-Client-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "Fastly-Client-Ip":
			return name
		}
	}
	return ""
}

// isOrigin reports whether s is an origin as a browser would send it.
func isOrigin(s string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.User != nil || u.Scheme+"://"+u.Host != s {
		return false
	}
	a, ok := parseAuthority(u.Host)
	return ok && !(u.Scheme == "https" && a.port == "443" || u.Scheme == "http" && a.port == "80")
}

// An authority is the host[:port] of a Host header or an origin, read strictly: what is written in any other way than
// browsers write it is not one.
type authority struct {
	host string     // in lower case, without the dot that may end a name; an address without its brackets
	port string     // decimal; empty if absent
	ip   netip.Addr // if the host is an address
}

// isLocal reports whether the name is one that never leaves the machine (RFC 6761, section 6.3).
func (a authority) isLocal() bool {
	return a.host == "localhost" || strings.HasSuffix(a.host, ".localhost")
}

func parseAuthority(s string) (a authority, ok bool) {
	if rest, v6 := strings.CutPrefix(s, "["); v6 {
		literal, port, closed := strings.Cut(rest, "]")
		ip, err := netip.ParseAddr(literal)
		if !closed || err != nil || !ip.Is6() || ip.Zone() != "" {
			return authority{}, false
		}
		a = authority{host: ip.String(), ip: ip}
		if port == "" {
			return a, true
		}
		var colon bool
		a.port, colon = strings.CutPrefix(port, ":")
		return a, colon && isPort(a.port)
	}
	host, port, hasPort := strings.Cut(s, ":")
	if hasPort && !isPort(port) {
		return authority{}, false
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Is4() {
		return authority{host: host, port: port, ip: ip}, true
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return authority{host: host, port: port}, isName(host)
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// isName reports whether s is labels of letters, digits, hyphens and underscores with dots between them.
func isName(s string) bool {
	const most = 253 // of a name in the DNS
	if s == "" || len(s) > most {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" {
			return false
		}
		for _, c := range []byte(label) {
			if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return true
}
