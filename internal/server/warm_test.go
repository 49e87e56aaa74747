package server_test

import (
	"errors"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidings-sse/tidings/internal/server"
)

// Not parallel: the collector is the whole program's.
func TestTheCollectorRunsMoreOftenUntilTheLogWasRead(t *testing.T) {
	percent := func() int {
		p := debug.SetGCPercent(-1)
		debug.SetGCPercent(p)
		return p
	}
	for _, c := range []struct{ asked, meanwhile int }{{100, 40}, {20, 20}, {-1, -1}} {
		synctest.Test(t, func(t *testing.T) {
			defer debug.SetGCPercent(debug.SetGCPercent(c.asked))
			ready := time.Now().Add(time.Second)
			go server.Warm(t.Context(), func() error {
				if time.Now().Before(ready) {
					return errors.New("not yet")
				}
				return nil
			})
			synctest.Wait()
			if p := percent(); p != c.meanwhile {
				t.Errorf("asked for %d, it is %d while the log is read", c.asked, p)
			}
			time.Sleep(2 * time.Second)
			if p := percent(); p != c.asked {
				t.Errorf("asked for %d, it is %d after that", c.asked, p)
			}
		})
	}
}
