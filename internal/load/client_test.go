package load_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/internal/load"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// within bounds what has no reason to take long, on a machine that is busy.
const within = 20 * time.Second

func soon(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	t.Cleanup(cancel)
	return ctx
}

// aHub serves a hub and its API over a socket.
func aHub(t testing.TB, o *tidings.Options, configure ...func(*httptest.Server)) *httptest.Server {
	t.Helper()
	if o == nil {
		o = &tidings.Options{}
	}
	o.Authorizer = tidings.TrustQuery{}
	o.Logger = slog.New(slog.DiscardHandler)
	hub, err := tidings.New(o)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/api/sse", hub)
	mux.Handle("/api/sse/", hub.API())
	srv := httptest.NewUnstartedServer(mux)
	for _, f := range configure {
		f(srv)
	}
	if srv.URL == "" {
		srv.Start()
	}
	t.Cleanup(func() {
		_ = hub.Close()
		srv.CloseClientConnections()
		srv.Close()
	})
	return srv
}

// opened returns a client whose streams are open.
func opened(t testing.TB, cfg load.Config) *load.Client {
	t.Helper()
	c, err := load.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.Connect(soon(t)); err != nil {
		t.Fatalf("connect: %v; %+v", err, c.Report(nil))
	}
	return c
}

const streams = "/api/sse?clientId=c{n}&userId=u{user}&topic=t{topic}"

func TestAllKindsOfTargetsArriveOnceAndInOrder(t *testing.T) {
	for _, portable := range []bool{false, true} {
		for _, batch := range []int{0, 64} {
			srv := aHub(t, nil)
			c := opened(t, load.Config{URL: srv.URL + streams, Connections: 40, Users: 13, Topics: 3, Portable: portable, Loops: 2})
			ledger := load.NewLedger()
			sent, err := load.Publish(t.Context(), load.PublishConfig{
				URL: srv.URL + "/api/sse/send", Rate: 200, Duration: 500 * time.Millisecond, Publishers: 3, Batch: batch,
				Mix:     map[load.Class]float64{load.Broadcast: 1, load.ToClient: 1, load.ToUser: 1, load.ToTopic: 1},
				Clients: 40, Users: 13, Topics: 3,
			}, ledger)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Wait(soon(t), ledger); err != nil {
				t.Errorf("wait: %v", err)
			}
			r := c.Report(ledger)
			if sent.Sent != 100 || len(sent.Errors) > 0 {
				t.Errorf("published %+v", sent)
			}
			if !r.Whole() || r.Connected != 40 || r.Deliveries < sent.Sent || r.Unstamped != 0 || r.Latency.Max <= 0 {
				t.Errorf("portable %v, batch %d: %+v", portable, batch, r)
			}
			var counted int64
			for _, s := range r.Series {
				counted += s.Deliveries
			}
			if counted != r.Deliveries {
				t.Errorf("the series has %d of %d deliveries: %+v", counted, r.Deliveries, r.Series)
			}
		}
	}
}
