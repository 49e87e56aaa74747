package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

const logACME = "ACME"

const (
	keyEvent = "event"
	keyName  = "name"
)

// acme obtains and renews a certificate for the configured names (RFC 8555). The challenge is TLS-ALPN-01 (RFC 8737), which
// comes in on the server's own port: it must be reached from outside as port 443. It runs until ctx ends.
func acme(ctx context.Context, cfg *Config, log *slog.Logger) (*tls.Config, error) {
	quiet := zap.NewNop() // what matters is among the events
	var magic *certmagic.Config
	cache := certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return magic, nil },
		Logger:           quiet,
	})
	context.AfterFunc(ctx, cache.Stop)
	magic = certmagic.New(cache, certmagic.Config{
		Storage: &certmagic.FileStorage{Path: cfg.ACMEDir},
		Logger:  quiet,
		OnEvent: func(_ context.Context, event string, data map[string]any) error {
			switch event {
			case "cert_obtaining", "cert_obtained":
				log.Info(logACME, keyEvent, event, keyName, data["identifier"])
			case "cert_failed":
				log.Error(logACME, keyEvent, event, keyName, data["identifier"], keyError, data["error"])
			}
			return nil
		},
	})
	issuer := certmagic.ACMEIssuer{
		CA: certmagic.LetsEncryptProductionCA, Email: cfg.ACMEEmail, Agreed: true, DisableHTTPChallenge: true, Logger: quiet,
	}
	if cfg.ACMECA != "" {
		issuer.CA = cfg.ACMECA
	}
	magic.Issuers = []certmagic.Issuer{certmagic.NewACMEIssuer(magic, issuer)}
	if err := magic.ManageAsync(ctx, cfg.ACMEDomain); err != nil {
		return nil, fmt.Errorf("--acme-domain %v: %w", cfg.ACMEDomain, err)
	}
	tlsConfig := magic.TLSConfig()
	tlsConfig.MinVersion = tls.VersionTLS12
	return tlsConfig, nil
}
