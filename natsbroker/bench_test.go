package natsbroker_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/natsbroker"
)

// payload is 200 bytes of data.
var payload = json.RawMessage(`"` + strings.Repeat("x", 198) + `"`)

func newHub(b testing.TB, broker tidings.Broker) *tidings.Hub {
	b.Helper()
	hub, err := tidings.New(&tidings.Options{Broker: broker, Logger: quiet(), Authorizer: tidings.TrustQuery{}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = hub.Close() })
	for hub.Ready() != nil {
		time.Sleep(time.Millisecond) // a benchmark may
	}
	return hub
}

// syncs are the two ways to sync: every second, and before each acknowledgement.
var syncs = map[string]bool{"sync=1s": false, "sync=always": true}

// BenchmarkSend sends from many goroutines, one event each.
func BenchmarkSend(b *testing.B) {
	for name, always := range syncs {
		for _, senders := range []int{8, 64} {
			b.Run(fmt.Sprintf("%s/senders=%d", name, senders), func(b *testing.B) {
				hub := newHub(b, embed(b, natsbroker.EmbedOptions{SyncAlways: always, Options: natsbroker.Options{MaxBytes: 512 << 20}}))
				send(b, hub, senders)
			})
		}
	}
}

func send(b *testing.B, hub *tidings.Hub, senders int) {
	e := tidings.Event{Type: "n", Data: payload, Target: tidings.Target{UserID: "u"}}
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ResetTimer()
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if _, err := hub.Send(context.Background(), e); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	if l := hub.Stats().Log; l != nil {
		b.ReportMetric(float64(l.Events)/float64(l.Appends), "ev/app")
		b.ReportMetric(l.AppendP50Ms*1000, "p50us")
	}
}

// BenchmarkSendInMemory is BenchmarkSend without a disk: what the hub alone can do.
func BenchmarkSendInMemory(b *testing.B) {
	for _, senders := range []int{8, 64} {
		b.Run(fmt.Sprintf("senders=%d", senders), func(b *testing.B) {
			log := tidings.NewMemoryBroker(&tidings.MemoryOptions{MaxEvents: 1 << 20, MaxBytes: 512 << 20})
			b.Cleanup(func() { _ = log.Close() })
			send(b, newHub(b, log), senders)
		})
	}
}

// BenchmarkNDJSON sends 2,000 events a request over HTTP, on four connections.
func BenchmarkNDJSON(b *testing.B) {
	const lines, connections = 2000, 4
	body := bytes.Repeat(fmt.Appendf(nil, `{"type":"n","data":%s,"target":{"userId":"u"}}`+"\n", payload), lines)
	for name, always := range syncs {
		b.Run(name, func(b *testing.B) {
			hub := newHub(b, embed(b, natsbroker.EmbedOptions{SyncAlways: always, Options: natsbroker.Options{MaxBytes: 512 << 20}}))
			srv := httptest.NewServer(hub.API())
			defer srv.Close()
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ResetTimer()
			var wg sync.WaitGroup
			var sent atomic.Int64
			for range connections {
				wg.Go(func() {
					for left.Add(-lines) > -lines {
						res, err := http.Post(srv.URL+"/api/sse/send", "application/x-ndjson", bytes.NewReader(body))
						if err != nil {
							b.Error(err)
							return
						}
						answers := bufio.NewScanner(res.Body)
						for answers.Scan() {
							if !bytes.HasPrefix(answers.Bytes(), []byte(`{"id"`)) {
								b.Errorf("the answer is %s", answers.Bytes())
							}
							sent.Add(1)
						}
						_ = res.Body.Close()
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(sent.Load())/b.Elapsed().Seconds(), "events/s")
			http.DefaultClient.CloseIdleConnections()
		})
	}
}

// arrivals reads a stream over HTTP, and sends the time at which each event came.
func arrivals(b testing.TB, hub *tidings.Hub) <-chan time.Time {
	b.Helper()
	srv := httptest.NewServer(hub)
	b.Cleanup(srv.Close)
	ctx, cancel := context.WithCancel(context.Background())
	b.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL+"?userId=u", nil)
	if err != nil {
		b.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	came := make(chan time.Time, 64) // the reader must not wait for who counts
	go func() {
		defer res.Body.Close()
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			if lines.Text() == "event: n" {
				came <- time.Now()
			}
		}
	}()
	for hub.Stats().Connections == 0 {
		time.Sleep(time.Millisecond)
	}
	return came
}

// latency sends b.N events through one hub, 1,000 a second, and reports how long they took to a client of another one.
func latency(b *testing.B, from, to *tidings.Hub) {
	came := arrivals(b, to)
	took := make([]time.Duration, 0, b.N)
	e := tidings.Event{Type: "n", Data: payload, Target: tidings.Target{UserID: "u"}}
	b.ResetTimer()
	next := time.Now()
	for range b.N {
		next = next.Add(time.Millisecond)
		time.Sleep(time.Until(next))
		began := time.Now()
		go func() { _, _ = from.Send(context.Background(), e) }()
		took = append(took, (<-came).Sub(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}

// BenchmarkLatency is the time from a send to the client's read of it, at 1,000 events a second.
func BenchmarkLatency(b *testing.B) {
	for name, always := range syncs {
		b.Run(name, func(b *testing.B) {
			hub := newHub(b, embed(b, natsbroker.EmbedOptions{SyncAlways: always}))
			latency(b, hub, hub)
		})
	}
}

// BenchmarkAppend is the log alone: calls of so many events.
func BenchmarkAppend(b *testing.B) {
	for name, always := range syncs {
		for _, n := range []int{1, 64, 4096} {
			b.Run(fmt.Sprintf("%s/events=%d", name, n), func(b *testing.B) {
				log := embed(b, natsbroker.EmbedOptions{SyncAlways: always, Options: natsbroker.Options{MaxBytes: 512 << 20}})
				rs := make([]tidings.Record, n)
				for i := range rs {
					rs[i] = record(i)
					rs[i].Data = payload
				}
				for b.Loop() {
					if _, err := log.Append(context.Background(), rs); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "events/s")
			})
		}
	}
}
