package server_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidings-sse/tidings/internal/memnet"
	"github.com/tidings-sse/tidings/internal/server"
)

// failingListener fails with an error until the time is over, or for good.
type failingListener struct {
	*memnet.Listener
	err   error
	until time.Time
}

func (l *failingListener) Accept() (net.Conn, error) {
	if time.Now().Before(l.until) {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", l.err)}
	}
	return l.Listener.Accept()
}

func TestAnAcceptThatLacksSomethingWaitsAndSaysSoNowAndThen(t *testing.T) {
	for err, remedy := range map[error]string{
		syscall.EMFILE:  "ulimit -n",
		syscall.ENFILE:  "fs.file-max",
		syscall.ENOSPC:  "fs.epoll.max_user_watches",
		syscall.ENOBUFS: "more memory",
		syscall.ENOMEM:  "more memory",
	} {
		t.Run(err.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const lasts = 25 * time.Second
				memory := memnet.Listen(1 << 10)
				log := &logBuffer{}
				ln := server.NewListener(&failingListener{memory, err, time.Now().Add(lasts)}, slog.New(slog.NewTextHandler(log, nil)))
				began := time.Now()
				accepted := make(chan error)
				go func() {
					conn, err := ln.Accept()
					if err == nil {
						_ = conn.Close()
					}
					accepted <- err
				}()
				go func() {
					time.Sleep(lasts / 2)
					if _, failing := ln.State(); !errors.Is(failing, err) {
						t.Errorf("in the middle of it, it fails with %v", failing)
					}
					if conn, err := memory.Dial(t.Context()); err == nil { // who waits is served
						_ = conn.Close()
					}
				}()
				if err := <-accepted; err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took < lasts || took > lasts+250*time.Millisecond {
					t.Errorf("it took %v", took)
				}
				time.Sleep(time.Second)
				failures, failing := ln.State()
				if failures < 100 || failures > 110 || failing != nil {
					t.Errorf("%d accepts failed, and now %v", failures, failing)
				}
				lines := strings.Split(strings.TrimSpace(log.String()), "\n")
				if len(lines) != 3 { // after 0, 10 and 20 s
					t.Fatalf("%d lines:\n%s", len(lines), log)
				}
				for i, most := range []int{1, 50, 50} {
					var n int
					_, count, _ := strings.Cut(lines[i], "failures=")
					if _, err := fmt.Sscan(count, &n); err != nil || n < 1 || n > most || !strings.Contains(lines[i], remedy) || !strings.Contains(lines[i], "level=ERROR") {
						t.Errorf("line %d: %s", i, lines[i])
					}
				}
				_ = ln.Close()
			})
		})
	}
}

func TestAListenerThatIsBrokenOrClosedSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := slog.New(slog.DiscardHandler)
		broken := server.NewListener(&failingListener{memnet.Listen(1 << 10), syscall.EBADF, time.Now().Add(time.Hour)}, log)
		if _, err := broken.Accept(); !errors.Is(err, syscall.EBADF) {
			t.Errorf("a broken listener: %v", err)
		}
		waits := server.NewListener(&failingListener{memnet.Listen(1 << 10), syscall.EMFILE, time.Now().Add(time.Hour)}, log)
		go func() {
			time.Sleep(time.Minute)
			_ = waits.Close()
			_ = waits.Close()
		}()
		began := time.Now()
		if _, err := waits.Accept(); !errors.Is(err, net.ErrClosed) || time.Since(began) != time.Minute {
			t.Errorf("one that was closed while it waited: %v after %v", err, time.Since(began))
		}
	})
}

func TestStreamsLeaveSomeOfTheOpenFilesToEverythingElse(t *testing.T) {
	for files, want := range map[int]int{
		1: 1, 2: 1, 24: 12, 150: 75, 256: 156, 1024: 924, 4096: 3968, 20_000: 19_375, 65_536: 64_536, 1 << 20: 1<<20 - 1000,
	} {
		if got := server.StreamsWithin(files); got != want {
			t.Errorf("%d open files: %d streams, want %d", files, got, want)
		}
	}
}
