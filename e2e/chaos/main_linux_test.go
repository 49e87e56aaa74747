package chaos

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tidings-sse/tidings/internal/natstest"
)

// binaries are the programs as they are shipped, built once.
type binaries struct {
	dir     string
	once    sync.Once
	tidings string
	nats    string
}

var built binaries

func TestMain(m *testing.M) {
	var err error
	if built.dir, err = os.MkdirTemp("", "tidings-chaos-"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(built.dir)
		os.Exit(code)
	}))
}

func (b *binaries) get(t testing.TB) *binaries {
	t.Helper()
	b.once.Do(func() {
		b.nats = natstest.Binary(t, b.dir)
		bin := filepath.Join(b.dir, "tidings")
		if out, err := exec.Command("go", "build", "-o", bin, "../../cmd/tidings").CombinedOutput(); err != nil {
			t.Fatalf("building the program: %v\n%s", err, out)
		}
		b.tidings = bin
	})
	if b.tidings == "" {
		t.Fatal("the programs could not be built")
	}
	return b
}

// full reports whether everything is to be broken, and not a part.
func full() bool { return os.Getenv("TIDINGS_CHAOS") == "full" }

// within bounds what has no reason to take long, on a machine that is busy.
const within = 60 * time.Second

// eventually waits until something that can only be asked for holds.
func eventually(t testing.TB, what string, holds func() error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(within); ; {
		err := holds()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("after %v, still not so: %s: %v", within, what, err)
		}
	}
}

// say prints what is done, in the full form: whoever runs it wants to see.
func say(t testing.TB, format string, args ...any) {
	t.Helper()
	t.Logf("%s  %s", time.Now().Format("15:04:05.000"), fmt.Sprintf(format, args...))
}
