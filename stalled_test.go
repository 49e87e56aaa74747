package tidings_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidings-sse/tidings"
)

// Behaviours of what happens while a client doesn't read, or reads a little at a time.
var stalledBehaviours = []behaviour{
	{
		name:   "large frames reach a client whole that reads them in tiny pieces",
		socket: true,
		costly: true,
		opts:   tidings.Options{MaxEventBytes: 2 << 20, MaxQueuedBytes: 64 << 20},
		set:    shrink,
		run: func(t *testing.T, s *site) {
			st := s.open(t, "clientId=a")
			var want bytes.Buffer
			for i, size := range []int{1 << 20, 10, 1<<20 + 1, 0, 70_000, 1 << 20} {
				want.WriteString(block(t, s, tidings.Event{Data: tidings.Text(pattern(i, size))}))
			}
			random := rand.New(rand.NewPCG(1, 2))
			same(t, readerFunc(func(b []byte) (int, error) {
				return st.resp.Body.Read(b[:min(len(b), 1+random.IntN(1500))])
			}), want.Bytes())
			eventually(t, "all are counted", func() bool {
				c := only(t, s.hub)
				return c.Events == 6 && c.Queued == 0
			})
		},
	},
	{
		name:   "what queues up behind a client that does not read goes out in few writes",
		socket: true,
		costly: true,
		set:    shrink,
		opts:   tidings.Options{MaxEventBytes: stuckBytes, MaxQueuedBytes: 4 * stuckBytes, MaxQueuedEvents: 10_000},
		run: func(t *testing.T, s *site) {
			const n = 1000
			st := s.open(t, "clientId=a")
			var want bytes.Buffer
			want.WriteString(stick(t, s, st, tidings.Event{}))
			for i := range n {
				want.WriteString(block(t, s, tidings.Event{Data: i}))
			}
			// A writer may have taken a batch.
			eventually(t, "they are queued", func() bool { return only(t, s.hub).Queued >= n/2 })
			same(t, st.resp.Body, want.Bytes())
			eventually(t, "all are counted", func() bool { return s.hub.Stats().Delivered == n+1 })
			if writes := s.hub.Stats().Writes; writes > n/2 { // the large one may take many
				t.Errorf("%d writes", writes)
			}
		},
	},
	{
		name:   "what waits is superseded and expires, but never what is half written",
		costly: true,
		set:    shrink,
		opts:   tidings.Options{MaxEventBytes: stuckBytes, MaxQueuedBytes: 4 * stuckBytes},
		run: func(t *testing.T, s *site) {
			ttl := 100 * time.Millisecond
			if !s.exact {
				ttl = 3 * time.Second // it has to be half written by then, on a busy machine too
			}
			st := s.open(t, "clientId=a")
			want := stick(t, s, st, tidings.Event{CollapseKey: "large", TTL: ttl})
			var expires time.Time
			for i := range 5 {
				want += block(t, s, tidings.Event{Data: tidings.Text(fmt.Sprint("plain ", i))})
				collapsing := block(t, s, tidings.Event{Data: tidings.Text(fmt.Sprint("collapsing ", i)), CollapseKey: "small"})
				if i == 4 {
					want += collapsing
				}
				block(t, s, tidings.Event{Data: "expires", TTL: ttl})
				expires = time.Now().Add(ttl)
			}
			want += block(t, s, tidings.Event{Data: "newer than the large one", CollapseKey: "large"})
			time.Sleep(time.Until(expires) + time.Millisecond) // for time to pass: that is what expiry is
			want += block(t, s, tidings.Event{Data: "last"})
			same(t, st.resp.Body, []byte(want))
		},
	},
	{
		name:   "a write that makes no progress for the ConnectionTimeout ends the stream as slow, in real time",
		socket: true,
		costly: true,
		set:    shrink,
		opts: tidings.Options{
			MaxEventBytes: stuckBytes, MaxQueuedBytes: 4 * stuckBytes,
			HeartbeatInterval: 300 * time.Millisecond, ConnectionTimeout: time.Second,
		},
		run: func(t *testing.T, s *site) {
			start := time.Now()
			stick(t, s, s.open(t, "clientId=a"), tidings.Event{})
			eventually(t, "the stream ends", func() bool { return s.hub.Stats().Connections == 0 })
			if took := time.Since(start); took < time.Second {
				t.Errorf("it ended after %v", took)
			}
			if d := s.hub.Stats().Disconnected; d[tidings.ReasonSlow] != 1 || len(d) != 1 {
				t.Errorf("disconnected: %v", d)
			}
		},
	},
	{
		name:  "Disconnect ends a stream whose client does not read, in the time an end has",
		exact: true, // it is 5 s; TestDisconnectEndsASocket is the same on sockets
		opts:  tidings.Options{MaxEventBytes: stuckBytes, MaxQueuedBytes: 4 * stuckBytes},
		run:   disconnectsStuck,
	},
}

