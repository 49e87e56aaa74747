package server

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificates serve the certificate of two files, and read them again when either has changed: a renewed certificate is
// served within certificateEvery, without a restart. Where the new files can't be used, the old certificate stays.
type certificates struct {
	certFile, keyFile string
	log               *slog.Logger

	mu     sync.Mutex // guards what follows
	cert   *tls.Certificate
	stamp  [2]stamp // of the files as they were read, or were found to be of no use
	looked time.Time
}

// stamp is how a file is seen to have changed.
type stamp struct {
	modified time.Time
	size     int64
}

const certificateEvery = 10 * time.Second // how often the files are looked at, at most

const (
	logCertificate       = "certificate read"
	logCertificateFailed = "the changed certificate can't be used: the earlier one is still served"

	keyCertFile = "file"
	keyExpires  = "expires"
)

// newCertificates reads the files.
func newCertificates(certFile, keyFile string, log *slog.Logger) (*certificates, error) {
	c := &certificates{certFile: certFile, keyFile: keyFile, log: log, looked: time.Now()}
	stamps, err := c.stamps()
	if err == nil {
		c.stamp = stamps
		err = c.read()
	}
	if err != nil {
		return nil, fmt.Errorf("--tls-cert, --tls-key: %w", err)
	}
	return c, nil
}

// config is for the server: TLS 1.2 at least, with what Go offers in it.
func (c *certificates) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}
}

func (c *certificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.looked) >= certificateEvery {
		c.looked = now
		stamps, err := c.stamps()
		if err == nil && stamps != c.stamp {
			c.stamp = stamps
			err = c.read()
		}
		if err != nil {
			c.log.Error(logCertificateFailed, keyCertFile, c.certFile, keyError, err)
		}
	}
	return c.cert, nil
}

func (c *certificates) stamps() (s [2]stamp, err error) {
	for i, name := range [2]string{c.certFile, c.keyFile} {
		info, err := os.Stat(name)
		if err != nil {
			return s, err
		}
		s[i] = stamp{info.ModTime(), info.Size()}
	}
	return s, nil
}

func (c *certificates) read() error {
	cert, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("%s and %s: %w", c.certFile, c.keyFile, err)
	}
	if time.Now().After(cert.Leaf.NotAfter) {
		return fmt.Errorf("%s expired on %s", c.certFile, cert.Leaf.NotAfter.Format(time.DateOnly))
	}
	c.cert = &cert
	c.log.Info(logCertificate, keyCertFile, c.certFile, keyExpires, cert.Leaf.NotAfter)
	return nil
}

// checkTLS refuses a configuration of TLS that is not whole.
func (c *Config) checkTLS() error {
	switch {
	case (c.TLSCert == "") != (c.TLSKey == ""):
		return errors.New("--tls-cert and --tls-key belong together: give both, or neither")
	case c.TLSCert != "" && len(c.ACMEDomain) > 0:
		return errors.New("--tls-cert and --acme-domain are given: choose where the certificate comes from")
	case len(c.ACMEDomain) > 0 && c.ACMEDir == "":
		return errors.New("--acme-domain needs --acme-dir: certificates and their keys are kept there, or they would be asked for at each start, and soon refused")
	case len(c.ACMEDomain) == 0 && (c.ACMEEmail != "" || c.ACMECA != ""):
		return errors.New("--acme-email and --acme-ca are for --acme-domain, which is not given")
	}
	return nil
}

// usesTLS reports whether the server speaks TLS itself.
func (c *Config) usesTLS() bool { return c.TLSCert != "" || len(c.ACMEDomain) > 0 }
