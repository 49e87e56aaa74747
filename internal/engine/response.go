package engine

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

// responseWriter writes in the handler's goroutine, through net/http.
type responseWriter struct {
	s    *Stream
	ctx  context.Context // of the request
	w    http.ResponseWriter
	rc   *http.ResponseController
	wake chan struct{} // 1: whether a pump was asked for
	over chan struct{} // closed by close

	mu sync.Mutex // guards the deadline
}

// ServeResponse writes the stream to a response from now on, and returns when it has ended. The head and whatever is to
// stand before the first frame were written and flushed. ctx is the request's. After it returned, the handler must
// panic with [http.ErrAbortHandler], so that the response ends truncated.
func (s *Stream) ServeResponse(ctx context.Context, w http.ResponseWriter) {
	rw := &responseWriter{
		s: s, ctx: ctx, w: w, rc: http.NewResponseController(w),
		wake: make(chan struct{}, 1),
		over: make(chan struct{}),
	}
	if s.serve(rw) {
		rw.run()
	}
	s.owner.Ended(s.result())
}

func (rw *responseWriter) run() {
	for {
		select {
		case <-rw.wake:
			rw.s.pump()
		case <-rw.ctx.Done():
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
	err := rw.s.engine.gather(batch, (*Frame).Block, func(b []byte) error {
		return rw.s.inPieces(b, func(piece []byte) error {
			if err := rw.deadline(time.Now().Add(rw.s.engine.cfg.Timeout)); err != nil {
				return err
			}
			_, err := rw.w.Write(piece)
			return err
		})
	})
	if err == nil {
		err = rw.rc.Flush()
	}
	// On HTTP/2 a deadline that elapses resets the stream, even when it is idle.
	_ = rw.deadline(time.Time{})
	if _, network := errors.AsType[net.Error](err); err != nil && !network && rw.ctx.Err() != nil && !rw.s.stuck() {
		rw.s.finish(Closed, nil) // HTTP/2's word for a client that has gone while it was written to
	}
	return err
}

var errOver = errors.New("the stream has ended")

// deadline bounds writes, unless close has: its bound must stay.
func (rw *responseWriter) deadline(t time.Time) error {
	rw.mu.Lock()
	defer rw.mu.Unlock()
	select {
	case <-rw.over:
		return errOver
	default:
		// A connection that has no deadlines is one of a test: what it can't do, it need not do.
		_ = rw.rc.SetWriteDeadline(t)
		return nil
	}
}

// close fails the handler's write, if there is one, and lets it return, after which rc must not be used any more.
func (rw *responseWriter) close(bool) {
	rw.mu.Lock()
	defer rw.mu.Unlock()
	_ = rw.rc.SetWriteDeadline(time.Unix(1, 0))
	close(rw.over)
}
