package natsbroker

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/tidings-sse/tidings"
)

// embedded is the NATS server of this process.
type embedded struct {
	nats    *server.Server
	dir     string
	reserve int64
	lock    *os.File

	user, password string // of the one client; empty where nobody else can be one
}

const (
	embeddedPayload = 8 << 20
	startWithin     = 30 * time.Second // of the server; what is on its disk is looked through
	clusterName     = "tidings"
	clusterSize     = 3
)

// Embed opens the log in a directory, with a NATS server in this process: alone it opens no port. With ClusterListen it
// waits until a majority of the nodes is there (at the very first start, all of them), or ctx ends. An error says what to do; it is an [*tidings.InvalidError]
// for options that can't work.
func Embed(ctx context.Context, o EmbedOptions) (*Broker, error) {
	opts, err := o.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("natsbroker: options: %w", err)
	}
	so, err := o.server(&opts)
	if err != nil {
		return nil, fmt.Errorf("natsbroker: options: %w", err)
	}
	replicas := 1
	if o.ClusterListen != "" {
		replicas = clusterSize
	}
	b := newBroker(opts, replicas)
	b.alone = replicas == 1
	if b.server, err = start(&o, so, &opts); err != nil {
		return nil, fmt.Errorf("natsbroker: %w", err)
	}
	if err := b.openEmbedded(ctx); err != nil {
		b.stop()
		return nil, errors.Join(fmt.Errorf("natsbroker: %w", err), b.server.close())
	}
	return b, nil
}

// openEmbedded opens the log, and goes on trying until enough of the cluster is there.
func (b *Broker) openEmbedded(ctx context.Context) error {
	dial := []nats.Option{nats.InProcessServer(b.server.nats), nats.Name(clusterName), nats.UserInfo(b.server.user, b.server.password)}
	for waited := false; ; waited = true {
		err := b.open(ctx, "", dial)
		if err == nil || b.alone || !errors.Is(err, tidings.ErrUnavailable) {
			return err
		}
		if !waited {
			b.log.Warn(logWaiting, keyFor, "the other nodes", keyError, err)
		}
		if !pause(ctx, 10*retryPause) {
			return fmt.Errorf("there is no majority of the cluster's nodes, or, at the very first start, not all of them: start the others, and look whether they reach each other: %w", err)
		}
	}
}

// server checks the options of a server in this process, and makes nats-server's of them.
func (o *EmbedOptions) server(opts *Options) (*server.Options, error) {
	if o.Dir == "" {
		return nil, &tidings.InvalidError{Field: "Dir", Reason: "is empty", Hint: "give a directory for the log's files"}
	}
	if o.Sync < 0 {
		return nil, &tidings.InvalidError{Field: "Sync", Reason: fmt.Sprintf("is negative (%v)", o.Sync), Hint: "leave it zero for 1 s"}
	}
	if need := opts.MaxEventBytes + recordSlack; need > embeddedPayload {
		return nil, &tidings.InvalidError{Field: "MaxEventBytes", Reason: fmt.Sprintf("is %d", opts.MaxEventBytes), Hint: fmt.Sprintf("at most %d are possible: send a reference, and have the client fetch the rest", embeddedPayload-recordSlack)}
	}
	so := &server.Options{
		DontListen: true, NoSigs: true, JetStream: true,
		StoreDir: o.Dir, SyncInterval: or(o.Sync, defaultSync), SyncAlways: o.SyncAlways,
		MaxPayload: embeddedPayload, MaxPending: 64 << 20,
		JetStreamMaxMemory: 64 << 20, // of consumers' state: streams are in files
		NoSystemAccount:    false, DisableJetStreamBanner: true,
	}
	if o.ClusterListen == "" {
		if len(o.ClusterPeers) > 0 {
			return nil, &tidings.InvalidError{Field: "ClusterPeers", Reason: "is given without ClusterListen", Hint: "give the address that the others find this node at, too"}
		}
		return so, nil
	}
	host, port, err := hostPort("ClusterListen", o.ClusterListen)
	if err != nil {
		return nil, err
	}
	// nats-server opens routes only where it listens for clients, too: on loopback, at any port, and with a password that
	// nobody is told.
	so.DontListen, so.Host, so.Port = false, "127.0.0.1", server.RANDOM_PORT
	so.Username, so.Password = clusterName, rand.Text()
	so.Cluster = server.ClusterOpts{Name: clusterName, Host: host, Port: port, NoAdvertise: true, ConnectRetries: -1}
	peers := slices.DeleteFunc(slices.Clone(o.ClusterPeers), func(p string) bool { return p == o.ClusterListen })
	if len(peers) != clusterSize-1 {
		return nil, &tidings.InvalidError{
			Field: "ClusterPeers", Reason: fmt.Sprintf("names %d other nodes", len(peers)),
			Hint: fmt.Sprintf("give the HOST:PORT of the %d others of %d; more nodes than that share the log by connecting to a NATS cluster", clusterSize-1, clusterSize),
		}
	}
	for _, p := range peers {
		if _, _, err := hostPort("ClusterPeers", p); err != nil {
			return nil, err
		}
		u := &url.URL{Scheme: "nats", Host: p}
		if o.ClusterSecret != "" {
			u.User = url.UserPassword(clusterName, o.ClusterSecret)
		}
		so.Routes = append(so.Routes, u)
	}
	if o.ClusterSecret != "" {
		so.Cluster.Username, so.Cluster.Password = clusterName, o.ClusterSecret
	}
	return so, nil
}

