package server

import (
	"fmt"
	"io"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/tidings-sse/tidings"
)

// Config is how the server is to run. Its tags are the one place where flags, environment variables, the keys of a
// configuration file, and their defaults are written down: a field's flag is its name in kebab-case, its variable the
// same in capitals after TIDINGS_, and its key in a file the flag's name. Whoever fills it in does so by them: every field
// with a default must be set.
type Config struct {
	Addr        string   `group:"door" env:"TIDINGS_ADDR" default:"127.0.0.1:8080" help:"Where to listen, as HOST:PORT. Port 0 takes a free one."`
	AllowHost   []string `group:"door" env:"TIDINGS_ALLOW_HOST" placeholder:"NAME" help:"A host name, without a port, that requests may be addressed to beside IP addresses and localhost. Repeatable. Default: none."`
	AllowOrigin []string `group:"door" env:"TIDINGS_ALLOW_ORIGIN" placeholder:"ORIGIN" help:"An origin (https://app.example.com) whose pages may use this server from a browser, beside those on localhost. Repeatable. Default: none."`
	Insecure    bool     `group:"door" env:"TIDINGS_INSECURE" help:"Listen beyond loopback, and behind a proxy, without authentication: whoever reaches the address can listen as anyone and send to anyone. Default: off."`

	TrustedProxy       []string `group:"door" env:"TIDINGS_TRUSTED_PROXY" placeholder:"ADDRESS" help:"An IP address or a network (10.0.0.0/8) of a proxy in front of the server, whose word for the client's address is taken. Repeatable. Default: none."`
	TrustedProxyHeader string   `group:"door" env:"TIDINGS_TRUSTED_PROXY_HEADER" default:"x-forwarded-for" enum:"x-forwarded-for,forwarded" help:"The header that these proxies write: x-forwarded-for or forwarded (RFC 7239). The other one is whatever the client sent."`

	JWTSecret       []string `group:"auth" name:"jwt-secret" env:"TIDINGS_JWT_SECRET" sep:" " placeholder:"SECRET" help:"The secret that tokens are signed with (HS256, HS384, HS512), 32 characters at least. Repeatable, for rotation; in the variable with spaces between. It is seen in the list of processes: prefer the variable or the file. Default: none."`
	JWTKeyFile      []string `group:"auth" name:"jwt-key-file" env:"TIDINGS_JWT_KEY_FILE" placeholder:"FILE" help:"A PEM file with public keys that verify tokens (RS, PS, ES, EdDSA). Repeatable. Default: none."`
	JWKSURL         string   `group:"auth" name:"jwks-url" env:"TIDINGS_JWKS_URL" placeholder:"URL" help:"Where the identity provider publishes its keys as a JWK Set. Default: none."`
	JWTIssuer       string   `group:"auth" name:"jwt-issuer" env:"TIDINGS_JWT_ISSUER" placeholder:"ISS" help:"What a token's iss must be. Needed with public keys. Default: not checked."`
	JWTAudience     []string `group:"auth" name:"jwt-audience" env:"TIDINGS_JWT_AUDIENCE" placeholder:"AUD" help:"What a token's aud must hold one of. Needed with public keys. Repeatable. Default: not checked."`
	JWTAnyIssuer    bool     `group:"auth" name:"jwt-any-issuer" env:"TIDINGS_JWT_ANY_ISSUER" help:"Don't check iss, though others have keys of the same provider. Default: off."`
	JWTAnyAudience  bool     `group:"auth" name:"jwt-any-audience" env:"TIDINGS_JWT_ANY_AUDIENCE" help:"Don't check aud: tokens that were made for other programs are accepted. Default: off."`
	JWTNoExpiry     bool     `group:"auth" name:"jwt-allow-no-expiry" env:"TIDINGS_JWT_ALLOW_NO_EXPIRY" help:"Accept tokens without exp, which are valid for ever. Default: off."`
	JWTLeeway       Duration `group:"auth" name:"jwt-leeway" env:"TIDINGS_JWT_LEEWAY" default:"5s" help:"How long before its nbf a token is accepted."`
	JWTUserClaim    string   `group:"auth" name:"jwt-user-claim" env:"TIDINGS_JWT_USER_CLAIM" default:"sub" help:"The claim that names the user."`
	JWTSessionClaim string   `group:"auth" name:"jwt-session-claim" env:"TIDINGS_JWT_SESSION_CLAIM" default:"sid" help:"The claim that names the session."`
	JWTTopicsClaim  string   `group:"auth" name:"jwt-topics-claim" env:"TIDINGS_JWT_TOPICS_CLAIM" default:"topics" help:"The claim that lists the topics that may be listened to, exact or with a * at the end."`
	JWTSendClaim    string   `group:"auth" name:"jwt-send-claim" env:"TIDINGS_JWT_SEND_CLAIM" default:"send" help:"The claim that lists to whom may be sent: *, self, user:ID, session:ID, topic:NAME."`
	QueryToken      bool     `group:"auth" name:"allow-query-token" env:"TIDINGS_ALLOW_QUERY_TOKEN" help:"Accept tokens as access_token in the URL, which others log. Default: off."`
	APIKey          []string `group:"auth" name:"api-key" env:"TIDINGS_API_KEY" sep:" " placeholder:"[NAME:]KEY" help:"A key that a back end may send with, 20 random characters at least, or sha256: and its hash in hex. Repeatable. Default: none."`
	AdminKey        []string `group:"auth" name:"admin-key" env:"TIDINGS_ADMIN_KEY" sep:" " placeholder:"[NAME:]KEY" help:"A key that may also list and end connections, and read statistics. Repeatable. Default: none."`
	SessionSecret   []string `group:"auth" name:"session-secret" env:"TIDINGS_SESSION_SECRET" sep:" " placeholder:"SECRET" help:"What session cookies and tickets are signed with, 32 characters at least, the same on every node. Repeatable: the first signs. Default: made from the jwt-secret, or else random."`
	SessionMaxAge   Duration `group:"auth" name:"session-max-age" env:"TIDINGS_SESSION_MAX_AGE" default:"12h" help:"How long a session cookie is valid, at most: it never outlives its token."`

	TLSCert    string   `group:"tls" name:"tls-cert" env:"TIDINGS_TLS_CERT" placeholder:"FILE" help:"PEM file with the certificate and its chain. It is read again when it changes. Default: no TLS."`
	TLSKey     string   `group:"tls" name:"tls-key" env:"TIDINGS_TLS_KEY" placeholder:"FILE" help:"PEM file with its private key. Default: none."`
	ACMEDomain []string `group:"tls" name:"acme-domain" env:"TIDINGS_ACME_DOMAIN" placeholder:"NAME" help:"A host name to get a certificate for by itself, from Let's Encrypt, whose terms you accept with it: the server must be reached as its port 443. Repeatable. Default: none."`
	ACMEEmail  string   `group:"tls" name:"acme-email" env:"TIDINGS_ACME_EMAIL" placeholder:"ADDRESS" help:"Where the certificate authority writes to if something is wrong. Default: nowhere."`
	ACMEDir    string   `group:"tls" name:"acme-dir" env:"TIDINGS_ACME_DIR" placeholder:"DIR" help:"Where certificates and their keys are kept. Nodes that share it share them. Needed with acme-domain. Default: none."`
	ACMECA     string   `group:"tls" name:"acme-ca" env:"TIDINGS_ACME_CA" placeholder:"URL" help:"The directory of another ACME certificate authority. Default: Let's Encrypt."`

	AdminAddr string `group:"door" env:"TIDINGS_ADMIN_ADDR" placeholder:"HOST:PORT" help:"Where to serve metrics (/metrics) and profiles (/debug/pprof/). Without a host it is on loopback; beyond it, the admin key is needed. Default: nowhere."`

	HeartbeatInterval Duration `group:"stream" env:"TIDINGS_HEARTBEAT_INTERVAL" default:"30s" help:"How long a stream may be silent before a heartbeat is sent."`
	ConnectionTimeout Duration `group:"stream" env:"TIDINGS_CONNECTION_TIMEOUT" default:"60s" help:"How long a peer may leave what was sent unacknowledged before its connection is given up. More than the heartbeat interval."`
	RetryInterval     Duration `group:"stream" env:"TIDINGS_RETRY_INTERVAL" default:"3s" help:"How long clients are told to wait before they reconnect, on average: each is told half to one and a half of it."`
	DrainWindow       Duration `group:"stream" env:"TIDINGS_DRAIN_WINDOW" default:"5s" help:"The time over which streams are ended at shutdown, so that clients don't all come back at once."`

	MaxConnections            Count `group:"limit" env:"TIDINGS_MAX_CONNECTIONS" default:"100000" help:"Streams at a time. Further ones are told to come back."`
	MaxConnectionsPerUser     Bound `group:"limit" env:"TIDINGS_MAX_CONNECTIONS_PER_USER" default:"0" help:"The same, of one user. 0 is no bound."`
	MaxConnectionsPerIP       Bound `group:"limit" env:"TIDINGS_MAX_CONNECTIONS_PER_IP" default:"0" help:"The same, of one IPv4 address or IPv6 /64 network, as the TCP connection has it, or as a trusted proxy says. 0 is no bound."`
	MaxConnectsPerSecondPerIP Bound `group:"limit" env:"TIDINGS_MAX_CONNECTS_PER_SECOND_PER_IP" name:"max-connects-per-second-per-ip" default:"0" help:"Tries to open a stream a second, of one such address, whatever comes of them. 0 is no bound."`
	MaxSilentConnections      Count `group:"limit" env:"TIDINGS_MAX_SILENT_CONNECTIONS" default:"1024" help:"Connections on which nothing was ever said. Past it, those that have been so for half a second are closed, the oldest first. Known on Linux only."`
	MaxSendsPerSecond         Bound `group:"limit" env:"TIDINGS_MAX_SENDS_PER_SECOND" default:"0" help:"Events a second that one API key or user sends. 0 is no bound."`
	MaxTopics                 Count `group:"limit" env:"TIDINGS_MAX_TOPICS" default:"100" help:"Topics of one stream."`
	MaxTargets                Count `group:"limit" env:"TIDINGS_MAX_TARGETS" default:"100" help:"Targets of one event."`
	MaxEventBytes             Size  `group:"limit" env:"TIDINGS_MAX_EVENT_BYTES" default:"1MiB" help:"Data of one event, and the request or the line that sends it."`
	MaxQueuedEvents           Count `group:"limit" env:"TIDINGS_MAX_QUEUED_EVENTS" default:"1024" help:"Events that wait for one client that doesn't read. Past it, its stream ends and resumes from history."`
	MaxQueuedBytes            Size  `group:"limit" env:"TIDINGS_MAX_QUEUED_BYTES" default:"1MiB" help:"The same, in bytes."`
	MaxReplayEvents           Count `group:"limit" env:"TIDINGS_MAX_REPLAY_EVENTS" default:"10000" help:"Events replayed to one stream that resumes. Past it, the client is told of a gap."`
	MaxReplayBytes            Size  `group:"limit" env:"TIDINGS_MAX_REPLAY_BYTES" default:"16MiB" help:"The same, in bytes."`

	HistoryEvents     Count    `group:"history" env:"TIDINGS_HISTORY_EVENTS" default:"100000" help:"Events kept, to be replayed to clients that resume. In a directory or on NATS, those that were sent at one moment, or in one request, count as one (up to 64 KiB of them): at least so many are kept, and more under load, within the next two."`
	HistoryBytes      Size     `group:"history" env:"TIDINGS_HISTORY_BYTES" default:"64MiB" help:"The same, in bytes."`
	HistoryAge        Duration `group:"history" env:"TIDINGS_HISTORY_AGE" default:"24h" help:"The age of the oldest event kept."`
	HoldBytes         Size     `group:"history" env:"TIDINGS_HOLD_BYTES" default:"32MiB" help:"Of that history, what is held ready for replays, in bytes."`
	IdempotencyWindow Duration `group:"history" env:"TIDINGS_IDEMPOTENCY_WINDOW" default:"2m" help:"How long an idempotency key is remembered: sent again within it, an event is not sent twice."`

	DataDir       string   `group:"store" env:"TIDINGS_DATA_DIR" placeholder:"DIR" help:"Keep the log in this directory, so that it survives the program. Default: none; it is in memory."`
	Sync          Sync     `group:"store" env:"TIDINGS_SYNC" placeholder:"TIME" help:"How often what was written to it is synced to the disk, which is what a power loss may lose; or always, before each event is acknowledged. Default: 1s."`
	ClusterListen string   `group:"store" env:"TIDINGS_CLUSTER_LISTEN" placeholder:"HOST:PORT" help:"Hold the log together with two other nodes, which reach this one here. Needs --data-dir. Default: none."`
	ClusterPeers  []string `group:"store" env:"TIDINGS_CLUSTER_PEERS" placeholder:"HOST:PORT" help:"What the others listen on. This node may be named, too, so that all have the same list. Repeatable. Default: none."`
	ClusterSecret string   `group:"store" env:"TIDINGS_CLUSTER_SECRET" placeholder:"WORD" help:"What the nodes show each other; all have the same. It is sent as it is, so the network between them must be trusted. Default: none."`

	NATSURL         string `name:"nats-url" group:"store" env:"TIDINGS_NATS_URL" placeholder:"URL" help:"Keep the log on NATS servers with JetStream: nats://HOST:4222, or several with commas between them. Default: none."`
	NATSCredentials string `name:"nats-credentials" group:"store" env:"TIDINGS_NATS_CREDENTIALS" placeholder:"FILE" help:"The .creds file for them. Default: none; a user and a password may stand in the URL."`
	NATSCA          string `name:"nats-ca" group:"store" env:"TIDINGS_NATS_CA" placeholder:"FILE" help:"Certificates (PEM) of who signs theirs. Default: none; the system's are used."`
	NATSCert        string `name:"nats-cert" group:"store" env:"TIDINGS_NATS_CERT" placeholder:"FILE" help:"Certificate (PEM) to show them, with --nats-key. Default: none."`
	NATSKey         string `name:"nats-key" group:"store" env:"TIDINGS_NATS_KEY" placeholder:"FILE" help:"Key (PEM) of that certificate. Default: none."`
	NATSStream      string `name:"nats-stream" group:"store" env:"TIDINGS_NATS_STREAM" placeholder:"NAME" help:"The stream that is the log. It is created if need be, and never changed. Default: tidings."`
	NATSReplicas    Copies `name:"nats-replicas" group:"store" env:"TIDINGS_NATS_REPLICAS" placeholder:"N" help:"How many servers hold a copy of it: 1, 3 or 5. Default: 1."`

	LogFormat string `group:"log" env:"TIDINGS_LOG_FORMAT" default:"text" enum:"text,json" help:"How the log on stderr is written: text or json."`
	LogLevel  string `group:"log" env:"TIDINGS_LOG_LEVEL" default:"info" enum:"debug,info,warn,error" help:"The least level that is logged: debug, info, warn or error."`
}

