package tidings

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/tidings-sse/tidings/internal/engine"
)

// output writes the beginning of a stream through net/http, each write with a deadline.
type output struct {
	w       http.ResponseWriter
	rc      *http.ResponseController
	timeout time.Duration

	mu          sync.Mutex // guards the deadline and what follows
	interrupted bool
	left        bool // the handler has returned, or handed the stream over
}

func (h *Hub) output(w http.ResponseWriter) *output {
	return &output{w: w, rc: http.NewResponseController(w), timeout: h.opts.ConnectionTimeout}
}

func (o *output) write(b []byte) error {
	began := time.Now()
	if err := o.deadline(began.Add(o.timeout)); err != nil {
		return err
	}
	_, err := o.w.Write(b) // #nosec G705 -- an event stream is no page, and says so
	if err == nil {
		err = o.rc.Flush()
	}
	switch {
	case err == nil:
		return o.deadline(time.Time{})
	case time.Since(began) >= o.timeout: // HTTP/2 doesn't say that it was the deadline
		return fmt.Errorf("%w (%w)", os.ErrDeadlineExceeded, err)
	}
	return err
}

func (o *output) deadline(t time.Time) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.interrupted {
		return ErrClosed
	}
	_ = o.rc.SetWriteDeadline(t) // what has no deadlines is a test's, and doesn't block
	return nil
}

// interrupt makes a write under way fail, and all later ones.
func (o *output) interrupt() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.left {
		o.interrupted = true
		_ = o.rc.SetWriteDeadline(time.Unix(1, 0))
	}
}

// leave says that the response is not this output's any more.
func (o *output) leave() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.left = true
}

// linger leaves what was written a moment to arrive.
func (o *output) linger(ctx context.Context) {
	select {
	case <-time.After(engine.Linger):
	case <-ctx.Done():
	}
}
