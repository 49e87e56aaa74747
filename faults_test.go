package tidings_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/sse"
)

// named returns the protocols with these names.
func named(t testing.TB, names ...string) []protocol {
	t.Helper()
	var ps []protocol
	for _, p := range protocols {
		if slices.Contains(names, p.name) {
			ps = append(ps, p)
		}
	}
	if len(ps) != len(names) {
		t.Fatalf("there are %d protocols of %q", len(ps), names)
	}
	return ps
}

// Row 12, on sockets: what the kernel queues for a client that doesn't read is bounded too.
func TestAClientThatStopsReadingASocketIsClosedAloneAndHoldsNobodyUp(t *testing.T) {
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			o, ended := endings(tidings.Options{MaxQueuedEvents: 64, MaxQueuedBytes: 256 << 10})
			s := p.serveTCP(t, o)
			if p.version != "HTTP/2.0" { // where the stream's window does that
				shrinkFirst(s)
			}
			s.open(t, "clientId=stalled")
			reading := make([]*stream, 3)
			for i := range reading {
				reading[i] = s.open(t, "clientId=reads")
			}
			const n, most = 400, 4 // events, and how many of them the others may be behind
			ahead := make([]chan bool, len(reading))
			var others sync.WaitGroup
			for k, st := range reading {
				ahead[k] = make(chan bool, most)
				others.Go(func() {
					for i := range n {
						for e, err := range st.Events() {
							if err != nil || !strings.HasPrefix(e.Data, strconv.Itoa(i)+" ") {
								t.Errorf("event %d: %.20q, %v", i, e.Data, err)
							}
							break
						}
						<-ahead[k]
					}
				})
			}
			filler := strings.Repeat("x", 32<<10)
			var slowest time.Duration
			for i := range n {
				start := time.Now()
				send(t, s.hub, fmt.Sprint(i, " ", filler))
				slowest = max(slowest, time.Since(start))
				for _, c := range ahead {
					c <- true
				}
			}
			others.Wait()
			if slowest > 5*time.Second {
				t.Errorf("a send took %v", slowest)
			}
			e := await(t, ended)
			if e.ClientID != "stalled" || e.reason != tidings.ReasonSlow || e.err == nil {
				t.Errorf("%s ended: %s, %v", e.ClientID, e.reason, e.err)
			}
			if r := send(t, s.hub, "x"); r.Matched != len(reading) {
				t.Errorf("%d connections are left", r.Matched)
			}
		})
	}
}

// shrinkFirst makes the first connection that a client dials one that takes few bytes which are not read.
func shrinkFirst(s *site) {
	var once sync.Once
	shrink := func(c net.Conn, err error) (net.Conn, error) {
		if err == nil {
			once.Do(func() { err = c.(*net.TCPConn).SetReadBuffer(4 << 10) })
		}
		return c, err
	}
	switch tr := s.client.Transport.(type) {
	case http10:
		dial := tr.dial
		tr.dial = func(ctx context.Context) (net.Conn, error) { return shrink(dial(ctx)) }
		s.client.Transport = tr
	case *http.Transport:
		dial := tr.DialContext
		tr.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			return shrink(dial(ctx, network, address))
		}
	}
}

// A socket tells why it broke only once, and here a read and a write wait for it.
func TestAConnectionThatIsResetWhileItIsWrittenToIsLostAndNeverClosedOrSlow(t *testing.T) {
	for _, p := range named(t, "HTTP 1.0", "HTTP 1.1", "HTTP 1.1 TLS") {
		t.Run(p.name, func(t *testing.T) {
			o, ended := endings(tidings.Options{MaxQueuedBytes: 1 << 30})
			s := p.serveTCP(t, o)
			for i := range 8 {
				st := s.open(t, "")
				for range 6 {
					send(t, s.hub, strings.Repeat("x", 1<<20))
				}
				eventually(t, "the write is stuck", func() bool {
					before := s.hub.Stats().Writes
					time.Sleep(2 * time.Millisecond)
					return s.hub.Stats().Writes == before
				})
				conn := s.dialed.all()[i]
				_ = conn.(*net.TCPConn).SetLinger(0)
				_ = conn.Close()
				st.close()
				if e := await(t, ended); e.reason != tidings.ReasonLost || !errors.Is(e.err, syscall.ECONNRESET) {
					t.Errorf("it ended: %s, %v", e.reason, e.err)
				}
			}
		})
	}
}

