package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/jwtauth"
)

// Verifier returns what verifies tokens, as the server would. Close it.
func (c *Config) Verifier(log *slog.Logger) (*jwtauth.Authorizer, error) {
	if !c.hasTokens() {
		return nil, errors.New("there is nothing to verify a token with: set TIDINGS_JWT_SECRET, --jwt-key-file or --jwks-url")
	}
	o, err := c.tokenOptions()
	if err != nil {
		return nil, err
	}
	o.Logger = log
	a, err := jwtauth.New(o)
	if err != nil {
		return nil, flagged(err)
	}
	return a, nil
}

// Check refuses a configuration that a server could not run with, for the reasons that it would have. It reads the files
// that are named, and opens no address.
func (c *Config) Check(ctx context.Context) error {
	log := slog.New(slog.DiscardHandler)
	if err := c.check(); err != nil {
		return err
	}
	if _, err := newDoor(c, log); err != nil {
		return err
	}
	if _, err := newProxies(c); err != nil {
		return err
	}
	a, err := newAccess(c, log)
	if err != nil {
		return err
	}
	if err := a.close(); err != nil {
		return err
	}
	if c.TLSCert != "" {
		if _, err := newCertificates(c.TLSCert, c.TLSKey, log); err != nil {
			return err
		}
	}
	if c.AdminAddr != "" {
		if _, err := c.adminAddress(ctx); err != nil {
			return err
		}
	}
	hub, err := tidings.New(c.withLog(log))
	if err != nil {
		return flaggedOption(err)
	}
	if err := hub.Close(); err != nil {
		return err
	}
	_, err = c.mayListen(ctx)
	return err
}

func (c *Config) withLog(log *slog.Logger) *tidings.Options {
	o := c.options()
	o.Logger = log
	return o
}

// minClusterSecret is how many characters of a secret can't be guessed over a network.
const minClusterSecret = 16

// Weakness is something that works, and that somebody may come to regret.
type Weakness struct {
	What   string
	Remedy string
}

