package natsbroker

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidings-sse/tidings"
)

// The stream, and which one it is.

// streamSettings is what the stream is to be like.
type streamSettings struct{ jetstream.StreamConfig }

const (
	metaEpoch = "tidings-epoch" // random; with it, a stream is one of Tidings

	// oldest is the first version of NATS that takes several messages as one (atomic batches), which Append needs.
	oldestMajor, oldestMinor = 2, 12
)

func settings(o *Options, replicas int) streamSettings {
	return streamSettings{jetstream.StreamConfig{
		Name:               o.Stream,
		Description:        "The log of Tidings: docs/guarantees.md",
		Subjects:           []string{o.Stream + ".log"},
		Retention:          jetstream.LimitsPolicy,
		Discard:            jetstream.DiscardOld,
		Storage:            jetstream.FileStorage,
		MaxMsgs:            int64(o.MaxEvents),
		MaxBytes:           o.MaxBytes,
		MaxAge:             o.MaxAge,
		MaxMsgsPerSubject:  -1,
		MaxConsumers:       -1,
		MaxMsgSize:         -1,
		Duplicates:         o.IdempotencyWindow,
		Replicas:           replicas,
		AllowDirect:        true,
		AllowAtomicPublish: true,
		DenyDelete:         true, // a hole in the middle
	}}
}

// identity tells one stream from another of the same name: a random word that is kept with it, and when it was created,
// because a stream may be made again from its old settings.
type identity struct {
	word    string
	created time.Time
}

// epoch returns the identity as the hub has it.
func (id identity) epoch() string {
	var at [8]byte
	binary.BigEndian.PutUint64(at[:], uint64(id.created.UnixNano()))
	sum := sha256.Sum256(append(at[:], id.word...))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:])[:10]) // 50 bits
}

func (id identity) isZero() bool { return id.word == "" }

func identityOf(info *jetstream.StreamInfo) identity {
	return identity{info.Config.Metadata[metaEpoch], info.Created.UTC()}
}

// check finds out, once, whether the log can be used, and creates the stream where there is none.
func (b *Broker) check(ctx context.Context) error {
	if err := checkVersion(b.nc.ConnectedServerVersion()); err != nil {
		return err
	}
	if need := int64(b.opts.MaxEventBytes + recordSlack); b.nc.MaxPayload() < need {
		return fmt.Errorf("the NATS server takes messages of %d bytes at most (max_payload), and events of %d bytes need %d: raise max_payload in its configuration (8MB is good), or allow smaller events only",
			b.nc.MaxPayload(), b.opts.MaxEventBytes, need)
	}
	asked, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if _, err := b.js.AccountInfo(asked); err != nil {
		return b.explain(err)
	}
	info, err := b.ensure(ctx)
	if err != nil {
		return err
	}
	return b.checkStream(ctx, info)
}

func checkVersion(version string) error {
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil || major < oldestMajor || major == oldestMajor && minor < oldestMinor {
		return fmt.Errorf("the NATS server has version %q: %d.%d or a later one is needed", version, oldestMajor, oldestMinor)
	}
	return nil
}

// ensure returns what the stream is, and begins a new one where there is none. Whether its settings are those that this
// node was given is looked at once, by check: an operator may change them later.
func (b *Broker) ensure(ctx context.Context) (*jetstream.StreamInfo, error) {
	info, err := b.info(ctx)
	if err == nil {
		return info, checkOurs(info)
	}
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, b.explain(err)
	}
	b.mu.Lock()
	before := b.stated
	b.mu.Unlock()
	cfg := b.want.StreamConfig
	cfg.Metadata = map[string]string{metaEpoch: strings.ToLower(rand.Text()[:10])}
	asked := ctx
	if b.alone { // it answers; one that is shut down while it makes a stream leaves a part of it running
		asked = context.WithoutCancel(ctx)
	}
	asked, cancel := context.WithTimeout(asked, createTimeout)
	defer cancel()
	s, err := b.js.CreateStream(asked, cfg)
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another node was first, and may not be done yet
		for info, err = b.info(asked); errors.Is(err, jetstream.ErrStreamNotFound) && pause(asked, retryPause); info, err = b.info(asked) {
		}
		if err == nil {
			return info, checkOurs(info)
		}
	}
	if err != nil {
		return nil, b.explain(err)
	}
	if before.isZero() {
		b.log.Info(logCreated, keyStream, cfg.Name)
	} else {
		b.log.Error(logGone, keyStream, cfg.Name)
	}
	return s.CachedInfo(), nil
}

