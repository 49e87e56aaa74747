package tidings

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/tidings-sse/tidings/internal/engine"
)

// Shutdown drains the hub: new streams are refused, so that a load balancer's clients go elsewhere, and live ones are
// ended over [Options.DrainWindow], each with what was queued for it; they come back and resume. Events can be sent until
// the last stream has ended. Then the hub is closed. If ctx ends first, the rest is closed at once, and its error
// returned.
//
// Call it before the http.Server's own Shutdown, which doesn't know of hijacked connections and would wait for the others.
func (h *Hub) Shutdown(ctx context.Context) error {
	h.mu.Lock()
	if h.state == hubClosed {
		h.mu.Unlock()
		return ErrClosed
	}
	h.state = hubDraining
	cs := slices.Clone(h.conns.all)
	h.mu.Unlock()
	h.log.Info(logDraining, keyConnections, len(cs))
	err := h.drain(ctx, cs)
	return errors.Join(err, h.Close())
}

// drain ends the connections evenly over the window, and waits until they have ended.
func (h *Hub) drain(ctx context.Context, cs []*conn) error {
	const step = 20 * time.Millisecond
	steps := max(1, int(h.opts.DrainWindow/step))
	tick := time.NewTicker(step)
	defer tick.Stop()
	done := 0
	for i := range steps {
		end := ((i+1)*len(cs) + steps - 1) / steps // rounded up: the first is ended at once
		for _, c := range cs[done:end] {
			c.stream.End(engine.Drained, h.farewell(ReasonDrained))
		}
		if done = end; done == len(cs) {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for h.busy() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (h *Hub) busy() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.admitted > 0
}

// Close ends all streams at once, stops the hub, and returns when nothing of it runs any more. What was sent and not
// answered yet fails. A broker that the hub was given stays open. It must not be called from a hook.
func (h *Hub) Close() error {
	h.mu.Lock()
	if h.state == hubClosed { // by another call, which may not have finished
		h.mu.Unlock()
		<-h.closed
		return nil
	}
	h.state = hubClosed
	h.mu.Unlock()
	defer close(h.closed)
	if p, ok := h.broker.(Peers); ok {
		p.Answer(nil)
	}
	h.engine.Stop(engine.Stopped)
	h.stop()
	h.wg.Wait()
	h.engine.Close()
	h.log.Info(logClosed)
	if h.owned {
		return h.broker.Close()
	}
	return nil
}