// Row 14.
func TestWhatAClientSendsAfterItsRequestIsIgnoredUpToABound(t *testing.T) {
	const bound = 4 << 10
	for _, p := range named(t, "HTTP 1.0", "HTTP 1.1", "HTTP 1.1 TLS") {
		request := request11
		if p.version == "HTTP/1.0" {
			request = request10
		}
		for _, c := range []struct {
			name string
			with int // bytes that come with the request
			then int // bytes that come later
		}{
			{"with the request", 1000, 0},
			{"later", 0, bound},
			{"both", 1000, bound - 1000},
		} {
			t.Run(p.name+" "+c.name, func(t *testing.T) {
				o, ended := endings(tidings.Options{})
				s := p.serveTCP(t, o)
				conn := s.dialRaw(t, request+strings.Repeat("x", c.with))
				r := bufio.NewReader(conn)
				readHead(t, r)
				eventually(t, "the stream is registered", func() bool { return s.hub.Stats().Connections == 1 })
				if _, err := conn.Write(bytes.Repeat([]byte("y"), c.then)); err != nil {
					t.Fatal(err)
				}
				for i := range 3 {
					send(t, s.hub, "x")
					readUntil(t, r, "data: x\n")
					if len(ended) > 0 {
						t.Fatalf("after event %d: %+v", i, <-ended)
					}
				}
				if _, err := conn.Write([]byte("z")); err != nil {
					t.Fatal(err)
				}
				if c.with+c.then < bound {
					if _, err := conn.Write(bytes.Repeat([]byte("z"), bound-c.with-c.then)); err != nil {
						t.Fatal(err)
					}
				}
				if e := await(t, ended); e.reason != tidings.ReasonLost || e.err == nil || !strings.Contains(e.err.Error(), "4096 bytes") {
					t.Errorf("it ended: %s, %v", e.reason, e.err)
				}
			})
		}
	}
}

// readUntil reads up to and with the text.
func readUntil(t testing.TB, r *bufio.Reader, text string) {
	t.Helper()
	var got strings.Builder
	for !strings.HasSuffix(got.String(), text) {
		b, err := r.ReadByte()
		if err != nil {
			t.Fatalf("after %q: %v", got.String(), err)
		}
		got.WriteByte(b)
	}
}

// Row 14, where net/http keeps the connection: what it doesn't read it doesn't hold either.
func TestWhatAClientSendsAfterItsRequestDoesNotEndAStreamThatCantBeHijacked(t *testing.T) {
	s := named(t, "HTTP 1.1 not hijackable")[0].serveTCP(t, nil)
	conn := s.dialRaw(t, request11+strings.Repeat("x", 2000))
	r := bufio.NewReader(conn)
	readHead(t, r)
	_ = conn.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
	_, _ = conn.Write(make([]byte, 16<<20)) // blocks: nobody reads it
	send(t, s.hub, "still here")
	readUntil(t, r, "data: still here\n")
}