// info asks the stream's leader, and again where another one answered.
func (b *Broker) info(ctx context.Context) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	for {
		s, err := b.js.Stream(ctx, b.opts.Stream)
		if err != nil {
			return nil, err
		}
		if info := s.CachedInfo(); isLeaders(info) && b.believable(info) {
			return info, nil
		}
		if !pause(ctx, retryPause) {
			return nil, unavailable(errNoLeader)
		}
	}
}

var errNoLeader = errors.New("the stream has no leader that has everything")

// isLeaders reports whether an answer is the leader's. A server that was just started answers, too, for the copy that it
// has, however old that is; the leader it names is another one then, or nobody.
func isLeaders(info *jetstream.StreamInfo) bool {
	c := info.Cluster
	if c == nil || info.Config.Replicas == 1 {
		return true
	}
	return c.Leader != "" && len(c.Replicas) > 0 &&
		!slices.ContainsFunc(c.Replicas, func(p *jetstream.PeerInfo) bool { return p.Name == c.Leader })
}

// doubtFor is how long a leader that has less than was seen before is not believed: one that was cut off from the others
// takes 10 s to notice (nats-server's lostQuorumInterval).
const doubtFor = 12 * time.Second

// high is the newest message that was seen, and since when a leader says that there is none.
type high struct {
	of    identity
	seq   uint64
	doubt time.Time
}

// believable reports whether what the leader has is not less than what was seen. It must be believed in the end: the log
// may have been cut short.
func (b *Broker) believable(info *jetstream.StreamInfo) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	h, last := &b.high, info.State.LastSeq
	if id := identityOf(info); id != h.of || last >= h.seq || info.Config.Replicas == 1 {
		*h = high{of: id, seq: last}
		return true
	}
	if h.doubt.IsZero() {
		h.doubt = time.Now()
	}
	if time.Since(h.doubt) < doubtFor {
		return false
	}
	*h = high{of: h.of, seq: last}
	return true
}

// reading is what the log's clock said, and when that was by our monotonic clock: one that is set, here or on another node,
// changes nothing about the time of what this node appends.
type reading struct{ said, at time.Time }

// now returns the time by the log's clock, in milliseconds, counted on from what State read.
func (b *Broker) now() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.clock.said.IsZero() {
		return time.Now().UTC().Truncate(time.Millisecond)
	}
	return b.clock.said.Add(time.Since(b.clock.at)).UTC().Truncate(time.Millisecond)
}

// saw notes that there is a message with this sequence.
func (b *Broker) saw(seq uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.high.seq = max(b.high.seq, seq)
}

// checkOurs refuses a stream that is not a log of Tidings.
func checkOurs(info *jetstream.StreamInfo) error {
	if name := info.Config.Name; info.Config.Metadata[metaEpoch] == "" {
		return fmt.Errorf("there is a stream %q that is not one of Tidings: choose another name, or delete it if nobody needs it (nats stream rm %s)", name, name)
	}
	return nil
}

// checkStream refuses a stream that can't carry the log as it was asked for.
func (b *Broker) checkStream(ctx context.Context, info *jetstream.StreamInfo) error {
	have, want := info.Config, b.want.StreamConfig
	name := have.Name
	for _, f := range []struct {
		what string
		bad  bool
	}{
		{"is a mirror, or has sources", have.Mirror != nil || len(have.Sources) > 0},
		{"is sealed", have.Sealed},
		{fmt.Sprintf("has the subjects %q, not %q", have.Subjects, want.Subjects), !slices.Equal(have.Subjects, want.Subjects)},
		{"has another retention than limits", have.Retention != want.Retention},
		{"discards new messages, not old ones", have.Discard != want.Discard},
		{"bounds the messages of a subject", have.MaxMsgsPerSubject > 0},
		{"acknowledges nothing", have.NoAck},
		{"transforms its subject", have.SubjectTransform != nil},
	} {
		if f.bad {
			return fmt.Errorf("the stream %q %s: it can't carry the log; choose another name for a new one, or delete it if nobody needs it", name, f.what)
		}
	}
	var differ, remedy []string
	note := func(field, flag string, have, want any) {
		differ = append(differ, fmt.Sprintf("%s is %v, not %v", field, have, want))
		remedy = append(remedy, fmt.Sprintf("--%s=%v", flag, want))
	}
	if have.MaxMsgs != want.MaxMsgs {
		note("max_msgs", "max-msgs", have.MaxMsgs, want.MaxMsgs)
	}
	if have.MaxBytes != want.MaxBytes {
		note("max_bytes", "max-bytes", have.MaxBytes, want.MaxBytes)
	}
	if have.MaxAge != want.MaxAge {
		note("max_age", "max-age", have.MaxAge, want.MaxAge)
	}
	if have.Duplicates != want.Duplicates {
		note("duplicate_window", "dupe-window", have.Duplicates, want.Duplicates)
	}
	if have.Replicas != want.Replicas {
		note("num_replicas", "replicas", have.Replicas, want.Replicas)
	}
	if have.MaxMsgSize >= 0 && int(have.MaxMsgSize) < b.opts.MaxEventBytes+recordSlack {
		note("max_msg_size", "max-msg-size", have.MaxMsgSize, -1)
	}
	if !have.AllowDirect {
		note("allow_direct", "allow-direct", false, true)
	}
	if !have.AllowAtomicPublish {
		note("allow_atomic", "allow-batch", false, true)
	}
	if len(differ) == 0 {
		return nil
	}
	if b.server == nil {
		return fmt.Errorf("the stream %q has other settings than this node was given: %s. It is not changed from here: give this node the stream's, or change the stream (nats stream edit %s %s)",
			name, strings.Join(differ, "; "), name, strings.Join(remedy, " "))
	}
	// The server is ours, and nobody else could do it.
	b.log.Warn(logLimits, keyStream, name, keyReason, strings.Join(differ, "; "))
	changed := have
	changed.MaxMsgs, changed.MaxBytes, changed.MaxAge, changed.Duplicates = want.MaxMsgs, want.MaxBytes, want.MaxAge, want.Duplicates
	changed.Replicas, changed.MaxMsgSize, changed.AllowDirect, changed.AllowAtomicPublish = want.Replicas, want.MaxMsgSize, true, true
	asked, cancel := context.WithTimeout(ctx, createTimeout)
	defer cancel()
	if _, err := b.js.UpdateStream(asked, changed); err != nil {
		return b.explain(err)
	}
	return nil
}

