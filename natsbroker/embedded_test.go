package natsbroker_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/natsbroker"
)

func TestOptionsThatCantWorkAreRefusedWithARemedy(t *testing.T) {
	for name, c := range map[string]struct {
		o    natsbroker.EmbedOptions
		want string
	}{
		"no directory":        {natsbroker.EmbedOptions{}, "Dir"},
		"a stream's name":     {natsbroker.EmbedOptions{Dir: "x", Options: natsbroker.Options{Stream: "a.b"}}, "Stream"},
		"negative":            {natsbroker.EmbedOptions{Dir: "x", Options: natsbroker.Options{MaxBytes: -1}}, "MaxBytes"},
		"a window":            {natsbroker.EmbedOptions{Dir: "x", Options: natsbroker.Options{MaxAge: time.Minute, IdempotencyWindow: time.Hour}}, "IdempotencyWindow"},
		"events too large":    {natsbroker.EmbedOptions{Dir: "x", Options: natsbroker.Options{MaxEventBytes: 64 << 20}}, "MaxEventBytes"},
		"peers alone":         {natsbroker.EmbedOptions{Dir: "x", ClusterPeers: []string{"127.0.0.1:1"}}, "ClusterPeers"},
		"too few peers":       {natsbroker.EmbedOptions{Dir: "x", ClusterListen: "127.0.0.1:1", ClusterPeers: []string{"127.0.0.1:2"}}, "ClusterPeers"},
		"a peer without port": {natsbroker.EmbedOptions{Dir: "x", ClusterListen: "127.0.0.1:1", ClusterPeers: []string{"127.0.0.1", "127.0.0.1:3"}}, "ClusterPeers"},
		"an address":          {natsbroker.EmbedOptions{Dir: "x", ClusterListen: "here"}, "ClusterListen"},
	} {
		_, err := natsbroker.Embed(t.Context(), c.o)
		if e, ok := errors.AsType[*tidings.InvalidError](err); !ok || e.Field != c.want || e.Hint == "" {
			t.Errorf("%s: %v, want one of %s with a hint", name, err, c.want)
		}
	}
	if _, err := os.Stat("x"); err == nil {
		t.Error("a directory was made for options that can't work")
	}
}

func TestADirectoryIsOneProcesss(t *testing.T) {
	dir := t.TempDir()
	embed(t, natsbroker.EmbedOptions{Dir: dir})
	_, err := natsbroker.Embed(t.Context(), natsbroker.EmbedOptions{Dir: dir, Options: natsbroker.Options{Logger: quiet()}})
	if err == nil || !strings.Contains(err.Error(), "another process has the log open") {
		t.Fatalf("got %v", err)
	}
}