// Row 15, with fewer connections than it says.
func TestAThousandConnectionsThatDropAndComeBackAtOnceLoseNothing(t *testing.T) {
	const connections, users, before, between, after = 1000, 10, 40, 60, 40
	s := named(t, "HTTP 1.1")[0].serveTCP(t, nil)
	s.patience = 2 * time.Minute
	publish := func(from, to int) {
		for i := from; i < to; i++ {
			var err error
			if i%2 == 0 {
				_, err = s.hub.Broadcast(t.Context(), "", i)
			} else {
				_, err = s.hub.NotifyUser(t.Context(), fmt.Sprint("u", i%users), "", i)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	// meant returns what a user is to get of a range.
	meant := func(user, from, to int) (is []string) {
		for i := from; i < to; i++ {
			if i%2 == 0 || i%users == user {
				is = append(is, strconv.Itoa(i))
			}
		}
		return is
	}
	cursors := make([]string, connections)
	var opened, read sync.WaitGroup
	round := func(from, to int, reach func()) {
		for i := range connections {
			opened.Add(1)
			read.Go(func() {
				ready := sync.OnceFunc(opened.Done)
				defer ready()
				user := i % users
				query := fmt.Sprintf("clientId=c%d&userId=u%d&lastEventId=%s", i, user, cursors[i])
				st := decode(s.get(t, query))
				defer st.close()
				want := meant(user, from, to)
				for e, err := range st.Events() {
					switch {
					case err != nil:
						t.Errorf("connection %d: %v, %d events before its end", i, err, len(want))
						return
					case e.Type == "tidings.connected":
						if resumed := strings.Contains(e.Data, `"resume":"complete"`); resumed != (cursors[i] != "") {
							t.Errorf("connection %d: %s", i, e.Data)
						}
						ready()
					case e.Type == "tidings.checkpoint": // its cursor was old, and nothing was left to replay
					case e.Data != want[0]:
						t.Errorf("connection %d got %+v, want %s", i, e, want[0])
						return
					default:
						want = want[1:]
					}
					cursors[i] = st.LastEventID()
					if len(want) == 0 {
						return
					}
				}
			})
		}
		opened.Wait()
		reach()
		read.Wait()
		eventually(t, "all have gone", func() bool { return s.hub.Stats().Connections == 0 })
	}
	round(0, before, func() { publish(0, before) })
	publish(before, before+between)
	round(before, before+between+after, func() { publish(before+between, before+between+after) })
	// A socket that is closed with bytes unread is reset: that is lost.
	d := s.hub.Stats().Disconnected
	delete(d, tidings.ReasonClosed)
	delete(d, tidings.ReasonLost)
	if len(d) > 0 {
		t.Errorf("disconnected: %v", d)
	}
}

// Row 24.
func TestADrainInMidBroadcastSendsWholeFramesAndLosesNothing(t *testing.T) {
	const each, window = 6, 500 * time.Millisecond // connections of each protocol
	// What is sent at full speed while all are away is more than the defaults let a stream resume over.
	log := tidings.NewMemoryBroker(&tidings.MemoryOptions{MaxEvents: 1 << 20, MaxBytes: 1 << 30})
	defer log.Close()
	var first, second []*site
	for _, p := range protocols {
		first = append(first, p.serveTCP(t, &tidings.Options{Broker: log, DrainWindow: window}))
	}
	// One hub is drained; the other protocols' sites serve it too.
	draining := first[0].hub
	for _, s := range first[1:] {
		_ = s.hub.Close()
		s.server.Handler = handlerFor(s.protocol, draining)
	}
	for _, p := range protocols {
		second = append(second, p.serveTCP(t, &tidings.Options{Broker: log, MaxReplayEvents: 1 << 20, MaxReplayBytes: 1 << 30}))
	}

	var sent, resent int // numbers of events, by this goroutine's count and by the second hub
	stop, sending := make(chan struct{}), make(chan struct{})
	hub := draining
	go func() {
		defer close(sending)
		for ; ; sent++ {
			select {
			case <-stop:
				return
			default:
			}
			_, err := hub.Broadcast(t.Context(), "", fmt.Sprint(sent, strings.Repeat(" x", 100)))
			if errors.Is(err, tidings.ErrNotStored) && errors.Is(err, tidings.ErrClosed) && hub == draining {
				hub = second[0].hub
				resent = sent
				sent--
			} else if err != nil {
				t.Errorf("send %d: %v", sent, err)
				return
			}
		}
	}()

	type client struct {
		from  int // number of the first event it got
		next  int
		ended time.Time
	}
	clients := make([]client, each*len(protocols))
	var opened, over sync.WaitGroup
	drained := make(chan struct{})
	for i := range clients {
		opened.Add(1)
		over.Go(func() {
			c, s := &clients[i], first[i/each]
			c.from = -1
			take := func(e sse.Event) bool {
				text, _, _ := strings.Cut(strings.Trim(e.Data, `"`), " ")
				n, err := strconv.Atoi(text)
				if c.from < 0 {
					c.from, c.next = n, n
				}
				if err != nil || n != c.next {
					t.Errorf("client %d got %.40q when %d was due", i, e.Data, c.next)
					return false
				}
				c.next++
				return true
			}
			tail := new(tailReader)
			resp := s.get(t, "")
			tail.Reader = resp.Body
			st := &stream{Decoder: sse.NewDecoder(tail, nil), resp: resp}
			st.greet(t)
			opened.Done()
			notice := false
			es, err := st.rest()
			c.ended = time.Now()
			for _, e := range es {
				if notice = e.Type == "tidings.disconnected"; notice {
					break
				}
				if !take(e) {
					return
				}
			}
			if !notice || !s.truncated(err) || !bytes.HasSuffix(tail.last, []byte("\n\n")) {
				t.Errorf("client %d (%s): notice %t, %v, the last bytes are %q", i, s.name, notice, err, tail.last)
			}
			<-drained
			again := decode(second[i/each].get(t, "", "Last-Event-ID", st.LastEventID()))
			again.greet(t)
			if again.connected.Resume != "complete" {
				t.Errorf("client %d resumed: %+v", i, again.connected)
			}
			for e, err := range again.Events() {
				if err != nil {
					t.Errorf("client %d after its resume: %v", i, err)
				}
				if e.Type == "end" || err != nil || !take(e) {
					return
				}
			}
		})
	}
	opened.Wait()
	eventually(t, "all are registered", func() bool { return draining.Stats().Connections == len(clients) })
	start := time.Now()
	if err := draining.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	took := time.Since(start)
	eventually(t, "events go through the other hub", func() bool { return second[0].hub.Stats().Sent > 100 })
	close(stop)
	<-sending
	close(drained)
	eventually(t, "all have come back", func() bool {
		n := 0
		for _, s := range second {
			n += s.hub.Stats().Connections
		}
		return n == len(clients)
	})
	if _, err := second[0].hub.Broadcast(t.Context(), "end", nil); err != nil {
		t.Error(err)
	}
	over.Wait()

	for i, c := range clients {
		if c.from > resent || c.next != sent {
			t.Errorf("client %d got events %d to %d, of %d to %d", i, c.from, c.next, 0, sent)
		}
	}
	slices.SortFunc(clients, func(a, b client) int { return a.ended.Compare(b.ended) })
	if spread := clients[len(clients)-1].ended.Sub(clients[0].ended); spread < window/2 || took < window/2 {
		t.Errorf("all streams ended within %v, the drain took %v: it must be spread over %v", spread, took, window)
	}
	if resent < 100 {
		t.Errorf("only %d events were accepted until the end of the drain", resent)
	}
}

// tailReader keeps the last bytes that went through it.
type tailReader struct {
	io.Reader
	last []byte
}

func (r *tailReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.last = append(r.last, b[:n]...)
	r.last = r.last[max(0, len(r.last)-16):]
	return n, err
}

func handlerFor(p protocol, h http.Handler) http.Handler {
	if p.wrap != nil {
		return p.wrap(h)
	}
	return h
}

// A stalled client's replay is in the handler, not in the engine.
func TestCloseEndsAReplayToAClientThatDoesNotRead(t *testing.T) {
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := p.serveInMemory(t, &tidings.Options{MaxReplayBytes: 64 << 20})
				cursor := s.open(t, "")
				for range 200 {
					_, err := s.hub.NotifyUser(t.Context(), "u", "", tidings.Text(strings.Repeat("x", 64<<10)))
					if err != nil {
						t.Fatal(err)
					}
				}
				s.get(t, "userId=u", "Last-Event-ID", cursor.LastEventID()) // and reads nothing
				synctest.Wait()
				if n := s.hub.Stats().Connections; n != 1 {
					t.Fatalf("%d connections: the replay has not stalled", n)
				}
				start := time.Now()
				if err := s.hub.Close(); err != nil {
					t.Error(err)
				}
				// net/http lets TLS try for 5 s to say goodbye.
				if took := time.Since(start); took > 0 && !(p.tls && p.version == "HTTP/1.1") || took > 5*time.Second {
					t.Errorf("Close took %v", took)
				}
				if u := s.hub.Stats().Unfinished; u[tidings.ReasonStopped] != 1 {
					t.Errorf("unfinished: %v", u)
				}
			})
		})
	}
}

