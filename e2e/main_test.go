package e2e

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain removes what tests share, and fails on a goroutine that is left over.
func TestMain(m *testing.M) {
	pebble := goleak.IgnoreAnyFunction("github.com/letsencrypt/pebble/v2/va.VAImpl.processTasks") // an authority has no end
	goleak.VerifyTestMain(m, pebble, goleak.Cleanup(func(code int) {
		for _, b := range []*binary{&program, &flooderProgram, &browserExample} {
			if err := b.remove(); err != nil {
				fmt.Fprintln(os.Stderr, "e2e: removing a program:", err)
				code = max(code, 1)
			}
		}
		os.Exit(code)
	}))
}

// within bounds what has no reason to take long, on a machine that is busy.
const within = 20 * time.Second

// eventually waits until a condition holds, and fails the test where it doesn't in time.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %v, still not so: %s", within, what)
		}
	}
}
