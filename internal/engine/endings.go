package engine

import "sync"

// endings tells owners that their streams have ended, in a goroutine of its own: a loop must not wait for what they do.
type endings struct {
	mu     sync.Mutex // guards what follows
	grown  sync.Cond  // with mu
	queue  []*Stream  // bounded by the number of streams
	closed bool
}

func (e *endings) add(s *Stream) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.queue = append(e.queue, s)
	e.grown.Signal()
}

func (e *endings) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	e.grown.Signal()
}

func (e *endings) run() {
	for {
		streams := e.take()
		if streams == nil {
			return
		}
		for _, s := range streams {
			s.owner.Ended(s.end.reason, s.end.err)
		}
	}
}

// take waits for streams. It returns nil when there will be none any more.
func (e *endings) take() []*Stream {
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(e.queue) == 0 && !e.closed {
		e.grown.Wait()
	}
	streams := e.queue
	e.queue = nil
	return streams
}
