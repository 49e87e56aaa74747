package engine_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidings-sse/tidings/internal/engine"
	"github.com/tidings-sse/tidings/internal/memnet"
)

// response is a response on a connection. It fails the test for what net/http doesn't allow: any use after the handler
// has returned.
type response struct {
	t    testing.TB
	conn net.Conn

	mu       sync.Mutex // guards what follows
	flushed  int
	deadline time.Time
	returned bool
}

func (w *response) use(what string, change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.returned {
		w.t.Errorf("%s after the handler had returned", what)
	}
	change()
}

func (w *response) Header() http.Header { return nil }
func (w *response) WriteHeader(int)     {}

func (w *response) Write(b []byte) (int, error) {
	w.use("Write", func() {})
	return w.conn.Write(b)
}

func (w *response) FlushError() error {
	w.use("Flush", func() { w.flushed++ })
	return nil
}

func (w *response) SetWriteDeadline(at time.Time) error {
	w.use("SetWriteDeadline", func() { w.deadline = at })
	return w.conn.SetWriteDeadline(at)
}

// end is what net/http does when the handler has returned.
func (w *response) end() {
	w.mu.Lock()
	w.returned = true
	w.mu.Unlock()
	_ = w.conn.Close()
}

func TestAResponseIsWrittenFlushedAndFreedOfItsDeadline(t *testing.T) {
	bubble(func(t *testing.T) {
		r := newRig(t, byResponse, engine.Config{})
		w := &response{t: t, conn: r.server}
		r.serves.Do(func() {
			go func() {
				r.ServeResponse(t.Context(), w)
				w.end()
			}()
		})
		for i, block := range []string{"a\n\n", "b\n\n"} {
			r.post(text(uint64(8+i), block))
			if got := r.read(3); got != block {
				t.Errorf("got %q", got)
			}
			synctest.Wait()
			if !w.deadline.IsZero() {
				t.Error("an idle response has a deadline: HTTP/2 would reset it")
			}
			if w.flushed != i+1 {
				t.Errorf("it was flushed %d times", w.flushed)
			}
		}
		r.stick()
		if want := time.Now().Add(timeout); !w.deadline.Equal(want) {
			t.Errorf("the deadline of a write is %v, want %v", w.deadline, want)
		}
	})(t)
}

func TestAResponseEndsWithItsRequestsContext(t *testing.T) {
	bubble(func(t *testing.T) {
		r := newRig(t, byResponse, engine.Config{})
		ctx, cancel := context.WithCancel(t.Context())
		w, done := &response{t: t, conn: r.server}, make(chan struct{})
		r.serves.Do(func() {
			go func() {
				defer close(done)
				r.ServeResponse(ctx, w)
				w.end()
			}()
		})
		synctest.Wait()
		cancel()
		<-done
		r.check(engine.Closed, nil)
		r.post(text(8, "x"))
		r.End(engine.Kicked, text(0, "bye\n\n"))
		r.Abort(engine.Stopped)
		r.check(engine.Closed, nil)
	})(t)
}

func TestAResponseThatEndedBeforeItWasServedIsNotWrittenTo(t *testing.T) {
	bubble(func(t *testing.T) {
		r := newRig(t, byResponse, engine.Config{})
		r.post(text(8, "a\n\n"))
		r.Abort(engine.Stopped)
		r.serve()
		if got := r.rest(); got != "" {
			t.Errorf("got %q", got)
		}
		r.check(engine.Stopped, nil)
	})(t)
}

// An HTTP/2 response that can't be written to says only that its stream is closed.
type closedResponse struct {
	*response
	cancel func()
}

func (c closedResponse) Write([]byte) (int, error) {
	c.cancel()
	return 0, errors.New("http2: stream closed")
}

func TestAClientThatGoesAwayWhileItIsWrittenToOverHTTP2HasClosed(t *testing.T) {
	bubble(func(t *testing.T) {
		r := newRig(t, byResponse, engine.Config{})
		ctx, cancel := context.WithCancel(t.Context())
		r.post(text(8, "a\n\n"))
		r.serves.Do(func() {
			r.ServeResponse(ctx, closedResponse{&response{t: t, conn: r.server}, cancel})
		})
		r.check(engine.Closed, nil)
	})(t)
}