func hostPort(field, s string) (host string, port int, _ error) {
	host, p, err := net.SplitHostPort(s)
	if err == nil {
		port, err = strconv.Atoi(p)
	}
	if err != nil || host == "" || port < 1 || port > 65535 {
		return "", 0, &tidings.InvalidError{Field: field, Reason: fmt.Sprintf("%q is not HOST:PORT", s), Hint: "write one like 10.0.0.1:6222"}
	}
	return host, port, nil
}

// start starts the server on its directory.
func start(o *EmbedOptions, so *server.Options, opts *Options) (*embedded, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("the log's directory: %w", err)
	}
	e := &embedded{dir: o.Dir, reserve: or(o.ReserveBytes, defaultReserve), user: so.Username, password: so.Password}
	var err error
	if e.lock, err = lockDir(filepath.Join(o.Dir, "lock")); err != nil {
		return nil, err
	}
	holds := holdsLog
	if o.ClusterListen != "" {
		holds = holdsPart
	}
	if err = claimDir(o.Dir, holds); err == nil {
		so.ServerName, err = nodeName(filepath.Join(o.Dir, "node"), o.ClusterListen)
	}
	if err == nil {
		err = e.fits(opts)
	}
	if err != nil {
		return nil, errors.Join(err, e.unlock())
	}
	so.JetStreamMaxStore = 2*opts.MaxBytes + 2*embeddedPayload // the stream's, and batches before they are stored
	if e.nats, err = server.NewServer(so); err != nil {
		return nil, errors.Join(fmt.Errorf("the log's server: %w", err), e.unlock())
	}
	e.nats.SetLoggerV2(&serverLog{opts.Logger}, false, false, false)
	e.nats.Start()
	if !e.nats.ReadyForConnections(startWithin) || !e.nats.JetStreamEnabled() {
		return nil, errors.Join(fmt.Errorf("the log's server did not start on %s: see its messages in the log", o.Dir), e.close())
	}
	return e, nil
}

// fits refuses limits that the disk has no room for.
func (e *embedded) fits(opts *Options) error {
	free, err := freeBytes(e.dir)
	if err != nil {
		return fmt.Errorf("the space left for %s can't be found out: %w", e.dir, err)
	}
	held, err := dirBytes(e.dir)
	if err != nil {
		return fmt.Errorf("the log's directory: %w", err)
	}
	if need := opts.MaxBytes + e.reserve; free+held < need {
		return fmt.Errorf("the file system of %s has room for %d MiB of history, with %d MiB to spare: allow less than the %d MiB that it may have now, or make room",
			e.dir, max(0, free+held-e.reserve)>>20, e.reserve>>20, opts.MaxBytes>>20)
	}
	return nil
}

// room refuses an append that might fill the disk: JetStream answers nothing more when it has run out of space, until it
// is started again.
func (e *embedded) room(bytes int) error {
	free, err := freeBytes(e.dir)
	if err != nil {
		return unavailable(fmt.Errorf("the space left for %s can't be found out: %w", e.dir, err))
	}
	if need := e.reserve + 2*int64(bytes); free < need {
		return fmt.Errorf("%w: the file system of %s has %d MiB left, and %d are to stay free: make room; nothing needs to be started again", tidings.ErrStorageFull, e.dir, free>>20, need>>20)
	}
	return nil
}

// nodeName returns what this node is called among the others: it must stay the same, and be its own. It is made of the
// address that the others find it at, so that a node that lost its disk is the same one again; a node that listens at every
// address gets a random one.
func nodeName(file, listen string) (string, error) {
	b, err := os.ReadFile(file)
	if err == nil {
		if name := strings.TrimSpace(string(b)); isStreamName(name) {
			return name, nil
		}
		return "", fmt.Errorf("%s does not hold a node's name: restore it, or delete it where the node is to be a new one", file)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	id := strings.ToLower(rand.Text()[:10])
	if host, _, err := net.SplitHostPort(listen); err == nil {
		if ip := net.ParseIP(host); ip == nil || !ip.IsUnspecified() {
			sum := sha256.Sum256([]byte(listen))
			id = strings.ToLower(base32.StdEncoding.EncodeToString(sum[:])[:10])
		}
	}
	return "tidings-" + id, os.WriteFile(file, []byte("tidings-"+id+"\n"), 0o600)
}

// close stops the server. What was acknowledged is in its files.
func (e *embedded) close() error {
	if e.nats != nil {
		e.nats.Shutdown()
		e.nats.WaitForShutdown()
	}
	return e.unlock()
}

func (e *embedded) unlock() error { return e.lock.Close() }
