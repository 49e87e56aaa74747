package natsbroker_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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

// smallDisk returns a directory with 96 MiB of space, and how much of that is to stay free. Where none can be mounted, it is
// one on a larger disk, of which all the rest is to stay free.
func smallDisk(t *testing.T) (dir string, reserve int64) {
	const size = 96 << 20
	dir = t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err == nil {
		t.Cleanup(func() {
			if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
		return dir, 0
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	free := int64(st.Bavail) * int64(st.Bsize)
	if free < 2*size {
		t.Fatalf("%s has %d MiB left: make room", dir, free>>20)
	}
	return dir, free - size
}

func TestALogOnAFullDiskRefusesBeforeItIsStuck(t *testing.T) {
	dir, reserve := smallDisk(t)
	b, err := natsbroker.Embed(t.Context(), natsbroker.EmbedOptions{
		Dir: filepath.Join(dir, "log"), ReserveBytes: reserve, Options: natsbroker.Options{MaxBytes: 60 << 20, Logger: quiet()},
	})
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
