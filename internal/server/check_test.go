package server_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidings-sse/tidings/internal/server"
)

// whats joins what is weak in the configuration.
func whats(cfg *server.Config) string {
	var b strings.Builder
	for _, w := range cfg.Weaknesses() {
		b.WriteString(w.What + "\n")
	}
	return b.String()
}

func TestWhatServeRefusesIsRefusedByCheck(t *testing.T) {
	absent := filepath.Join(t.TempDir(), "absent")
	const servers = "nats://127.0.0.1:1"
	for name, c := range map[string]struct {
		change func(*server.Config)
		want   string
	}{
		"no port for operators":    {func(c *server.Config) { c.AdminAddr = "127.0.0.1" }, "--admin-addr"},
		"a port that is none":      {func(c *server.Config) { c.AdminAddr = ":metrics!" }, "--admin-addr"},
		"operators without a key":  {func(c *server.Config) { c.AdminAddr, c.AdminKey = "0.0.0.0:9090", nil }, "TIDINGS_ADMIN_KEY"},
		"an absent CA":             {func(c *server.Config) { c.NATSURL, c.NATSCA = servers, absent }, "--nats-ca"},
		"an absent certificate":    {func(c *server.Config) { c.NATSURL, c.NATSCert, c.NATSKey = servers, absent, absent }, "--nats-cert"},
		"absent credentials":       {func(c *server.Config) { c.NATSURL, c.NATSCredentials = servers, absent }, "--nats-credentials"},
		"another scheme":           {func(c *server.Config) { c.NATSURL = "http://127.0.0.1:1" }, "--nats-url"},
		"two replicas":             {func(c *server.Config) { c.NATSURL, c.NATSReplicas = servers, 2 }, "--nats-replicas is 2: give 1, 3 or 5"},
		"replicas of nobody":       {func(c *server.Config) { c.NATSReplicas = 1 }, "--nats-replicas need --nats-url"},
		"a stream of nobody":       {func(c *server.Config) { c.NATSStream, c.DataDir = "s", absent }, "need --nats-url"},
		"a stream's name":          {func(c *server.Config) { c.NATSURL, c.NATSStream = servers, "a.b" }, "--nats-stream is"},
		"a file":                   {func(c *server.Config) { c.DataDir = "check_test.go" }, "--data-dir is check_test.go, which is a file"},
		"one port for both":        {func(c *server.Config) { c.Addr, c.AdminAddr = "127.0.0.1:7001", "127.0.0.1:7001" }, "give it a port of its own"},
		"one port, without a host": {func(c *server.Config) { c.Addr, c.AdminAddr = "127.0.0.1:7001", ":7001" }, "give it a port of its own"},
		"syncs of memory":          {func(c *server.Config) { c.Sync.Always = true }, "--sync is given without --data-dir"},
		"the same, as by default":  {func(c *server.Config) { c.Sync.Every = time.Second }, "--sync is given without --data-dir"},
		"two nodes": {func(c *server.Config) {
			c.DataDir, c.ClusterListen, c.ClusterPeers = absent, "127.0.0.1:1", []string{"127.0.0.1:2"}
		}, "--cluster-peers names 1 other"},
		"a peer without a port": {func(c *server.Config) {
			c.DataDir, c.ClusterListen, c.ClusterPeers = absent, "127.0.0.1:1", []string{"127.0.0.1", "127.0.0.1:3"}
		}, "--cluster-peers \"127.0.0.1\" is not HOST:PORT"},
		"no port of the cluster": {func(c *server.Config) { c.DataDir, c.ClusterListen, c.ClusterSecret = absent, "127.0.0.1", "s" }, "--cluster-listen"},
		"events too large":       {func(c *server.Config) { c.DataDir, c.MaxEventBytes = absent, 64<<20 }, "--max-event-bytes is"},
		"a long window":          {func(c *server.Config) { c.DataDir, c.HistoryAge = absent, server.Duration(time.Second) }, "--idempotency-window is"},
	} {
		cfg := authenticated(t)
		c.change(cfg)
		if err := cfg.Check(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if srv, err := server.New(t.Context(), cfg, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%s: %v is served", name, srv.Addr())
		}
	}
	if _, err := os.Stat(absent); err == nil {
		t.Error("a directory was made for a configuration that can't work")
	}
	cfg := authenticated(t)
	cfg.AdminAddr, cfg.NATSURL = ":0", servers
	if err := cfg.Check(t.Context()); err != nil {
		t.Errorf("servers that it doesn't ask: %v", err)
	}
}

func TestWhatOthersReachWithoutProtectionIsAWeakness(t *testing.T) {
	const admin, tls, credentials = "admin-addr is reached", "doesn't ask for TLS", "without credentials"
	for name, c := range map[string]struct {
		change func(*server.Config)
		weak   []string
	}{
		"loopback": {func(c *server.Config) {
			c.AdminAddr, c.NATSURL = ":9090", "nats://127.0.0.1:4222,nats://[::1]:1,nats://localhost"
		}, nil},
		"metrics":       {func(c *server.Config) { c.AdminAddr = "0.0.0.0:9090" }, []string{admin}},
		"bare servers":  {func(c *server.Config) { c.NATSURL = "nats://127.0.0.1, nats://10.0.0.1" }, []string{tls, credentials}},
		"a password":    {func(c *server.Config) { c.NATSURL = "nats://u:p@10.0.0.1" }, []string{tls}},
		"TLS":           {func(c *server.Config) { c.NATSURL = "tls://nats.example" }, []string{credentials}},
		"both":          {func(c *server.Config) { c.NATSURL = "tls://u:p@nats.example" }, nil},
		"files of both": {func(c *server.Config) { c.NATSURL, c.NATSCA, c.NATSCredentials = "nats://nats.example", "f", "f" }, nil},
		"a certificate": {func(c *server.Config) { c.NATSURL, c.NATSCert, c.NATSKey = "nats://nats.example", "f", "f" }, nil},
	} {
		cfg := authenticated(t)
		c.change(cfg)
		got := whats(cfg)
		for _, what := range []string{admin, tls, credentials} {
			if strings.Contains(got, what) != slices.Contains(c.weak, what) {
				t.Errorf("%s: %q in %s", name, what, got)
			}
		}
	}
}

func TestSecretsInAFileThatAllCanReadAreAWeakness(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("SKIPPED: a file's mode says nothing on Windows: run it elsewhere")
	}
	name := filepath.Join(t.TempDir(), "tidings.yaml")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		change func(*server.Config)
		secret bool
	}{
		"nothing":               {func(*server.Config) {}, false},
		"the cluster's":         {func(c *server.Config) { c.ClusterSecret = "of the tests" }, true},
		"a password in the URL": {func(c *server.Config) { c.NATSURL = "nats://10.0.0.1,nats://u:p@10.0.0.2" }, true},
		"a token in the URL":    {func(c *server.Config) { c.NATSURL = "nats://token@10.0.0.2" }, true},
		"a URL":                 {func(c *server.Config) { c.NATSURL = "nats://10.0.0.1" }, false},
	} {
		cfg := config(t)
		c.change(cfg)
		for mode, weak := range map[os.FileMode]bool{0o644: c.secret, 0o640: false} {
			if err := os.Chmod(name, mode); err != nil {
				t.Fatal(err)
			}
			if found := server.FileWeaknesses(name, cfg); len(found) > 0 != weak {
				t.Errorf("%s, %v: %v", what, mode, found)
			}
		}
	}
}

