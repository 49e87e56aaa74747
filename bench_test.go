package tidings_test

import (
	"fmt"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/tidings-sse/tidings"
)

// A sink is a connection whose peer reads at once.
type sink struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func newSink() *sink { return &sink{closed: make(chan struct{})} }

func (s *sink) Read([]byte) (int, error) {
	<-s.closed
	return 0, net.ErrClosed
}
func (s *sink) Write(b []byte) (int, error)      { return len(b), nil }
func (s *sink) SetDeadline(time.Time) error      { return nil }
func (s *sink) SetWriteDeadline(time.Time) error { return nil }
func (s *sink) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// A void is a response that nobody reads.
type void struct{ head http.Header }

func (v void) Header() http.Header         { return v.head }
func (v void) Write(b []byte) (int, error) { return len(b), nil }
func (v void) WriteHeader(int)             {}
func (v void) Flush()                      {}

// benchText is the data of a small event: 60 bytes.
const benchText = `{"text":"hi, this is a message of an ordinary length","n":1}`

func BenchmarkEncodeAFrame(b *testing.B) {
	r := &tidings.Record{Position: tidings.Position{Hi: 123_456_789}, Nonce: 1 << 63, Type: "new-message", Data: []byte(benchText)}
	size := 0
	b.ReportAllocs()
	for b.Loop() {
		size = tidings.EncodeFrame(r, "abcdefghij")
	}
	b.SetBytes(int64(size))
}

// benchHub returns a hub with a served connection for each of users, and others that are only registered.
func benchHub(b *testing.B, users, others int) *tidings.Hub {
	b.Helper()
	hub := joinHub(b, tidings.Options{MaxConnections: 1_000_000})
	for n := range users {
		if err := hub.Serve(tidings.Connection{ConnectionID: fmt.Sprint("~u", n), ClientID: fmt.Sprint("~u", n), UserID: fmt.Sprint("u", n), SessionID: fmt.Sprint("su", n)}, newSink()); err != nil {
			b.Fatal(err)
		}
	}
	for n := range others {
		c := tidings.Connection{ConnectionID: fmt.Sprint("~", n), ClientID: fmt.Sprint("c", n), UserID: strconv.Itoa(n), SessionID: fmt.Sprint("s", n), Topics: []string{fmt.Sprint("t", n%100)}}
		if err := hub.Register(c); err != nil {
			b.Fatal(err)
		}
	}
	return hub
}

// The hub's whole way of an event: checked, encoded, appended, routed, and posted to the user's stream. It must cost the
// same however many others are connected.
func BenchmarkPublishToOneUser(b *testing.B) {
	for _, others := range []int{0, 1, 100_000} {
		b.Run(fmt.Sprint("others=", others), func(b *testing.B) {
			hub := benchHub(b, 1, others)
			b.ReportAllocs()
			for b.Loop() {
				if r, err := hub.NotifyUser(b.Context(), "u0", "new-message", tidings.Text(benchText)); err != nil || r.Matched != 1 {
					b.Fatalf("%+v, %v", r, err)
				}
			}
		})
	}
}

