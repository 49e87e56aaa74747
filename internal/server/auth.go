package server

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/apikey"
	"github.com/tidings-sse/tidings/jwtauth"
	"github.com/tidings-sse/tidings/session"
)

// authenticates reports whether anything says who somebody is. If nothing does, the server is open: see door.
func (c *Config) authenticates() bool {
	return c.hasTokens() || len(c.APIKey) > 0 || len(c.AdminKey) > 0
}

// hasTokens reports whether tokens can be verified, which is what streams need.
func (c *Config) hasTokens() bool {
	return len(c.JWTSecret) > 0 || len(c.JWTKeyFile) > 0 || c.JWKSURL != ""
}

// access is who may do what.
type access struct {
	authorizer tidings.Authorizer
	tokens     *jwtauth.Authorizer // nil if there are none
	sessions   *session.Sessions   // nil if there are none
}

// close waits for what runs in the background.
func (a *access) close() error {
	if a.tokens == nil {
		return nil
	}
	return a.tokens.Close()
}

// newAccess reads the keys and secrets. Errors name the flag, and hold no secret.
func newAccess(cfg *Config, log *slog.Logger) (*access, error) {
	if !cfg.authenticates() {
		return &access{authorizer: tidings.TrustQuery{}}, nil
	}
	a := &access{}
	if cfg.hasTokens() {
		opts, err := cfg.tokenOptions()
		if err != nil {
			return nil, err
		}
		opts.Logger = log
		if a.tokens, err = jwtauth.New(opts); err != nil {
			return nil, flagged(err)
		}
		secrets, err := cfg.sessionSecrets(log)
		if err != nil {
			return nil, err
		}
		if a.sessions, err = session.New(a.tokens, &session.Options{Secrets: secrets, MaxAge: time.Duration(cfg.SessionMaxAge), Origins: cfg.AllowOrigin}); err != nil {
			return nil, fmt.Errorf("--session-secret, --allow-origin: %w", err)
		}
		a.authorizer = a.sessions
	}
	keys, err := cfg.keys()
	if err != nil {
		return nil, err
	}
	if a.authorizer != nil {
		keys = keys.Or(a.authorizer)
	} else {
		log.Warn(logNoTokens)
	}
	a.authorizer = keys
	return a, nil
}

// tokenOptions are the options of package jwtauth.
func (c *Config) tokenOptions() (*jwtauth.Options, error) {
	o := &jwtauth.Options{
		JWKSURL: c.JWKSURL, Issuer: c.JWTIssuer, Audience: c.JWTAudience, AnyIssuer: c.JWTAnyIssuer, AnyAudience: c.JWTAnyAudience,
		AllowNoExpiry: c.JWTNoExpiry, Leeway: time.Duration(c.JWTLeeway), QueryToken: c.QueryToken,
		UserClaim: c.JWTUserClaim, SessionClaim: c.JWTSessionClaim, TopicsClaim: c.JWTTopicsClaim, SendClaim: c.JWTSendClaim,
	}
	for _, s := range c.JWTSecret {
		if err := checkSecret("jwt-secret", s); err != nil {
			return nil, err
		}
		o.Keys = append(o.Keys, jwtauth.Key{Secret: []byte(s)})
	}
	for _, name := range c.JWTKeyFile {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("--jwt-key-file: %w", err)
		}
		keys, err := jwtauth.ParseKeys(text)
		if err != nil {
			return nil, fmt.Errorf("--jwt-key-file %s: %w", name, err)
		}
		o.Keys = append(o.Keys, keys...)
	}
	return o, nil
}

// flagged says what jwtauth refused in the words of the flags.
func flagged(err error) error {
	return fmt.Errorf("%s", strings.NewReplacer(
		"jwtauth: ", "", "JWKSURL", "--jwks-url", "AnyIssuer", "--jwt-any-issuer", "AnyAudience", "--jwt-any-audience",
		"Issuer", "--jwt-issuer", "Audience", "--jwt-audience",
	).Replace(err.Error()))
}

// minSecretChars is RFC 7518's length for HS256, in characters of a configuration.
const minSecretChars = 32

func checkSecret(flag, s string) error {
	distinct := map[rune]bool{}
	for _, r := range s {
		distinct[r] = true
	}
	if len(s) < minSecretChars || len(distinct) < 10 {
		return fmt.Errorf("--%s has %d characters, %d of them different: whoever guesses it can be anyone, so give at least %d random ones, as openssl rand -base64 32 makes them", flag, len(s), len(distinct), minSecretChars)
	}
	return nil
}

// sessionSecrets are what cookies and tickets are signed with. Package session derives keys of its own from them, so that
// those of the tokens can be used for it.
func (c *Config) sessionSecrets(log *slog.Logger) ([][]byte, error) {
	from := c.SessionSecret
	if len(from) == 0 {
		from = c.JWTSecret
	}
	if len(from) == 0 {
		log.Warn(logRandomSessions)
		random := make([]byte, minSecretChars)
		_, _ = rand.Read(random) // never fails
		return [][]byte{random}, nil
	}
	var secrets [][]byte
	for _, s := range from {
		if err := checkSecret("session-secret", s); err != nil {
			return nil, err
		}
		secrets = append(secrets, []byte(s))
	}
	return secrets, nil
}

// keys are the API keys and the admin keys. One without a name is called by what it is for, and its number.
func (c *Config) keys() (*apikey.Keys, error) {
	var keys []apikey.Key
	for _, f := range [...]struct {
		flag   string
		values []string
		admin  bool
	}{{"api-key", c.APIKey, false}, {"admin-key", c.AdminKey, true}} {
		for i, v := range f.values {
			k := apikey.Key{Name: fmt.Sprintf("%s-%d", f.flag, i+1), Secret: v, Admin: f.admin}
			if name, secret, named := strings.Cut(v, ":"); named && name != "sha256" {
				k.Name, k.Secret = name, secret
			}
			if _, err := apikey.New(k); err != nil {
				return nil, fmt.Errorf("--%s: %s", f.flag, strings.TrimPrefix(strings.TrimPrefix(err.Error(), "keys[0]."), "Secret of "))
			}
			keys = append(keys, k)
		}
	}
	ks, err := apikey.New(keys...)
	if err != nil {
		return nil, fmt.Errorf("--api-key, --admin-key: %w", err)
	}
	return ks, nil
}
