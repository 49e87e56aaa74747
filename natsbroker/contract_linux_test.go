package natsbroker_test

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/brokertest"
	"github.com/tidings-sse/tidings/internal/natstest"
	"github.com/tidings-sse/tidings/natsbroker"
)

func TestTheLogOnAServerKeepsTheContract(t *testing.T) {
	s := natstest.Start(t, natsServer(t), natstest.Config{})
	keepsTheContract(t, s.URL(), 1)
}

func keepsTheContract(t *testing.T, url string, replicas int) {
	var n atomic.Int64
	opened := map[tidings.Broker]natsbroker.ConnectOptions{}
	brokertest.Run(t, func(t *testing.T, o brokertest.Options) tidings.Broker {
		c := natsbroker.ConnectOptions{
			Options: natsbroker.Options{Stream: fmt.Sprint("s", os.Getpid(), "-", n.Add(1)), MaxEvents: o.MaxEvents, MaxBytes: manyBytes, Logger: quiet()},
			URL:     url, Replicas: replicas,
		}
		switch {
		case o.Beside != nil:
			c = opened[o.Beside]
		case o.Reopen != nil:
			c = opened[o.Reopen]
		}
		b, err := natsbroker.Connect(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		opened[b] = c
		return b
	})
}