func TestAClusterWithoutASecretIsAWeaknessAndIsLogged(t *testing.T) {
	cfg := authenticated(t)
	cfg.Insecure = true
	if s := whats(cfg); !strings.Contains(s, "insecure does nothing") {
		t.Errorf("without a cluster: %s", s)
	}
	file := filepath.Join(t.TempDir(), "a file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.DataDir = filepath.Join(file, "log") // so that no cluster begins
	cfg.ClusterListen, cfg.ClusterPeers = "0.0.0.0:6222", []string{"10.0.0.2:6222", "10.0.0.3:6222"}
	if s := whats(cfg); strings.Contains(s, "insecure does nothing") || !strings.Contains(s, "0.0.0.0:6222 can read and send everything") {
		t.Errorf("beyond loopback, without a secret: %s", s)
	}
	logged := func() string {
		t.Helper()
		var log strings.Builder
		if _, err := server.New(t.Context(), cfg, cfg.Logger(&log)); err == nil {
			t.Fatal("the log is in a file")
		}
		return log.String()
	}
	if s := logged(); !strings.Contains(s, "level=WARN") || !strings.Contains(s, "without --cluster-secret") {
		t.Errorf("there is no warning: %s", s)
	}
	cfg.ClusterSecret = "short"
	if s := whats(cfg); !strings.Contains(s, "cluster-secret has 5 characters") {
		t.Errorf("with a short secret: %s", s)
	}
	cfg.ClusterSecret = "of the tests, and long"
	if s := whats(cfg); !strings.Contains(s, "insecure does nothing") || strings.Contains(s, "cluster") {
		t.Errorf("with a secret: %s", s)
	}
	if s := logged(); strings.Contains(s, "--cluster-secret") {
		t.Errorf("with a secret: %s", s)
	}
}
