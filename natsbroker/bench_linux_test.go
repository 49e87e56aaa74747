package natsbroker_test

import (
	"testing"

	"github.com/tidings-sse/tidings/internal/natstest"
	"github.com/tidings-sse/tidings/natsbroker"
)

// BenchmarkLatencyOfNodes is BenchmarkLatency on NATS servers: to a client of the node that was sent to, and of another.
func BenchmarkLatencyOfNodes(b *testing.B) {
	for name, servers := range map[string]int{"servers=1": 1, "servers=3": 3} {
		for _, nodes := range []int{1, 2} {
			b.Run(name+map[int]string{1: "/same", 2: "/other"}[nodes], func(b *testing.B) {
				url := natstest.Start(b, natsServer(b), natstest.Config{}).URL()
				if servers == 3 {
					url = natstest.Cluster(b, natsServer(b), 3)[0].URL()
				}
				o := natsbroker.ConnectOptions{URL: url, Replicas: servers}
				eventually(b, "the log", func() error {
					o.Logger = quiet()
					l, err := natsbroker.Connect(b.Context(), o)
					if err == nil {
						err = l.Close()
					}
					return err
				})
				from := newHub(b, connect(b, o))
				to := from
				if nodes == 2 {
					to = newHub(b, connect(b, o))
				}
				latency(b, from, to)
			})
		}
	}
}
