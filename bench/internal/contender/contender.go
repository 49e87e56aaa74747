// Package contender starts the servers that are compared, each in a process of its own, and tells them what to publish.
package contender

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/tidings-sse/tidings/bench/internal/control"
	"github.com/tidings-sse/tidings/bench/internal/servers"
)

// The contenders that have something of their own in the benchmark.
const (
	Tidings      = "tidings"       // the library, published to in its process
	TidingsServe = "tidings-serve" // the program, published to by one NDJSON request
	Floor        = "floor"         // the C loop
	Nchan        = "nchan"
)

// A Contender is a server that can be started.
type Contender struct {
	Name  string
	Title string // in the report
	About string // how it is set up: a sentence for the report

	// Targets: it can send to one user. WithBroadcasts: and on the same stream to everyone.
	Targets, WithBroadcasts bool
	// Resumes: it replays what a stream missed, by its Last-Event-ID.
	Resumes bool
	// HTTP: it is published to over HTTP, because it has no other way.
	HTTP bool
	// Publishers is how many goroutines it is fastest with in a burst; 0 is one.
	Publishers int

	start func(context.Context, Options) (*Server, error)
}

// Options are what a scenario asks of a server.
type Options struct {
	servers.Options
	Protocol servers.Protocol // HTTP1 if empty
}

// A Server is a contender that runs. Its methods are for one goroutine, but Publish may be called by another one while
// nothing else is asked of it.
type Server struct {
	URL     string // of its streams, with {n}, {user} and {topic} as in load.Config
	PID     int
	Version string

	prepare func(control.Publish) control.Publish // nil leaves it as it is
	publish func(context.Context, control.Publish) (control.Published, error)
	settle  func(context.Context) error
	stop    func()
}

// Start starts it. The context bounds the start.
func (c *Contender) Start(ctx context.Context, o Options) (*Server, error) {
	if o.Protocol == "" {
		o.Protocol = servers.HTTP1
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startWithin, fmt.Errorf("it was not ready after %v", startWithin))
	defer cancel()
	s, err := c.start(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Name, err)
	}
	return s, nil
}

// Prepare returns the command as the server carries it out: one that is published to over HTTP may need more publishers.
func (s *Server) Prepare(c control.Publish) control.Publish {
	if s.prepare != nil {
		c = s.prepare(c)
	}
	return c
}

// Publish has the server publish what Prepare returned, and returns when it has.
func (s *Server) Publish(ctx context.Context, c control.Publish) (control.Published, error) {
	return s.publish(ctx, c)
}

// Settle has the server give back what memory it can, if it knows how to. reports says whether it does.
func (s *Server) Settle(ctx context.Context) (reports bool, err error) {
	if s.settle == nil {
		return false, nil
	}
	return true, s.settle(ctx)
}

// Stop ends the server.
func (s *Server) Stop() { s.stop() }

// streamQuery gives each stream an identity, of which a server takes what it has a use for.
const streamQuery = servers.StreamPath + "?clientId=client-{n}&userId=user-{user}&sessionId=session-{n}&topic=topic-{topic}"

