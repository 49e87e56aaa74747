package natsbroker_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/internal/natstest"
	"github.com/tidings-sse/tidings/natsbroker"
)

func TestAStreamThatIsDeletedIsANewEpoch(t *testing.T) {
	s := natstest.Start(t, natsServer(t), natstest.Config{})
	b := connect(t, natsbroker.ConnectOptions{URL: s.URL()})
	epoch := state(t, b).Epoch
	stored := store(t, b, 0, 3)
	f := follow(t, b, tidings.Position{})
	f.wants(stored...)
	if err := admin(t, s.URL()).DeleteStream(t.Context(), "tidings"); err != nil {
		t.Fatal(err)
	}
	f.ends(tidings.ErrEpoch)
	st := state(t, b)
	if st.Epoch == epoch || !st.Last.IsZero() {
		t.Fatalf("the state is %+v, and the epoch was %s", st, epoch)
	}
	// The new log is followed, and a position of the old one means nothing in it.
	again := store(t, b, 3, 5)
	follow(t, b, tidings.Position{}).wants(again...)
}

func TestAStreamThatIsRecreatedWhileNobodyFollowsItIsANewEpoch(t *testing.T) {
	s := natstest.Start(t, natsServer(t), natstest.Config{})
	b := connect(t, natsbroker.ConnectOptions{URL: s.URL()})
	state(t, b)
	stored := store(t, b, 0, 3)
	f := follow(t, b, tidings.Position{})
	f.wants(stored...)
	f.stop()
	js := admin(t, s.URL())
	old, err := js.Stream(t.Context(), "tidings")
	if err != nil {
		t.Fatal(err)
	}
	// With all its settings, its random word included, and more messages than there were.
	if err := js.DeleteStream(t.Context(), "tidings"); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), old.CachedInfo().Config); err != nil {
		t.Fatal(err)
	}
	store(t, b, 3, 5)
	follow(t, b, stored[2].Position).ends(tidings.ErrEpoch)
}

