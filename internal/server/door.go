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

	"github.com/rs/cors"

	"github.com/tidings-sse/tidings"
)

// The door decides which pages, and by which names, may use the server at all. What a request may do is the authorizer's
// business, behind it.
//
// Without authentication the server is open: whoever can reach the server is trusted, and it is reached by
// programs on this machine only. Three things make others look like such a program, and each is refused before anything
// is registered, on every route:
//
//   - a web page that has its own name point at 127.0.0.1 (DNS rebinding): its requests carry that name as Host;
//   - a web page of another site: its requests carry its Origin, or are marked cross-site;
//   - a proxy on this machine, behind which the whole internet looks like loopback: what it forwards says so. (One that
//     is configured to say nothing can't be told from a local program. Nothing in a request could.)
//
// With authentication, none of these is anybody's program. What is left to refuse are pages of other sites, which a browser
// would let act with its user's cookie, or only hold a stream open: an Origin must be allowed, or be that of the Host.
//
// Config.Insecure lifts the third, so that a proxy can be used at all, and lets a page use the server it came from
// whatever its name; the Host of that name must still be allowed.
type door struct {
	hosts    []string // allowed, beside IP addresses and localhost; canonical
	origins  []string // allowed, beside those on loopback
	open     bool     // there is no authentication
	insecure bool
	log      *slog.Logger
	csrf     *http.CrossOriginProtection
	cors     *cors.Cors
}

// newDoor refuses names and origins that no request could match.
func newDoor(cfg *Config, log *slog.Logger) (*door, error) {
	d := &door{open: !cfg.authenticates(), insecure: cfg.Insecure, log: log, csrf: http.NewCrossOriginProtection()}
	d.cors = cors.New(cors.Options{
		AllowOriginVaryRequestFunc: func(*http.Request, string) (bool, []string) { return true, nil }, // check has refused others
		AllowedMethods:             []string{http.MethodGet, http.MethodPost, http.MethodDelete},
		AllowedHeaders:             []string{"Authorization", "Cache-Control", "Content-Type", "Idempotency-Key", "Last-Event-ID"},
		ExposedHeaders:             []string{"Retry-After", "WWW-Authenticate"},
		MaxAge:                     600, // seconds
		AllowCredentials:           !d.open,
	})
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

// passes reports whether the request may go on. If not, it was answered: it is refused, or a preflight.
func (d *door) passes(w http.ResponseWriter, r *http.Request) (passes bool) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if problem := d.check(r); problem != nil {
		// What is answered depends on the origin: a cache must not give one's answer to another.
		w.Header().Add("Vary", "Origin")
		d.log.LogAttrs(r.Context(), slog.LevelWarn, logRefused,
			slog.Int(keyStatus, problem.Status), slog.String(keyReason, problem.Detail), slog.String(keyRemote, r.RemoteAddr),
			slog.String(keyMethod, r.Method), slog.String(keyPath, r.URL.Path))
		problem.ServeHTTP(w, r)
		return false
	}
	d.cors.ServeHTTP(w, r, func(http.ResponseWriter, *http.Request) { passes = true })
	return passes
}

// check returns why the request is refused; nil if it isn't.
func (d *door) check(r *http.Request) *tidings.Problem {
	host, ok := parseAuthority(r.Host)
	if !ok {
		return &tidings.Problem{
			Type: problemInvalid, Status: http.StatusBadRequest, Field: "Host",
			Detail: fmt.Sprintf("the Host %q is not a host and a port", r.Host), Hint: "address the server as the URL it printed at its start does",
		}
	}
	// A name that somebody else points here gets a browser to send nothing that is worth having where there is
	// authentication: cookies belong to names.
	named := d.open || len(d.hosts) > 0
	if named && !host.isLocal() && !host.ip.IsValid() && !slices.Contains(d.hosts, host.host) {
		return &tidings.Problem{
			Type: problemMisdirected, Title: "Not a name of this server", Status: http.StatusMisdirectedRequest, Field: "Host",
			Detail: fmt.Sprintf("the Host %q is not a name of this server", r.Host),
			Hint:   fmt.Sprintf("use localhost or an IP address, or start the server with --allow-host %s", host.host),
		}
	}
	if name := forwarded(r.Header); name != "" && d.open && !d.insecure {
		return &tidings.Problem{
			Type: problemForbidden, Status: http.StatusForbidden, Field: name,
			Detail: fmt.Sprintf("the request came through a proxy: it has the header %s", name),
			Hint:   "without authentication this server answers local programs only: start it with TIDINGS_JWT_SECRET set, or with --insecure if everybody who can reach the proxy is trusted",
		}
	}
	values, sent := r.Header["Origin"]
	if !sent {
		return d.checkSite(r)
	}
	if len(values) == 1 && d.allows(values[0], r, host) {
		return nil
	}
	value := strings.Join(values, ", ")
	hint := "pages of this server's own origin may use it; for pages of another one, start it with --allow-origin and their origin"
	if d.open {
		hint = "pages on localhost may use this server; for pages of another site, start it with --allow-origin and their origin"
	}
	if value == "null" {
		hint = "the page was opened from a file, a sandboxed frame or a redirect: serve it from localhost, or from an origin that is allowed with --allow-origin"
	}
	return &tidings.Problem{
		Type: problemForbidden, Status: http.StatusForbidden, Field: "Origin",
		Detail: fmt.Sprintf("pages of the origin %q may not use this server", value), Hint: hint,
	}
}

// checkSite refuses what another site's page embeds, such as an image whose address is a stream: it could read nothing,
// but would be registered. Following a link is not that.
func (d *door) checkSite(r *http.Request) *tidings.Problem {
	site, follows := r.Header.Get("Sec-Fetch-Site"), r.Header.Get("Sec-Fetch-Mode") == "navigate"
	embeds := site == "cross-site" && !follows
	if !d.open { // a cookie comes along: also from another port or subdomain, and a link to a stream opens it
		embeds = (site == "cross-site" || site == "same-site") && (!follows || strings.HasPrefix(r.URL.Path, streamPath))
	}
	if !embeds && d.csrf.Check(r) == nil {
		return nil
	}
	return &tidings.Problem{
		Type: problemForbidden, Status: http.StatusForbidden, Field: "Sec-Fetch-Site",
		Detail: "a page of another site embeds this, or sends it", Hint: "use EventSource or fetch, from an origin that is allowed with --allow-origin",
	}
}

// allows reports whether pages of the origin may use the server: those that were allowed, and, where it is open, those on
// loopback and those that the server itself gave under a name that was; where there is authentication, its own.
func (d *door) allows(origin string, r *http.Request, host authority) bool {
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
	same := strings.EqualFold(rest, r.Host)
	if !d.open {
		return same && (scheme == "https" || r.TLS == nil) // who changed the plain page on its way is not its site
	}
	if from.isLocal() || from.ip.IsLoopback() {
		return true
	}
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