// Weaknesses lists what is weak in a configuration that can work.
func (c *Config) Weaknesses() (found []Weakness) {
	weak := func(is bool, what, remedy string) {
		if is {
			found = append(found, Weakness{what, remedy})
		}
	}
	at, err := resolve(context.Background(), c.Addr)
	outside := err == nil && !at.loopback
	authenticated := c.authenticates()
	proxied := len(c.TrustedProxy) > 0
	weak(c.Insecure && !authenticated, "insecure: whoever reaches the address can listen as anyone and send to anyone", "set TIDINGS_JWT_SECRET, and take insecure out")
	openCluster := c.isOpenCluster()
	weak(openCluster, "cluster-listen without cluster-secret, which insecure allows: whoever reaches "+c.ClusterListen+" can read and send everything", "give all nodes the same TIDINGS_CLUSTER_SECRET, and take insecure out")
	weak(c.ClusterSecret != "" && len(c.ClusterSecret) < minClusterSecret, fmt.Sprintf("cluster-secret has %d characters: who reaches %s can guess it", len(c.ClusterSecret), c.ClusterListen), "make one with openssl rand -hex 32")
	weak(c.Insecure && authenticated && !openCluster, "insecure does nothing where there is authentication", "take it out, so that nobody loses authentication later without noticing")
	weak(authenticated && !c.hasTokens(), "nothing verifies tokens: nobody can listen", "set TIDINGS_JWT_SECRET, jwt-key-file or jwks-url")
	weak(authenticated && len(c.APIKey) == 0 && len(c.AdminKey) == 0, "there is no API key: only tokens with a send claim can send", "set TIDINGS_API_KEY for your back ends")
	weak(outside && !c.usesTLS() && !proxied, "the address is reached by others, without TLS: tokens, cookies and events can be read on their way", "set tls-cert and tls-key or acme-domain, or put a proxy with TLS in front and name it in trusted-proxy")
	weak(outside && len(c.AllowHost) == 0 && authenticated, "any Host is answered", "list the names of this server in allow-host")
	weak(c.QueryToken, "allow-query-token: tokens in URLs end up in the logs of proxies and the histories of browsers", "use the cookie session, or tickets")
	weak(c.JWTNoExpiry, "jwt-allow-no-expiry: a token that is stolen is good for ever", "give tokens an exp of minutes to hours")
	weak(c.JWTAnyAudience, "jwt-any-audience: a token that a user gave to another program of the same provider is good here", "set jwt-audience to what your provider puts into tokens for this server")
	weak(c.JWTAnyIssuer && (c.JWKSURL != "" || len(c.JWTKeyFile) > 0), "jwt-any-issuer: whoever else has the keys' signatures is believed", "set jwt-issuer")
	weak(len(c.JWTSecret) > 0 && len(c.JWTAudience) == 0, "tokens are not checked for their audience: one that the same secret signed for something else is good here", "set jwt-audience, or use the secret for nothing else")
	weak(c.hasTokens() && len(c.SessionSecret) == 0 && len(c.JWTSecret) == 0, "sessions are signed with a random secret: they end with the process, and other nodes refuse them", "set TIDINGS_SESSION_SECRET")
	weak(time.Duration(c.SessionMaxAge) > 7*24*time.Hour, fmt.Sprintf("session-max-age is %v: a cookie that is stolen is good for as long as its token", c.SessionMaxAge), "give a day or less")
	weak(outside && c.MaxConnectionsPerIP == 0 && c.MaxConnectionsPerUser == 0, "one client can take all of max-connections", "set max-connections-per-user, and max-connections-per-ip where trusted-proxy is right")
	weak(outside && c.MaxConnectsPerSecondPerIP == 0, "one address can try to connect as often as it likes", "set max-connects-per-second-per-ip")
	if c.AdminAddr != "" {
		admin, err := c.adminAddress(context.Background())
		weak(err == nil && !admin.loopback, "admin-addr is reached by others, without TLS: the admin key, and profiles of the server's memory, can be read on their way", "listen on loopback, or on an address that only a network you trust reaches")
	}
	tls, credentials := c.natsGuards()
	weak(!tls, "nats-url goes beyond loopback and doesn't ask for TLS: all events, and the password if there is one, can be read and changed on their way", "write tls:// in it, and set nats-ca if the servers' certificates are not public ones")
	weak(!credentials, "nats-url goes beyond loopback without credentials: if the servers take that, whoever reaches them can read and send everything", "have the servers ask for some, and set nats-credentials or nats-cert")
	for _, k := range [...]struct {
		flag   string
		values []string
	}{{"api-key", c.APIKey}, {"admin-key", c.AdminKey}} {
		for _, v := range k.values {
			weak(!strings.Contains(v, "sha256:"), "a key of "+k.flag+" is configured as it is presented", "configure its hash: sha256: and what printf %s KEY | sha256sum says")
		}
	}
	for _, o := range c.AllowOrigin {
		u, err := url.Parse(o)
		weak(err == nil && u.Scheme == "http" && u.Hostname() != "localhost" && outside, "allow-origin "+o+" is a page without TLS: who changes it on its way acts as its user", "serve it over https")
	}
	return found
}

// FileWeaknesses lists what is weak in the configuration file itself.
func FileWeaknesses(name string, c *Config) []Weakness {
	info, err := os.Stat(name)
	secrets := len(c.JWTSecret) + len(c.APIKey) + len(c.AdminKey) + len(c.SessionSecret) + len(c.ClusterSecret)
	for _, u := range c.natsURLs() {
		if u.User != nil { // a name alone is a token
			secrets++
		}
	}
	const others fs.FileMode = 0o007
	if err != nil || runtime.GOOS == "windows" || secrets == 0 || info.Mode()&others == 0 {
		return nil
	}
	return []Weakness{{
		fmt.Sprintf("%s can be read by every user of the machine (%v), and secrets are configured", name, info.Mode().Perm()),
		"chmod 640 it, or give the secrets in the environment",
	}}
}
