package scenario

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/tidings-sse/tidings/bench/internal/contender"
	"github.com/tidings-sse/tidings/bench/internal/control"
	"github.com/tidings-sse/tidings/bench/internal/proc"
	"github.com/tidings-sse/tidings/bench/internal/publish"
	"github.com/tidings-sse/tidings/bench/internal/servers"
	"github.com/tidings-sse/tidings/internal/load"
)

// connectAtOnce is how many streams wait for their head at a time: a listener's backlog of this much is the system's default.
const connectAtOnce = 512

// A session is a server that runs, and the streams that are open to it.
type session struct {
	server *contender.Server
	pub    int // the next publisher's number
	*load.Client
}

// start starts the contender of the round, without streams.
func (r *round) start(ctx context.Context, o contender.Options) (*session, error) {
	server, err := r.contender.Start(ctx, o)
	if err != nil {
		return nil, err
	}
	if server.Version != "" {
		r.Results.Versions[r.contender.Name] = server.Version
	}
	return &session{server: server}, nil
}

// open starts the contender and opens streams to it; cfg says how many.
func (r *round) open(ctx context.Context, o contender.Options, cfg load.Config) (*session, error) {
	s, err := r.start(ctx, o)
	if err != nil {
		return nil, err
	}
	if s.Client, err = s.connect(ctx, o.Protocol, cfg); err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

// connect opens streams. All must open. The client is the caller's to close.
func (s *session) connect(ctx context.Context, p servers.Protocol, cfg load.Config) (*load.Client, error) {
	if cfg.URL == "" {
		cfg.URL = s.server.URL
	}
	cfg.Protocol = load.HTTP1
	if p == servers.HTTP2TLS || p == servers.H2C {
		cfg.Protocol = load.HTTP2
	}
	cfg.InsecureSkipVerify = true
	if cfg.ConnectAtOnce == 0 {
		cfg.ConnectAtOnce = connectAtOnce
	}
	c, err := load.New(cfg)
	if err != nil {
		return nil, err
	}
	if err := c.Connect(ctx); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("connecting: %w", err)
	}
	if now := c.Snapshot(); now.Connected != cfg.Connections {
		_ = c.Close()
		return nil, fmt.Errorf("%d of %d streams are open", now.Connected, cfg.Connections)
	}
	return c, nil
}

// others returns the server's URL for streams that are others than those of the first client.
func (s *session) others() string {
	return strings.NewReplacer("client-{n}", "other-client-{n}", "user-{user}", "other-user-{user}", "session-{n}", "other-session-{n}").Replace(s.server.URL)
}

// end closes the streams and stops the server.
func (s *session) end() {
	if s.Client != nil {
		_ = s.Client.Close()
	}
	s.server.Stop()
}

// publish has the server publish. ledger says what must arrive.
func (s *session) publish(ctx context.Context, c control.Publish) (done control.Published, ledger *load.Ledger, err error) {
	c = s.command(c)
	done, err = s.server.Publish(ctx, c)
	if err == nil && done.Count != c.Count {
		err = fmt.Errorf("%d of %d events were published", done.Count, c.Count)
	}
	return done, publish.Ledger(c), err
}

// command completes a command.
func (s *session) command(c control.Publish) control.Publish {
	c.Publishers = max(c.Publishers, 1)
	if c.Size == 0 {
		c.Size = load.PayloadSize
	}
	c.Pub = s.pub
	c = s.server.Prepare(c)
	s.pub += c.Publishers
	return c
}

// wait waits until everything that the ledger has is there.
func (s *session) wait(ctx context.Context, l *load.Ledger) error {
	if err := s.Wait(ctx, l); err != nil {
		return fmt.Errorf("%d deliveries are missing: %w", s.Missing(l), context.Cause(ctx))
	}
	return nil
}

// warm sends a few broadcasts until all streams get them: a stream may be open before it is registered. Then it begins to
// count anew.
func (s *session) warm(ctx context.Context) error {
	for {
		_, ledger, err := s.publish(ctx, control.Publish{Kind: control.Broadcast, Count: 5, Rate: 50})
		if err != nil {
			return fmt.Errorf("warming up: %w", err)
		}
		within, cancel := context.WithTimeout(ctx, 5*time.Second)
		err = s.Wait(within, ledger)
		cancel()
		if err == nil {
			s.Reset()
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("warming up: %w", context.Cause(ctx))
		}
	}
}

// cpu returns the CPU time that the server has used.
func (s *session) cpu() (time.Duration, error) { return proc.CPU(s.server.PID) }

// memory returns the server's resident bytes.
func (s *session) memory() (int64, error) { return proc.Memory(s.server.PID) }

// pause waits, unless the context ends.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
