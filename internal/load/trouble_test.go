package load_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/internal/load"
)

func TestAStormBringsAllBackWithNothingLost(t *testing.T) {
	for _, how := range []load.Storm{{Share: 1}, {Share: 0.5, Reset: true}, {Share: 1, AfterRetry: true}} {
		for _, portable := range []bool{false, true} {
			srv := aHub(t, &tidings.Options{RetryInterval: 50 * time.Millisecond})
			c := opened(t, load.Config{URL: srv.URL + streams, Connections: 60, Portable: portable, Loops: 2})
			ledger := load.NewLedger()
			done := make(chan error, 1)
			go func() {
				_, err := load.Publish(t.Context(), load.PublishConfig{
					URL: srv.URL + "/api/sse/send", Rate: 100, Duration: time.Second, Batch: 10, Mix: map[load.Class]float64{load.Broadcast: 1, load.ToUser: 1}, Users: 60,
				}, ledger)
				done <- err
			}()
			if err := c.WaitDeliveries(soon(t), 300); err != nil {
				t.Error(err)
			}
			r, err := c.Storm(soon(t), how, ledger)
			if want := int(60 * how.Share); err != nil || r.Dropped != want || r.Back != want || r.AllBackMs <= 0 || r.CaughtUpMs < r.AllBackMs {
				t.Errorf("portable %v: %+v: %v", portable, r, err)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
			if err := c.Wait(soon(t), ledger); err != nil {
				t.Error(err)
			}
			if all := c.Report(ledger); !all.Whole() || all.Reconnects != r.Back || all.Disconnects != 0 || len(all.Storms) != 1 {
				t.Errorf("portable %v: %+v", portable, all)
			}
			_ = c.Close()
		}
	}
}

func TestOverHTTP2StreamsShareConnections(t *testing.T) {
	for _, secure := range []bool{false, true} {
		conns := make(chan net.Conn, 100)
		srv := aHub(t, nil, func(s *httptest.Server) {
			s.Config.Protocols = &http.Protocols{}
			s.Config.Protocols.SetHTTP1(true)
			s.Config.Protocols.SetUnencryptedHTTP2(true)
			s.Config.ConnState = func(c net.Conn, st http.ConnState) {
				if st == http.StateNew {
					conns <- c
				}
			}
			if secure {
				s.EnableHTTP2 = true
				s.StartTLS()
			}
		})
		c := opened(t, load.Config{URL: srv.URL + streams, Connections: 25, Protocol: load.HTTP2, StreamsPerConnection: 10, InsecureSkipVerify: true})
		if n := len(conns); n != 3 {
			t.Errorf("secure %v: %d connections for 25 streams", secure, n)
		}
		ledger := load.NewLedger()
		if _, err := load.Publish(t.Context(), load.PublishConfig{URL: srv.URL + "/api/sse/send", Rate: 100, Duration: 100 * time.Millisecond, InsecureSkipVerify: true}, ledger); err != nil {
			t.Fatal(err)
		}
		if err := c.Wait(soon(t), ledger); err != nil {
			t.Error(err)
		}
		if r := c.Report(ledger); r.Deliveries != 250 || !r.Whole() {
			t.Errorf("secure %v: %+v", secure, r)
		}
		_ = c.Close()
	}
}

func TestSlowReadersReadSlowlyOrNotAtAll(t *testing.T) {
	for _, perSecond := range []int{0, 10_000} {
		srv := served(t, func(_ *http.Request, c net.Conn) {
			_, _ = c.Write([]byte(chunkedHead))
			for seq := uint64(1); seq <= 2000; seq++ {
				if _, err := c.Write([]byte(stamped(load.Broadcast, seq, seq))); err != nil {
					return
				}
			}
			staysOpen(c)
		})
		c := opened(t, load.Config{URL: srv.url, Connections: 10, Slow: load.Slow{Connections: 2, BytesPerSecond: perSecond}})
		if err := c.WaitDeliveries(soon(t), 8*2000); err != nil {
			t.Fatal(err)
		}
		ledger := load.NewLedger()
		ledger.Set(0, load.Broadcast, 0, 2000)
		if err := c.Wait(soon(t), ledger); err != nil {
			t.Error(err)
		}
		r := c.Report(ledger)
		if !r.Whole() || r.Slow == nil || r.Slow.Connections != 2 || r.Slow.Bytes >= 2*2000*100 {
			t.Errorf("at %d bytes a second: %+v", perSecond, r)
		}
		_ = c.Close()
	}
}

func TestWhatIsNotOpenInTimeIsGivenUp(t *testing.T) {
	for _, portable := range []bool{false, true} {
		srv := served(t, func(_ *http.Request, c net.Conn) { staysOpen(c) })
		c, err := load.New(load.Config{URL: srv.url, Connections: 5, ConnectAtOnce: 2, Portable: portable})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := c.Connect(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		if s := c.Snapshot(); s.GivenUp != 5 || s.Connecting != 0 || s.Connected != 0 {
			t.Errorf("portable %v: %+v", portable, s)
		}
		_ = c.Close()
	}
}

func TestAConnectRateIsKept(t *testing.T) {
	for _, portable := range []bool{false, true} {
		srv := served(t, func(_ *http.Request, c net.Conn) { _, _ = c.Write([]byte(chunkedHead)); staysOpen(c) })
		c := opened(t, load.Config{URL: srv.url, Connections: 30, ConnectRate: 100, Portable: portable})
		if r := c.Report(nil); r.Connected != 30 || r.ConnectSeconds < 0.2 {
			t.Errorf("portable %v: %d in %v s", portable, r.Connected, r.ConnectSeconds)
		}
		_ = c.Close()
	}
}

func TestAResetBeginsTheReportAnew(t *testing.T) {
	srv := aHub(t, nil)
	c := opened(t, load.Config{URL: srv.URL + streams, Connections: 5})
	ledger := load.NewLedger()
	for range 2 {
		// A second schedule goes on where the ledger stands.
		if _, err := load.Publish(t.Context(), load.PublishConfig{URL: srv.URL + "/api/sse/send", Rate: 100, Duration: 50 * time.Millisecond}, ledger); err != nil {
			t.Fatal(err)
		}
		if err := c.Wait(soon(t), ledger); err != nil {
			t.Fatal(err)
		}
		if r := c.Report(ledger); r.Deliveries != 25 || !r.Whole() || r.Connected != 5 || r.Latency.Max == 0 {
			t.Errorf("%+v", r)
		}
		c.Reset()
	}
}

func TestWhatThePublisherCanNotSendIsCountedAndInDoubt(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	defer srv.Close()
	ledger := load.NewLedger()
	r, err := load.Publish(t.Context(), load.PublishConfig{URL: srv.URL, Rate: 100, Duration: 50 * time.Millisecond}, ledger)
	if err != nil || r.Sent != 0 || r.Errors["status 503"] != 5 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestAnySchedulesBodyAndURLMayHaveTheTargetsNumber(t *testing.T) {
	type asked struct{ method, url, body, who string }
	got := make(chan asked, 10)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b := make([]byte, 4096)
		n, _ := r.Body.Read(b)
		got <- asked{r.Method, r.URL.String(), string(b[:n]), r.Header.Get("X-Who")}
	}))
	defer srv.Close()
	_, err := load.Publish(t.Context(), load.PublishConfig{
		URL: srv.URL + "/pub?id=u{n}", Method: "PUT", Body: `{"to":{n},"what":{data}}`, Header: http.Header{"x-who": {"me"}},
		Rate: 10, Duration: 50 * time.Millisecond, Mix: map[load.Class]float64{load.ToUser: 1},
	}, load.NewLedger())
	if err != nil {
		t.Fatal(err)
	}
	if a := <-got; a.method != "PUT" || a.url != "/pub?id=u0" || a.who != "me" || !strings.HasPrefix(a.body, `{"to":0,"what":{"s":1,"p":0,"c":2,"k":1,"t":`) {
		t.Errorf("%+v", a)
	}
}

