package main

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// newVerifier reads a secret as the specification writes it: "whsec_" and 24 to 64 bytes in base64. The library itself
// would take an empty one.
func newVerifier(secret string) (*standardwebhooks.Webhook, error) {
	if secret == "" {
		return nil, errors.New("WEBHOOK_SECRET is not set: give the sender's, or one to try it: export WEBHOOK_SECRET=whsec_$(openssl rand -base64 32)")
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return nil, fmt.Errorf("read WEBHOOK_SECRET: it is not whsec_ and base64: %w", err)
	}
	if len(key) < 24 || len(key) > 64 {
		return nil, fmt.Errorf("read WEBHOOK_SECRET: it has %d bytes, not 24 to 64", len(key))
	}
	return standardwebhooks.NewWebhookRaw(key)
}

// printCurl prints the command that posts the payload with a new id, signed now. It is good for five minutes.
func printCurl(out io.Writer, signer *standardwebhooks.Webhook, url, payload string) error {
	id, now := "msg_"+rand.Text(), time.Now()
	signature, err := signer.Sign(id, now, []byte(payload))
	if err != nil {
		return fmt.Errorf("sign the payload: %w", err)
	}
	_, err = fmt.Fprintf(out, `curl -i %s \
  -H 'Content-Type: application/json' \
  -H '%s: %s' \
  -H '%s: %d' \
  -H '%s: %s' \
  --data-raw %s
`, quote(url),
		standardwebhooks.HeaderWebhookID, id,
		standardwebhooks.HeaderWebhookTimestamp, now.Unix(),
		standardwebhooks.HeaderWebhookSignature, signature,
		quote(payload))
	return err
}

// quote makes s one word of a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
