package tidings

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Remote sends events to a Tidings server over HTTP: the same calls as a [Hub]'s, for programs that have none.
// It may be used concurrently.
type Remote struct {
	Notifier // NotifyClient, NotifyUser, NotifySession, NotifyTopic, Broadcast

	send string // URL
	opts RemoteOptions
}

// RemoteOptions configure a Remote. A zero field has the default that its comment gives.
type RemoteOptions struct {
	// Client makes the requests. Default: one with a timeout of 10 s for each try.
	Client *http.Client
	// Header is sent with each request: an Authorization, say. Default: none.
	Header http.Header
	// Tries is how often an event is sent at most, with growing pauses, while the server can't be reached or says that
	// it is unavailable. Default 4; 1 is no second try.
	Tries int
}

const (
	defaultRemoteTimeout = 10 * time.Second
	defaultRemoteTries   = 4
	minRemotePause       = 100 * time.Millisecond
	maxRemotePause       = 5 * time.Second
	maxRemoteAnswer      = 64 << 10 // bytes of an answer that are read
)

// NewRemote returns a sender to the server whose stream is at base, such as "https://events.example.com/api/sse".
// The error is an [*InvalidError].
func NewRemote(base string, o *RemoteOptions) (*Remote, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("tidings: remote: %w", &InvalidError{
			Field: "base", Reason: fmt.Sprintf("%q is not the URL of a server's stream", base), Hint: "give one like https://events.example.com/api/sse",
		})
	}
	r := &Remote{send: strings.TrimSuffix(u.String(), "/") + "/send"}
	if o != nil {
		r.opts = *o
	}
	if r.opts.Client == nil {
		r.opts.Client = &http.Client{Timeout: defaultRemoteTimeout}
	}
	r.opts.Tries = max(r.opts.Tries, 0)
	if r.opts.Tries == 0 {
		r.opts.Tries = defaultRemoteTries
	}
	r.Notifier = Notifier{r}
	return r, nil
}

// Send sends the event. Where it has no idempotency key it is given one, so that a second try can't send it twice. An
// error from the server is a [*Problem]; it matches the same sentinels as a Hub's error would. See [Sender].
func (r *Remote) Send(ctx context.Context, e Event) (Receipt, error) {
	if e.IdempotencyKey == "" {
		e.IdempotencyKey = crand.Text()
	}
	body, err := e.MarshalJSON() // json.Marshal would escape HTML in the data
	if err != nil {
		return Receipt{}, fmt.Errorf("tidings: send: %w", notStored(err))
	}
	known := true // that no try has stored it
	for try := 1; ; try++ {
		receipt, after, err := r.try(ctx, body)
		if err == nil {
			return receipt, nil
		}
		known = known && errors.Is(err, ErrNotStored)
		if after < 0 || try == r.opts.Tries || !pause(ctx, max(after, backoff(try))) {
			if !known && errors.Is(err, ErrNotStored) {
				err = openOutcome(e.IdempotencyKey, err)
			}
			return Receipt{}, fmt.Errorf("tidings: send: %w", err)
		}
	}
}

// openOutcome says that it isn't known whether the event was sent, where only the last try is known to have stored nothing.
func openOutcome(key string, last error) error {
	why := last.Error()
	if p, ok := errors.AsType[*Problem](last); ok && p.Detail != "" {
		why = p.Detail // without its hint, which is right for that try alone
	}
	why = strings.ReplaceAll(why, " ("+ErrNotStored.Error()+")", "")
	return fmt.Errorf("it is not known whether the event was sent: an earlier try, which may have stored it, was not answered, and the last one, which stored nothing, was told: %s. To settle it, send the same event again with the idempotency key %s: then it is sent once", why, key)
}

// try sends the event once. after is how long the server wants to be left alone before the next try; negative is for
// good.
func (r *Remote) try(ctx context.Context, body []byte) (_ Receipt, after time.Duration, _ error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.send, bytes.NewReader(body))
	if err != nil {
		return Receipt{}, -1, notStored(err)
	}
	for name, values := range r.opts.Header {
		req.Header[name] = values
	}
	req.Header.Set("Content-Type", jsonType)
	req.Header.Set("Accept", jsonType)
	res, err := r.opts.Client.Do(req)
	if err != nil {
		if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
			return Receipt{}, 0, notStored(err) // nothing was sent to anybody
		}
		if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
			return Receipt{}, -1, notStored(err) // the same, and it won't be trusted the next time
		}
		return Receipt{}, 0, fmt.Errorf("it is not known whether the event was stored: %w", err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxRemoteAnswer))
	if err != nil {
		return Receipt{}, 0, fmt.Errorf("it is not known whether the event was stored: its answer broke off: %w", err)
	}
	if res.StatusCode == http.StatusOK {
		var receipt Receipt
		if err := json.Unmarshal(answer, &receipt); err != nil || receipt.ID == "" {
			return Receipt{}, -1, fmt.Errorf("%s answered 200 without a receipt: is it a Tidings server?", r.send)
		}
		return receipt, 0, nil
	}
	return Receipt{}, retryIn(res), problemFrom(res.StatusCode, answer)
}

// retryIn returns how long an answer asks to wait; negative if another try can't help.
func retryIn(res *http.Response) time.Duration {
	switch res.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		secs, err := strconv.Atoi(res.Header.Get("Retry-After"))
		if err != nil || secs < 0 {
			return 0
		}
		return min(time.Duration(secs)*time.Second, maxRemotePause)
	}
	return -1
}

// problemFrom reads a problem document, or makes one of an answer that is none: a proxy's, say.
func problemFrom(status int, answer []byte) *Problem {
	p := &Problem{}
	if json.Unmarshal(answer, p) != nil || !strings.HasPrefix(p.Type, problemPrefix) {
		p = &Problem{Type: problemUnknown, Detail: fmt.Sprintf("the answer was %d %s", status, http.StatusText(status))}
		if status < 500 {
			p.Type = problemInvalid
		}
		if status == http.StatusBadRequest && toldOfTLS(answer) {
			p.Detail, p.Hint = "the server speaks TLS", "write https:// in its URL"
		}
	}
	p.Status = status
	return p.titled()
}

// toldOfTLS reports whether an answer says, as net/http and nginx do, that the request should have been made over TLS.
func toldOfTLS(answer []byte) bool {
	return bytes.Contains(answer, []byte("HTTP request to an HTTPS server")) || bytes.Contains(answer, []byte("HTTP request was sent to HTTPS port"))
}

// backoff returns the pause after a try: doubling, and jittered.
func backoff(try int) time.Duration {
	d := min(minRemotePause<<min(try-1, 10), maxRemotePause)
	return d/2 + rand.N(d/2)
}

// pause waits, and reports false when ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