func TestAReplayToAClientThatDoesNotReadIsGivenUpAfterTheTimeout(t *testing.T) {
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := p.serveInMemory(t, &tidings.Options{MaxReplayBytes: 64 << 20, ConnectionTimeout: time.Minute})
				cursor := s.open(t, "")
				for range 200 {
					_, err := s.hub.NotifyUser(t.Context(), "u", "", tidings.Text(strings.Repeat("x", 64<<10)))
					if err != nil {
						t.Fatal(err)
					}
				}
				s.get(t, "userId=u", "Last-Event-ID", cursor.LastEventID())
				time.Sleep(66 * time.Second)
				if u := s.hub.Stats().Unfinished; u[tidings.ReasonSlow] != 1 || len(u) != 1 {
					t.Errorf("unfinished: %v", u)
				}
			})
		})
	}
}

func TestAQueueFreesWhatWasSupersededOrExpiredBeforeItsStreamIsSlow(t *testing.T) {
	for _, c := range []struct {
		name  string
		event func(i int) tidings.Event
		want  []string // of the last events
	}{
		{"collapsed", func(i int) tidings.Event {
			return tidings.Event{Everyone: true, CollapseKey: "k", Data: i}
		}, []string{"999", `"last"`}},
		{"expired", func(i int) tidings.Event {
			return tidings.Event{Everyone: true, TTL: 10 * time.Millisecond, Data: i}
		}, []string{`"last"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := named(t, "HTTP 1.1")[0].serveInMemory(t, &tidings.Options{MaxQueuedEvents: 20})
				st := s.open(t, "")
				send(t, s.hub, strings.Repeat("x", 1<<20)) // fills what lies between, and is not read
				for i := range 1000 {
					time.Sleep(time.Millisecond)
					if r, err := s.hub.Send(t.Context(), c.event(i)); err != nil || r.Matched != 1 {
						t.Fatalf("event %d: %+v, %v", i, r, err)
					}
				}
				time.Sleep(20 * time.Millisecond)
				if _, err := s.hub.Broadcast(t.Context(), "", "last"); err != nil {
					t.Fatal(err)
				}
				st.next(t)
				var got []string
				for len(got) == 0 || got[len(got)-1] != `"last"` {
					got = append(got, st.next(t).Data)
				}
				if !slices.Equal(got, c.want) {
					t.Errorf("got %q, want %q", got, c.want)
				}
			})
		})
	}
}
