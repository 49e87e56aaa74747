package load

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// requestTemplate returns the head of a stream's request over HTTP/1.1, without a cursor and the end.
func (c *Client) requestTemplate() template {
	t := parseTemplate("GET ")
	t = append(t, c.target...)
	t = append(t, part{text: " HTTP/1.1\r\n"})
	head := c.header()
	host := c.server.Host
	if v := head.Get("Host"); v != "" {
		host = v
		head.Del("Host")
	}
	t = append(t, streamTemplate("Host: "+host+"\r\n")...)
	for _, name := range sortedKeys(head) {
		for _, v := range head[name] {
			t = append(t, streamTemplate(name+": "+v+"\r\n")...)
		}
	}
	return t
}

// header is what is sent with each request.
func (c *Client) header() http.Header {
	head := http.Header{"Accept": {"text/event-stream"}, "Cache-Control": {"no-cache"}}
	if u := c.server.User; u != nil {
		password, _ := u.Password()
		head.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)))
	}
	for name, vs := range c.cfg.Header {
		head[http.CanonicalHeaderKey(name)] = vs
	}
	return head
}

func sortedKeys(h http.Header) []string {
	names := make([]string, 0, len(h))
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// value appends the value of a variable of a stream's templates.
func (c *Client) value(dst []byte, number int, name string) []byte {
	switch name {
	case varUser:
		number %= c.cfg.Users
	case varTopic:
		number %= c.cfg.Topics
	}
	return strconv.AppendInt(dst, int64(number), 10)
}

// fill returns a template with a stream's variables.
func (c *Client) fill(dst []byte, t template, number int) []byte {
	return t.appendTo(dst, func(dst []byte, name string) []byte { return c.value(dst, number, name) })
}

// appendRequest appends a stream's request over HTTP/1.1.
func (c *Client) appendRequest(dst []byte, st *stream) []byte {
	dst = c.fill(dst, c.request, int(st.number))
	if len(st.lastID) > 0 {
		dst = append(dst, "Last-Event-ID: "...)
		dst = append(dst, st.lastID...)
		dst = append(dst, "\r\n"...)
	}
	return append(dst, "\r\n"...)
}

// resolve returns the server's address. Where the name has several, it is the first that answers.
func (c *Client) resolve(ctx context.Context) (netip.AddrPort, error) {
	port := c.server.Port()
	if port == "" {
		if port = "80"; c.server.Scheme == "https" {
			port = "443"
		}
	}
	n, _ := strconv.ParseUint(port, 10, 16) // was checked
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", c.server.Hostname())
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("the server's address can't be found: %w", err)
	}
	for i, a := range addrs {
		addrs[i] = a.Unmap()
	}
	if sources := c.cfg.Sources; len(sources) > 0 {
		addrs = slices.DeleteFunc(addrs, func(a netip.Addr) bool { return a.Is4() != sources[0].Is4() })
		if len(addrs) == 0 {
			return netip.AddrPort{}, &ConfigError{"Sources", "are of another IP version than the server's addresses"}
		}
	}
	var d net.Dialer
	d.Timeout = c.cfg.ConnectTimeout
	for _, a := range addrs[:len(addrs)-1] {
		at := netip.AddrPortFrom(a, uint16(n))
		if conn, err := d.DialContext(ctx, "tcp", at.String()); err == nil {
			_ = conn.Close()
			return at, nil
		}
	}
	return netip.AddrPortFrom(addrs[len(addrs)-1], uint16(n)), nil
}

// sources returns the addresses to connect from; none is the system's choice.
func (c *Client) sources(server netip.AddrPort) []netip.Addr {
	const portsOfOne = 20_000 // fewer than Linux' 28,232, some of which are others'
	if c.cfg.Sources != nil || !server.Addr().Is4() || !server.Addr().IsLoopback() || c.cfg.Connections <= portsOfOne {
		return c.cfg.Sources
	}
	var as []netip.Addr
	a := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	for range (c.cfg.Connections + portsOfOne - 1) / portsOfOne {
		as = append(as, a)
		a = a.Next()
	}
	return as
}

// complete puts in the defaults, and refuses what can't work.
func (cfg *Config) complete() error {
	def := func(v *int, to int) {
		if *v == 0 {
			*v = to
		}
	}
	def(&cfg.Users, cfg.Connections)
	def(&cfg.Topics, 1)
	def(&cfg.StreamsPerConnection, 100)
	def(&cfg.ConnectAtOnce, 256)
	def(&cfg.ConnectAttempts, 5)
	def(&cfg.Loops, 1)
	def(&cfg.ReadBuffer, 256<<10)
	if cfg.Protocol == "" {
		cfg.Protocol = HTTP1
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 10 * time.Second
	}
	if cfg.Retry == 0 {
		cfg.Retry = 3 * time.Second
	}
	const most = 10_000_000
	for _, f := range []struct {
		name     string
		v, least int
	}{
		{"Connections", cfg.Connections, 1}, {"Users", cfg.Users, 1}, {"Topics", cfg.Topics, 1},
		{"StreamsPerConnection", cfg.StreamsPerConnection, 1}, {"ConnectAtOnce", cfg.ConnectAtOnce, 1},
		{"ConnectAttempts", cfg.ConnectAttempts, 1}, {"Loops", cfg.Loops, 1}, {"Slow.BytesPerSecond", cfg.Slow.BytesPerSecond, 0},
		{"ReceiveBuffer", cfg.ReceiveBuffer, 0}, {"Slow.Connections", cfg.Slow.Connections, 0},
	} {
		if f.v < f.least || f.v > most {
			return &ConfigError{f.name, fmt.Sprintf("is %d: give %d to %d", f.v, f.least, most)}
		}
	}
	switch {
	case cfg.Protocol != HTTP1 && cfg.Protocol != HTTP2:
		return &ConfigError{"Protocol", fmt.Sprintf("is %q: give http1 or http2", cfg.Protocol)}
	case cfg.Slow.Connections > cfg.Connections:
		return &ConfigError{"Slow.Connections", fmt.Sprintf("is %d, of %d connections: give at most as many as there are", cfg.Slow.Connections, cfg.Connections)}
	case cfg.ReadBuffer < 16<<10:
		return &ConfigError{"ReadBuffer", "is too small: give 16384 bytes or more"} // a request is built in it
	case cfg.ConnectRate < 0 || cfg.ConnectRate != cfg.ConnectRate:
		return &ConfigError{"ConnectRate", "is not zero or more"}
	case cfg.ConnectTimeout < 0 || cfg.Retry < 0:
		return &ConfigError{"ConnectTimeout or Retry", "is negative"}
	case cfg.ConnectAttempts > 100:
		return &ConfigError{"ConnectAttempts", "is more than 100"}
	}
	for i, a := range cfg.Sources {
		if !a.IsValid() || a.Is4() != cfg.Sources[0].Is4() {
			return &ConfigError{"Sources", fmt.Sprintf("has %v: give addresses of one IP version", cfg.Sources[i])}
		}
	}
	for name, vs := range cfg.Header {
		for _, v := range vs {
			if strings.ContainsAny(v, "\r\n\x00") || name == "" || strings.ContainsAny(name, " :\r\n\x00") {
				return &ConfigError{"Header", fmt.Sprintf("has a line that can't be sent: %q", name+": "+v)}
			}
		}
	}
	return nil
}

// A ConfigError says which field of a Config or PublishConfig can't be used.
type ConfigError struct {
	Field  string // as in Go: ConnectRate
	Reason string // what is wrong, and what to write
}

func (e *ConfigError) Error() string { return e.Field + " " + e.Reason }
