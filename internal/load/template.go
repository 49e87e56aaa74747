package load

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// A template is text with variables in braces.
type template []part

// part is a piece of text, or the variable of this name.
type part struct {
	text     string
	variable string
}

// parseTemplate takes the variables of these names for variables, and all else for text.
func parseTemplate(s string, names ...string) template {
	var t template
	text := 0
	for at := 0; at < len(s); {
		if s[at] == '{' {
			if end := strings.IndexByte(s[at:], '}'); end > 0 && slices.Contains(names, s[at+1:at+end]) {
				t = append(t, part{text: s[text:at]}, part{variable: s[at+1 : at+end]})
				at += end + 1
				text = at
				continue
			}
		}
		at++
	}
	return append(t, part{text: s[text:]})
}

// appendTo appends the text with the variables' values.
func (t template) appendTo(dst []byte, value func(dst []byte, name string) []byte) []byte {
	for _, p := range t {
		if dst = append(dst, p.text...); p.variable != "" {
			dst = value(dst, p.variable)
		}
	}
	return dst
}

// The variables of a stream's URL and headers.
const (
	varNumber = "n"
	varUser   = "user"
	varTopic  = "topic"
	varData   = "data"
)

// streamTemplate is a template of a stream.
func streamTemplate(s string) template { return parseTemplate(s, varNumber, varUser, varTopic) }

// parseURL checks a URL with variables, and returns it split into the server's part and the rest, which begins with a
// slash and alone may have variables.
func parseURL(s string, names ...string) (server *url.URL, target string, err error) {
	t := parseTemplate(s, names...)
	filled := string(t.appendTo(nil, func(dst []byte, _ string) []byte { return append(dst, '0') }))
	if i := strings.IndexAny(filled, "{}"); i >= 0 {
		return nil, "", fmt.Errorf("%q has a brace that begins or ends no variable: the variables are {%s}; write %%7B and %%7D for braces", s, strings.Join(names, "}, {"))
	}
	if i := strings.IndexFunc(filled, func(r rune) bool { return r <= ' ' || r >= 0x7f }); i >= 0 {
		return nil, "", fmt.Errorf("%q has a character that must be percent-encoded: %q", s, filled[i:i+1])
	}
	u, err := url.Parse(filled)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Fragment != "" {
		return nil, "", fmt.Errorf("%q is not a URL of a server: write one like http://127.0.0.1:8080/path", s)
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return nil, "", fmt.Errorf("%q has no port from 1 to 65535", s)
		}
	}
	_, rest, _ := strings.Cut(s, "://")
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		rest, target = rest[:i], rest[i:]
	}
	if strings.ContainsRune(rest, '{') {
		return nil, "", fmt.Errorf("%q has a variable in the server's address: they may be in the path and the query", s)
	}
	if !strings.HasPrefix(target, "/") {
		target = "/" + target
	}
	return &url.URL{Scheme: u.Scheme, User: u.User, Host: u.Host}, target, nil
}