func TestADirectoryOfOneNodeIsNotOneOfACluster(t *testing.T) {
	alone := natsbroker.EmbedOptions{Options: natsbroker.Options{Logger: quiet()}}
	part := natsbroker.EmbedOptions{
		ClusterListen: "127.0.0.1:16231", ClusterPeers: []string{"127.0.0.1:16232", "127.0.0.1:16233"},
		Options: natsbroker.Options{Logger: quiet()},
	}
	for name, c := range map[string]struct {
		first, then natsbroker.EmbedOptions
		remedy      string
	}{
		"one node's log as a cluster's": {alone, part, "give each node of the cluster an empty one"},
		"a cluster's as one node's":     {part, alone, "start it with the cluster's addresses"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.first.Dir = t.TempDir()
			c.then.Dir = c.first.Dir
			ctx, cancel := context.WithTimeout(t.Context(), time.Second) // alone, the cluster's node would wait for ever
			defer cancel()
			if b, err := natsbroker.Embed(ctx, c.first); err == nil {
				if err := b.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := natsbroker.Embed(t.Context(), c.then); err == nil || !strings.Contains(err.Error(), c.remedy) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestLimitsThatTheDiskHasNoRoomForAreRefused(t *testing.T) {
	_, err := natsbroker.Embed(t.Context(), natsbroker.EmbedOptions{Dir: t.TempDir(), Options: natsbroker.Options{MaxBytes: 1 << 60, Logger: quiet()}})
	if err == nil || !strings.Contains(err.Error(), "has room for") {
		t.Fatalf("got %v", err)
	}
}

func TestAReopenedLogGoesOnWithOtherLimits(t *testing.T) {
	dir := t.TempDir()
	b := embed(t, natsbroker.EmbedOptions{Dir: dir, Options: natsbroker.Options{MaxEvents: 1000}})
	stored := store(t, b, 0, 20)
	epoch := state(t, b).Epoch
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = embed(t, natsbroker.EmbedOptions{Dir: dir, SyncAlways: true, Options: natsbroker.Options{MaxEvents: 10}})
	st := state(t, b)
	if st.Epoch != epoch || st.Last != stored[19].Position {
		t.Fatalf("the state is %+v, want the epoch %s and the last %v", st, epoch, stored[19].Position)
	}
	sameRecords(t, read(t, b), stored[10:])
}

func TestADamagedNodeNameIsAnError(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "node"), []byte("not a name\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := natsbroker.Embed(t.Context(), natsbroker.EmbedOptions{Dir: dir, Options: natsbroker.Options{Logger: quiet()}})
	if err == nil || !strings.Contains(err.Error(), "node's name") {
		t.Fatalf("got %v", err)
	}
}

func TestManyBlocksOfOneAppendStandSideBySide(t *testing.T) {
	b := embed(t, natsbroker.EmbedOptions{})
	rs := make([]tidings.Record, 5000)
	for i := range rs {
		rs[i] = record(i)
		rs[i].Data = append(rs[i].Data, make([]byte, 100)...)
		if i%1000 == 0 {
			rs[i].IdempotencyKey = fmt.Sprint("k", i)
		}
	}
	as, err := b.Append(bounded(t), rs)
	if err != nil {
		t.Fatal(err)
	}
	for i := range as {
		rs[i].Position = as[i].Position
	}
	f := follow(t, b, tidings.Position{})
	f.wants(rs...)
	if s := b.LogStats(); s.Appends != 1 || s.Events != 5000 || s.Messages < 10 || s.AppendMaxMs <= 0 {
		t.Errorf("the statistics are %+v", s)
	}
}

func TestATailThatIsBehindIsSeenInTheStatistics(t *testing.T) {
	b := embed(t, natsbroker.EmbedOptions{Options: natsbroker.Options{MaxEvents: 20}})
	f := follow(t, b, tidings.Position{})
	stored := store(t, b, 0, 10)
	state(t, b)
	if n := b.LogStats().Behind; n < 9 {
		t.Errorf("it is %d messages behind", n)
	}
	f.wants(stored...)
	eventually(t, "it has caught up", func() error {
		if n := b.LogStats().Behind; n != 0 {
			return fmt.Errorf("%d messages behind", n)
		}
		return nil
	})
}

func TestAClosedLogsTailEnds(t *testing.T) {
	b := embed(t, natsbroker.EmbedOptions{})
	f := follow(t, b, tidings.Position{})
	store(t, b, 0, 1)
	<-f.got
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	f.ends(tidings.ErrClosed)
}

func TestWaitingForTheOtherNodesEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	_, err := natsbroker.Embed(ctx, natsbroker.EmbedOptions{
		Dir: t.TempDir(), ClusterListen: "127.0.0.1:16221", ClusterPeers: []string{"127.0.0.1:16222", "127.0.0.1:16223"},
		Options: natsbroker.Options{Logger: quiet()},
	})
	if err == nil || !strings.Contains(err.Error(), "majority") {
		t.Fatalf("got %v", err)
	}
}

// A countdown is a context that ends when it was looked at so many times: each step of what runs with it looks at it.
type countdown struct {
	context.Context
	cancel context.CancelFunc
	left   atomic.Int32
}

func (c *countdown) Done() <-chan struct{} {
	if c.left.Add(-1) < 0 {
		c.cancel()
	}
	return c.Context.Done()
}

func TestALogThatIsGivenUpWhileItIsBegunLeavesNothingRunning(t *testing.T) {
	const fewest, most = 4, 500 // steps
	for steps := range most {   // at each of them: TestMain looks for what is left
		n, err := natsbroker.Start(natsbroker.EmbedOptions{Dir: t.TempDir(), Options: natsbroker.Options{Logger: quiet()}})
		if err != nil {
			t.Fatal(err)
		}
		ctx := &countdown{}
		ctx.Context, ctx.cancel = context.WithCancel(t.Context())
		ctx.left.Store(int32(steps))
		b, err := n.Open(ctx)
		ctx.cancel()
		if err == nil {
			if err := b.Close(); err != nil {
				t.Error(err)
			}
			if steps < fewest {
				t.Errorf("it was open after %d steps: it looks at its context less often than this test needs", steps)
			}
			return
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("after %d steps it ended with %v", steps, err)
		}
	}
	t.Errorf("after %d steps it was not open", most)
}