const (
	codeNoPeers  = 10005 // JSClusterNoPeersErrF
	codeReplicas = 10074 // JSStreamReplicasNotSupportedErr: there is no cluster
)

// explain says what to do about an answer of JetStream, or about none.
func (b *Broker) explain(err error) error {
	b.mu.Lock()
	denied := b.denied
	b.mu.Unlock()
	api, isAPI := errors.AsType[*jetstream.APIError](err)
	switch {
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled):
		return fmt.Errorf("the NATS server has no JetStream: start it with -js, or with a jetstream block in its configuration: %w", err)
	case errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return fmt.Errorf("JetStream is not enabled for this account: enable it there, or use the credentials of another one: %w", err)
	case denied != nil && !isAPI:
		return fmt.Errorf("these credentials lack a permission (%w): allow them to publish and subscribe to %s.>, to publish to $JS.API.>, and to subscribe to _INBOX.>", denied, b.opts.Stream)
	case isAPI && api.ErrorCode == codeStorage:
		return fmt.Errorf("the NATS server has no room for a stream of %d MiB: raise max_file_store there, or allow less history: %w", b.opts.MaxBytes>>20, err)
	case isAPI && api.ErrorCode == codeNoPeers && b.server != nil:
		return fmt.Errorf("the log can be begun once all %d nodes are there (%w)", clusterSize, unavailable(err))
	case isAPI && api.ErrorCode == codeNoPeers: // not yet, perhaps
		return fmt.Errorf("there are not enough NATS servers with JetStream for %d replicas: start more, or ask for fewer replicas (%w)", b.want.Replicas, unavailable(err))
	case isAPI && api.ErrorCode == codeReplicas:
		return fmt.Errorf("the NATS server is not one of a cluster, and %d replicas need one: start more, or ask for 1 replica: %w", b.want.Replicas, err)
	case errors.Is(err, errNoLeader):
		return err
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return unavailable(fmt.Errorf("the stream is being created: %w", err))
	case isAPI && api.Code == 503, errors.Is(err, nats.ErrNoResponders), errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return fmt.Errorf("JetStream doesn't answer: are enough of its servers running for a majority? (%w)", unavailable(err))
	}
	return err
}

// State returns what the log holds now, asked from the stream's leader.
func (b *Broker) State(ctx context.Context) (tidings.State, error) {
	ctx, cancel := b.until(ctx)
	defer cancel()
	if ctx.Err() != nil {
		return tidings.State{}, context.Cause(ctx)
	}
	info, err := b.ensure(ctx)
	now := time.Now()
	var floor uint64
	if err == nil {
		floor, err = b.floorOf(ctx, info)
	}
	if err != nil {
		return tidings.State{}, fmt.Errorf("natsbroker: state: %w", cause(ctx, unavailable(err)))
	}
	id := identityOf(info)
	b.counts.last.Store(info.State.LastSeq)
	b.mu.Lock()
	b.stated, b.clock = id, reading{info.TimeStamp, now}
	b.mu.Unlock()
	return tidings.State{
		Epoch: id.epoch(), Floor: tidings.Position{Hi: floor}, Last: tidings.Position{Hi: info.State.LastSeq}, Time: b.now(),
	}, nil
}
