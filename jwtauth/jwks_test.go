package jwtauth_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/internal/memnet"
	"github.com/tidings-sse/tidings/jwtauth"
)

// provider publishes keys, as an identity provider does.
type provider struct {
	mu      sync.Mutex // guards what follows
	answer  string     // "" is an outage
	fetches int
}

func (p *provider) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fetches++
	if p.answer == "" {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	_, _ = io.WriteString(w, p.answer)
}

func (p *provider) publish(answer string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = answer
}

func (p *provider) fetched() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fetches
}

// authorizer starts the provider, and returns an authorizer that takes its keys. All of it is in the bubble.
func (p *provider) authorizer(t testing.TB) *jwtauth.Authorizer {
	t.Helper()
	l := memnet.Listen(64 << 10)
	srv := &http.Server{Handler: p}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = srv.Serve(l)
	}()
	transport := &http.Transport{DialContext: l.DialContext}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		_ = srv.Close()
		<-served
	})
	return authorizer(t, jwtauth.Options{
		JWKSURL: "http://127.0.0.1/jwks.json", Client: &http.Client{Transport: transport}, RefreshInterval: 15 * time.Minute,
		Issuer: "https://login.example", Audience: []string{"tidings"}, Logger: slog.New(slog.DiscardHandler),
	})
}

func b64int(i *big.Int) string { return base64.RawURLEncoding.EncodeToString(i.Bytes()) }

// jwk is a public key as a JWK Set has it, with more members.
func jwk(t testing.TB, pub crypto.PublicKey, more map[string]any) map[string]any {
	t.Helper()
	m := map[string]any{}
	switch k := pub.(type) {
	case *rsa.PublicKey:
		m = map[string]any{"kty": "RSA", "n": b64int(k.N), "e": b64int(big.NewInt(int64(k.E)))}
	case *ecdsa.PublicKey:
		b, err := k.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		half := len(b) / 2
		m = map[string]any{
			"kty": "EC", "crv": k.Params().Name,
			"x": base64.RawURLEncoding.EncodeToString(b[1 : 1+half]), "y": base64.RawURLEncoding.EncodeToString(b[1+half:]),
		}
	case ed25519.PublicKey:
		m = map[string]any{"kty": "OKP", "crv": "Ed25519", "x": base64.RawURLEncoding.EncodeToString(k)}
	}
	for k, v := range more {
		m[k] = v
	}
	return m
}

