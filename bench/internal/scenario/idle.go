package scenario

import (
	"context"
	"fmt"
	"time"

	"github.com/tidings-sse/tidings/bench/internal/contender"
	"github.com/tidings-sse/tidings/bench/internal/servers"
	"github.com/tidings-sse/tidings/internal/load"
)

// A transport is what idle streams are spoken over.
type transport struct {
	protocol servers.Protocol
	streams  int // on one connection
	metric   string
}

// Metrics of idle.
const (
	Resident     = "resident"                       // the slope between two sizes
	Live         = "live"                           // after the garbage was collected, over the empty server
	ResidentTLS  = "resident, TLS"                  //
	ResidentH2   = "resident, HTTP/2 TLS, 1 each"   // a stream a connection
	ResidentH2M  = "resident, HTTP/2 TLS, 100 each" // 100 streams a connection
	ResidentH2C  = "resident, h2c, 1 each"          //
	ResidentH2CM = "resident, h2c, 100 each"        //
)

const bytesPerStream = "B/stream"

func idle() Scenario {
	const name = "idle"
	return Scenario{
		Name: name, Title: "resident memory per idle stream",
		about: func(s Scale) string {
			return fmt.Sprintf("The server's resident memory with %d streams and with %d, %v after the last of them has opened; the difference, for each stream. Each stream has a client, a user, a session and a topic where the server knows them. No garbage collection is asked for. %q is what is left after one was, over the empty server. Over TLS and HTTP/2: %d and %d streams.",
				s.IdleFrom, s.IdleTo, s.Settle, Live, s.OtherFrom, s.OtherTo)
		},
		run: func(ctx context.Context, b *Bench) {
			plain := transport{servers.HTTP1, 1, Resident}
			b.rounds(ctx, name, func(c contender.Contender) int {
				if c.Name == contender.TidingsServe {
					return 0 // over HTTP/1.1 no handler stays: it is Tidings
				}
				if ours(c) {
					return b.Scale.IdleRounds
				}
				return 1
			}, func(ctx context.Context, r *round) error {
				return r.idle(ctx, plain, b.Scale.IdleFrom, b.Scale.IdleTo)
			})
			for _, t := range []transport{
				{servers.HTTP1TLS, 1, ResidentTLS},
				{servers.HTTP2TLS, 1, ResidentH2}, {servers.HTTP2TLS, 100, ResidentH2M},
				{servers.H2C, 1, ResidentH2C}, {servers.H2C, 100, ResidentH2CM},
			} {
				b.rounds(ctx, name, func(c contender.Contender) int {
					if c.Name == contender.Tidings || c.Name == contender.TidingsServe && t.protocol == servers.H2C {
						return b.Scale.IdleRounds // over HTTP/2 a handler stays, and that of the program is a deeper one
					}
					return 0
				}, func(ctx context.Context, r *round) error {
					return r.idle(ctx, t, b.Scale.OtherFrom, b.Scale.OtherTo)
				})
			}
		},
	}
}

func (r *round) idle(ctx context.Context, t transport, from, to int) error {
	s, err := r.start(ctx, contender.Options{Protocol: t.protocol})
	if err != nil {
		return err
	}
	defer s.end()
	if _, err := s.server.Settle(ctx); err != nil {
		return err
	}
	empty, err := s.memory()
	if err != nil {
		return err
	}
	at := func(url string, streams int) (int64, *load.Client, error) {
		c, err := s.connect(ctx, t.protocol, load.Config{URL: url, Connections: streams, StreamsPerConnection: t.streams})
		if err == nil {
			err = pause(ctx, r.Scale.Settle)
		}
		if err != nil {
			return 0, c, err
		}
		m, err := s.memory()
		return m, c, err
	}
	first, few, err := at(s.server.URL, from)
	if few != nil {
		defer few.Close()
	}
	if err != nil {
		return err
	}
	second, many, err := at(s.others(), to-from)
	if many != nil {
		defer many.Close()
	}
	if err != nil {
		return err
	}
	r.add(t.metric, bytesPerStream, float64(second-first)/float64(to-from))
	settles, err := s.server.Settle(ctx)
	if err != nil || !settles || t.metric != Resident {
		return err
	}
	if err := pause(ctx, 200*time.Millisecond); err != nil { // the kernel takes a moment to unmap
		return err
	}
	live, err := s.memory()
	if err != nil {
		return err
	}
	r.add(Live, bytesPerStream, float64(live-empty)/float64(to))
	return nil
}