// meddler does something while a handler is between two steps of a write.
type meddler struct {
	*response
	write, flush, deadline func()
}

func (m meddler) Write(b []byte) (int, error) {
	m.write()
	return m.response.Write(b)
}

func (m meddler) FlushError() error {
	m.flush()
	return m.response.FlushError()
}

func (m meddler) SetWriteDeadline(at time.Time) error {
	defer m.deadline() // it is set, and the write has not begun
	return m.response.SetWriteDeadline(at)
}

// The abort's deadline must not be put off by that of a write which begins or ends at the same time.
func TestAStreamMayEndBetweenAnyTwoStepsOfItsHandlersWrite(t *testing.T) {
	for _, step := range []string{"write", "flush", "deadline"} {
		for _, abort := range []bool{true, false} {
			name := step + " ends"
			if abort {
				name = step + " aborts"
			}
			t.Run(name, bubble(func(t *testing.T) {
				r := newRig(t, byResponse, engine.Config{})
				w, done := &response{t: t, conn: r.server}, make(chan struct{})
				var once sync.Once
				meddle := func(at string) func() {
					return func() {
						if at != step {
							return
						}
						once.Do(func() { // not in the handler: it may hold what the loop waits for
							go func() {
								if abort {
									r.Abort(engine.Stopped)
								} else {
									r.End(engine.Stopped, text(0, "bye\n\n"))
								}
							}()
							if at != "deadline" {
								time.Sleep(time.Millisecond)
							}
						})
					}
				}
				r.serves.Do(func() {
					go func() {
						defer close(done)
						r.ServeResponse(t.Context(), meddler{w, meddle("write"), meddle("flush"), meddle("deadline")})
						w.end()
					}()
				})
				start := time.Now()
				r.post(sized(pipe / 2))
				rest := r.rest()
				<-done
				took := time.Since(start)
				if abort && took > 2*time.Millisecond || !abort && (took < engine.Linger || took > engine.Linger+2*time.Millisecond) {
					t.Errorf("it took %v", took)
				}
				if !abort && len(rest) != pipe/2+5 {
					t.Errorf("got %d bytes", len(rest))
				}
				r.check(engine.Stopped, nil)
			}))
		}
	}
}

func TestAnAbortNeverWaitsForAWriteThatIsStuck(t *testing.T) {
	bubble(func(t *testing.T) {
		r := newRig(t, byResponse, engine.Config{})
		r.stick()
		r.serve()
		synctest.Wait()
		start := time.Now()
		r.Abort(engine.Stopped)
		r.check(engine.Stopped, nil)
		r.took(start, 0)
	})(t)
}

func TestAResponseThatHasNoDeadlinesIsWritten(t *testing.T) {
	bubble(func(t *testing.T) {
		r := newRig(t, byResponse, engine.Config{})
		peer, server := memnet.Pipe(pipe)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		r.serves.Do(func() {
			go func() {
				defer close(done)
				r.ServeResponse(ctx, bare{server})
			}()
		})
		r.post(text(8, "a\n\n"))
		b := make([]byte, 3)
		if _, err := peer.Read(b); err != nil || string(b) != "a\n\n" {
			t.Errorf("got %q, %v", b, err)
		}
		cancel()
		<-done
		r.check(engine.Closed, nil)
	})(t)
}

// bare is a response that can be written and flushed, and nothing else.
type bare struct{ conn net.Conn }

func (bare) Header() http.Header           { return nil }
func (bare) WriteHeader(int)               {}
func (bare) Flush()                        {}
func (b bare) Write(p []byte) (int, error) { return b.conn.Write(p) }

func TestAResponseWhoseClientDoesNotReadIsSlowAfterTheTimeout(t *testing.T) {
	bubble(func(t *testing.T) {
		r := newRig(t, byResponse, engine.Config{})
		r.serve()
		start := time.Now()
		r.stick()
		r.check(engine.Slow, os.ErrDeadlineExceeded)
		r.took(start, timeout)
	})(t)
}
