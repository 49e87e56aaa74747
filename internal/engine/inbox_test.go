package engine_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidings-sse/tidings/internal/engine"
)

func TestAnInboxHasRoomUntilItHasItsNumberOfItemsOrBytes(t *testing.T) {
	for _, c := range []struct {
		name  string
		frame *engine.Frame
		most  int
	}{
		{"items", sized(1), engine.MaxInboxItems},
		{"bytes", sized(engine.MaxInboxBytes / 4), 4},
	} {
		t.Run(c.name, bubble(func(t *testing.T) {
			var in engine.Inbox
			for range c.most {
				if err := in.Room(t.Context()); err != nil {
					t.Fatal(err)
				}
				in.Post(c.frame)
			}
			const senders = 3
			room := make(chan error, senders)
			for range senders {
				go func() { room <- in.Room(t.Context()) }()
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			start := time.Now()
			if err := in.Room(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
				t.Errorf("%v after %v", err, time.Since(start))
			}
			if len(room) > 0 {
				t.Error("a sender had room")
			}
			if n := in.Take(); n != c.most {
				t.Errorf("%d items", n)
			}
			synctest.Wait()
			if len(room) != senders {
				t.Errorf("%d senders have room", len(room))
			}
			for range senders {
				if err := <-room; err != nil {
					t.Error(err)
				}
			}
		}))
	}
}

func TestSendersWaitForALoopThatIsBehind(t *testing.T) {
	bubble(func(t *testing.T) {
		e := newEngine(engine.Config{Loops: 2})
		defer e.Close()
		g := newGate(e)
		defer g.end()
		for range engine.MaxInboxItems {
			if err := e.Room(t.Context()); err != nil {
				t.Fatal(err)
			}
			e.Post(g.Stream, text(0, "x"))
		}
		room := make(chan error, 1)
		go func() { room <- e.Room(t.Context()) }()
		synctest.Wait()
		if len(room) > 0 {
			t.Error("there is room")
		}
		g.open()
		if err := <-room; err != nil {
			t.Error(err)
		}
	})(t)
}

// gate is a stream whose writer stops its loop, until it is opened.
type gate struct {
	*engine.Stream
	*owner
	opened chan struct{}
}

// newGate returns when the loop has stopped.
func newGate(e *engine.Engine) *gate {
	g := &gate{owner: newOwner(), opened: make(chan struct{})}
	g.Stream = e.NewStream(g, 0, []*engine.Frame{text(0, "gate\n\n")})
	g.Join()
	e.Settle(g.Stream)
	stopped := make(chan struct{}, 1)
	g.ServeWriter(engine.Writer{Write: func(b []byte) (int, bool, error) {
		select {
		case stopped <- struct{}{}:
			<-g.opened
		default:
		}
		return len(b), false, nil
	}}, false)
	<-stopped
	return g
}

func (g *gate) open() { close(g.opened) }

func (g *gate) end() {
	g.Abort(engine.Stopped)
	<-g.over
}
