package natsbroker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/internal/natstest"
	"github.com/tidings-sse/tidings/natsbroker"
)

func TestThreeNodesHoldTheLogTogether(t *testing.T) {
	ports := make([]string, 3)
	for i, port := range natstest.FreePorts(t, len(ports)) {
		ports[i] = fmt.Sprintf("127.0.0.1:%d", port)
	}
	open := func(ctx context.Context, dir string, i int) (*natsbroker.Broker, error) {
		return natsbroker.Embed(ctx, natsbroker.EmbedOptions{
			Dir: dir, ClusterListen: ports[i], ClusterPeers: ports, ClusterSecret: "secret",
			Options: natsbroker.Options{Logger: quiet()},
		})
	}
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	nodes := make([]*natsbroker.Broker, 3)
	var wg sync.WaitGroup
	for i := range nodes {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), within)
			defer cancel()
			var err error
			if nodes[i], err = open(ctx, dirs[i], i); err != nil {
				t.Errorf("node %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	defer func() {
		for _, n := range nodes {
			_ = n.Close()
		}
	}()
	var stored []tidings.Record
	var fs []*follower
	for _, n := range nodes {
		fs = append(fs, follow(t, n, tidings.Position{}))
	}
	for i := range 9 {
		r := record(i)
		// A node may not have heard yet that another one takes what is published: nothing is stored then, and that is said.
		eventually(t, "an append that succeeds", func() error {
			as, err := nodes[i%3].Append(bounded(t), []tidings.Record{r})
			if err == nil {
				r.Position = as[0].Position
			} else if !errors.Is(err, tidings.ErrNotStored) {
				t.Fatal(err)
			}
			return err
		})
		stored = append(stored, r)
	}
	for _, f := range fs {
		f.wants(stored...)
	}
	// Many blocks through two nodes at once: each append is one piece.
	big := func(n int) []tidings.Record {
		rs := make([]tidings.Record, 1500)
		for i := range rs {
			rs[i] = record(n + i)
			rs[i].Data = append(rs[i].Data, make([]byte, 100)...)
		}
		return rs
	}
	var mu sync.Mutex
	for i, n := range nodes[:2] {
		wg.Go(func() {
			for call := range 3 {
				rs := big(1_000_000*(i+1) + 10_000*call)
				as, err := n.Append(bounded(t), rs)
				if err != nil {
					t.Error(err)
					return
				}
				first, last := as[0].Position.Hi, as[len(as)-1].Position.Hi
				if last-first > 10 {
					t.Errorf("an append of a few blocks lies between %d and %d", first, last)
				}
				mu.Lock()
				for j := range rs {
					rs[j].Position = as[j].Position
				}
				mu.Unlock()
			}
		})
	}
	for range 2 * 3 * 1500 {
		select {
		case r := <-fs[2].got:
			stored = append(stored, r)
		case err := <-fs[2].end:
			t.Fatal(err)
		case <-time.After(within):
			t.Fatal("an event never came")
		}
	}
	wg.Wait()
	for i := 9; i < len(stored); i += 1500 {
		for j := range 1500 {
			if string(stored[i+j].Data[:7]) != string(fmt.Appendf(nil, "%d", number(stored[i].Data[:7])+j)) {
				t.Fatalf("record %d is %.7s in an append that begins with %.7s", i+j, stored[i+j].Data, stored[i].Data)
			}
		}
	}
	fs[0].wants(stored[9:]...)
	fs[1].wants(stored[9:]...)
	// One of them goes, and the others go on.
	fs[0].stop()
	if err := nodes[0].Close(); err != nil {
		t.Fatal(err)
	}
	r := keyed(1, "k")
	eventually(t, "an append with two of three nodes", func() error {
		as, err := nodes[1].Append(bounded(t), []tidings.Record{r})
		if err == nil {
			r.Position, r.Nonce = as[0].Position, as[0].Nonce
		}
		return err
	})
	fs[1].wants(r)
	fs[2].wants(r)
	// It comes back, and has everything.
	var err error
	if nodes[0], err = open(t.Context(), dirs[0], 0); err != nil {
		t.Fatal(err)
	}
	follow(t, nodes[0], stored[8].Position).wants(append(stored[9:], r)...)
	// One that lost its disk is the same node again.
	if err := nodes[1].Close(); err != nil {
		t.Fatal(err)
	}
	if nodes[1], err = open(t.Context(), t.TempDir(), 1); err != nil {
		t.Fatal(err)
	}
	follow(t, nodes[1], stored[8].Position).wants(append(stored[9:], r)...)
	eventually(t, "an append with three nodes again", func() error {
		_, err := nodes[1].Append(bounded(t), []tidings.Record{record(2)})
		return err
	})
}

func number(data []byte) (n int) {
	_, _ = fmt.Sscan(string(data), &n)
	return n
}

func TestNodesAskEachOther(t *testing.T) {
	s := natstest.Start(t, natsServer(t), natstest.Config{})
	o := natsbroker.ConnectOptions{URL: s.URL()}
	a, b, c := connect(t, o), connect(t, o), connect(t, o)
	echo := func(name string) func([]byte) []byte {
		return func(q []byte) []byte { return append([]byte(name+" "), q...) }
	}
	a.Answer(echo("a"))
	b.Answer(echo("b"))
	c.Answer(echo("c"))
	ask := func(want int) [][]byte {
		t.Helper()
		var answers [][]byte
		eventually(t, fmt.Sprintf("%d others", want), func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			as, others, err := a.Ask(ctx, []byte("?"))
			if err == nil && (len(as) != want || others != want) {
				err = fmt.Errorf("%d answers of %d others", len(as), others)
			}
			answers = as
			return err
		})
		return answers
	}
	for _, ans := range ask(2) {
		if s := string(ans); s != "b ?" && s != "c ?" {
			t.Errorf("the answer is %q", s)
		}
	}
	b.Answer(nil) // it goes, and says so
	ask(1)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	ask(0)
}

func TestAnAnswerThatIsTooLargeForNATSIsMissingAtOnceAndIsLogged(t *testing.T) {
	s := natstest.Start(t, natsServer(t), natstest.Config{})
	var log lockedBuffer
	a := connect(t, natsbroker.ConnectOptions{URL: s.URL()})
	b := connect(t, natsbroker.ConnectOptions{URL: s.URL(), Options: natsbroker.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}})
	a.Answer(func([]byte) []byte { return nil })
	b.Answer(func([]byte) []byte { return make([]byte, 9<<20) })
	eventually(t, "the other is there", func() error {
		ctx := bounded(t) // without an answer, Ask would take all of it
		answers, others, err := a.Ask(ctx, []byte("?"))
		if err == nil && others != 1 {
			err = fmt.Errorf("%d others", others)
		}
		if len(answers) != 0 || ctx.Err() != nil {
			t.Errorf("%d answers, %v", len(answers), ctx.Err())
		}
		return err
	})
	if !strings.Contains(log.String(), "max_payload") {
		t.Errorf("the log: %s", log.String())
	}
}
