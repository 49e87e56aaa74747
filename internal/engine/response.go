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
	s       *Stream
	ctx     context.Context // of the request
	w       http.ResponseWriter
	batches chan *[]byte // 1: the loop sends no other before the first was written; closed by close

	mu   sync.Mutex // guards the deadline, and what follows
	over bool       // close has set the last one
}

// ServeResponse writes the stream to a response from now on, and returns when it has ended. The head and whatever is to
// stand before the first frame were written and flushed. ctx is the request's. After it returned, the handler must
// panic with [http.ErrAbortHandler], so that the response ends truncated.
func (s *Stream) ServeResponse(ctx context.Context, w http.ResponseWriter) {
	rw := &responseWriter{s: s, ctx: ctx, w: w, batches: make(chan *[]byte, 1)}
	s.loop.inbox.do(func() { s.loop.attach(s, rw, false) })
	gone := ctx.Done()
	for {
		select {
		case batch, more := <-rw.batches:
			if !more {
				return
			}
			s.writable(rw.send(batch))
		case <-gone:
			s.finish(Closed, nil)
			gone = nil
		}
	}
}

func (rw *responseWriter) write(b []byte) (n int, parked bool, err error) {
	batch := rw.s.loop.engine.take(b)
	n = len(*batch)
	rw.batches <- batch
	return n, true, nil
}

// window knows nothing: whatever there is below net/http is its own.
func (rw *responseWriter) window() (granted uint64, shut bool) { return 0, true }

// send writes a batch. An error that is not one of the network, where the request's context has ended, is HTTP/2's
// word for a client that has gone while it was written to.
func (rw *responseWriter) send(batch *[]byte) error {
	e := rw.s.loop.engine
	defer e.give(batch)
	began := time.Now()
	if !rw.deadline(began.Add(e.cfg.Timeout)) {
		return nil
	}
	_, err := rw.w.Write(*batch)
	if err == nil {
		err = http.NewResponseController(rw.w).Flush()
	}
	// On HTTP/2 a deadline that elapses resets the stream, even when it is idle.
	rw.deadline(time.Time{})
	if _, network := errors.AsType[net.Error](err); err != nil && !network && rw.ctx.Err() != nil && time.Since(began) < e.cfg.Timeout {
		rw.s.finish(Closed, nil)
	}
	return err
}

// deadline bounds writes, and reports whether they may go on. The bound that close has set must stay.
func (rw *responseWriter) deadline(t time.Time) bool {
	rw.mu.Lock()
	defer rw.mu.Unlock()
	if rw.over {
		return false
	}
	// A connection that has no deadlines is one of a test: what it can't do, it need not do.
	_ = http.NewResponseController(rw.w).SetWriteDeadline(t)
	return true
}

// close fails the handler's write, if there is one, and lets the handler return, after which w must not be used any more.
func (rw *responseWriter) close(bool) {
	rw.mu.Lock()
	defer rw.mu.Unlock()
	_ = http.NewResponseController(rw.w).SetWriteDeadline(time.Unix(1, 0))
	rw.over = true
	close(rw.batches)
}
