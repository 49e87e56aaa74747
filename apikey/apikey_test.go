package apikey_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/apikey"
)

const (
	billing = "bGxpbmctYmlsbGluZy1rZXktZm9yLXRlc3Rz"
	admin   = "an-admin-key-for-tests-0123456789"
)

func request(bearer ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/api/sse/send", nil)
	for _, b := range bearer {
		r.Header.Add("Authorization", "Bearer "+b)
	}
	return r
}

func TestEachKeyDoesWhatItIsForUnderItsName(t *testing.T) {
	keys, err := apikey.New(
		apikey.Key{Name: "billing", Secret: fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(billing)))},
		apikey.Key{Name: "ops", Secret: admin, Admin: true},
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		key    string
		action tidings.Action
		status int // 200, 401 or 403
		name   string
	}{
		{billing, tidings.Send, 200, "billing"}, {billing, tidings.Manage, 403, ""}, {billing, tidings.Listen, 403, ""},
		{admin, tidings.Send, 200, "ops"}, {admin, tidings.Manage, 200, "ops"}, {admin, tidings.Listen, 403, ""},
		{billing[1:], tidings.Send, 401, ""}, {billing + "x", tidings.Send, 401, ""}, {"x", tidings.Send, 401, ""}, {strings.Repeat("x", 10_000), tidings.Send, 401, ""},
		{fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(billing))), tidings.Send, 401, ""},
		{"a.b.c", tidings.Send, 401, ""}, {"", tidings.Send, 401, ""},
	} {
		r := request(c.key)
		if c.key == "" {
			r = request()
		}
		g, err := keys.Authorize(r, c.action)
		status := 200
		if d, ok := errors.AsType[*tidings.DeniedError](err); ok {
			status = 403
			if d.Unauthenticated {
				status = 401
			}
			if strings.Contains(d.Reason, c.key) && c.key != "" && c.key != "x" {
				t.Errorf("the reason holds the key: %s", d.Reason)
			}
		} else if err != nil {
			t.Error(err)
		}
		if status != c.status || g.Name != c.name || g.SendToAnyone != (status == 200) {
			t.Errorf("%.40s to %s: %d %+v %v, want %d %s", c.key, c.action, status, g, err, c.status, c.name)
		}
	}
}

func TestWhatIsNotAKeyGoesToTheOther(t *testing.T) {
	keys, err := apikey.New(apikey.Key{Name: "billing", Secret: billing})
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	both := keys.Or(tidings.AuthorizerFunc(func(*http.Request, tidings.Action) (tidings.Grant, error) {
		asked++
		return tidings.Grant{UserID: "u"}, nil
	}))
	for i, r := range []*http.Request{request("a.b.c"), request()} {
		if g, err := both.Authorize(r, tidings.Listen); err != nil || g.UserID != "u" || asked != i+1 {
			t.Errorf("%+v, %v", g, err)
		}
	}
	for _, r := range []*http.Request{request(billing), request("unknown-key"), request("a.b"), request("a.b.c.d"), request("a.b.c", billing)} {
		if g, _ := both.Authorize(r, tidings.Send); g.UserID != "" || asked != 2 {
			t.Errorf("%q went to the other", r.Header["Authorization"])
		}
	}
}

func TestKeysThatCouldBeGuessedOrNotPresentedAreRefused(t *testing.T) {
	for says, ks := range map[string][]apikey.Key{
		"not a name":          {{Name: "a b", Secret: billing}},
		"must have 20":        {{Name: "a", Secret: "short"}},
		"two dots":            {{Name: "a", Secret: "aaaaaaaa.bbbbbbbbb.cccccccc"}},
		"U+0020":              {{Name: "a", Secret: "a key with spaces in it, and long"}},
		"different":           {{Name: "a", Secret: strings.Repeat("a", 40)}},
		"not a SHA-256 hash":  {{Name: "a", Secret: "sha256:1234"}},
		"of another key, one": {{Name: "one", Secret: billing}, {Name: "two", Secret: billing}},
		"of another key, a":   {{Name: "a", Secret: billing}, {Name: "a", Secret: admin}},
	} {
		_, err := apikey.New(ks...)
		if _, ok := errors.AsType[*tidings.InvalidError](err); !ok || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want %q", err, says)
		}
		if err != nil && strings.Contains(err.Error(), ks[len(ks)-1].Secret) {
			t.Errorf("the error holds the secret: %v", err)
		}
	}
}
