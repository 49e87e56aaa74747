package memnet_test

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidings-sse/tidings/internal/memnet"
)

func TestWhatWasWrittenArrivesBeforeTheEnd(t *testing.T) {
	a, b := memnet.Pipe(16)
	if _, err := a.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(b); string(got) != "hello" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	if _, err := b.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("write to a closed peer: %v", err)
	}
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read after Close: %v", err)
	}
}

func TestAWriteBlocksWhileThePeerDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := memnet.Pipe(4)
		wrote := make(chan error, 1)
		go func() {
			_, err := a.Write([]byte("123456789"))
			wrote <- err
		}()
		synctest.Wait()
		select {
		case err := <-wrote:
			t.Fatalf("9 bytes went into a buffer of 4: %v", err)
		default:
		}
		buf := make([]byte, 9)
		if _, err := io.ReadFull(b, buf); err != nil || string(buf) != "123456789" {
			t.Errorf("read %q, %v", buf, err)
		}
		if err := <-wrote; err != nil {
			t.Error(err)
		}
	})
}

func TestDeadlinesEndCallsUnderWayAndCanBeTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := memnet.Pipe(1)
		start := time.Now()
		_ = a.SetDeadline(start.Add(3 * time.Second))
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 3*time.Second {
			t.Errorf("read: %v after %v", err, time.Since(start))
		}
		if n, err := a.Write([]byte("ab")); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write past the deadline: %d, %v", n, err)
		}
		_ = a.SetDeadline(time.Time{})
		go func() { _, _ = io.Copy(io.Discard, b) }()
		if _, err := a.Write([]byte("ab")); err != nil {
			t.Errorf("write without a deadline: %v", err)
		}
		_ = a.SetWriteDeadline(time.Now().Add(time.Second))
		_ = a.SetWriteDeadline(time.Now().Add(time.Hour))
		time.Sleep(2 * time.Second)
		if _, err := a.Write([]byte("c")); err != nil {
			t.Errorf("write before the newer deadline: %v", err)
		}
		_ = a.Close()
	})
}

func TestABrokenConnectionFailsForBoth(t *testing.T) {
	a, b := memnet.Pipe(1)
	read := make(chan error, 1)
	go func() {
		_, err := a.Read(make([]byte, 1))
		read <- err
	}()
	b.Break(syscall.ECONNRESET)
	if err := <-read; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read: %v", err)
	}
	if _, err := b.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("write: %v", err)
	}
}

func TestDialIsRefusedAfterTheListenerWasClosed(t *testing.T) {
	l := memnet.Listen(1)
	_ = l.Close()
	if _, err := l.Dial(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial: %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept: %v", err)
	}
}