func TestAStreamThatIsPurgedIsAGap(t *testing.T) {
	s := natstest.Start(t, natsServer(t), natstest.Config{})
	b := connect(t, natsbroker.ConnectOptions{URL: s.URL()})
	stored := store(t, b, 0, 5)
	f := follow(t, b, tidings.Position{})
	f.wants(stored[0])
	f.stop()
	js := admin(t, s.URL())
	st, err := js.Stream(t.Context(), "tidings")
	if err == nil {
		err = st.Purge(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	follow(t, b, stored[0].Position).ends(tidings.ErrGap)
	now := state(t, b)
	if now.Floor != stored[4].Position || now.Last != stored[4].Position {
		t.Fatalf("the state is %+v", now)
	}
	// Who had everything has lost nothing.
	f = follow(t, b, stored[4].Position)
	f.wants(store(t, b, 5, 2)...)
}

func TestAMessageOfSomebodyElseIsAGapAndTheLogGoesOn(t *testing.T) {
	s := natstest.Start(t, natsServer(t), natstest.Config{})
	b := connect(t, natsbroker.ConnectOptions{URL: s.URL()})
	stored := store(t, b, 0, 1)
	f := follow(t, b, tidings.Position{})
	f.wants(stored...)
	if _, err := admin(t, s.URL()).Publish(t.Context(), "tidings.log", []byte("hello")); err != nil {
		t.Fatal(err)
	}
	f.ends(tidings.ErrGap)
	f = follow(t, b, state(t, b).Last)
	f.wants(store(t, b, 1, 2)...)
}

// copyDir copies a directory's files.
func copyDir(t testing.TB, from, to string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "cp", "-a", from+"/.", to).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
}

func TestALogThatIsRestoredFromAnOlderCopyIsAGap(t *testing.T) {
	for name, more := range map[string]int{"before it has grown again": 0, "after it has grown beyond what was read": 20} {
		t.Run(name, func(t *testing.T) {
			s := natstest.Start(t, natsServer(t), natstest.Config{})
			o := natsbroker.ConnectOptions{URL: s.URL()}
			b := connect(t, o)
			stored := store(t, b, 0, 5)
			s.Stop()
			old := t.TempDir()
			copyDir(t, s.Dir, old)
			s.Run()
			s.Await()
			f := follow(t, b, tidings.Position{})
			f.wants(stored...)
			var late []tidings.Record
			eventually(t, "another append", func() error {
				r := record(5)
				as, err := b.Append(bounded(t), []tidings.Record{r})
				if err == nil {
					r.Position = as[0].Position
					late = append(late, r)
				}
				return err
			})
			late = append(late, store(t, b, 6, 4)...)
			f.wants(late...)
			s.Stop()
			if err := os.RemoveAll(s.Dir); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(s.Dir, 0o700); err != nil {
				t.Fatal(err)
			}
			copyDir(t, old, s.Dir)
			s.Run()
			s.Await()
			if more > 0 { // another node is faster than this one's tail
				store(t, connect(t, o), 100, more)
			}
			f.ends(tidings.ErrGap)
			f = follow(t, b, state(t, b).Last)
			f.wants(store(t, b, 200, 2)...)
		})
	}
}

func TestWithoutAConnectionNothingIsStoredAndItIsCertain(t *testing.T) {
	s := natstest.Start(t, natsServer(t), natstest.Config{})
	b := connect(t, natsbroker.ConnectOptions{URL: s.URL(), Options: natsbroker.Options{AppendTimeout: 2 * time.Second}})
	state(t, b)
	stored := store(t, b, 0, 2)
	f := follow(t, b, tidings.Position{})
	f.wants(stored...)
	s.Stop()
	eventually(t, "an append that is refused", func() error {
		_, err := b.Append(bounded(t), []tidings.Record{keyed(2, "k")})
		if err == nil {
			t.Fatal("an append was acknowledged by nobody")
		}
		if !errors.Is(err, tidings.ErrNotStored) || !errors.Is(err, tidings.ErrUnavailable) {
			return err // in the moment in which the connection breaks, it isn't
		}
		return nil
	})
	// A tail says that it can't follow.
	err := b.Tail(bounded(t), stored[1].Position, func([]tidings.Record) error { return nil })
	if !errors.Is(err, tidings.ErrUnavailable) {
		t.Errorf("Tail returned %v", err)
	}
	if _, err := b.State(bounded(t)); !errors.Is(err, tidings.ErrUnavailable) {
		t.Errorf("State returned %v", err)
	}
	s.Run()
	s.Await()
	r := keyed(2, "k")
	eventually(t, "an append that succeeds", func() error {
		as, err := b.Append(bounded(t), []tidings.Record{r})
		if err == nil {
			r.Position, r.Nonce = as[0].Position, as[0].Nonce
		}
		return err
	})
	f.wants(r)
	sameRecords(t, read(t, b), append(stored, r))
}

func TestAServerThatIsPausedLeavesTheOutcomeOpenAndTheKeySettlesIt(t *testing.T) {
	s := natstest.Start(t, natsServer(t), natstest.Config{})
	b := connect(t, natsbroker.ConnectOptions{URL: s.URL(), Options: natsbroker.Options{AppendTimeout: time.Second}})
	state(t, b)
	stored := store(t, b, 0, 2)
	f := follow(t, b, tidings.Position{})
	f.wants(stored...)
	s.Pause()
	first := keyed(2, "k")
	_, err := b.Append(bounded(t), []tidings.Record{first})
	if err == nil || errors.Is(err, tidings.ErrNotStored) || !errors.Is(err, tidings.ErrUnavailable) {
		t.Fatalf("the append of what was handed over returned %v", err)
	}
	s.Resume()
	again := keyed(2, "k")
	eventually(t, "the same with its key", func() error {
		as, err := b.Append(bounded(t), []tidings.Record{again})
		if err == nil {
			again.Position, again.Nonce = as[0].Position, as[0].Nonce
		}
		return err
	})
	f.wants(again) // once, whichever of them it was
	sameRecords(t, read(t, b), append(stored, again))
}

func TestALogOnAFullDiskRefusesBeforeItIsStuck(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=96m"); err != nil {
		t.Skipf("a small file system can't be mounted here (%v): run this as root", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	b, err := natsbroker.Embed(t.Context(), natsbroker.EmbedOptions{Dir: filepath.Join(dir, "log"), Options: natsbroker.Options{MaxBytes: 60 << 20, Logger: quiet()}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	f := follow(t, b, tidings.Position{})
	filler := filepath.Join(dir, "filler")
	file, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var stored []tidings.Record
	full := 0
	for n := 0; full < 3; n++ {
		r := record(n)
		as, err := b.Append(bounded(t), []tidings.Record{r})
		switch {
		case err == nil:
			r.Position = as[0].Position
			stored = append(stored, r)
			f.wants(r)
			if _, err := file.Write(make([]byte, 1<<20)); err != nil {
				t.Fatal(err)
			}
		case errors.Is(err, tidings.ErrStorageFull) && errors.Is(err, tidings.ErrNotStored):
			full++
		default:
			t.Fatal(err)
		}
		if n > 200 {
			t.Fatal("it never was full")
		}
	}
	sameRecords(t, read(t, b), stored)
	if err := errors.Join(file.Close(), os.Remove(filler)); err != nil {
		t.Fatal(err)
	}
	more := store(t, b, 1000, 3)
	f.wants(more...)
}

func TestThreeNodesHoldTheLogTogether(t *testing.T) {
	ports := make([]string, 3)
	for i := range ports {
		ports[i] = fmt.Sprintf("127.0.0.1:%d", natstest.FreePort(t))
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
		stored = append(stored, store(t, nodes[i%3], i, 1)...)
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
