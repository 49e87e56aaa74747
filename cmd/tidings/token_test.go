package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tidings-sse/tidings/jwtauth"
)

const (
	testSecret = "the secret of the tests, longer than 32 characters"
	envSecret  = "the-secret-of-the-tests-longer-than-32-characters"
	testKey    = "billing-key-for-tests-0123456789"
)

func TestATokenThatIsMintedIsLetIn(t *testing.T) {
	t.Setenv("TIDINGS_JWT_SECRET", envSecret)
	t.Setenv("TIDINGS_API_KEY", testKey)
	url, _ := serve(t)
	out := run(t, "", "token", "mint", "--user", "bob", "--session", "s1", "--topic", "orders.*", "--send", "self", "--for", "1m")
	token := strings.TrimSpace(out.stdout)
	if out.code != exitOK || strings.Count(token, ".") != 2 {
		t.Fatalf("%+v", out)
	}
	for header, want := range map[string]int{"": 401, "Bearer " + token: 200} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/api/sse?topic=orders.eu&userId=bob", nil)
		if err != nil {
			t.Fatal(err)
		}
		if header != "" {
			req.Header.Set("Authorization", header)
		}
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("with %q: %s", header, res.Status)
		}
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	listens := begin(t, "listen", "--url", url, "--token", token, "--count", "2")
	eventually(t, "it is connected", func() bool { return strings.Contains(listens.stderr.String(), "connected") })
	for i, args := range [][]string{{"--token", testKey, "--user", "bob"}, {"--token", token, "--user", "bob"}, {"--token", token, "--user", "ann"}, {"--user", "bob"}} {
		out := run(t, "", append([]string{"send", "--url", url, "1"}, args...)...)
		if ok := out.code == exitOK; ok != (i < 2) {
			t.Errorf("%q: %+v", args, out)
		}
	}
	listens.line()
	listens.line()
	if code := listens.end(); code != exitOK {
		t.Errorf("listen ended with %d: %s", code, listens.stderr)
	}
	explained := run(t, token+"\n", "token", "inspect", "--explain")
	if explained.code != exitOK || !strings.Contains(explained.stdout, "ok      signature") || !strings.Contains(explained.stdout, `"sub": "bob"`) || strings.Contains(explained.stdout, "REFUSED") {
		t.Errorf("%+v", explained)
	}
	var e jwtauth.Explanation
	asJSON := run(t, "", "token", "inspect", "--json", "--explain", token)
	if err := json.Unmarshal([]byte(asJSON.stdout), &e); err != nil || e.Grant == nil || e.Grant.UserID != "bob" || e.Grant.SendTo[0].UserID != "bob" {
		t.Errorf("%v in %+v", err, asJSON)
	}
	bare := run(t, token, "token", "inspect", "-")
	if bare.code != exitOK || !strings.Contains(bare.stdout, "nothing of this was verified") {
		t.Errorf("%+v", bare)
	}
}

func TestExplainSaysWhyATokenWouldBeRefused(t *testing.T) {
	mint := func(secret string, args ...string) string {
		t.Helper()
		t.Setenv("TIDINGS_JWT_SECRET", secret)
		out := run(t, "", append([]string{"token", "mint", "--user", "bob"}, args...)...)
		if out.code != exitOK {
			t.Fatalf("%+v", out)
		}
		return strings.TrimSpace(out.stdout)
	}
	other := mint("another-secret-of-the-tests-longer-than-32", "--jwt-audience", "x")
	good := mint(envSecret, "--jwt-audience", "x")
	for _, c := range []struct {
		token string
		args  []string
		says  []string
	}{
		{other, nil, []string{"REFUSED signature", "another key has signed it", "ok      exp"}},
		{good, []string{"--jwt-audience", "y"}, []string{"ok      signature", `REFUSED aud`, `it is ["x"], and must hold one of: y`}},
		{good, []string{"--jwt-issuer", "https://login.example"}, []string{`REFUSED iss`, `it is "", and must be "https://login.example"`}},
		{good, []string{"--jwt-user-claim", "uid"}, []string{"REFUSED uid"}},
		{"a.b", nil, []string{"REFUSED form"}},
		{"eyJhbGciOiJub25lIn0.e30.", nil, []string{"REFUSED signature"}},
	} {
		out := run(t, "", append([]string{"token", "inspect", "--explain", c.token}, c.args...)...)
		for _, says := range c.says {
			if out.code != exitFailed || !strings.Contains(out.stdout, says) || !strings.Contains(out.stderr, "the token would be refused: ") {
				t.Errorf("%v: %+v, want %q", c.args, out, says)
			}
		}
		if strings.Contains(out.stdout+out.stderr, envSecret) {
			t.Errorf("the secret is printed: %+v", out)
		}
	}
	if err := os.Unsetenv("TIDINGS_JWT_SECRET"); err != nil {
		t.Fatal(err)
	}
	if out := run(t, "", "token", "inspect", "--explain", good); out.code != exitFailed || !strings.Contains(out.stderr, "set TIDINGS_JWT_SECRET") {
		t.Errorf("%+v", out)
	}
	if out := run(t, "", "token", "mint", "--user", "bob"); out.code != exitUsage || !strings.Contains(out.stderr, "jwt-secret") {
		t.Errorf("%+v", out)
	}
	if out := run(t, "", "token", "mint", "--user", "bob", "--jwt-secret", "short"); out.code != exitFailed || !strings.Contains(out.stderr, "32 at least") {
		t.Errorf("%+v", out)
	}
	if out := run(t, "", "token", "mint", "--user", "bob", "--jwt-secret", envSecret, "--send", "everyone"); out.code != exitFailed || !strings.Contains(out.stderr, "it may hold") {
		t.Errorf("%+v", out)
	}
}

