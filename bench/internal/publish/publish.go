// Package publish makes the events of a load and sends them on time. Every server under test that is in Go uses it in its
// own process, and the benchmark uses it for those that are published to over HTTP.
package publish

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidings-sse/tidings/bench/internal/control"
	"github.com/tidings-sse/tidings/internal/load"
)

// Func sends one event in whatever way the server has, and returns when the server's call does. user is empty for
// everyone. It is called by all publishers at the same time, and may keep data.
type Func func(ctx context.Context, user string, data []byte) error

// Run publishes. It returns the first error of send, after all publishers have ended.
//
// Where there is a rate, publisher p's event k is due at (k*Publishers+p)/Rate after the start, whatever became of those
// before it, and says so in its data: what a late publisher or a blocking server costs is in the latencies.
func Run(ctx context.Context, c control.Publish, send Func) (control.Published, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		group sync.WaitGroup
		sent  atomic.Int64
		start = time.Now()
	)
	for p := range c.Publishers {
		group.Go(func() {
			if err := publishOne(ctx, c, p, start, &sent, send); err != nil {
				cancel(err)
			}
		})
	}
	beside := make(chan struct{})
	stop := make(chan struct{})
	go func() {
		defer close(beside)
		if err := sendBeside(ctx, c, send, stop); err != nil {
			cancel(fmt.Errorf("a broadcast beside: %w", err))
		}
	}()
	group.Wait()
	close(stop)
	<-beside
	return control.Published{Count: int(sent.Load()), Start: start, End: time.Now()}, context.Cause(ctx)
}

// publishOne publishes the events of publisher p, and counts them in sent.
func publishOne(ctx context.Context, c control.Publish, p int, start time.Time, sent *atomic.Int64, send Func) error {
	clock, err := newAlarm()
	if err != nil {
		return err
	}
	defer clock.close()
	s := newSchedule(c, p)
	for s.next() && ctx.Err() == nil {
		due := time.Now()
		if c.Rate > 0 {
			due = start.Add(time.Duration(float64(s.n) / c.Rate * float64(time.Second)))
			if err := clock.sleepUntil(due); err != nil {
				return err
			}
		}
		s.stamp.Intended = due.UnixNano()
		user := ""
		if c.Kind == control.Unicast {
			user = User(s.target)
		}
		if err := send(ctx, user, load.AppendPayload(make([]byte, 0, c.Size), s.stamp, c.Size)); err != nil {
			return fmt.Errorf("event %d of publisher %d: %w", s.stamp.Seq, s.stamp.Publisher, err)
		}
		sent.Add(1)
	}
	return nil
}

// sendBeside sends the broadcasts that are not stamped, until stop is closed.
func sendBeside(ctx context.Context, c control.Publish, send Func, stop <-chan struct{}) error {
	if c.Beside == 0 {
		return nil
	}
	every := time.NewTicker(time.Duration(float64(time.Second) / c.Beside))
	defer every.Stop()
	data := fmt.Appendf(nil, `{"x":"%s"}`, strings.Repeat(".", max(c.Size-8, 0)))
	for {
		if err := send(ctx, "", data); err != nil {
			return err
		}
		select {
		case <-every.C:
		case <-stop:
			return nil
		}
	}
}

// User returns the nth user's id.
func User(n int) string { return "user-" + strconv.Itoa(n) }

// Ledger returns what each stream must have once the command was carried out: the schedule is the same each time.
func Ledger(c control.Publish) *load.Ledger {
	l := load.NewLedger()
	for p := range c.Publishers {
		s := newSchedule(c, p)
		for s.next() {
		}
		for target, sent := range s.sent {
			if sent > 0 {
				l.Set(s.stamp.Publisher, s.stamp.Class, target, sent)
			}
		}
	}
	return l
}

// A schedule is the events of one publisher.
type schedule struct {
	c      control.Publish
	random *rand.Rand

	n      int        // of the event, over all publishers
	target int        // the user's number; 0 of a broadcast
	stamp  load.Stamp // of the event, but for its time
	sent   []uint64   // events for each target
}

func newSchedule(c control.Publish, publisher int) *schedule {
	s := &schedule{c: c, random: rand.New(rand.NewPCG(1, uint64(publisher))), n: publisher - c.Publishers, sent: make([]uint64, 1)}
	s.stamp.Publisher, s.stamp.Class = c.Pub+publisher, load.Broadcast
	if c.Kind == control.Unicast {
		s.stamp.Class, s.sent = load.ToUser, make([]uint64, c.Users)
	}
	return s
}

// next makes the next event, and reports whether there is one.
func (s *schedule) next() bool {
	if s.n += s.c.Publishers; s.n >= s.c.Count {
		return false
	}
	if s.c.Kind == control.Unicast {
		s.target = s.random.IntN(s.c.Users)
	}
	s.sent[s.target]++
	s.stamp.Seq++
	s.stamp.Key = s.sent[s.target]
	return true
}