// List returns the contenders whose programs are in the directory or installed, and for each of the others why it is left
// out.
func List(bin string) (all []Contender, leftOut []string) {
	inGo := func(name string) func(context.Context, Options) (*Server, error) {
		return func(ctx context.Context, o Options) (*Server, error) {
			args := []string{"-protocol", string(o.Protocol)}
			if o.Resume {
				args = append(args, "-resume")
			}
			if o.Unicast {
				args = append(args, "-unicast")
			}
			return startCommanded(ctx, o.Protocol, filepath.Join(bin, "benchserver"), append(args, name)...)
		}
	}
	floor := filepath.Join(bin, "floor")
	if _, err := os.Stat(floor); err == nil {
		all = append(all, Contender{
			Name: Floor, Title: "C loop, one write a delivery", About: "The floor: one thread, epoll, an event encoded once, and one `write` for each delivery. It knows no targets, no ids and no history.",
			start: func(ctx context.Context, o Options) (*Server, error) { return startCommanded(ctx, o.Protocol, floor) },
		})
	} else {
		leftOut = append(leftOut, "the C loop (the floor), and every ratio to it: there is no C compiler (cc)")
	}
	all = append(all,
		Contender{Name: Tidings, Title: "Tidings", About: "The library in a program of its own, with the options that `tidings serve` has.", Targets: true, WithBroadcasts: true, Resumes: true, Publishers: 8, start: inGo("tidings")},
		Contender{Name: TidingsServe, Title: "Tidings, by one NDJSON POST", About: "`tidings serve`, and one NDJSON request that holds all events.", Targets: true, WithBroadcasts: true, Resumes: true, HTTP: true,
			start: func(ctx context.Context, o Options) (*Server, error) {
				return startTidingsServe(ctx, filepath.Join(bin, "tidings"))
			}},
	)
	if binary, module, err := findNchan(); err == nil {
		all = append(all, Contender{
			Name: Nchan, Title: "nginx with Nchan", About: "Two workers, 512 MiB of shared memory, published to over HTTP by 4 keep-alive connections, because it has no other way. One channel for everyone; where users are targets, each stream has a second one.",
			Targets: true, WithBroadcasts: true, Resumes: true, HTTP: true,
			start: func(ctx context.Context, o Options) (*Server, error) { return startNchan(ctx, binary, module, o) },
		})
	} else {
		leftOut = append(leftOut, "Nchan: "+err.Error())
	}
	all = append(all,
		Contender{Name: "go-sse", Title: "tmaxmax/go-sse", About: "Its Joe provider; a stream's topics are everyone, its user and its topic. History is a FiniteReplayer of 100,000 events, only where resuming is measured.", Targets: true, WithBroadcasts: true, Resumes: true, start: inGo("go-sse")},
		Contender{Name: "r3labs", Title: "r3labs/sse", About: "One stream for everyone, or one for each user: a connection has one and no more. AutoReplay only where resuming is measured.", Targets: true, Resumes: true, start: inGo("r3labs")},
		Contender{Name: "centrifuge", Title: "centrifugal/centrifuge", About: "Its SSE handler, with server-side subscriptions to three channels: everyone, the user and the topic. A queue of 64 MiB a stream, all that is queued in one flush.", Targets: true, WithBroadcasts: true, start: inGo("centrifuge")},
		Contender{Name: "naive", Title: "a goroutine and a channel each", About: "What one writes in an afternoon with net/http: a channel of 64 events for each stream, an event encoded once, and a publisher that waits for the slowest.", Targets: true, WithBroadcasts: true, Resumes: true, Publishers: 8, start: inGo("naive")},
	)
	return all, leftOut
}

// startCommanded starts a server that is commanded as package control says.
func startCommanded(ctx context.Context, protocol servers.Protocol, name string, args ...string) (*Server, error) {
	p, err := startProcess(name, args...)
	if err != nil {
		return nil, err
	}
	line, err := p.ask(ctx, "")
	var ready control.Ready
	if err == nil {
		ready, err = control.ParseReady(line)
	}
	if err != nil {
		p.stop()
		return nil, err
	}
	scheme := "http://"
	if protocol == servers.HTTP1TLS || protocol == servers.HTTP2TLS {
		scheme = "https://"
	}
	return &Server{
		URL: scheme + ready.Addr + streamQuery, PID: p.pid(), Version: ready.Version, stop: p.stop,
		publish: func(ctx context.Context, c control.Publish) (control.Published, error) {
			line, err := p.ask(ctx, c.String())
			if err != nil {
				return control.Published{}, err
			}
			return control.ParsePublished(line)
		},
		settle: func(ctx context.Context) error {
			line, err := p.ask(ctx, control.Settle)
			if err == nil && line != control.Settled {
				err = fmt.Errorf("the server answered %q to settle", line)
			}
			return err
		},
	}, nil
}

// output returns what a program says that is asked for its version, within a second or so.
func output(ctx context.Context, name string, args ...string) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	b, _ := exec.CommandContext(ctx, name, args...).CombinedOutput() // a version that isn't known is empty
	return string(b)
}
