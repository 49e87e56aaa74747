package server_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

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

func TestAClusterWithoutASecretIsAWeaknessAndIsLogged(t *testing.T) {
	cfg := authenticated(t)
	cfg.Insecure = true
	if s := whats(cfg); !strings.Contains(s, "insecure does nothing") {
		t.Errorf("without a cluster: %s", s)
	}
	cfg.DataDir = filepath.Join(t.TempDir(), "a file") // so that no cluster begins
	if err := os.WriteFile(cfg.DataDir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
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
	cfg.ClusterSecret = "of the tests"
	if s := whats(cfg); !strings.Contains(s, "insecure does nothing") || strings.Contains(s, "cluster") {
		t.Errorf("with a secret: %s", s)
	}
	if s := logged(); strings.Contains(s, "--cluster-secret") {
		t.Errorf("with a secret: %s", s)
	}
}
