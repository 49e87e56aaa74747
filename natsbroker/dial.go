package natsbroker

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/tidings-sse/tidings"
)

// Check refuses what [Connect] would without a server: options that can't work, and a CredentialsFile that can't be read. It
// connects to nothing. The error is an [*tidings.InvalidError].
func (o *ConnectOptions) Check() error {
	if _, err := o.withDefaults(); err != nil {
		return err
	}
	_, err := o.dial()
	return err
}

// dial checks the options of a connection, and makes nats.go's of them.
func (o *ConnectOptions) dial() ([]nats.Option, error) {
	if o.URL == "" {
		return nil, &tidings.InvalidError{Field: "URL", Reason: "is empty", Hint: "give one like nats://127.0.0.1:4222, or several with commas between them"}
	}
	for u := range strings.SplitSeq(o.URL, ",") {
		p, err := url.Parse(strings.TrimSpace(u))
		if err != nil || p.Host == "" || p.Scheme != "nats" && p.Scheme != "tls" && p.Scheme != "ws" && p.Scheme != "wss" {
			return nil, &tidings.InvalidError{Field: "URL", Reason: fmt.Sprintf("%q is not the URL of a NATS server", redact(u)), Hint: "give one like nats://127.0.0.1:4222"}
		}
	}
	if o.Replicas != 0 && o.Replicas != 1 && o.Replicas != 3 && o.Replicas != 5 {
		return nil, &tidings.InvalidError{Field: "Replicas", Reason: fmt.Sprintf("is %d", o.Replicas), Hint: "give 1, 3 or 5"}
	}
	opts := []nats.Option{nats.Name(or(o.Name, defaultStream))}
	if o.CredentialsFile != "" {
		if _, err := os.ReadFile(o.CredentialsFile); err != nil {
			return nil, &tidings.InvalidError{Field: "CredentialsFile", Reason: err.Error(), Hint: "give the .creds file that nsc or your provider made"}
		}
		opts = append(opts, nats.UserCredentials(o.CredentialsFile))
	}
	if o.User != "" {
		opts = append(opts, nats.UserInfo(o.User, o.Password))
	}
	if o.Token != "" {
		opts = append(opts, nats.Token(o.Token))
	}
	if o.TLS != nil {
		opts = append(opts, nats.Secure(o.TLS))
	}
	return opts, nil
}

// redact takes passwords out of URLs.
func redact(urls string) string {
	parts := strings.Split(urls, ",")
	for i, p := range parts {
		parts[i] = "a URL that can't be read"
		if u, err := url.Parse(strings.TrimSpace(p)); err == nil {
			if u.User != nil {
				u.User = url.User("xxxxx")
			}
			parts[i] = u.String()
		}
	}
	return strings.Join(parts, ",")
}

// connectError says what to do about servers that can't be reached.
func connectError(err error) error {
	switch {
	case errors.Is(err, nats.ErrNoServers):
		return fmt.Errorf("no NATS server answers there: is one running, and is the address right? (%w)", unavailable(err))
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked):
		return fmt.Errorf("the NATS server refuses these credentials: %w", err)
	case errors.Is(err, nats.ErrSecureConnRequired):
		return fmt.Errorf("the NATS server wants TLS: write tls:// in the URL, and give the CA's certificate if it is not a public one: %w", err)
	}
	return unavailable(err)
}
