package main

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tidings-sse/tidings/internal/load"
)

// What the flags of tidings bench ask for.

// plan is what a run needs.
type plan struct {
	client  *load.Client
	publish *load.PublishConfig // nil: only listen
}

// plan reads the flags.
func (c *benchCmd) plan() (*plan, error) {
	streams, err := c.streams()
	if err != nil {
		return nil, err
	}
	p := &plan{}
	if p.publish, err = c.schedule(); err != nil {
		return nil, err
	}
	if p.client, err = load.New(streams); err != nil {
		return nil, flagged(err, map[string]string{
			"URL": c.flagOf("stream"), "Header": "header", "Sources": "source", "Slow.Connections": "slow", "ConnectRate": "connect-rate",
		})
	}
	switch {
	case c.SlowBytes > 0 && c.Slow == 0:
		return nil, errors.New("--slow-bytes is given without --slow: say how many streams are slow")
	case !(c.StormShare > 0 && c.StormShare <= 1):
		return nil, fmt.Errorf("--storm-share is %v: give a part above 0 and up to 1", c.StormShare)
	case c.Storm > 0 && c.Storm >= c.Duration:
		return nil, fmt.Errorf("--storm %v is not within --duration %v: give less, or a longer duration", c.Storm, c.Duration)
	case (c.StormReset || c.StormAfterRetry || c.StormShare != 1) && c.Storm == 0:
		return nil, errors.New("a storm is described but not asked for: say with --storm when it is, as --storm 5s")
	}
	return p, nil
}

// flagOf returns the flag that says a URL.
func (c *benchCmd) flagOf(own string) string {
	if c.Stream == "" {
		return "url"
	}
	return own
}

// flagged puts flags' names into an error about a configuration.
func flagged(err error, flags map[string]string) error {
	if e, ok := errors.AsType[*load.ConfigError](err); ok {
		if flag, ok := flags[e.Field]; ok {
			return fmt.Errorf("--%s: it %s", flag, e.Reason)
		}
	}
	return err
}

// streams returns which streams to open.
func (c *benchCmd) streams() (load.Config, error) {
	cfg := load.Config{
		URL: c.Stream, Connections: int(c.Connections), Users: int(c.Users), Topics: int(c.Topics),
		Protocol: load.Protocol(c.Protocol), StreamsPerConnection: int(c.PerConn), InsecureSkipVerify: c.SkipVerify,
		ConnectRate: c.ConnectRate, ConnectAtOnce: int(c.ConnectAtOnce), ConnectTimeout: time.Duration(c.ConnectTimeout),
		Sources: c.Source, NoReconnect: c.NoReconnect, Slow: load.Slow{Connections: int(c.Slow), BytesPerSecond: int(c.SlowBytes)},
		Loops: int(c.Loops),
	}
	if c.Stream == "" {
		base, err := c.stream()
		if err != nil {
			return cfg, err
		}
		cfg.URL = base + c.query()
	}
	var err error
	if cfg.RootCAs, err = c.roots(); err != nil {
		return cfg, err
	}
	if cfg.Header, err = headerOf("header", c.Header); err == nil && c.Stream == "" {
		c.present(cfg.Header)
	}
	return cfg, err
}

// query returns who the streams at --url are. With a token they are its user's.
func (c *benchCmd) query() string {
	switch {
	case c.Token == "":
		return "?clientId=c{n}&userId=u{user}&topic=t{topic}"
	case strings.Contains(c.Mix, load.ToTopic.String()):
		return "?clientId=c{n}&topic=t{topic}"
	}
	return "?clientId=c{n}"
}

// sender returns what events are sent to --url with.
func (c *benchCmd) sender() (credential, error) {
	key, _, _ := strings.Cut(strings.TrimSpace(c.APIKey), " ")
	if name, rest, named := strings.Cut(key, ":"); named {
		if name == "sha256" || strings.HasPrefix(rest, "sha256:") {
			return credential{}, errors.New("--api-key is a key's hash, which is for the server: give the key itself")
		}
		key = rest
	}
	if key == "" {
		return c.credential, nil
	}
	return credential{Token: key}, nil
}

// headerOf reads lines of a header.
func headerOf(flag string, lines []string) (http.Header, error) {
	h := http.Header{}
	for _, line := range lines {
		name, value, ok := strings.Cut(line, ":")
		if name = strings.TrimSpace(name); !ok || name == "" {
			return nil, fmt.Errorf("--%s %q is not a header: write it like 'Authorization: Bearer ..'", flag, line)
		}
		h.Add(name, strings.TrimSpace(value))
	}
	return h, nil
}

// schedule returns what to publish, or nil.
func (c *benchCmd) schedule() (*load.PublishConfig, error) {
	target, body := c.Publish, c.PublishBody
	switch {
	case target == "" && c.Stream != "":
		return nil, nil
	case target == "":
		base, err := c.stream()
		if err != nil {
			return nil, err
		}
		target = base + "/send"
	case body == "":
		body = "{data}"
	}
	mix, err := mixOf(c.Mix)
	if err != nil {
		return nil, err
	}
	if c.Stream == "" && c.Token != "" && mix[load.ToUser]+mix[load.ToClient] > 0 {
		return nil, fmt.Errorf("--mix %s: with a token all streams are its user's: give broadcast and topic only", c.Mix)
	}
	head, err := headerOf("publish-header", c.PublishHeader)
	if err != nil {
		return nil, err
	}
	if c.Publish == "" {
		by, err := c.sender()
		if err != nil {
			return nil, err
		}
		by.present(head)
	}
	roots, err := c.roots()
	if err != nil {
		return nil, err
	}
	users := int(c.Users)
	if users == 0 {
		users = int(c.Connections)
	}
	p := &load.PublishConfig{
		URL: target, Method: c.PublishMethod, Body: body, Header: head, Batch: int(c.Batch), Rate: c.Rate, Duration: time.Duration(c.Duration),
		Publishers: int(c.Publishers), Mix: mix, Clients: int(c.Connections), Users: users, Topics: int(c.Topics), Size: int(c.Size),
		InsecureSkipVerify: c.SkipVerify, RootCAs: roots, Sent: new(atomic.Int64),
	}
	return p, flagged(p.Check(), map[string]string{
		"URL": "publish", "Rate": "rate", "Publishers": "publishers", "Batch": "batch", "Body": "publish-body", "Mix": "mix", "Size": "size", "Clients": "connections", "Users": "users", "Topics": "topics",
	})
}

// mixOf reads classes of targets with their weights.
func mixOf(s string) (map[load.Class]float64, error) {
	mix := map[load.Class]float64{}
	for _, part := range strings.Split(s, ",") {
		name, weight, weighted := strings.Cut(part, "=")
		w := 1.0
		if weighted {
			var err error
			if w, err = strconv.ParseFloat(weight, 64); err != nil {
				return nil, fmt.Errorf("--mix %q has no number behind %s=: write it like broadcast=1,user=9", s, name)
			}
		}
		known := false
		for _, c := range []load.Class{load.Broadcast, load.ToClient, load.ToUser, load.ToTopic} {
			if c.String() == name {
				if _, twice := mix[c]; twice {
					return nil, fmt.Errorf("--mix %q has %s twice", s, name)
				}
				mix[c], known = w, true
			}
		}
		if !known {
			return nil, fmt.Errorf("--mix %q has %q: give broadcast, user, client or topic, with weights like broadcast=1,user=9", s, name)
		}
	}
	return mix, nil
}
