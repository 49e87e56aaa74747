package engine

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// responseWriter writes in the handler's goroutine, through net/http.
type responseWriter struct {
	s    *Stream
	w    http.ResponseWriter
	rc   *http.ResponseController
	wake chan struct{} // 1: whether a pump was asked for
	over chan struct{} // closed by close

	mu   sync.Mutex
	gone bool // the handler has returned: rc must not be used any more. Guarded by mu
}

// ServeResponse writes the stream to a response from now on, and returns when it has ended. The head and whatever is to
// stand before the first frame were written and flushed. ctx is the request's. After it returned, the handler must
// panic with [http.ErrAbortHandler], so that the response ends truncated.
func (s *Stream) ServeResponse(ctx context.Context, w http.ResponseWriter) {
	rw := &responseWriter{
		s: s, w: w, rc: http.NewResponseController(w),
		wake: make(chan struct{}, 1),
		over: make(chan struct{}),
	}
	if s.serve(rw) {
		rw.run(ctx)
	}
	rw.mu.Lock()
	rw.gone = true
	rw.mu.Unlock()
	s.owner.Ended(s.result())
}

func (rw *responseWriter) run(ctx context.Context) {
	for {
		select {
		case <-rw.wake:
			rw.s.pump()
		case <-ctx.Done():
			rw.s.finish(Closed, nil)
			return
		case <-rw.over:
			return
		}
	}
}

func (rw *responseWriter) start() {
	select {
	case rw.wake <- struct{}{}:
	default:
	}
}

func (rw *responseWriter) write(batch []*Frame) error {
	// A connection that has no deadlines is one of a test: what it can't do, it need not do.
	_ = rw.rc.SetWriteDeadline(time.Now().Add(rw.s.engine.cfg.Timeout))
	err := rw.s.engine.gather(batch, (*Frame).Block, func(b []byte) error {
		if _, err := rw.w.Write(b); err != nil {
			return err
		}
		return rw.rc.Flush()
	})
	rw.mu.Lock()
	defer rw.mu.Unlock()
	select {
	case <-rw.over: // close has set a deadline to end this write, which must stay
	default:
		// On HTTP/2 a deadline that elapses resets the stream, even when it is idle.
		_ = rw.rc.SetWriteDeadline(time.Time{})
	}
	return err
}

// close wakes the handler, and fails its write if there is one.
func (rw *responseWriter) close(bool) {
	rw.mu.Lock()
	defer rw.mu.Unlock()
	close(rw.over)
	if !rw.gone {
		_ = rw.rc.SetWriteDeadline(time.Unix(1, 0))
	}
}