func set(t testing.TB, keys ...map[string]any) string {
	t.Helper()
	b, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestTheKeysOfAJWKSetVerifyTokens(t *testing.T) {
	ps := pairs(t)
	synctest.Test(t, func(t *testing.T) {
		p := &provider{}
		var keys []map[string]any
		for name, k := range ps {
			keys = append(keys, jwk(t, k.public, map[string]any{"kid": name, "use": "sig"}))
		}
		keys = append(keys,
			jwk(t, ps["P-256"].public, map[string]any{"kid": "for encryption", "use": "enc"}),
			map[string]any{"kty": "oct", "kid": "a secret", "k": base64.RawURLEncoding.EncodeToString(secret)},
			jwk(t, ps["RSA"].public, map[string]any{"kid": "RS512 only", "alg": "RS512"}),
			map[string]any{"kty": "of the future", "kid": "x"},
		)
		p.publish(set(t, keys...))
		a := p.authorizer(t)
		good := claims(map[string]any{"iss": "https://login.example", "aud": "tidings"})
		for name, k := range ps {
			for _, m := range k.methods {
				if _, err := a.Verify(t.Context(), token(t, m, k.private, good, "kid", name)); err != nil {
					t.Errorf("%s %s: %v", name, m.Alg(), err)
				}
			}
			if _, err := a.Verify(t.Context(), token(t, k.methods[0], k.private, good)); err != nil {
				t.Errorf("%s, without a kid: %v", name, err)
			}
		}
		if _, err := a.Verify(t.Context(), token(t, jwt.SigningMethodRS512, ps["RSA"].private, good, "kid", "RS512 only")); err != nil {
			t.Error(err)
		}
		for name, tok := range map[string]string{
			"another alg than the key's":   token(t, jwt.SigningMethodRS256, ps["RSA"].private, good, "kid", "RS512 only"),
			"a key that is for encryption": token(t, jwt.SigningMethodES256, ps["P-256"].private, good, "kid", "for encryption"),
			"a secret that is published":   token(t, jwt.SigningMethodHS256, secret, good, "kid", "a secret"),
			"the same, without a kid":      token(t, jwt.SigningMethodHS256, secret, good),
			"another issuer":               token(t, jwt.SigningMethodES256, ps["P-256"].private, claims(map[string]any{"iss": "https://other.example", "aud": "tidings"}), "kid", "P-256"),
			"another audience":             token(t, jwt.SigningMethodES256, ps["P-256"].private, claims(map[string]any{"iss": "https://login.example", "aud": "x"}), "kid", "P-256"),
		} {
			_, err := a.Verify(t.Context(), tok)
			wantDenied(t, name, err, true, "")
		}
		if n := p.fetched(); n != 1 {
			t.Errorf("the keys were fetched %d times", n)
		}
	})
}

func TestAKeyThatIsNewAtTheProviderIsFoundAndMadeUpOnesAreNotAskedFor(t *testing.T) {
	ps := pairs(t)
	synctest.Test(t, func(t *testing.T) {
		p := &provider{}
		first := jwk(t, ps["P-256"].public, map[string]any{"kid": "1"})
		p.publish(set(t, first))
		a := p.authorizer(t)
		good := claims(map[string]any{"iss": "https://login.example", "aud": "tidings"})
		old := token(t, jwt.SigningMethodES256, ps["P-256"].private, good, "kid", "1")
		next := token(t, jwt.SigningMethodES384, ps["P-384"].private, good, "kid", "2")
		if _, err := a.Verify(t.Context(), old); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for range 100 {
			_, err := a.Verify(t.Context(), next)
			wantDenied(t, "a kid that isn't there", err, true, "no key has the token's kid")
		}
		if n, took := p.fetched(), time.Since(start); n != 1 || took != 0 {
			t.Errorf("100 made-up ids: %d fetches, %v", n, took)
		}
		p.publish(set(t, first, jwk(t, ps["P-384"].public, map[string]any{"kid": "2"})))
		time.Sleep(10 * time.Second)
		if _, err := a.Verify(t.Context(), next); err != nil {
			t.Errorf("10 s later: %v", err)
		}
		// The first key is withdrawn: it is good until the keys are fetched again.
		p.publish(set(t, jwk(t, ps["P-384"].public, map[string]any{"kid": "2"})))
		time.Sleep(15*time.Minute - time.Second)
		if _, err := a.Verify(t.Context(), old); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		if _, err := a.Verify(t.Context(), next); err != nil { // has them fetched, and doesn't wait
			t.Error(err)
		}
		synctest.Wait()
		_, err := a.Verify(t.Context(), old)
		wantDenied(t, "a key that was withdrawn", err, true, "no key has the token's kid")
	})
}

func TestAProviderThatIsDownDeniesNobody(t *testing.T) {
	ps := pairs(t)
	synctest.Test(t, func(t *testing.T) {
		p := &provider{}
		a := p.authorizer(t)
		good := claims(map[string]any{"iss": "https://login.example", "aud": "tidings"})
		tok := token(t, jwt.SigningMethodES256, ps["P-256"].private, good, "kid", "1")
		for _, answer := range []string{"", "not JSON", `{"keys":[]}`, `{"keys":` + strings.Repeat("[", 10_000), strings.Repeat(" ", 2<<20)} {
			p.publish(answer)
			_, err := a.Verify(t.Context(), tok)
			if _, denied := errors.AsType[*tidings.DeniedError](err); err == nil || denied {
				t.Errorf("with %.20q: %v", answer, err)
			}
			time.Sleep(10 * time.Second)
		}
		p.publish(set(t, jwk(t, ps["P-256"].public, map[string]any{"kid": "1"})))
		if _, err := a.Verify(t.Context(), tok); err != nil {
			t.Error(err)
		}
		// Keys that are known stay good while it is down again.
		p.publish("")
		time.Sleep(time.Hour)
		long := token(t, jwt.SigningMethodES256, ps["P-256"].private, claims(map[string]any{"iss": "https://login.example", "aud": "tidings"}), "kid", "1")
		for range 3 {
			if _, err := a.Verify(t.Context(), long); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Minute)
		}
	})
}