func TestWhatCanNotWorkIsRefusedByName(t *testing.T) {
	ok := load.Config{URL: "http://127.0.0.1:1/", Connections: 1}
	for field, change := range map[string]func(*load.Config){
		"URL":                  func(c *load.Config) { c.URL = "http://127.0.0.1/{x}" },
		"Connections":          func(c *load.Config) { c.Connections = 0 },
		"Protocol":             func(c *load.Config) { c.Protocol = "spdy" },
		"Slow.Connections":     func(c *load.Config) { c.Slow.Connections = 2 },
		"ConnectRate":          func(c *load.Config) { c.ConnectRate = -1 },
		"Header":               func(c *load.Config) { c.Header = http.Header{"A": {"b\r\nc"}} },
		"StreamsPerConnection": func(c *load.Config) { c.StreamsPerConnection = -1 },
		"ReadBuffer":           func(c *load.Config) { c.ReadBuffer = 5 },
	} {
		cfg := ok
		change(&cfg)
		_, err := load.New(cfg)
		if e, is := errors.AsType[*load.ConfigError](err); !is || e.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	for _, url := range []string{"", "ftp://x/", "http://", "http://h{n}/", "http://h/a b", "http://h/#x", "http://h:99999/", "http://h/é", "http://h/{n"} {
		if _, err := load.New(load.Config{URL: url, Connections: 1}); err == nil {
			t.Errorf("%q is accepted", url)
		}
	}
	sends := load.PublishConfig{URL: "http://h/", Rate: 1, Duration: time.Second}
	for field, change := range map[string]func(*load.PublishConfig){
		"URL":      func(c *load.PublishConfig) { c.URL = "http://h/{user}" },
		"Rate":     func(c *load.PublishConfig) { c.Rate = 0 },
		"Duration": func(c *load.PublishConfig) { c.Duration = 0 },
		"Body":     func(c *load.PublishConfig) { c.Body = "x" },
		"Mix":      func(c *load.PublishConfig) { c.Mix = map[load.Class]float64{load.ToUser: 0} },
		"Batch":    func(c *load.PublishConfig) { c.Batch, c.URL = 2, "http://h/{n}" },
	} {
		cfg := sends
		change(&cfg)
		if e, is := errors.AsType[*load.ConfigError](cfg.Check()); !is || e.Field != field {
			t.Errorf("%s: %v", field, cfg.Check())
		}
	}
}
