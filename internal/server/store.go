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

// Sync is how often what was written is synced to the disk: a Duration, or always. The zero value is the default.
type Sync struct {
	Every  time.Duration
	Always bool
}

// UnmarshalText reads a duration, or "always", or nothing.
func (s *Sync) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*s = Sync{}
		return nil
	}
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

// Copies is how many servers hold a copy of something. Zero is the default.
type Copies int

// UnmarshalText reads a number that is more than zero, or nothing.
func (c *Copies) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*c = 0
		return nil
	}
	return (*Count)(c).UnmarshalText(text)
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
	case isFile(c.DataDir):
		return fmt.Errorf("--data-dir is %s, which is a file: give a directory", c.DataDir)
	case c.DataDir == "" && c.Sync != (Sync{}):
		return errors.New("--sync is given without --data-dir: only a log in a directory is synced from here; give the directory, or leave --sync out")
	case c.NATSURL == "" && c.hasNATSFlags():
		return errors.New("--nats-credentials, --nats-ca, --nats-cert, --nats-key, --nats-stream and --nats-replicas need --nats-url: give the servers' URL, or leave them out")
	case (c.NATSCert == "") != (c.NATSKey == ""):
		return errors.New("--nats-cert and --nats-key belong together: give both, or neither")
	}
	if c.isOpenCluster() && !c.Insecure {
		return fmt.Errorf("refusing to listen for the cluster on %s without a secret: whoever reaches it could read and send everything. Give all three nodes the same --cluster-secret, or, where everybody who can reach them is trusted, add --insecure", c.ClusterListen)
	}
	return c.checkLog()
}

func isFile(name string) bool {
	info, err := os.Stat(name)
	return err == nil && !info.IsDir()
}

func (c *Config) hasNATSFlags() bool {
	return c.NATSCredentials != "" || c.NATSCA != "" || c.NATSCert != "" || c.NATSKey != "" || c.NATSStream != "" || c.NATSReplicas != 0
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

// embedded are the options of a log in a directory.
func (c *Config) embedded(log *slog.Logger) natsbroker.EmbedOptions {
	return natsbroker.EmbedOptions{
		Options: c.nats(log), Dir: c.DataDir, Sync: c.Sync.Every, SyncAlways: c.Sync.Always,
		ClusterListen: c.ClusterListen, ClusterPeers: c.ClusterPeers, ClusterSecret: c.ClusterSecret,
	}
}

// checkLog refuses what opening the log would, without touching a directory or asking a server.
func (c *Config) checkLog() error {
	log := slog.New(slog.DiscardHandler)
	switch {
	case c.DataDir != "":
		o := c.embedded(log)
		return flaggedOption(o.Check())
	case c.NATSURL != "":
		o, err := c.natsServers(log)
		if err != nil {
			return err
		}
		return flaggedOption(o.Check())
	}
	return nil
}

// flaggedOption puts the flag, which is also the key in a file, in the place of the option that an error is about.
func flaggedOption(err error) error {
	invalid, ok := errors.AsType[*tidings.InvalidError](err)
	if !ok {
		return err
	}
	e := *invalid
	e.Field = flagOf(e.Field)
	return &e
}

// flagOf returns the flag of an option of the hub or the log.
func flagOf(option string) string {
	switch option {
	case "MaxEvents":
		return "--history-events"
	case "MaxBytes":
		return "--history-bytes"
	case "MaxAge":
		return "--history-age"
	case "Dir":
		return "--data-dir"
	case "URL":
		return "--nats-url"
	case "CredentialsFile":
		return "--nats-credentials"
	case "Replicas", "Stream":
		return "--nats-" + strings.ToLower(option)
	}
	var b strings.Builder
	b.WriteString("-") // and one more before the first letter
	for i, r := range option {
		if r >= 'A' && r <= 'Z' && (i == 0 || !isUpper(option[i-1]) || i+1 < len(option) && !isUpper(option[i+1])) {
			b.WriteByte('-')
		}
		b.WriteString(strings.ToLower(string(r)))
	}
	return b.String()
}

func isUpper(b byte) bool { return b >= 'A' && b <= 'Z' }

// openLog opens the log that the configuration describes, where that doesn't wait for other nodes.
func (c *Config) openLog(ctx context.Context, log *slog.Logger) (tidings.Broker, error) {
	switch {
	case c.DataDir != "":
		return opened(natsbroker.Embed(ctx, c.embedded(log)))
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
		return nil, fmt.Errorf("the log can't be opened: %w", flaggedOption(err))
	}
	return b, nil
}

// startNode starts this node's part of a log that is held with others.
func (c *Config) startNode(log *slog.Logger) (*natsbroker.Node, error) {
	n, err := natsbroker.Start(c.embedded(log))
	if err != nil {
		return nil, fmt.Errorf("the log can't be opened: %w", flaggedOption(err))
	}
	return n, nil
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
