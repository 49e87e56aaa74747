package jwtauth_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/jwtauth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var secret = []byte("a secret of at least 32 bytes, for tests only")

// claims are those of a good token, with some changed; nil takes one out.
func claims(changes map[string]any) jwt.MapClaims {
	c := jwt.MapClaims{"sub": "user123", "exp": time.Now().Add(time.Hour).Unix()}
	maps.Copy(c, changes)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

// token signs a token.
func token(t testing.TB, method jwt.SigningMethod, key any, c jwt.MapClaims, header ...string) string {
	t.Helper()
	tok := jwt.NewWithClaims(method, c)
	for i := 0; i+1 < len(header); i += 2 {
		tok.Header[header[i]] = header[i+1]
	}
	s, err := tok.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func authorizer(t testing.TB, o jwtauth.Options) *jwtauth.Authorizer {
	t.Helper()
	a, err := jwtauth.New(&o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a
}

// request is one with the token.
func request(tok string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/api/sse", nil)
	if tok != "" {
		r.Header.Set("Authorization", "Bearer "+tok)
	}
	return r
}

// wantDenied fails the test unless err is a denial whose reason has the text.
func wantDenied(t testing.TB, what string, err error, unauthenticated bool, says string) {
	t.Helper()
	d, ok := errors.AsType[*tidings.DeniedError](err)
	if !ok || d.Unauthenticated != unauthenticated || !strings.Contains(d.Reason, says) {
		t.Errorf("%s: got %v, want a denial that says %q", what, err, says)
	}
}

// pair is a private key with its public one and its algorithms.
type pair struct {
	private crypto.PrivateKey
	public  crypto.PublicKey
	methods []jwt.SigningMethod
}

func pairs(t testing.TB) map[string]pair {
	t.Helper()
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ps := map[string]pair{
		"RSA": {r, &r.PublicKey, []jwt.SigningMethod{
			jwt.SigningMethodRS256, jwt.SigningMethodRS384, jwt.SigningMethodRS512, jwt.SigningMethodPS256, jwt.SigningMethodPS384, jwt.SigningMethodPS512,
		}},
		"Ed25519": {priv, pub, []jwt.SigningMethod{jwt.SigningMethodEdDSA}},
	}
	for name, c := range map[string]struct {
		curve  elliptic.Curve
		method jwt.SigningMethod
	}{"P-256": {elliptic.P256(), jwt.SigningMethodES256}, "P-384": {elliptic.P384(), jwt.SigningMethodES384}, "P-521": {elliptic.P521(), jwt.SigningMethodES512}} {
		k, err := ecdsa.GenerateKey(c.curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		ps[name] = pair{k, &k.PublicKey, []jwt.SigningMethod{c.method}}
	}
	return ps
}

func TestEachKindOfKeyVerifiesItsAlgorithmsAndNoOthers(t *testing.T) {
	ps := pairs(t)
	ps["secret"] = pair{secret, nil, []jwt.SigningMethod{jwt.SigningMethodHS256, jwt.SigningMethodHS384, jwt.SigningMethodHS512}}
	for name, p := range ps {
		key := jwtauth.Key{Public: p.public}
		if p.public == nil {
			key = jwtauth.Key{Secret: secret}
		}
		a := authorizer(t, jwtauth.Options{Keys: []jwtauth.Key{key}, AnyIssuer: true, AnyAudience: true})
		for other, q := range ps {
			for _, m := range q.methods {
				g, err := a.Verify(t.Context(), token(t, m, q.private, claims(nil)))
				if name == other {
					if err != nil || g.UserID != "user123" {
						t.Errorf("%s: %s: %+v, %v", name, m.Alg(), g, err)
					}
					continue
				}
				wantDenied(t, name+" given "+m.Alg(), err, true, "alg")
			}
		}
	}
}

// b64 is a part of a token.
func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func TestWhatIsForgedIsRefused(t *testing.T) {
	ps := pairs(t)
	rsaKey := ps["RSA"]
	der, err := x509.MarshalPKIXPublicKey(rsaKey.public)
	if err != nil {
		t.Fatal(err)
	}
	published := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	a := authorizer(t, jwtauth.Options{Keys: []jwtauth.Key{{ID: "k1", Public: rsaKey.public}}, AnyIssuer: true, AnyAudience: true})
	both := authorizer(t, jwtauth.Options{Keys: []jwtauth.Key{{ID: "k1", Public: rsaKey.public}, {ID: "k2", Secret: secret}}, AnyIssuer: true, AnyAudience: true})
	evil, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(claims(nil))
	if err != nil {
		t.Fatal(err)
	}
	good := token(t, jwt.SigningMethodRS256, rsaKey.private, claims(nil), "kid", "k1")
	if _, err := a.Verify(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(good, ".")
	none := func(alg string) string {
		return b64(`{"alg":"`+alg+`","typ":"JWT"}`) + "." + b64(string(payload)) + "."
	}
	embedded := jwt.NewWithClaims(jwt.SigningMethodRS256, claims(nil))
	embedded.Header["jwk"] = map[string]any{"kty": "RSA", "e": "AQAB", "n": base64.RawURLEncoding.EncodeToString(evil.N.Bytes())}
	withJWK, err := embedded.SignedString(evil)
	if err != nil {
		t.Fatal(err)
	}
	critical := jwt.NewWithClaims(jwt.SigningMethodRS256, claims(nil))
	critical.Header["crit"] = []string{"b64"}
	withCrit, err := critical.SignedString(rsaKey.private)
	if err != nil {
		t.Fatal(err)
	}
	numeric := jwt.NewWithClaims(jwt.SigningMethodRS256, claims(nil))
	numeric.Header["kid"] = 7
	withNumber, err := numeric.SignedString(rsaKey.private)
	if err != nil {
		t.Fatal(err)
	}
	for name, tok := range map[string]string{
		"alg none":                        none("none"),
		"alg None":                        none("None"),
		"alg nOnE with a signature":       none("nOnE") + parts[2],
		"no alg":                          b64(`{"typ":"JWT"}`) + "." + parts[1] + "." + parts[2],
		"alg that is no string":           b64(`{"alg":256}`) + "." + parts[1] + "." + parts[2],
		"HS256 with the public key":       token(t, jwt.SigningMethodHS256, published, claims(nil)),
		"HS256 with its DER":              token(t, jwt.SigningMethodHS256, der, claims(nil)),
		"HS256 with it, naming its kid":   token(t, jwt.SigningMethodHS256, published, claims(nil), "kid", "k1"),
		"another key":                     token(t, jwt.SigningMethodRS256, evil, claims(nil)),
		"another key with a known kid":    token(t, jwt.SigningMethodRS256, evil, claims(nil), "kid", "k1"),
		"an embedded key":                 withJWK,
		"a key by URL":                    token(t, jwt.SigningMethodRS256, evil, claims(nil), "jku", "https://evil.example/jwks.json"),
		"a certificate by URL":            token(t, jwt.SigningMethodRS256, evil, claims(nil), "x5u", "https://evil.example/cert.pem"),
		"kid as a path":                   token(t, jwt.SigningMethodRS256, evil, claims(nil), "kid", "../../../../dev/null"),
		"kid as a path, signed with it":   token(t, jwt.SigningMethodHS256, []byte{0}, claims(nil), "kid", "/dev/null"),
		"kid as SQL":                      token(t, jwt.SigningMethodRS256, evil, claims(nil), "kid", "k1' UNION SELECT 'x"),
		"kid as a number":                 withNumber,
		"kid of nobody, rightly signed":   token(t, jwt.SigningMethodRS256, rsaKey.private, claims(nil), "kid", "k9"),
		"crit":                            withCrit,
		"changed claims":                  parts[0] + "." + b64(strings.Replace(string(payload), "user123", "admin", 1)) + "." + parts[2],
		"no signature":                    parts[0] + "." + parts[1] + ".",
		"half a signature":                parts[0] + "." + parts[1] + "." + parts[2][:len(parts[2])/2],
		"signature in another encoding":   parts[0] + "." + parts[1] + "." + parts[2] + "==",
		"another last bit of the padding": good[:len(good)-1] + "_",
		"four parts":                      good + ".x",
		"two parts":                       parts[0] + "." + parts[1],
		"encrypted":                       "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.a.b.c.d",
		"nothing":                         "..",
		"not base64":                      "!.!.!",
		"not JSON":                        b64("{") + "." + b64("{") + ".x",
		"JSON that is no object":          b64("[]") + "." + b64("1") + ".x",
		"null":                            b64("null") + "." + b64("null") + ".x",
		"long":                            strings.Repeat("a", 20<<10) + "." + parts[1] + "." + parts[2],
	} {
		for which, auth := range map[string]*jwtauth.Authorizer{"": a, " (with a secret beside it)": both} {
			_, err := auth.Authorize(request(tok), tidings.Listen)
			wantDenied(t, name+which, err, true, "")
			if d, ok := errors.AsType[*tidings.DeniedError](err); ok && d.Code != tidings.CodeInvalidToken {
				t.Errorf("%s: code %q", name, d.Code)
			}
		}
	}
}

func TestWhatATokenSaysIsHeldToTheOptions(t *testing.T) {
	a := authorizer(t, jwtauth.Options{Keys: []jwtauth.Key{{Secret: secret}}, Issuer: "https://login.example", Audience: []string{"tidings", "other"}, Leeway: 10 * time.Second})
	base := map[string]any{"iss": "https://login.example", "aud": "tidings"}
	now := time.Now()
	for _, c := range []struct {
		name    string
		changes map[string]any
		says    string // "" is accepted
	}{
		{"as it must be", nil, ""},
		{"one of several audiences", map[string]any{"aud": []string{"x", "other"}}, ""},
		{"nbf within the leeway", map[string]any{"nbf": now.Add(5 * time.Second).Unix()}, ""},
		{"exp with a fraction", map[string]any{"exp": float64(now.Unix()) + 100.5}, ""},
		{"no exp", map[string]any{"exp": nil}, "lacks what is required: exp"},
		{"exp in the past", map[string]any{"exp": now.Add(-time.Second).Unix()}, "has expired"},
		{"exp in the past, within the leeway", map[string]any{"exp": now.Add(-5 * time.Second).Unix()}, "has expired"},
		{"exp as text", map[string]any{"exp": "tomorrow"}, "not of the type"},
		{"exp as a number in text", map[string]any{"exp": "9999999999"}, "not of the type"},
		{"exp beyond all time", map[string]any{"exp": json.Number("1e300")}, "exp"},
		{"exp in milliseconds", map[string]any{"exp": now.Add(time.Hour).UnixMilli()}, "exp is not a time in seconds"},
		{"negative exp", map[string]any{"exp": -1}, "expired"},
		{"exp is null", map[string]any{"exp": json.RawMessage("null")}, ""},
		{"nbf in the future", map[string]any{"nbf": now.Add(time.Minute).Unix()}, "not valid yet"},
		{"no iss", map[string]any{"iss": nil}, "lacks what is required: iss"},
		{"another iss", map[string]any{"iss": "https://evil.example"}, "another issuer"},
		{"iss with a slash", map[string]any{"iss": "https://login.example/"}, "another issuer"},
		{"neither iss nor exp", map[string]any{"iss": nil, "exp": nil}, "lacks what is required: exp, iss"},
		{"no aud", map[string]any{"aud": nil}, "lacks what is required: aud"},
		{"another aud", map[string]any{"aud": "evil"}, "another audience"},
		{"aud that only begins so", map[string]any{"aud": "tidings-admin"}, "another audience"},
		{"an empty aud", map[string]any{"aud": []string{}}, "lacks what is required: aud"},
		{"no sub", map[string]any{"sub": nil}, "no sub claim"},
		{"an empty sub", map[string]any{"sub": ""}, "no sub claim"},
		{"sub as a number", map[string]any{"sub": 7}, "sub claim is not a string"},
		{"sid as a list", map[string]any{"sid": []string{"a"}}, "sid claim is not a string"},
		{"topics of numbers", map[string]any{"topics": []any{"a", 1}}, "topics claim holds something that is not a string"},
		{"an empty topic", map[string]any{"topics": []any{""}}, "topics claim holds something that is not a string"},
		{"topics as an object", map[string]any{"topics": map[string]any{}}, "topics claim is neither a list"},
		{"a right that is not one", map[string]any{"send": []string{"everyone"}}, "send claim holds"},
		{"a right to nobody", map[string]any{"send": []string{"user:"}}, "send claim holds"},
	} {
		cs := maps.Clone(base)
		maps.Copy(cs, c.changes)
		_, err := a.Verify(t.Context(), token(t, jwt.SigningMethodHS256, secret, claims(cs)))
		if c.says == "" && c.name != "exp is null" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		wantDenied(t, c.name, err, true, c.says)
	}
	open := authorizer(t, jwtauth.Options{Keys: []jwtauth.Key{{Secret: secret}}, AllowNoExpiry: true})
	if g, err := open.Verify(t.Context(), token(t, jwt.SigningMethodHS256, secret, claims(map[string]any{"exp": nil}))); err != nil || !g.Expires.IsZero() {
		t.Errorf("without exp, where that is allowed: %+v, %v", g, err)
	}
}

func TestATokenGrantsWhatItSays(t *testing.T) {
	exp := time.Now().Add(time.Hour).Truncate(time.Second)
	a := authorizer(t, jwtauth.Options{Keys: []jwtauth.Key{{Secret: secret}}})
	g, err := a.Verify(t.Context(), token(t, jwt.SigningMethodHS256, secret, jwt.MapClaims{
		"sub": "u", "sid": "s", "exp": exp.Unix(), "topics": []string{"a", "orders.*"}, "send": "self topic:orders.* user:7 session:x", "extra": 1,
	}))
	want := tidings.Grant{
		UserID: "u", SessionID: "s", Topics: []string{"a", "orders.*"}, Expires: exp,
		SendTo: []tidings.Target{{UserID: "u"}, {Topic: "orders.*"}, {UserID: "7"}, {SessionID: "x"}},
	}
	if err != nil || !g.Expires.Equal(exp) {
		t.Fatalf("%+v, %v", g, err)
	}
	if g.Expires = want.Expires; !reflect.DeepEqual(g, want) {
		t.Errorf("got %+v, want %+v", g, want)
	}
	g, err = a.Verify(t.Context(), token(t, jwt.SigningMethodHS256, secret, claims(map[string]any{"send": []string{"*"}, "topics": "a  b"})))
	if err != nil || !g.SendToAnyone || !reflect.DeepEqual(g.Topics, []string{"a", "b"}) {
		t.Errorf("%+v, %v", g, err)
	}
	named := authorizer(t, jwtauth.Options{Keys: []jwtauth.Key{{Secret: secret}}, UserClaim: "https://example.com/uid", SessionClaim: "app.session", TopicsClaim: "realm_access.topics", SendClaim: "a.b.c"})
	g, err = named.Verify(t.Context(), token(t, jwt.SigningMethodHS256, secret, claims(map[string]any{
		"https://example.com/uid": "x", "app": map[string]any{"session": "y"}, "realm_access": map[string]any{"topics": []string{"z"}}, "a": "not an object",
	})))
	if err != nil || g.UserID != "x" || g.SessionID != "y" || !reflect.DeepEqual(g.Topics, []string{"z"}) || g.SendTo != nil {
		t.Errorf("with other claims: %+v, %v", g, err)
	}
}

func TestATokenMayDoWhatItsActionNeeds(t *testing.T) {
	a := authorizer(t, jwtauth.Options{Keys: []jwtauth.Key{{Secret: secret}}})
	listens := token(t, jwt.SigningMethodHS256, secret, claims(nil))
	sends := token(t, jwt.SigningMethodHS256, secret, claims(map[string]any{"send": []string{"self"}}))
	for _, c := range []struct {
		token  string
		action tidings.Action
		ok     bool
	}{{listens, tidings.Listen, true}, {listens, tidings.Send, false}, {listens, tidings.Manage, false}, {sends, tidings.Send, true}, {sends, tidings.Manage, false}} {
		_, err := a.Authorize(request(c.token), c.action)
		if c.ok && err != nil {
			t.Errorf("%s: %v", c.action, err)
		} else if !c.ok {
			wantDenied(t, string(c.action), err, false, "")
		}
	}
}

func TestATokenInTheQueryIsTakenOnlyWhereThatIsTurnedOn(t *testing.T) {
	tok := token(t, jwt.SigningMethodHS256, secret, claims(nil))
	off := authorizer(t, jwtauth.Options{Keys: []jwtauth.Key{{Secret: secret}}})
	on := authorizer(t, jwtauth.Options{Keys: []jwtauth.Key{{Secret: secret}}, QueryToken: true})
	inQuery := httptest.NewRequest(http.MethodGet, "/api/sse?access_token="+tok, nil)
	_, err := off.Authorize(inQuery, tidings.Listen)
	wantDenied(t, "turned off", err, true, "in the URL is not accepted")
	if strings.Contains(err.Error(), tok) {
		t.Error("the error holds the token")
	}
	if g, err := on.Authorize(inQuery, tidings.Listen); err != nil || g.UserID != "user123" {
		t.Errorf("turned on: %+v, %v", g, err)
	}
	inQuery.Header.Set("Authorization", "Bearer "+tok)
	_, err = on.Authorize(inQuery, tidings.Listen)
	wantDenied(t, "both", err, true, "more than one token")
	_, err = on.Authorize(httptest.NewRequest(http.MethodGet, "/api/sse?access_token="+tok+"&access_token="+tok, nil), tidings.Listen)
	wantDenied(t, "twice", err, true, "more than one token")
	_, err = on.Authorize(request(""), tidings.Listen)
	wantDenied(t, "none", err, true, "there is no credential")
	if d, _ := errors.AsType[*tidings.DeniedError](err); d != nil && d.Code != "" {
		t.Errorf("none: code %q", d.Code)
	}
}

func TestKeysThatAreNotSafeAreRefusedAtTheStart(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Logf("this Go makes no 1024-bit keys: %v", err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ps := pairs(t)
	for name, o := range map[string]jwtauth.Options{
		"nothing":                    {},
		"an empty key":               {Keys: []jwtauth.Key{{}}},
		"a short secret":             {Keys: []jwtauth.Key{{Secret: []byte("short")}}},
		"both":                       {Keys: []jwtauth.Key{{Secret: secret, Public: ps["RSA"].public}}, AnyIssuer: true, AnyAudience: true},
		"a private key":              {Keys: []jwtauth.Key{{Public: ps["RSA"].private}}, AnyIssuer: true, AnyAudience: true},
		"P-224":                      {Keys: []jwtauth.Key{{Public: &p224.PublicKey}}, AnyIssuer: true, AnyAudience: true},
		"an alg for another key":     {Keys: []jwtauth.Key{{Public: ps["RSA"].public, Algorithms: []string{"HS256"}}}, AnyIssuer: true, AnyAudience: true},
		"none as an alg":             {Keys: []jwtauth.Key{{Secret: secret, Algorithms: []string{"none"}}}},
		"public without an issuer":   {Keys: []jwtauth.Key{{Public: ps["RSA"].public}}, AnyAudience: true},
		"public without an audience": {Keys: []jwtauth.Key{{Public: ps["RSA"].public}}, AnyIssuer: true},
		"JWKS over http":             {JWKSURL: "http://login.example/jwks.json", AnyIssuer: true, AnyAudience: true},
		"JWKS from a file":           {JWKSURL: "file:///etc/passwd", AnyIssuer: true, AnyAudience: true},
		"JWKS with a password":       {JWKSURL: "https://u:p@login.example/", AnyIssuer: true, AnyAudience: true},
		"JWKS without an issuer":     {JWKSURL: "https://login.example/jwks.json", AnyAudience: true},
		"negative leeway":            {Keys: []jwtauth.Key{{Secret: secret}}, Leeway: -1},
	} {
		if _, err := jwtauth.New(&o); err == nil {
			t.Errorf("%s is accepted", name)
		} else if _, ok := errors.AsType[*tidings.InvalidError](err); !ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if weak != nil {
		if _, err := jwtauth.New(&jwtauth.Options{Keys: []jwtauth.Key{{Public: &weak.PublicKey}}, AnyIssuer: true, AnyAudience: true}); err == nil {
			t.Error("an RSA key of 1024 bits is accepted")
		}
	}
}

func TestKeysRotate(t *testing.T) {
	old, next := bytes.Repeat([]byte("old "), 10), bytes.Repeat([]byte("next"), 10)
	a := authorizer(t, jwtauth.Options{Keys: []jwtauth.Key{{Secret: next}, {ID: "old", Secret: old}}})
	for name, c := range map[string]struct {
		key    []byte
		header []string
		ok     bool
	}{
		"the new one": {next, nil, true}, "the old one": {old, nil, true}, "the old one by its id": {old, []string{"kid", "old"}, true},
		"the old one by another id": {old, []string{"kid", "x"}, false}, "one that has no id, by any": {next, []string{"kid", "x"}, true},
	} {
		_, err := a.Verify(t.Context(), token(t, jwt.SigningMethodHS256, c.key, claims(nil), c.header...))
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPublicKeysAreReadFromPEM(t *testing.T) {
	var all []byte
	ps := pairs(t)
	for _, p := range ps {
		der, err := x509.MarshalPKIXPublicKey(p.public)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})...)
	}
	all = append(all, pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(ps["RSA"].public.(*rsa.PublicKey))})...)
	keys, err := jwtauth.ParseKeys(all)
	if err != nil || len(keys) != len(ps)+1 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	a := authorizer(t, jwtauth.Options{Keys: keys, AnyIssuer: true, AnyAudience: true})
	for name, p := range ps {
		if _, err := a.Verify(t.Context(), token(t, p.methods[0], p.private, claims(nil))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	private, err := x509.MarshalPKCS8PrivateKey(ps["Ed25519"].private)
	if err != nil {
		t.Fatal(err)
	}
	for says, text := range map[string]string{
		"holds no key":                 "nothing",
		"holds a PRIVATE KEY: give":    string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
		"its PUBLIC KEY can't be read": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
	} {
		if _, err := jwtauth.ParseKeys([]byte(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
}

// A token is accepted to the last moment of its time, and not a moment longer, whatever the leeway.
func TestExpiryIsExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := authorizer(t, jwtauth.Options{Keys: []jwtauth.Key{{Secret: secret}}, Leeway: time.Minute})
		exp := time.Now().Add(10 * time.Second)
		tok := token(t, jwt.SigningMethodHS256, secret, claims(map[string]any{"exp": exp.Unix()}))
		time.Sleep(10*time.Second - time.Nanosecond)
		if _, err := a.Verify(t.Context(), tok); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Nanosecond)
		_, err := a.Verify(t.Context(), tok)
		wantDenied(t, "at its exp", err, true, "has expired")
	})
}

func FuzzToken(f *testing.F) {
	a, err := jwtauth.New(&jwtauth.Options{Keys: []jwtauth.Key{{Secret: secret}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(token(f, jwt.SigningMethodHS256, secret, jwt.MapClaims{"sub": "u", "exp": 4102444800}))
	f.Add(token(f, jwt.SigningMethodHS256, secret, jwt.MapClaims{"sub": "u", "exp": 4102444800, "send": []string{"*"}, "topics": "a b"}))
	f.Add(b64(`{"alg":"none"}`) + "." + b64(`{"sub":"u","exp":4102444800}`) + ".")
	f.Add("..")
	f.Fuzz(func(t *testing.T, tok string) {
		g, err := a.Authorize(request(tok), tidings.Listen)
		if err == nil {
			// Only what the secret has signed is accepted.
			parsed, err := jwt.Parse(tok, func(*jwt.Token) (any, error) { return secret, nil }, jwt.WithValidMethods([]string{"HS256", "HS384", "HS512"}))
			if err != nil || !parsed.Valid || g.UserID == "" {
				t.Errorf("%q grants %+v: %v", tok, g, err)
			}
			return
		}
		d, ok := errors.AsType[*tidings.DeniedError](err)
		if !ok || !d.Unauthenticated || d.Reason == "" {
			t.Errorf("%q: %v", tok, err)
		}
	})
}

// What a claim says, however odd, is granted as it stands or refused: never something else.
func FuzzClaims(f *testing.F) {
	a, err := jwtauth.New(&jwtauth.Options{Keys: []jwtauth.Key{{Secret: secret}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(`{"sub":"u","exp":4102444800}`)
	f.Add(`{"sub":"u","exp":4.1024448e9,"nbf":0,"topics":["a","b.*"],"send":["self","user:x","topic:y"],"sid":"s"}`)
	f.Add(`{"sub":"u","exp":1e400}`)
	f.Add(`{"sub":null,"exp":"1"}`)
	f.Fuzz(func(t *testing.T, payload string) {
		head := b64(`{"alg":"HS256"}`) + "." + b64(payload)
		sig, err := jwt.SigningMethodHS256.Sign(head, secret)
		if err != nil {
			t.Fatal(err)
		}
		g, err := a.Verify(t.Context(), head+"."+base64.RawURLEncoding.EncodeToString(sig))
		if err != nil {
			wantDenied(t, payload, err, true, "")
			return
		}
		var c map[string]any
		if err := json.Unmarshal([]byte(payload), &c); err != nil {
			t.Fatalf("%q grants %+v and is not JSON", payload, g)
		}
		if c["sub"] != g.UserID || g.Expires.IsZero() || !g.Expires.After(time.Now()) {
			t.Errorf("%q grants %+v", payload, g)
		}
		if s, _ := c["sid"].(string); s != g.SessionID {
			t.Errorf("%q grants %+v", payload, g)
		}
	})
}
