package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/internal/natstest"
	"github.com/tidings-sse/tidings/internal/server"
)

// clusterConfigs are those of three nodes.
func clusterConfigs(t *testing.T) (cfgs []*server.Config) {
	t.Helper()
	var at []string
	for _, port := range natstest.FreePorts(t, 3) {
		at = append(at, fmt.Sprintf("127.0.0.1:%d", port))
	}
	for i := range at {
		cfg := config(t)
		cfg.DataDir, cfg.ClusterListen, cfg.ClusterPeers = filepath.Join(t.TempDir(), "log"), at[i], at
		cfg.DrainWindow = server.Duration(50 * time.Millisecond)
		cfgs = append(cfgs, cfg)
	}
	return cfgs
}

func TestANodeWithoutAMajorityAnswersThatItIsStartingUntilTheOthersAreThere(t *testing.T) {
	cfgs := clusterConfigs(t)
	first := start(t, cfgs[0])
	if res, body := first.get(t, "/healthz"); res.StatusCode != http.StatusOK || body != "ok\n" {
		t.Errorf("it is alive: %d %s", res.StatusCode, body)
	}
	res, body := first.get(t, "/readyz")
	if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" || !strings.HasPrefix(body, "starting: ") ||
		!strings.Contains(body, cfgs[1].ClusterListen) || !strings.Contains(body, cfgs[2].ClusterListen) {
		t.Errorf("it isn't ready: %d %s", res.StatusCode, body)
	}
	res, body = first.get(t, "/api/sse")
	if p := problem(t, res, body); p.Status != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
		t.Errorf("a stream for who doesn't ask for events: %d %s", res.StatusCode, body)
	}
	conn := first.dial(t)
	if _, err := conn.Write([]byte("GET /api/sse HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if s := (&stream{t: t, conn: conn, in: bufio.NewReader(conn)}).rest(); !strings.HasPrefix(s, "HTTP/1.1 200 ") || !strings.Contains(s, "tidings.unavailable") || !strings.Contains(s, `"reason":"starting"`) {
		t.Errorf("a stream: %s", s)
	}
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: within}
	res, err := c.Post(first.URL()+"/api/sse/send", "application/json", strings.NewReader(`{"type":"n","data":1}`))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var p tidings.Problem
	if err := json.NewDecoder(res.Body).Decode(&p); err != nil || p.Type != "urn:tidings:not-stored" || !strings.Contains(p.Detail, "waits for its log") {
		t.Errorf("a send: %s: %+v, %v", res.Status, p, err)
	}
	for _, cfg := range cfgs[1:] {
		start(t, cfg)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(3 * within); ; {
		res, body := first.get(t, "/readyz")
		if res.StatusCode == http.StatusOK {
			break
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("it is never ready: %s", body)
		}
	}
	first.listen(t, "topic=a")
	for deadline := time.After(within); !strings.Contains(first.log.String(), "a node of the cluster is connected"); {
		select {
		case <-tick.C: // who is connected is looked at once a second
		case <-deadline:
			t.Fatalf("the log: %s", first.log)
		}
	}
	if s := first.log.String(); strings.Contains(s, "msg=closed") {
		t.Errorf("the log: %s", s)
	}
}

func TestANodeThatWaitsForAMajorityStopsInOrder(t *testing.T) {
	cfg := clusterConfigs(t)[0]
	srv := start(t, cfg)
	if res, _ := srv.get(t, "/readyz"); res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("without the others it is ready: %d", res.StatusCode)
	}
	if err := srv.stop(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	if s := srv.log.String(); !strings.Contains(s, "msg=stopped") || strings.Contains(s, "level=ERROR") {
		t.Errorf("the log: %s", s)
	}
	start(t, cfg) // the directory is free again, and so is the address
}

// An awayLog says the first times that it is asked that it can't be reached, or whatever else is wrong.
type awayLog struct {
	*tidings.MemoryBroker
	asked atomic.Int32
	times int32
	err   error
}

func (b *awayLog) State(ctx context.Context) (tidings.State, error) {
	if b.asked.Add(1) <= b.times {
		return tidings.State{}, b.err
	}
	return b.MemoryBroker.State(ctx)
}

func TestALogThatIsAwayJustAfterItWasOpenedIsAskedAgain(t *testing.T) {
	srv := start(t, config(t))
	away := &awayLog{MemoryBroker: tidings.NewMemoryBroker(nil), times: 1, err: fmt.Errorf("no leader: %w", tidings.ErrUnavailable)}
	if err := srv.TakeOver(t.Context(), away); err != nil {
		t.Fatal(err)
	}
	if s := srv.log.String(); strings.Count(s, "level=WARN msg=\"the log was opened, and can't be reached") != 1 || !strings.Contains(s, "no leader") {
		t.Errorf("the log: %s", s)
	}
	srv.listen(t, "topic=a")
	if n := away.asked.Load(); n < 2 {
		t.Errorf("it was asked %d times", n)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		ctx  context.Context
		err  error
		want error
	}{
		"the node is stopped meanwhile": {ended, tidings.ErrUnavailable, nil},
		"it can't be waited for":        {t.Context(), broken, broken},
	} {
		b := &awayLog{MemoryBroker: tidings.NewMemoryBroker(nil), times: 1 << 30, err: c.err}
		if err := srv.TakeOver(c.ctx, b); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := b.MemoryBroker.State(t.Context()); !errors.Is(err, tidings.ErrClosed) {
			t.Errorf("%s: the log is left open: %v", name, err)
		}
	}
}

func TestALoggerOfOnlyTroubleStaysSo(t *testing.T) {
	var log logBuffer
	l := slog.New(server.TroubleOnly(slog.NewTextHandler(&log, nil)))
	for _, l := range []*slog.Logger{l, l.With("key", "value"), l.WithGroup("group").With("key", "value")} {
		l.Info("quiet")
		l.Warn("trouble")
	}
	if s := log.String(); strings.Contains(s, "quiet") || strings.Count(s, "msg=trouble") != 3 || !strings.Contains(s, "group.key=value") {
		t.Errorf("the log: %s", s)
	}
}