// Duration is a length of time that is more than zero, written as Go does: 30s, 1m30s, 500ms, 24h.
type Duration time.Duration

// UnmarshalText reads a duration.
func (d *Duration) UnmarshalText(text []byte) error {
	s := string(text)
	if ms, err := strconv.ParseFloat(s, 64); err == nil {
		const most = float64(math.MaxInt64) / float64(time.Millisecond)
		if ms > 0 && ms < most {
			return fmt.Errorf("%q has no unit: write %ss for seconds, or %v if milliseconds are meant", s, s, time.Duration(ms*float64(time.Millisecond)))
		}
		return fmt.Errorf("%q has no unit: write a length of time like 30s, 1m30s or 500ms", s)
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%q is not a length of time: write one like 30s, 1m30s or 500ms", s)
	}
	if v <= 0 {
		return fmt.Errorf("%q is not more than zero: leave it out for the default", s)
	}
	*d = Duration(v)
	return nil
}

func (d Duration) String() string { return time.Duration(d).String() }

// Count is a number that is more than zero.
type Count int

// UnmarshalText reads a count.
func (c *Count) UnmarshalText(text []byte) error {
	n, err := strconv.Atoi(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a whole number", text)
	}
	if n <= 0 {
		return fmt.Errorf("%q is not more than zero: leave it out for the default", text)
	}
	*c = Count(n)
	return nil
}