func TestDisconnectEndsASocketWhoseClientDoesNotRead(t *testing.T) {
	for _, p := range named(t, "HTTP 1.1", "HTTP 1.1 unix") {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			disconnectsStuck(t, p.serveTCP(t, &tidings.Options{MaxEventBytes: stuckBytes, MaxQueuedBytes: 4 * stuckBytes}, shrink))
		})
	}
}

func disconnectsStuck(t *testing.T, s *site) {
	stick(t, s, s.open(t, "clientId=a"), tidings.Event{})
	start := time.Now()
	if n, err := s.hub.Disconnect(tidings.Target{ClientID: "a"}); n != 1 || err != nil {
		t.Fatalf("Disconnect: %d, %v", n, err)
	}
	if r, err := s.hub.NotifyClient(t.Context(), "a", "", "too late"); err != nil {
		t.Errorf("%+v, %v", r, err)
	}
	eventually(t, "the stream has ended", func() bool { return s.hub.Stats().Connections == 0 })
	if took := time.Since(start); took > 15*time.Second { // 5 s, and 5 more that net/http lets TLS try to say goodbye
		t.Errorf("it ended after %v", took)
	}
	if d := s.hub.Stats().Disconnected; d[tidings.ReasonKicked] != 1 || len(d) != 1 {
		t.Errorf("disconnected: %v", d)
	}
}

// stuckBytes is the size of an event that is not taken whole before somebody reads: a kernel keeps 4 MiB, once the client's
// is shrunk, and an HTTP/2 client of Go's as much.
const stuckBytes = 6 << 20

// shrink makes the client's socket, if it has one, one that takes little which is not read.
func shrink(s *site) { shrinkFirst(s, 32<<10) }

const heartbeat = ":\n\n"

// stick sends the client "a" such an event, and returns its frame when it is half written.
func stick(t *testing.T, s *site, st *stream, e tidings.Event) (rest string) {
	t.Helper()
	e.Data = tidings.Text(stuckText())
	frame := block(t, s, e)
	begin := make([]byte, len(heartbeat))
	for {
		if _, err := io.ReadFull(st.resp.Body, begin); err != nil {
			t.Fatal(err)
		}
		if string(begin) != heartbeat {
			break
		}
	}
	if !strings.HasPrefix(frame, string(begin)) {
		t.Fatalf("got %q, want %.10q", begin, frame)
	}
	return frame[len(begin):]
}

// block sends an event to the client "a", and returns the bytes of its frame.
func block(t testing.TB, s *site, e tidings.Event) string {
	t.Helper()
	e.Target.ClientID = "a"
	r, err := s.hub.Send(context.WithoutCancel(t.Context()), e)
	if err != nil || r.Matched != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	data := ""
	switch d := e.Data.(type) {
	case tidings.Text:
		data = string(d)
	case string:
		data = strconv.Quote(d)
	default:
		data = fmt.Sprint(d)
	}
	return "data: " + data + "\nid: " + r.ID + "\n\n"
}

var stuckText = sync.OnceValue(func() string { return pattern(7, stuckBytes-10) })

// pattern returns a text in which no part looks like another of its beginning.
func pattern(seed, size int) string {
	b := make([]byte, 0, size+20)
	for n := seed; len(b) < size; n += 7919 {
		b = append(strconv.AppendInt(b, int64(n), 36), ' ')
	}
	return strings.TrimRight(string(b[:size]), " ")
}

// only returns the one connection that there is.
func only(t testing.TB, hub *tidings.Hub) tidings.Connection {
	t.Helper()
	cs := slices.Collect(hub.Connections(tidings.Target{}))
	if len(cs) != 1 {
		t.Fatalf("%d connections", len(cs))
	}
	return cs[0]
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }
