package tidings_test

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tidings-sse/tidings"
)

// A socket tells why it broke only once, and here a read and a write wait for it.
func TestAConnectionThatIsResetWhileItIsWrittenToIsLostAndNeverClosedOrSlow(t *testing.T) {
	for _, p := range named(t, "HTTP 1.0", "HTTP 1.1", "HTTP 1.1 limited", "HTTP 1.1 TLS") {
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