// Bound is a number that something may not exceed; zero is no bound.
type Bound int

// UnmarshalText reads a bound.
func (b *Bound) UnmarshalText(text []byte) error {
	n, err := strconv.Atoi(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a whole number", text)
	}
	if n < 0 {
		return fmt.Errorf("%q is less than zero: write 0 for no bound", text)
	}
	*b = Bound(n)
	return nil
}

// Size is a number of bytes that is more than zero, written with or without a unit: 64MiB, 1MB, 1024.
type Size int

// UnmarshalText reads a size.
func (z *Size) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	digits := s
	if i := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		digits = s[:i]
	}
	unit := 0
	switch strings.ToLower(strings.TrimSpace(s[len(digits):])) {
	case "", "b":
		unit = 1
	case "kb":
		unit = 1e3
	case "mb":
		unit = 1e6
	case "gb":
		unit = 1e9
	case "kib":
		unit = 1 << 10
	case "mib":
		unit = 1 << 20
	case "gib":
		unit = 1 << 30
	}
	if unit == 0 || digits == "" {
		return fmt.Errorf("%q is not a size: write bytes, as 65536, or a whole number of kB, MB, GB, KiB, MiB or GiB, as 64KiB", text)
	}
	n, err := strconv.Atoi(digits)
	switch {
	case err != nil, n > math.MaxInt/unit:
		return fmt.Errorf("%q is too large", text)
	case n == 0:
		return fmt.Errorf("%q is not more than zero: leave it out for the default", text)
	}
	*z = Size(n * unit)
	return nil
}

