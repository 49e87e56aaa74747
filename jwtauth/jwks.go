package jwtauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/MicahParks/jwkset"

	"github.com/tidings-sse/tidings"
)

// A keySet is the keys that an identity provider publishes. They are fetched in the background when they get old, and at
// once when a token names one that isn't there, but not often: tokens with made-up ids must not become requests to the
// provider, nor wait for each other.
type keySet struct {
	opts   *Options
	client *http.Client    // the options', which follows redirects only to where keys may come from
	ctx    context.Context // ends with close
	stop   context.CancelFunc
	wg     sync.WaitGroup // a fetch under way

	mu       sync.Mutex // guards what follows
	keys     []Key
	fetched  time.Time     // when keys came
	tried    time.Time     // when a fetch was begun last
	failed   error         // of that fetch; nil if it is good or under way
	fetching chan struct{} // closed when the fetch under way has ended; nil if there is none
}

const (
	minFetchPause = 10 * time.Second
	maxKeySet     = 1 << 20 // bytes
	fetchWithin   = 10 * time.Second
	maxRedirects  = 3
)

func newKeySet(o *Options) *keySet {
	s := &keySet{opts: o, client: careful(o)}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// careful returns a copy of the options' client that goes where a JWKSURL may point, and nowhere else: whoever could send it
// on to a plain page, or to an address that only this machine reaches, would choose the keys, or what is asked there. Where
// the client has a say of its own, it has it too.
func careful(o *Options) *http.Client {
	c := *o.Client
	own := c.CheckRedirect
	c.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return fmt.Errorf("there are more than %d redirects", maxRedirects)
		}
		if err := checkJWKSURL(req.URL.String()); err != nil {
			return fmt.Errorf("it is redirected to where keys may not come from: %w", err)
		}
		if isLoopback(req.URL) && !isLoopback(via[0].URL) {
			return fmt.Errorf("it is redirected to %s, which is this machine", req.URL.Host)
		}
		if own != nil {
			return own(req, via)
		}
		return nil
	}
	return &c
}

func (s *keySet) close() {
	s.stop()
	s.wg.Wait()
}

// find returns the keys that may have signed a token. The error is errKeysUnavailable where that can't be known, because
// the newest keys can't be had.
func (s *keySet) find(ctx context.Context, kid, alg string) ([]Key, error) {
	found, wait := s.look(kid, alg)
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", errKeysUnavailable, ctx.Err())
		}
		found, _ = s.look(kid, alg)
	}
	if len(found) > 0 {
		return found, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return nil, fmt.Errorf("%w: %w", errKeysUnavailable, s.failed)
	}
	return nil, nil
}

// look returns the keys that are known. wait is a fetch to wait for where there is none, and it may help.
func (s *keySet) look(kid, alg string) (found []Key, wait <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.keys {
		if k.fits(kid, alg) {
			found = append(found, k)
		}
	}
	now := time.Now()
	old := now.Sub(s.fetched) >= s.opts.RefreshInterval
	if s.fetching == nil && (old || len(found) == 0) && now.Sub(s.tried) >= minFetchPause && s.ctx.Err() == nil {
		s.tried = now
		done := make(chan struct{})
		s.fetching = done
		s.wg.Go(func() { s.fetch(done) })
	}
	if len(found) == 0 {
		wait = s.fetching
	}
	return found, wait
}

// fetch replaces the keys with what the provider publishes now. Where that fails, those that are known stay.
func (s *keySet) fetch(done chan struct{}) {
	ctx, cancel := context.WithTimeout(s.ctx, fetchWithin)
	defer cancel()
	keys, err := s.get(ctx)
	s.mu.Lock()
	if s.failed = err; err == nil {
		s.keys, s.fetched = keys, time.Now()
	}
	s.fetching = nil
	s.mu.Unlock()
	close(done)
	if err != nil && s.ctx.Err() == nil {
		s.opts.Logger.Error(logFetchFailed, keyURL, s.opts.JWKSURL, keyError, err)
	}
}

const (
	logFetchFailed = "the JWK Set can't be fetched"
	logKeySkipped  = "a key of the JWK Set is of no use"

	keyURL   = "url"
	keyError = "error"
	keyKid   = "kid"
)

func (s *keySet) get(ctx context.Context) ([]Key, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.opts.JWKSURL, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	res, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the answer is %s", res.Status)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxKeySet+1))
	switch {
	case err != nil:
		return nil, err
	case len(body) > maxKeySet:
		return nil, fmt.Errorf("the answer has more than %d bytes", maxKeySet)
	}
	return s.parse(body)
}

// parse reads a JWK Set. A key that is for something else, or not safe, is left out: others may still be good.
func (s *keySet) parse(body []byte) ([]Key, error) {
	var set jwkset.JWKSMarshal
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, fmt.Errorf("the answer is not a JWK Set: %w", err)
	}
	var keys []Key
	for _, m := range set.Keys {
		if m.USE != "" && m.USE != jwkset.UseSig || m.KTY == jwkset.KtyOct { // a secret that is published is none
			continue
		}
		jwk, err := jwkset.NewJWKFromMarshal(m, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{SkipKeyOps: true})
		if err == nil {
			k := Key{ID: m.KID, Public: jwk.Key()}
			if m.ALG != "" {
				k.Algorithms = []string{m.ALG.String()}
			}
			if err = k.check("the key"); err == nil {
				keys = append(keys, k)
			}
		}
		if err != nil {
			s.opts.Logger.Warn(logKeySkipped, keyURL, s.opts.JWKSURL, keyKid, m.KID, keyError, err)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("the JWK Set has no key that could verify a token")
	}
	return slices.Clip(keys), nil
}

// checkJWKSURL refuses a URL whose answer anyone on the way could replace.
func checkJWKSURL(s string) error {
	u, err := url.Parse(s)
	if err == nil && u.Host != "" && u.User == nil && u.Fragment == "" {
		if u.Scheme == "https" || u.Scheme == "http" && isLoopback(u) {
			return nil
		}
	}
	return &tidings.InvalidError{Field: "JWKSURL", Reason: fmt.Sprintf("%q is not an https URL", s), Hint: "give one like https://login.example.com/.well-known/jwks.json; http is for loopback only"}
}

// isLoopback reports whether the URL names this machine.
func isLoopback(u *url.URL) bool {
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && ip.IsLoopback()
}