func TestWhatATokenSaysCantDriveATerminal(t *testing.T) {
	const hostile = "a\x1b[2J\u009b2J\u202eb\u2028c\x7f"
	for _, c := range []struct{ header, claim string }{
		{"", "iss"}, {"", "sub"}, {"", "aud"}, {"", "sid"}, {"", "topics"}, {"", "send"}, {"", hostile}, {"kid", ""}, {"alg", ""}, {hostile, ""},
	} {
		claims := jwt.MapClaims{"sub": "bob", "iss": "https://login.example", "aud": "x", "exp": time.Now().Add(time.Hour).Unix()}
		token := jwt.NewWithClaims(jwt.SigningMethodHS256, claims)
		if c.claim != "" {
			claims[c.claim] = hostile
		}
		if c.claim == "topics" || c.claim == "send" {
			claims[c.claim] = []string{hostile}
		}
		if c.header != "" {
			token.Header[c.header] = hostile
		}
		for _, secret := range []string{envSecret, "another secret, of somebody else, which is not known"} {
			text, err := token.SignedString([]byte(secret))
			if err != nil {
				t.Fatal(err)
			}
			for _, args := range [][]string{nil, {"--explain", "--jwt-secret", envSecret}, {"--explain", "--jwt-secret", envSecret, "--jwt-issuer", hostile, "--jwt-audience", "y"}} {
				out := run(t, text, append([]string{"token", "inspect"}, args...)...)
				if printed := strings.ReplaceAll(out.stdout+out.stderr, "\n", ""); len(printed) == 0 || strings.ContainsFunc(printed, unsafe) {
					t.Errorf("%+v, %q: %+q", c, args, printed)
				}
			}
		}
	}
}

// unsafe reports whether a terminal may take r for anything but a character.
func unsafe(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || unicode.Is(unicode.Zl, r)
}

func TestConfigCheckNamesEachWeaknessAndItsRemedy(t *testing.T) {
	if out := run(t, "", "config", "check"); out.code != exitOK || out.stdout != "the configuration can work; weaknesses: 0\n" {
		t.Errorf("the defaults: %+v", out)
	}
	open := file(t, "addr: 0.0.0.0:0\njwt-secret: '"+strings.ReplaceAll(testSecret, "'", "")+"'\napi-key: "+testKey+"\nallow-query-token: true\n")
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	out := run(t, "", "config", "check", "--config", open)
	for _, says := range []string{
		"without TLS", "allow-query-token", "is configured as it is presented", "can be read by every user", "not checked for their audience", "any Host is answered", "max-connections-per-user",
	} {
		if out.code != exitOK || strings.Count(out.stdout, says) != 1 {
			t.Errorf("want %q in %+v", says, out)
		}
	}
	if strings.Count(out.stdout, "weak: ") != strings.Count(out.stdout, "\n      ") || strings.Contains(out.stdout, testKey) || strings.Contains(out.stdout, testSecret) {
		t.Errorf("%+v", out)
	}
	if out := run(t, "", "config", "check", "--strict", "--config", open); out.code != exitFailed {
		t.Errorf("strict: %+v", out)
	}
	sum := sha256.Sum256([]byte(testKey))
	good := file(t, fmt.Sprintf("addr: 0.0.0.0:0\njwt-secret: %q\njwt-audience: tidings\napi-key: billing:sha256:%x\nallow-host: events.example.com\ntrusted-proxy: 10.0.0.7\n"+
		"max-connections-per-user: 20\nmax-connects-per-second-per-ip: 20\n", envSecret, sum))
	if out := run(t, "", "config", "check", "--strict", "--config", good); out.code != exitOK {
		t.Errorf("with every remedy: %+v", out)
	}
	for text, says := range map[string]string{
		"jwt-secrett: x":           "did you mean jwt-secret?",
		"addr: 0.0.0.0:0":          "Set TIDINGS_JWT_SECRET",
		"jwt-secret: short":        "--jwt-secret has 5 characters",
		"tls-cert: nowhere.pem":    "belong together",
		"allow-origin: '*'":        "is not an origin",
		"trusted-proxy: 0.0.0.0/0": "is everybody",
		"heartbeat-interval: 90s":  "--heartbeat-interval",
	} {
		if out := run(t, "", "config", "check", "--config", file(t, text)); out.code == exitOK || !strings.Contains(out.stderr, says) {
			t.Errorf("%s: %+v, want %q", text, out, says)
		}
	}
}
