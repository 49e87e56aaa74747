package engine_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidings-sse/tidings/internal/engine"
)

// fakeResponse is a response whose client reads nothing while it is stalled. It fails the test for what net/http doesn't
// allow: any use after the handler has returned.
type fakeResponse struct {
	t testing.TB

	mu       sync.Mutex // guards what follows
	cond     sync.Cond
	body     bytes.Buffer
	stalled  bool
	deadline time.Time
	returned bool
}

func newFakeResponse(t testing.TB) *fakeResponse {
	f := &fakeResponse{t: t}
	f.cond.L = &f.mu
	return f
}

func (f *fakeResponse) use(what string) {
	if f.returned {
		f.t.Errorf("%s after the handler had returned", what)
	}
}

func (f *fakeResponse) Header() http.Header { return nil }
func (f *fakeResponse) WriteHeader(int)     {}

func (f *fakeResponse) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.use("Write")
	for f.stalled {
		if !f.deadline.IsZero() && !time.Now().Before(f.deadline) {
			return 0, os.ErrDeadlineExceeded
		}
		f.cond.Wait()
	}
	return f.body.Write(b)
}

func (f *fakeResponse) FlushError() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.use("Flush")
	return nil
}

func (f *fakeResponse) SetWriteDeadline(at time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.use("SetWriteDeadline")
	f.deadline = at
	if !at.IsZero() {
		time.AfterFunc(time.Until(at), f.cond.Broadcast)
	}
	f.cond.Broadcast()
	return nil
}

// serve serves the rig's stream to the response, as a handler that returns when it has ended.
func (f *fakeResponse) serve(ctx context.Context, r *rig) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.ServeResponse(ctx, f)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.returned = true
	}()
	return done
}

func (f *fakeResponse) text() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.body.String()
}

func TestAResponseIsWrittenFlushedAndFreedOfItsDeadline(t *testing.T) {
	bubble(func(t *testing.T) {
		r, f := newRig(engine.Config{}), newFakeResponse(t)
		r.Post(text(8, "a\n\n"))
		done := f.serve(t.Context(), r)
		synctest.Wait()
		r.Post(text(9, "b\n\n"))
		time.Sleep(heartbeat)
		synctest.Wait()
		if got := f.text(); got != "a\n\nb\n\n:\n\n" {
			t.Errorf("got %q", got)
		}
		if !f.deadline.IsZero() {
			t.Error("an idle response has a deadline: HTTP/2 would reset it")
		}
		start := time.Now()
		r.End(engine.Drained, text(0, "bye\n\n"))
		<-done
		if took := time.Since(start); took != engine.Linger {
			t.Errorf("it ended after %v", took)
		}
		if got := f.text(); got != "a\n\nb\n\n:\n\nbye\n\n" {
			t.Errorf("got %q", got)
		}
		r.check(t, engine.Drained, nil)
	})(t)
}

func TestAResponseEndsWithItsRequestsContext(t *testing.T) {
	bubble(func(t *testing.T) {
		r, f := newRig(engine.Config{}), newFakeResponse(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := f.serve(ctx, r)
		synctest.Wait()
		cancel()
		<-done
		r.check(t, engine.Closed, nil)
		r.Post(text(8, "x"))
		r.End(engine.Kicked, nil)
		r.Abort(engine.Stopped)
		synctest.Wait()
		r.check(t, engine.Closed, nil)
	})(t)
}

func TestAResponseWhoseClientDoesNotReadIsSlowAfterTheTimeout(t *testing.T) {
	bubble(func(t *testing.T) {
		r, f := newRig(engine.Config{}), newFakeResponse(t)
		f.stalled = true
		done := f.serve(t.Context(), r)
		start := time.Now()
		r.Post(text(8, "a\n\n"))
		<-done
		if took := time.Since(start); took != timeout {
			t.Errorf("it took %v", took)
		}
		r.check(t, engine.Slow, os.ErrDeadlineExceeded)
	})(t)
}

func TestAResponseThatEndedBeforeItWasServedIsNotWrittenTo(t *testing.T) {
	bubble(func(t *testing.T) {
		r, f := newRig(engine.Config{}), newFakeResponse(t)
		r.Post(text(8, "a\n\n"))
		r.Abort(engine.Stopped)
		<-f.serve(t.Context(), r)
		if got := f.text(); got != "" {
			t.Errorf("got %q", got)
		}
		r.check(t, engine.Stopped, nil)
	})(t)
}

// An HTTP/2 response that can't be written to says only that its stream is closed.
type closedResponse struct {
	*fakeResponse
	cancel func()
}

func (c closedResponse) Write([]byte) (int, error) {
	c.cancel()
	return 0, errors.New("http2: stream closed")
}

func TestAClientThatGoesAwayWhileItIsWrittenToOverHTTP2HasClosed(t *testing.T) {
	bubble(func(t *testing.T) {
		r := newRig(engine.Config{})
		ctx, cancel := context.WithCancel(t.Context())
		r.Post(text(8, "a\n\n"))
		r.ServeResponse(ctx, closedResponse{newFakeResponse(t), cancel})
		r.check(t, engine.Closed, nil)
	})(t)
}

// The abort's deadline must not be put off by that of a write which begins at the same time.
func TestAnAbortNeverWaitsForAWriteThatBegins(t *testing.T) {
	bubble(func(t *testing.T) {
		r, f := newRig(engine.Config{}), newFakeResponse(t)
		f.stalled = true
		done := f.serve(t.Context(), r)
		start := time.Now()
		// A notice is encoded after it was taken and before it is written.
		r.End(engine.Kicked, engine.NewFrame(0, time.Time{}, func(dst []byte) []byte {
			r.Abort(engine.Stopped)
			return append(dst, "bye\n\n"...)
		}))
		<-done
		if took := time.Since(start); took != 0 {
			t.Errorf("it took %v", took)
		}
		r.check(t, engine.Kicked, nil)
	})(t)
}

// Everything at once, for the race detector, and for a use of the response after the handler has returned.
func TestAResponsesStreamMayBeUsedConcurrently(t *testing.T) {
	for i := range 300 {
		r, f := newRig(engine.Config{}), newFakeResponse(t)
		f.stalled = i%2 == 0
		ctx, cancel := context.WithCancel(t.Context())
		done := f.serve(ctx, r)
		var wg sync.WaitGroup
		wg.Go(func() { r.Post(text(8, "a\n\n")) })
		wg.Go(func() { r.Abort(engine.Stopped) })
		wg.Go(func() { r.End(engine.Kicked, text(0, "bye\n\n")) })
		wg.Go(cancel)
		<-done
		wg.Wait()
		r.check(t, r.reason, r.err)
	}
}
