package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/natsbroker"
)

// Where the events are kept: in memory, in a directory, or on NATS servers.

// Sync is how often what was written is synced to the disk: a Duration, or always.
type Sync struct {
	Every  time.Duration
	Always bool
}

// UnmarshalText reads a duration, or "always".
func (s *Sync) UnmarshalText(text []byte) error {
	if string(text) == "always" {
		*s = Sync{Always: true}
		return nil
	}
	var d Duration
	if err := d.UnmarshalText(text); err != nil {
		return fmt.Errorf("%w; or write always, to sync before each acknowledgement", err)
	}
	*s = Sync{Every: time.Duration(d)}
	return nil
}

// checkStore refuses what can't work together, in the words of the flags.
func (c *Config) checkStore() error {
	switch {
	case c.NATSURL != "" && c.DataDir != "":
		return errors.New("--nats-url and --data-dir are both given: the events are kept on NATS servers, or in a directory of this node; choose one")
	case c.DataDir == "" && (c.ClusterListen != "" || len(c.ClusterPeers) > 0 || c.ClusterSecret != ""):
		return errors.New("--cluster-listen, --cluster-peers and --cluster-secret need --data-dir: each node of the cluster holds a copy of the log there")
	case c.ClusterListen == "" && len(c.ClusterPeers) > 0:
		return errors.New("--cluster-peers is given without --cluster-listen: give the address that the others find this node at")
	case c.NATSURL == "" && (c.NATSCredentials != "" || c.NATSCA != "" || c.NATSCert != "" || c.NATSKey != ""):
		return errors.New("--nats-credentials, --nats-ca, --nats-cert and --nats-key need --nats-url")
	case (c.NATSCert == "") != (c.NATSKey == ""):
		return errors.New("--nats-cert and --nats-key belong together: give both, or neither")
	}
	if c.isOpenCluster() && !c.Insecure {
		return fmt.Errorf("refusing to listen for the cluster on %s without a secret: whoever reaches it could read and send everything. Give all three nodes the same --cluster-secret, or, where everybody who can reach them is trusted, add --insecure", c.ClusterListen)
	}
	return nil
}

// isOpenCluster reports whether whoever reaches the cluster's address is a node of it.
func (c *Config) isOpenCluster() bool {
	if c.ClusterListen == "" || c.ClusterSecret != "" {
		return false
	}
	host, _, err := net.SplitHostPort(c.ClusterListen)
	ip := net.ParseIP(host)
	return err != nil || ip == nil || !ip.IsLoopback()
}

// nats are the options of a log that isn't in memory.
func (c *Config) nats(log *slog.Logger) natsbroker.Options {
	return natsbroker.Options{
		Stream:            c.NATSStream,
		MaxEvents:         int(c.HistoryEvents),
		MaxBytes:          int64(c.HistoryBytes),
		MaxAge:            time.Duration(c.HistoryAge),
		IdempotencyWindow: time.Duration(c.IdempotencyWindow),
		MaxEventBytes:     int(c.MaxEventBytes),
		Logger:            log,
	}
}

// natsServers are the options of a log on NATS servers. The files that they name are read.
func (c *Config) natsServers(log *slog.Logger) (natsbroker.ConnectOptions, error) {
	t, err := c.natsTLS()
	if err != nil {
		return natsbroker.ConnectOptions{}, err
	}
	return natsbroker.ConnectOptions{
		Options: c.nats(log), URL: c.NATSURL, CredentialsFile: c.NATSCredentials, TLS: t, Replicas: int(c.NATSReplicas),
	}, nil
}

// checkNATS refuses what opening a log on NATS servers would, without asking them.
func (c *Config) checkNATS(log *slog.Logger) error {
	o, err := c.natsServers(log)
	if err != nil {
		return err
	}
	err = o.Check()
	flags := map[string]string{"URL": "--nats-url: ", "CredentialsFile": "--nats-credentials: ", "Replicas": "--nats-replicas: ", "Stream": "--nats-stream: "} // #nosec G101 -- they are names of flags
	if invalid, ok := errors.AsType[*tidings.InvalidError](err); ok {
		return fmt.Errorf("%s%w", flags[invalid.Field], err)
	}
	return err
}

// openLog opens the log that the configuration describes.
func (c *Config) openLog(ctx context.Context, log *slog.Logger) (tidings.Broker, error) {
	switch {
	case c.DataDir != "":
		return opened(natsbroker.Embed(ctx, natsbroker.EmbedOptions{
			Options: c.nats(log), Dir: c.DataDir, Sync: c.Sync.Every, SyncAlways: c.Sync.Always,
			ClusterListen: c.ClusterListen, ClusterPeers: c.ClusterPeers, ClusterSecret: c.ClusterSecret,
		}))
	case c.NATSURL != "":
		o, err := c.natsServers(log)
		if err != nil {
			return nil, err
		}
		return opened(natsbroker.Connect(ctx, o))
	}
	return tidings.NewMemoryBroker(c.memory()), nil
}

func opened(b *natsbroker.Broker, err error) (tidings.Broker, error) {
	if err != nil {
		return nil, fmt.Errorf("the log can't be opened: %w", err)
	}
	return b, nil
}

// natsTLS returns nil where nothing was said about certificates.
func (c *Config) natsTLS() (*tls.Config, error) {
	if c.NATSCA == "" && c.NATSCert == "" {
		return nil, nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.NATSCA != "" {
		pem, err := os.ReadFile(c.NATSCA)
		if err != nil {
			return nil, fmt.Errorf("--nats-ca: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--nats-ca: %s holds no certificate: give one in PEM form", c.NATSCA)
		}
	}
	if c.NATSCert != "" {
		pair, err := tls.LoadX509KeyPair(c.NATSCert, c.NATSKey)
		if err != nil {
			return nil, fmt.Errorf("--nats-cert and --nats-key: %w", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}

// natsURLs are those of the servers.
func (c *Config) natsURLs() (urls []*url.URL) {
	if c.NATSURL == "" {
		return nil
	}
	for s := range strings.SplitSeq(c.NATSURL, ",") {
		if u, err := url.Parse(strings.TrimSpace(s)); err == nil {
			urls = append(urls, u)
		}
	}
	return urls
}

// natsGuards reports whether TLS is asked for, and credentials are shown, wherever a server is not on loopback.
func (c *Config) natsGuards() (tls, credentials bool) {
	tls, credentials = true, true
	for _, u := range c.natsURLs() {
		ip := net.ParseIP(u.Hostname())
		if u.Hostname() == "localhost" || ip != nil && ip.IsLoopback() {
			continue
		}
		tls = tls && (u.Scheme == "tls" || u.Scheme == "wss" || c.NATSCA != "" || c.NATSCert != "")
		credentials = credentials && (u.User != nil || c.NATSCredentials != "" || c.NATSCert != "")
	}
	return tls, credentials
}
