package natsbroker_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/internal/natstest"
	"github.com/tidings-sse/tidings/natsbroker"
)

// blocks returns the files of a directory's messages.
func blocks(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", "*", "msgs", "*.blk"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	return files
}

func TestALogWhoseFilesAreEmptyBeginsBehindWhatTheyHeldAndSaysSo(t *testing.T) {
	dir := t.TempDir()
	b := embed(t, natsbroker.EmbedOptions{Dir: dir})
	last := store(t, b, 0, 5)[4].Position
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for _, file := range blocks(t, dir) {
		if err := os.Truncate(file, 0); err != nil {
			t.Fatal(err)
		}
	}
	var log lockedBuffer
	b = embed(t, natsbroker.EmbedOptions{Dir: dir, Options: natsbroker.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}})
	for range 2 {
		if st := state(t, b); st.Floor != last || st.Last != last {
			t.Errorf("the state is %+v", st)
		}
	}
	follow(t, b, last).wants(store(t, b, 5, 1)...)
	if s := log.String(); strings.Count(s, "holds nothing any more") != 1 || !strings.Contains(s, "level=ERROR") {
		t.Errorf("the log: %s", s)
	}
}

func TestALogWhoseFilesLackEventsBeginsBehindThemAndSaysSo(t *testing.T) {
	cut := func(percent int64) func(*testing.T, []string) {
		return func(t *testing.T, files []string) {
			last := files[len(files)-1]
			info, err := os.Stat(last)
			if err == nil {
				err = os.Truncate(last, info.Size()*percent/100)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	const events = 36 // of 300 KiB: three files
	for name, c := range map[string]struct {
		damage func(*testing.T, []string)
		end    bool // what is missing is the end
	}{
		"cut between two":   {cut(50), true},
		"cut in the middle": {cut(45), true},
		"a file in between lost": {func(t *testing.T, files []string) {
			if err := os.Remove(files[len(files)/2]); err != nil {
				t.Fatal(err)
			}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			o := natsbroker.EmbedOptions{Dir: dir, Options: natsbroker.Options{MaxBytes: 16 << 20}}
			b := embed(t, o)
			var stored []tidings.Record
			for i := range events {
				r := record(i)
				r.Data = append(r.Data, make([]byte, 300<<10)...)
				as, err := b.Append(bounded(t), []tidings.Record{r})
				if err != nil {
					t.Fatal(err)
				}
				r.Position = as[0].Position
				stored = append(stored, r)
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			files := blocks(t, dir)
			if len(files) < 3 {
				t.Fatalf("the messages are in %d files", len(files))
			}
			c.damage(t, files)
			for range 2 { // and after another start
				var log lockedBuffer
				o.Logger = slog.New(slog.NewTextHandler(&log, nil))
				b = embed(t, o)
				st := state(t, b)
				if st.Last != stored[len(stored)-1].Position || st.Floor.IsZero() || (st.Floor == stored[events-1].Position) != c.end {
					t.Fatalf("the state is %+v of %d", st, len(stored))
				}
				follow(t, b, tidings.Position{}).ends(tidings.ErrGap)
				follow(t, b, stored[st.Floor.Hi-2].Position).ends(tidings.ErrGap)
				f := follow(t, b, st.Floor)
				f.wants(stored[st.Floor.Hi:]...)
				stored = append(stored, store(t, b, 100, 1)...)
				f.wants(stored[len(stored)-1])
				if s := log.String(); strings.Count(s, "lack events") != 1 || !strings.Contains(s, "level=ERROR") || !strings.Contains(s, "nothing needs to be done") {
					t.Errorf("the log: %s", s)
				}
				if err := b.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// deletable makes a log on a server anew, so that a message can be deleted, as a damaged file lacks it.
func deletable(t *testing.T, s *natstest.Server) (*natsbroker.Broker, jetstream.Stream) {
	t.Helper()
	b := connect(t, natsbroker.ConnectOptions{URL: s.URL()})
	js := admin(t, s.URL())
	st, err := js.Stream(t.Context(), "tidings")
	if err != nil {
		t.Fatal(err)
	}
	cfg := st.CachedInfo().Config
	cfg.DenyDelete = false
	if err := js.DeleteStream(t.Context(), "tidings"); err != nil {
		t.Fatal(err)
	}
	if st, err = js.CreateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	return b, st
}

func TestAHoleIsFoundWhileEventsAreAppended(t *testing.T) {
	s := natstest.Start(t, natsServer(t), natstest.Config{})
	b, st := deletable(t, s)
	hole := store(t, b, 0, 60)[39].Position.Hi
	if err := st.DeleteMsg(t.Context(), hole); err != nil {
		t.Fatal(err)
	}
	o := natsbroker.ConnectOptions{URL: s.URL()}
	ctx, stop := context.WithCancel(bounded(t))
	var appending sync.WaitGroup
	defer appending.Wait()
	defer stop()
	for i := range 4 {
		from := connect(t, o)
		appending.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if _, err := from.Append(ctx, []tidings.Record{record(1000*i + n)}); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 10 { // each looks for it anew
		var log lockedBuffer
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
		if st := state(t, connect(t, o)); st.Floor.Hi != hole {
			t.Errorf("the newest that is missing is %d, and the state is %+v", hole, st)
		}
		if n := strings.Count(log.String(), "lack events"); n != 1 {
			t.Errorf("it is told %d times: %s", n, log.String())
		}
	}
}

func TestWhatIsBeforeAHoleIsReadFromALogThatBeginsBehindIt(t *testing.T) {
	s := natstest.Start(t, natsServer(t), natstest.Config{})
	b, st := deletable(t, s)
	var want []tidings.Record
	for i := range 300 {
		if i == 50 {
			if _, err := admin(t, s.URL()).Publish(t.Context(), "tidings.log", []byte("not one of ours")); err != nil {
				t.Fatal(err)
			}
		}
		r := store(t, b, i, 1)[0]
		if i == 100 || i == 250 {
			if err := st.DeleteMsg(t.Context(), r.Position.Hi); err != nil {
				t.Fatal(err)
			}
		} else if i < 250 {
			want = append(want, r)
		}
	}
	state(t, b)
	asked := b.Published()
	var got []tidings.Record
	for r, err := range b.Salvage(bounded(t)) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r)
	}
	sameRecords(t, got, want)
	if n := b.Published() - asked; n > 60 {
		t.Errorf("NATS was asked %d times for %d messages", n, len(got))
	}
	for range b.Salvage(bounded(t)) {
		break // who wants no more gets no more
	}
}