// The same from many goroutines, whose sends share Appends.
func BenchmarkPublishToOneUserInParallel(b *testing.B) {
	for _, others := range []int{0, 100_000} {
		b.Run(fmt.Sprint("others=", others), func(b *testing.B) {
			hub := benchHub(b, 1, others)
			b.ReportAllocs()
			b.SetParallelism(32)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := hub.NotifyUser(b.Context(), "u0", "new-message", tidings.Text(benchText)); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

// A connection that is registered under the hub's lock, while that many listen to its topic. The worst is what a send may
// wait for; it must not grow with them.
func BenchmarkRegisterInATopic(b *testing.B) {
	for _, members := range []int{1, 1_000_000} {
		b.Run(fmt.Sprint("members=", members), func(b *testing.B) {
			hub := joinHub(b, tidings.Options{})
			register := func(n int) time.Duration {
				c := tidings.Connection{ConnectionID: fmt.Sprint("~", n), ClientID: fmt.Sprint("~", n), UserID: strconv.Itoa(n), Topics: []string{"all"}}
				began := time.Now()
				if err := hub.Register(c); err != nil {
					b.Fatal(err)
				}
				return time.Since(began)
			}
			for n := range members {
				register(n)
			}
			runtime.GC()
			b.ReportAllocs()
			var took []time.Duration
			for b.Loop() {
				took = append(took, register(members+len(took)))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*999/1000].Nanoseconds()), "p99.9-ns")
			b.ReportMetric(float64(took[len(took)-1].Nanoseconds()), "worst-ns")
		})
	}
}

func BenchmarkBroadcastTo1000(b *testing.B) {
	const connections = 1000
	hub := benchHub(b, connections, 0)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if r, err := hub.Broadcast(b.Context(), "new-message", tidings.Text(benchText)); err != nil || r.Matched != connections {
			b.Fatalf("%+v, %v", r, err)
		}
		n++
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n*connections), "ns/connection")
}

// A replay of 100 events for one user, spread over everything that is retained. It must cost the same however much that
// is: whether the events are held in memory or read from the log.
func BenchmarkReplayOf100(b *testing.B) {
	const mine = 100
	for _, from := range []string{"memory", "log"} {
		for _, retained := range []int{1000, 1_000_000} {
			b.Run(fmt.Sprintf("from=%s/retained=%d", from, retained), func(b *testing.B) {
				log := memoryLog(b, &tidings.MemoryOptions{MaxEvents: 2 * retained, MaxBytes: 16 << 30})
				o := tidings.Options{Broker: log, HoldBytes: 16 << 30}
				if from == "log" {
					o.HoldBytes = 1
				}
				hub := joinHub(b, o)
				first := joinSend(b, hub, tidings.Event{Data: 0, Target: user("me")})
				const batch = 1000
				rs := make([]tidings.Record, batch)
				for n := 0; n < retained; n += batch {
					for i := range rs {
						rs[i] = tidings.Record{Nonce: uint64(n + i), Type: "new-message", Data: []byte(benchText), Targets: []tidings.Target{user(strconv.Itoa((n + i) % 10_000))}}
						if (n+i)%(retained/mine) == 0 {
							rs[i].Targets[0].UserID = "me"
						}
					}
					appendTo(b, log, rs...)
				}
				last := joinSend(b, hub, tidings.Event{Data: 0, Target: user("end")})
				for hub.Stats().History.LastID != last.ID {
					time.Sleep(time.Millisecond)
				}
				me := tidings.Connection{ConnectionID: "~me", ClientID: "~me", UserID: "me"}
				w := void{http.Header{}}
				runtime.GC()
				b.ReportAllocs()
				for b.Loop() {
					if n, err := hub.Replay(me, first.ID, w); err != nil || n != mine {
						b.Fatalf("%d events, %v", n, err)
					}
				}
			})
		}
	}
}

// What the index keeps for each record, with its share of the keys, of records that are in the log and not held.
func BenchmarkIndexMemory(b *testing.B) {
	const records = 1_000_000
	for _, users := range []int{1000, 100_000, records} {
		b.Run(fmt.Sprint("users=", users), func(b *testing.B) {
			var bytes float64
			for b.Loop() {
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				h := tidings.NewHistory("e", tidings.Position{}, 0)
				for n := range uint64(records) {
					h.Add(tidings.Record{Position: tidings.Position{Hi: n + 1}, Time: time.Unix(1, 0), Targets: []tidings.Target{user(strconv.FormatUint(n*7919%uint64(users), 10))}})
				}
				runtime.GC()
				runtime.ReadMemStats(&after)
				bytes = float64(after.HeapAlloc-before.HeapAlloc) / records
				runtime.KeepAlive(h)
			}
			b.ReportMetric(bytes, "B/record")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/records, "ns/record")
		})
	}
}
