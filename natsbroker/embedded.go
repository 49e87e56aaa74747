package natsbroker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/tidings-sse/tidings"
)

// embedded is the NATS server of this process.
type embedded struct {
	nats     *server.Server
	dir      string
	reserve  int64
	lock     *os.File
	members  *members  // nil where this node is alone
	unsynced *unsynced // nil where others have the log, too
	stop     context.CancelFunc
	watch    sync.WaitGroup

	user, password string // of the one client; empty where nobody else can be one
}

const (
	embeddedPayload = 8 << 20
	startWithin     = 30 * time.Second // of the server; what is on its disk is looked through
	clusterName     = "tidings"
	clusterSize     = 3
)

// Embed opens the log in a directory, with a NATS server in this process: alone it opens no port. With ClusterListen it
// waits until a majority of the nodes is there (at the very first start, all of them), or ctx ends. An error says what to do;
// it is an [*tidings.InvalidError] for options that can't work.
func Embed(ctx context.Context, o EmbedOptions) (*Broker, error) {
	n, err := Start(o)
	if err != nil {
		return nil, err
	}
	return n.Open(ctx)
}

// Check refuses options that can't work, for the reasons that [Start] would have, and touches nothing. The error is an
// [*tidings.InvalidError].
func (o *EmbedOptions) Check() error {
	opts, err := o.withDefaults()
	if err == nil {
		_, err = o.server(&opts)
	}
	return err
}

// Node is the NATS server of this process, on its directory. It is created by [Start], and is used up by Open or Close,
// whichever is called first.
type Node struct{ b *Broker }

// Start does what [Embed] does before it waits for other nodes, for a program that has something else to do meanwhile. What
// can't be waited for is an error here.
func Start(o EmbedOptions) (*Node, error) {
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
		b.stop()
		return nil, fmt.Errorf("natsbroker: %w", err)
	}
	return &Node{b}, nil
}

// Open opens the log, as soon as enough nodes are there.
func (n *Node) Open(ctx context.Context) (*Broker, error) {
	b := n.b
	dial := []nats.Option{nats.InProcessServer(b.server.nats), nats.Name(clusterName), nats.UserInfo(b.server.user, b.server.password)}
	if err := b.open(ctx, "", dial); err != nil {
		if m := b.server.members; m != nil && (ctx.Err() != nil || errors.Is(err, tidings.ErrUnavailable)) {
			err = fmt.Errorf("there is no majority of the cluster's nodes: %s: %w", m, err)
		}
		return nil, errors.Join(fmt.Errorf("natsbroker: %w", err), n.Close())
	}
	return b, nil
}

// Waits says what Open waits for, for who operates the node; "" if it doesn't wait for other nodes. It may be called
// concurrently with everything.
func (n *Node) Waits() string {
	if n.b.server.members == nil {
		return ""
	}
	return n.b.server.members.String()
}

// Close stops the server, for who doesn't want the log any more before Open was called.
func (n *Node) Close() error {
	n.b.stop()
	return n.b.server.close()
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
		return nil, cantUse(o.Dir, err)
	}
	e := &embedded{dir: o.Dir, reserve: or(o.ReserveBytes, defaultReserve), user: so.Username, password: so.Password}
	var err error
	if e.lock, err = lockDir(filepath.Join(o.Dir, "lock")); err != nil {
		return nil, cantUse(o.Dir, err)
	}
	holds := holdsLog
	if o.ClusterListen != "" {
		holds = holdsPart
		e.members = newMembers(o, so.Routes, opts.Logger)
		so.CustomRouterAuthentication = e.members
	}
	if err = claimDir(o.Dir, holds); err == nil && holds == holdsLog {
		e.unsynced, err = findUnsynced(o.Dir, o.SyncAlways)
	}
	if err == nil {
		so.ServerName, err = nodeName(filepath.Join(o.Dir, "node"), o.ClusterListen)
	}
	if err == nil {
		err = e.fits(opts)
	}
	if err != nil {
		return nil, errors.Join(cantUse(o.Dir, err), e.unlock())
	}
	so.JetStreamMaxStore = 2*opts.MaxBytes + 2*embeddedPayload // the stream's, and batches before they are stored
	if e.nats, err = server.NewServer(so); err != nil {
		return nil, errors.Join(fmt.Errorf("the log's server: %w", err), e.unlock())
	}
	said := newServerLog(opts.Logger, e.members)
	e.nats.SetLoggerV2(said, false, false, false)
	e.nats.Start()
	if err := e.await(said); err != nil {
		return nil, errors.Join(err, e.close())
	}
	if e.members != nil {
		var ctx context.Context
		ctx, e.stop = context.WithCancel(context.Background())
		e.watch.Go(func() { e.members.watch(ctx, e.nats) })
	}
	return e, nil
}

// await returns when the server has started, or can't.
func (e *embedded) await(said *serverLog) error {
	const step = 50 * time.Millisecond
	for end := time.Now().Add(startWithin); ; {
		if err := said.failed(); err != nil {
			return err
		}
		if e.nats.ReadyForConnections(step) && e.nats.JetStreamEnabled() {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("the log's server did not start on %s: see its messages in the log", e.dir)
		}
	}
}

// cantUse says what to do about a directory that this program may not use.
func cantUse(dir string, err error) error {
	if _, ok := errors.AsType[*fs.PathError](err); !ok {
		return err
	}
	return &tidings.InvalidError{
		Field: "Dir", Reason: fmt.Sprintf("is %s, which can't be used: %v", dir, err),
		Hint: "give a directory that the user that this program runs as may write to, or let that user write to it",
	}
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
		return &tidings.InvalidError{
			Field:  "MaxBytes",
			Reason: fmt.Sprintf("is %d MiB, and the file system of %s has room for %d MiB of history, with %d MiB to spare", opts.MaxBytes>>20, e.dir, max(0, free+held-e.reserve)>>20, e.reserve>>20),
			Hint:   "allow less history, make room, or give a directory on another file system",
		}
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
	name := "tidings-" + strings.ToLower(rand.Text()[:10])
	if host, _, err := net.SplitHostPort(listen); err == nil {
		if ip := net.ParseIP(host); ip == nil || !ip.IsUnspecified() {
			name = nameAt(listen)
		}
	}
	return name, os.WriteFile(file, []byte(name+"\n"), 0o600)
}

// close stops the server. What was acknowledged is in its files.
func (e *embedded) close() error {
	if e.stop != nil {
		e.stop()
		e.watch.Wait()
	}
	if e.nats != nil {
		e.nats.Shutdown()
		e.nats.WaitForShutdown()
	}
	var err error
	if e.unsynced != nil {
		err = e.unsynced.unmark()
	}
	return errors.Join(err, e.unlock())
}

func (e *embedded) unlock() error { return e.lock.Close() }
