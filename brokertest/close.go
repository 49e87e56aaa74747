package brokertest

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tidings-sse/tidings"
)

func wantClosed(t *testing.T, call string, err error) {
	t.Helper()
	if !errors.Is(err, tidings.ErrClosed) {
		t.Errorf("%s returned %v, want ErrClosed", call, err)
	}
}

// close closes the broker.
func (l *log) close() {
	l.t.Helper()
	if err := l.Close(); err != nil {
		l.t.Fatalf("Close: %v", err)
	}
}

func (s *suite) testClose(t *testing.T) {
	t.Run("later calls return ErrClosed, and an Append is certain that nothing was stored", func(t *testing.T) {
		l := s.new(t, Options{})
		stored := l.store(events(0, 3)...)
		l.close()
		_, err := l.Append(l.ctx, events(3, 1))
		wantClosed(t, "Append", err)
		if !errors.Is(err, tidings.ErrNotStored) {
			t.Fatalf("Append returned %v, want ErrNotStored, too", err)
		}
		wantClosed(t, "Tail", l.Tail(l.ctx, tidings.Position{}, func([]tidings.Record) error {
			t.Error("Tail delivers")
			return nil
		}))
		rs, err := l.read(stored[0].Position, stored[2].Position)
		if len(rs) > 0 {
			t.Errorf("Read yields %d records", len(rs))
		}
		wantClosed(t, "Read", err)
		_, err = l.State(l.ctx)
		wantClosed(t, "State", err)
		if err := l.Close(); err != nil {
			wantClosed(t, "a second Close", err)
		}
	})
	t.Run("it ends tails that wait", func(t *testing.T) {
		l := s.new(t, Options{})
		tails := []*tail{l.tail(tidings.Position{}), l.tail(tidings.Position{})}
		stored := l.store(events(0, 3)...)
		for _, tl := range tails {
			tl.want(stored...)
		}
		l.close()
		for _, tl := range tails {
			tl.ends(tidings.ErrClosed)
		}
	})
	t.Run("it does not wait for a deliver that blocks", func(t *testing.T) {
		l := s.new(t, Options{})
		stored := l.store(events(0, 3)...)
		tl := l.tail(tidings.Position{})
		tl.want(stored[0])
		l.close()
		for { // what was delivered before may still be taken
			if _, err := tl.next(); err != nil {
				break
			}
		}
		tl.ends(tidings.ErrClosed)
	})
	t.Run("it may come in the middle of everything", func(t *testing.T) {
		l := s.new(t, Options{})
		stored := l.store(events(0, 100)...)
		var wg sync.WaitGroup
		var closed atomic.Bool
		started := make(chan struct{}, 8)
		// until repeats a call that succeeds until the broker is closed.
		until := func(call string, f func() error) {
			wg.Go(func() {
				for i := 0; ; i++ {
					if i == 1 {
						started <- struct{}{}
					}
					late := closed.Load()
					if err := f(); err != nil || late {
						wantClosed(t, call, err)
						return
					}
				}
			})
		}
		for range 2 {
			until("Append", func() error {
				_, err := l.Append(l.ctx, events(0, 2))
				return err
			})
			until("State", func() error {
				_, err := l.State(l.ctx)
				return err
			})
			until("Read", func() error {
				for _, err := range l.Read(l.ctx, stored[0].Position, stored[99].Position) {
					if err != nil {
						return err
					}
				}
				return nil
			})
			until("Tail", func() error {
				once := errors.New("once")
				err := l.Tail(l.ctx, tidings.Position{}, func([]tidings.Record) error { return once })
				if errors.Is(err, once) {
					return nil
				}
				return err
			})
		}
		for range cap(started) {
			<-started
		}
		l.close()
		closed.Store(true)
		wg.Wait()
	})
}
