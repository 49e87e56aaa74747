package scenario

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"time"

	"github.com/tidings-sse/tidings/bench/internal/contender"
	"github.com/tidings-sse/tidings/bench/internal/control"
	"github.com/tidings-sse/tidings/bench/internal/proc"
	"github.com/tidings-sse/tidings/internal/load"
)

// Metrics of stalled.
const (
	P99Without = "p99 without"
	P99With    = "p99 with"
	Pinned     = "kernel memory, the most"
)

// stalledSize is the size of an event: large enough to fill what a stalled stream may pin.
const stalledSize = 1024

// stalledReceive is the receive buffer of a client that stalls. What it takes in isn't the server's.
const stalledReceive = 4096

// stalledGrace is how much longer than the schedule the deliveries may take.
const stalledGrace = 10 * time.Second

// stalledFrom is the address that they connect from, which tells their sockets from others.
var stalledFrom = netip.AddrFrom4([4]byte{127, 0, 0, 77})

func stalled() Scenario {
	const name = "stalled"
	return Scenario{
		Name: name, Title: "clients that stop reading",
		about: func(s Scale) string {
			return fmt.Sprintf("%d broadcasts/s of %d bytes for %v, to %d streams of which %d don't read, and once more with all reading: the latency of the others, and the most kernel memory (of the server's sockets, as ss shows it) that one of them has at the end.", int(s.Rate), stalledSize, s.StalledFor, s.Connections, s.Stalled)
		},
		run: func(ctx context.Context, b *Bench) {
			if _, err := exec.LookPath("ss"); err != nil {
				b.Results.LeftOut = append(b.Results.LeftOut, "kernel memory of stalled streams: there is no ss (Debian's iproute2)")
			}
			b.rounds(ctx, name, func(c contender.Contender) int {
				switch c.Name {
				case contender.Tidings:
					return b.Scale.Rounds
				case contender.TidingsServe, contender.Floor: // the floor waits for everybody, and says so
					return 0
				}
				return 1
			}, stalledRound)
		},
	}
}

func stalledRound(ctx context.Context, r *round) error {
	without, _, err := r.stalled(ctx, 0)
	if err != nil {
		return err
	}
	r.add(P99Without, "ms", without.Latency.P99)
	with, pinned, err := r.stalled(ctx, r.Scale.Stalled)
	if err != nil {
		return fmt.Errorf("with stalled streams: %w", err)
	}
	r.add(P99With, "ms", with.Latency.P99)
	r.add(Lost, "events", float64(with.Lost))
	if len(pinned) > 0 {
		r.add(Pinned, "KiB", float64(slices.Max(pinned))/1024)
	}
	return nil
}

// stalled returns what the streams saw that read, and the kernel memory of each of the server's sockets of those that
// don't. Those are streams of a client of their own.
func (r *round) stalled(ctx context.Context, stalled int) (got measured, pinned []int64, err error) {
	s, err := r.open(ctx, contender.Options{}, load.Config{Connections: r.Scale.Connections - stalled})
	if err != nil {
		return got, nil, err
	}
	defer s.end()
	if stalled > 0 {
		c, err := s.connect(ctx, "", load.Config{
			URL: s.others(), Connections: stalled, ReceiveBuffer: stalledReceive, Sources: []netip.Addr{stalledFrom},
			Slow: load.Slow{Connections: stalled},
		})
		if err != nil {
			return got, nil, err
		}
		defer c.Close()
	}
	if err := s.warm(ctx); err != nil {
		return got, nil, err
	}
	// A server that waits for the stalled ones would do so for as long as TCP does.
	within, cancel := context.WithTimeoutCause(ctx, r.Scale.StalledFor+stalledGrace, errors.New("some clients stall all others"))
	defer cancel()
	got, err = s.paced(within, control.Publish{Kind: control.Broadcast, Count: int(r.Scale.Rate * r.Scale.StalledFor.Seconds()), Rate: r.Scale.Rate, Size: stalledSize})
	if err != nil || stalled == 0 {
		return got, nil, err
	}
	pinned, err = proc.SocketMemory(ctx, stalledFrom)
	return got, pinned, err
}
