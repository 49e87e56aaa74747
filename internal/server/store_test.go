package server_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidings-sse/tidings/internal/server"
)

func TestWhereEventsAreKeptIsCheckedInTheWordsOfTheFlags(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for name, c := range map[string]struct {
		change func(*server.Config)
		want   string
	}{
		"two places":             {func(c *server.Config) { c.DataDir, c.NATSURL = "d", "nats://h" }, "--nats-url and --data-dir"},
		"a cluster in memory":    {func(c *server.Config) { c.ClusterListen = "127.0.0.1:1" }, "need --data-dir"},
		"peers alone":            {func(c *server.Config) { c.DataDir, c.ClusterPeers = "d", []string{"h:1"} }, "--cluster-peers is given without"},
		"no secret":              {func(c *server.Config) { c.DataDir, c.ClusterListen = "d", "10.0.0.1:6222" }, "--cluster-secret"},
		"credentials for nobody": {func(c *server.Config) { c.NATSCredentials = "f" }, "need --nats-url"},
		"half a pair":            {func(c *server.Config) { c.NATSURL, c.NATSCert = "nats://h", "f" }, "--nats-cert and --nats-key"},
		"an absent authority":    {func(c *server.Config) { c.NATSURL, c.NATSCA = "nats://h", "absent" }, "--nats-ca"},
		"nobody there":           {func(c *server.Config) { c.NATSURL = "nats://127.0.0.1:1" }, "no NATS server answers"},
		"a disk too small":       {func(c *server.Config) { c.DataDir, c.HistoryBytes = t.TempDir(), 1<<60 }, "--history-bytes is"},
		"nowhere to write":       {func(c *server.Config) { c.DataDir = filepath.Join(file, "log") }, "--data-dir is"},
		"a port that is taken": {func(c *server.Config) {
			c.DataDir, c.ClusterListen, c.ClusterPeers = t.TempDir(), ln.Addr().String(), []string{"127.0.0.1:1", "127.0.0.1:2"}
		}, "--cluster-listen is " + ln.Addr().String()},
	} {
		cfg := config(t)
		c.change(cfg)
		srv, err := server.New(t.Context(), cfg, cfg.Logger(io.Discard))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v, want %q", name, srv, err, c.want)
		}
	}
}

func TestSyncIsATimeOrAlways(t *testing.T) {
	for text, want := range map[string]server.Sync{"1s": {Every: time.Second}, "always": {Always: true}, "": {}} {
		var s server.Sync
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%s: %+v, %v", text, s, err)
		}
	}
	var s server.Sync
	if err := s.UnmarshalText([]byte("never")); err == nil || !strings.Contains(err.Error(), "write always") {
		t.Errorf("got %v", err)
	}
}

func TestALogInADirectoryOutlivesTheServer(t *testing.T) {
	cfg := config(t)
	cfg.DataDir = filepath.Join(t.TempDir(), "log")
	cfg.DrainWindow = server.Duration(50 * time.Millisecond)
	srv := start(t, cfg)
	send := func(url, data string) (id string) {
		t.Helper()
		c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: within}
		res, err := c.Post(url+"/api/sse/send", "application/json", strings.NewReader(`{"type":"n","data":`+data+`}`))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		var r struct{ ID string }
		if err := json.NewDecoder(res.Body).Decode(&r); err != nil || r.ID == "" {
			t.Fatalf("%s: %v", res.Status, err)
		}
		return r.ID
	}
	first := send(srv.URL(), "1")
	send(srv.URL(), "2")
	if err := srv.stop(); err != nil {
		t.Fatal(err)
	}
	srv = start(t, cfg)
	send(srv.URL(), "3")
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	req, err := http.NewRequest(http.MethodGet, srv.StreamURL()+"?lastEventId="+first, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var text strings.Builder
	buf := make([]byte, 1024)
	for !strings.Contains(text.String(), "data: 3") {
		n, err := res.Body.Read(buf)
		if text.Write(buf[:n]); err != nil {
			t.Fatalf("the stream ended with %v: %s", err, text.String())
		}
	}
	if s := text.String(); !strings.Contains(s, `"resume":"complete"`) || !strings.Contains(s, "data: 2") || strings.Contains(s, "data: 1") {
		t.Errorf("the stream began with %s", s)
	}
	stats, err := c.Get(srv.URL() + "/api/sse/stats")
	if err != nil {
		t.Fatal(err)
	}
	defer stats.Body.Close()
	var s struct {
		Log *struct{ Appends, Events int }
	}
	if err := json.NewDecoder(stats.Body).Decode(&s); err != nil || s.Log == nil || s.Log.Appends != 1 || s.Log.Events != 1 {
		t.Errorf("the statistics are %+v, %v", s.Log, err)
	}
}
