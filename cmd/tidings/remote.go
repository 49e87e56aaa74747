package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"syscall"

	"github.com/tidings-sse/tidings"
)

// remote is the server that a command talks to.
type remote struct {
	URL string `env:"TIDINGS_URL" default:"http://127.0.0.1:8080" help:"The server. A path is a prefix that its paths have, behind a proxy say."`
}

// stream returns the URL of the server's stream, which the rest of its API is under.
func (r *remote) stream() (string, error) {
	const path = "/api/sse"
	u, err := url.Parse(r.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("--url %q is not a server's URL: write one like http://127.0.0.1:8080", r.URL)
	}
	return strings.TrimSuffix(strings.TrimSuffix(u.String(), "/"), path) + path, nil
}

// shown returns the URL without a password.
func (r *remote) shown() string {
	u, err := url.Parse(r.URL)
	if err != nil {
		return "the URL"
	}
	return u.Redacted()
}

// credential is what a command presents to the server.
type credential struct {
	Token string `env:"TIDINGS_TOKEN" placeholder:"TOKEN" help:"A token or an API key, where the server asks for one. It is seen in the list of processes: prefer the variable. Default: none."`
}

// present puts the credential into a request's header.
func (c credential) present(h http.Header) {
	if c.Token != "" {
		h.Set("Authorization", "Bearer "+c.Token)
	}
}

// explain says what to do about a server that can't be reached.
func (r *remote) explain(err error) error {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("nothing listens at %s: start it with tidings serve, or name another server with --url", r.shown())
	}
	return err
}

// problemIn reads the problem document of an answer that is not 200, or makes one of an answer that has none.
func problemIn(res *http.Response) *tidings.Problem {
	const most = 64 << 10 // bytes of a document that are read
	p := &tidings.Problem{}
	t, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	body, err := io.ReadAll(io.LimitReader(res.Body, most))
	if err != nil || t != "application/problem+json" || json.Unmarshal(body, p) != nil || p.Detail == "" {
		p = &tidings.Problem{Detail: fmt.Sprintf("the answer was %s: is it a Tidings server?", res.Status)}
	}
	p.Status = res.StatusCode
	return p
}

// given returns the value of a flag that may not be empty, and "" for one that was not given. An empty one is what a
// script with an unset variable gives: were it ignored, an event would reach more than it was meant for.
func given(flag string, value *string) (string, error) {
	if value != nil && *value == "" {
		return "", fmt.Errorf("--%s is empty: give it a value, or leave it out", flag)
	}
	if value == nil {
		return "", nil
	}
	return *value, nil
}

// identity are the flags that say who somebody is.
type identity struct {
	client, user, session *string
}

// target reads the flags; the topic is the caller's.
func (i identity) target() (t tidings.Target, err error) {
	for _, f := range [...]struct {
		flag  string
		value *string
		into  *string
	}{{"client", i.client, &t.ClientID}, {"user", i.user, &t.UserID}, {"session", i.session, &t.SessionID}} {
		if *f.into, err = given(f.flag, f.value); err != nil {
			return tidings.Target{}, err
		}
	}
	return t, nil
}