// options are the hub's, without its parts.
func (c *Config) options() *tidings.Options {
	return &tidings.Options{
		HeartbeatInterval:         time.Duration(c.HeartbeatInterval),
		ConnectionTimeout:         time.Duration(c.ConnectionTimeout),
		RetryInterval:             time.Duration(c.RetryInterval),
		DrainWindow:               time.Duration(c.DrainWindow),
		MaxConnections:            int(c.MaxConnections),
		MaxConnectionsPerUser:     int(c.MaxConnectionsPerUser),
		MaxConnectionsPerIP:       int(c.MaxConnectionsPerIP),
		MaxConnectsPerSecondPerIP: int(c.MaxConnectsPerSecondPerIP),
		MaxSendsPerSecond:         int(c.MaxSendsPerSecond),
		MaxTopics:                 int(c.MaxTopics),
		MaxTargets:                int(c.MaxTargets),
		MaxEventBytes:             int(c.MaxEventBytes),
		MaxQueuedEvents:           int(c.MaxQueuedEvents),
		MaxQueuedBytes:            int(c.MaxQueuedBytes),
		MaxReplayEvents:           int(c.MaxReplayEvents),
		MaxReplayBytes:            int64(c.MaxReplayBytes),
		HoldBytes:                 int64(c.HoldBytes),
		IdempotencyWindow:         time.Duration(c.IdempotencyWindow),
	}
}

// memory are the options of the log.
func (c *Config) memory() *tidings.MemoryOptions {
	return &tidings.MemoryOptions{
		MaxEvents:         int(c.HistoryEvents),
		MaxBytes:          int64(c.HistoryBytes),
		MaxAge:            time.Duration(c.HistoryAge),
		IdempotencyWindow: time.Duration(c.IdempotencyWindow),
	}
}

// check refuses what can't work together, in the words of the flags.
func (c *Config) check() error {
	if c.HeartbeatInterval >= c.ConnectionTimeout {
		return fmt.Errorf("--heartbeat-interval is %v and --connection-timeout %v: a silent connection would be given up before it is probed, so make the interval at most half of the timeout", c.HeartbeatInterval, c.ConnectionTimeout)
	}
	if err := c.checkTLS(); err != nil {
		return err
	}
	return c.checkStore()
}

// Logger returns the log that the configuration describes, written to w.
func (c *Config) Logger(w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.LogLevel)) // one of the tag's enum
	o := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
