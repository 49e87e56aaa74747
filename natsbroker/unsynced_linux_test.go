package natsbroker_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/natsbroker"
)

func TestALogThatMayLackItsEndAfterAPowerLossIsGivenUpAndSaysSo(t *testing.T) {
	const otherBoot = "00000000-0000-0000-0000-000000000000"
	for name, c := range map[string]struct {
		always bool
		mark   string // what the crash leaves; empty is what is there
		gap    bool
	}{
		"the process crashed":                          {false, "", false},
		"the power was lost":                           {false, otherBoot + " interval\n", true},
		"the power was lost, the mark with it":         {false, "\n", true},
		"the power was lost, and all is synced always": {true, otherBoot + " always\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			b := embed(t, natsbroker.EmbedOptions{Dir: dir, SyncAlways: c.always})
			stored := store(t, b, 0, 5)
			crashed := t.TempDir()
			copyDir(t, dir, crashed)
			mark := filepath.Join(crashed, "open")
			if text, err := os.ReadFile(mark); err != nil || c.always != strings.HasSuffix(string(text), " always\n") {
				t.Fatalf("the mark of an open log is %q, %v", text, err)
			}
			if c.mark != "" {
				if err := os.WriteFile(mark, []byte(c.mark), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var log lockedBuffer
			o := natsbroker.EmbedOptions{Dir: crashed, SyncAlways: c.always, Options: natsbroker.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}}
			for start := range 3 { // what was given up stays so
				b := embed(t, o)
				st := state(t, b)
				want := tidings.Position{}
				if c.gap {
					want = stored[4].Position
				}
				if st.Floor != want || st.Last.Hi != uint64(5+start) {
					t.Errorf("start %d: the state is %+v, want the floor %v", start, st, want)
				}
				follow(t, b, st.Floor).wants(stored[st.Floor.Hi:]...)
				if c.gap {
					follow(t, b, tidings.Position{}).ends(tidings.ErrGap)
					var gap error
					for _, gap = range b.Read(bounded(t), stored[3].Position, st.Last) {
					}
					if !errors.Is(gap, tidings.ErrGap) {
						t.Errorf("start %d: what is given up can be read: %v", start, gap)
					}
				}
				sameRecords(t, read(t, b), stored[st.Floor.Hi:])
				stored = append(stored, store(t, b, 10+start, 1)...)
				if err := b.Close(); err != nil {
					t.Fatal(err)
				}
				if _, err := os.Stat(mark); err == nil {
					t.Error("a log that was closed has a mark")
				}
			}
			told := 0
			if c.gap {
				told = 1
			}
			if s := log.String(); strings.Count(s, "before the log was synced") != told {
				t.Errorf("the log: %s", s)
			}
		})
	}
}

func TestALogIsNotSyncedAlwaysBeforeWhatAnEarlierRunWroteIs(t *testing.T) {
	dir, crashed := t.TempDir(), t.TempDir()
	store(t, embed(t, natsbroker.EmbedOptions{Dir: dir}), 0, 3)
	copyDir(t, dir, crashed) // as a process leaves it that is killed
	mark := filepath.Join(crashed, "open")
	for _, how := range []string{"interval", "always"} { // until it is closed in order
		b := embed(t, natsbroker.EmbedOptions{Dir: crashed, SyncAlways: true})
		text, err := os.ReadFile(mark)
		if err != nil || !strings.HasSuffix(string(text), " "+how+"\n") {
			t.Errorf("the mark is %q, %v, and not of %s", text, err, how)
		}
		if st := state(t, b); !st.Floor.IsZero() {
			t.Errorf("a crash of the process gave something up: %+v", st)
		}
		again := t.TempDir()
		copyDir(t, crashed, again)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		boot, after, _ := strings.Cut(string(text), " ") // and then the power is lost
		if err := os.WriteFile(filepath.Join(again, "open"), []byte(strings.Repeat("0", len(boot))+" "+after), 0o600); err != nil {
			t.Fatal(err)
		}
		if st := state(t, embed(t, natsbroker.EmbedOptions{Dir: again, SyncAlways: true})); st.Floor.IsZero() != (how == "always") {
			t.Errorf("after a power loss the state is %+v", st)
		}
	}
}

func TestWhoWasSignedOutStaysSoAfterAPowerLossAndBehindAHole(t *testing.T) {
	hubOn := func(b *natsbroker.Broker) *tidings.Hub {
		t.Helper()
		hub, err := tidings.New(&tidings.Options{Broker: b, Authorizer: tidings.TrustQuery{}, Logger: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "the hub is ready", hub.Ready)
		return hub
	}
	for name, damage := range map[string]func(dir string) error{
		"a power loss": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "open"), []byte("another interval\n"), 0o600)
		},
		"a file that was cut": func(dir string) error {
			file := blocks(t, dir)[0]
			info, err := os.Stat(file)
			if err != nil {
				return err
			}
			return os.Truncate(file, info.Size()-10)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			b := embed(t, natsbroker.EmbedOptions{Dir: dir})
			hub := hubOn(b)
			if _, err := hub.Refuse(bounded(t), tidings.Target{UserID: "mallory"}, time.Now().Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
			if _, err := hub.Broadcast(bounded(t), "n", 1); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(hub.Close(), b.Close(), damage(dir)); err != nil {
				t.Fatal(err)
			}
			b = embed(t, natsbroker.EmbedOptions{Dir: dir})
			if st := state(t, b); st.Floor.Hi < 2 {
				t.Fatalf("the state is %+v", st)
			}
			hub = hubOn(b)
			defer hub.Close()
			ctx, cancel := context.WithTimeout(t.Context(), within)
			defer cancel()
			res := httptest.NewRecorder()
			hub.ServeHTTP(res, httptest.NewRequestWithContext(ctx, http.MethodGet, "/?userId=mallory", nil))
			if res.Code != http.StatusUnauthorized {
				t.Errorf("mallory is answered %d %s", res.Code, res.Body)
			}
		})
	}
}

func TestALogThatWasNotOpenedKeepsTheMarkOfItsCrash(t *testing.T) {
	dir := t.TempDir()
	b := embed(t, natsbroker.EmbedOptions{Dir: dir})
	last := store(t, b, 0, 3)[2].Position
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "open"), []byte("another interval\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n, err := natsbroker.Start(natsbroker.EmbedOptions{Dir: dir, Options: natsbroker.Options{Logger: quiet()}})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if st := state(t, embed(t, natsbroker.EmbedOptions{Dir: dir})); st.Floor != last {
		t.Errorf("the state is %+v", st)
	}
}
