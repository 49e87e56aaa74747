package tidings_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidings-sse/tidings"
)

// grants is an Authorizer that knows who somebody is: it grants what stands under the token.
type grants map[string]tidings.Grant

func (g grants) Authorize(r *http.Request, _ tidings.Action) (tidings.Grant, error) {
	token, err := tidings.Bearer(r)
	if err != nil {
		return tidings.Grant{}, err
	}
	granted, ok := g[token]
	if !ok {
		return tidings.Grant{}, &tidings.DeniedError{Unauthenticated: true, Code: tidings.CodeInvalidToken, Reason: "the token is not known"}
	}
	return granted, nil
}

var everyone = grants{
	"backend": {SendToAnyone: true, Name: "backend"},
	"alice":   {UserID: "alice", SessionID: "a1", Topics: []string{"*"}, SendTo: []tidings.Target{{UserID: "alice"}, {Topic: "orders.*"}}},
	"mallory": {UserID: "mallory", SessionID: "m1", Topics: []string{"*"}},
}

func TestAClientIDAloneFindsNobodyWhereUsersAreKnown(t *testing.T) {
	s := apiServeSafe(t, tidings.Options{Authorizer: everyone})
	alice := s.listen(t, "?clientId=tab", "Authorization", "Bearer alice")
	mallory := s.listen(t, "?clientId=tab", "Authorization", "Bearer mallory")
	for field, body := range map[string]string{
		"target.clientId":     `{"target":{"clientId":"tab"}}`,
		"targets[1].clientId": `{"targets":[{"userId":"alice"},{"clientId":"tab","topic":"t"}]}`,
		"exclude.clientId":    `{"exclude":{"clientId":"tab"}}`,
	} {
		s.do(t, "POST", "/api/sse/send", body, "Authorization", "Bearer backend", "Content-Type", apiJSON).problem(400, "invalid", field, "userId")
	}
	s.do(t, "DELETE", "/api/sse/connections?clientId=tab", "", "Authorization", "Bearer backend").problem(400, "invalid", "target.clientId", "userId")
	if _, err := s.hub.NotifyClient(t.Context(), "tab", "x", nil); !errors.Is(err, tidings.ErrNotStored) {
		t.Errorf("in the process: %v", err)
	}
	if _, err := s.hub.Disconnect(tidings.Target{ClientID: "tab"}); err == nil {
		t.Error("in the process, Disconnect takes it")
	}
	for _, target := range []tidings.Target{{ClientID: "tab", UserID: "alice"}, {ClientID: "tab", SessionID: "a1"}, {ClientID: alice.connectionID(t)}} {
		r, err := s.hub.Send(t.Context(), tidings.Event{Target: target})
		if err != nil || r.Matched != 1 {
			t.Errorf("%s: %+v, %v", target, r, err)
		}
		if e := alice.next(); e.ID != r.ID {
			t.Errorf("%s: alice got %+v", target, e)
		}
	}
	last, err := s.hub.Broadcast(t.Context(), "last", nil)
	if err != nil {
		t.Fatal(err)
	}
	if e := mallory.next(); e.ID != last.ID {
		t.Errorf("mallory got %+v", e)
	}
}

// connectionID returns the stream's own.
func (st *apiStream) connectionID(t testing.TB) string {
	t.Helper()
	var c struct{ ConnectionID string }
	if err := json.Unmarshal([]byte(st.first.Data), &c); err != nil || c.ConnectionID == "" {
		t.Fatalf("%v in %s", err, st.first.Data)
	}
	return c.ConnectionID
}

// What a hub that knew nobody wrote to the log for a client id is not shown to whoever chooses that id later.
func TestWhatStandsInTheLogForAClientIDAloneIsNotReplayedWhereUsersAreKnown(t *testing.T) {
	log := tidings.NewMemoryBroker(nil)
	defer log.Close()
	before := apiHub(t, tidings.Options{Broker: log})
	first, err := before.Broadcast(t.Context(), "first", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []tidings.Event{
		{Type: "secret", Target: tidings.Target{ClientID: "tab"}},
		{Type: "all-but", Everyone: true, Exclude: tidings.Target{ClientID: "tab"}},
		{Type: "last", Everyone: true},
	} {
		if _, err := before.Send(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if err := before.Close(); err != nil {
		t.Fatal(err)
	}
	s := apiServeSafe(t, tidings.Options{Broker: log, Authorizer: everyone})
	eventually(t, "the log is read", func() bool { return s.hub.Ready() == nil })
	st := s.listen(t, "?clientId=tab", "Authorization", "Bearer mallory", "Last-Event-ID", first.ID)
	for _, want := range []string{"all-but", "last"} {
		if e := st.next(); e.Type != want {
			t.Errorf("got %+v, want %s", e, want)
		}
	}
}

func TestAClientIDThatManyUsersChoseStillReachesOneUserOnly(t *testing.T) {
	const users = 70 // more than are looked at one by one
	known := grants{}
	for i := range users {
		known[fmt.Sprint("t", i)] = tidings.Grant{UserID: fmt.Sprint("u", i), Topics: []string{"*"}}
	}
	log := tidings.NewMemoryBroker(nil)
	defer log.Close()
	s := apiServeSafe(t, tidings.Options{Broker: log, Authorizer: known})
	streams := make([]*apiStream, users)
	for i := range streams {
		streams[i] = s.listen(t, "?clientId=tab", "Authorization", fmt.Sprint("Bearer t", i))
	}
	// A hub that knows nobody, beside it, sends to the client id.
	other := apiHub(t, tidings.Options{Broker: log})
	defer other.Close()
	if _, err := other.NotifyClient(t.Context(), "tab", "secret", nil); err != nil {
		t.Fatal(err)
	}
	r, err := s.hub.Send(t.Context(), tidings.Event{Type: "mine", Target: tidings.Target{ClientID: "tab", UserID: "u7"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.hub.Broadcast(t.Context(), "last", nil); err != nil {
		t.Fatal(err)
	}
	for i, st := range streams {
		e := st.next()
		if i == 7 {
			if e.ID != r.ID {
				t.Errorf("u7 got %+v", e)
			}
			e = st.next()
		}
		if e.Type != "last" {
			t.Errorf("u%d got %+v", i, e)
		}
	}
}

func TestASenderReachesWhomItsGrantNamesOnly(t *testing.T) {
	s := apiServeSafe(t, tidings.Options{Authorizer: everyone})
	// Any other count would tell alice of others: whether bob is online, say.
	counted := map[string]bool{
		`{"target":{"userId":"alice"}}`:    true,
		`{"target":{"topic":"orders.eu"}}`: true,
	}
	for body, allowed := range map[string]bool{
		`{"target":{"userId":"alice"}}`:                               true,
		`{"target":{"userId":"alice","clientId":"tab"}}`:              true,
		`{"target":{"userId":"alice","topic":"private"}}`:             true,
		`{"target":{"topic":"orders.eu"}}`:                            true,
		`{"target":{"topic":"orders.","userId":"bob"}}`:               true,
		`{"targets":[{"userId":"alice"},{"topic":"orders.eu"}]}`:      true,
		`{"target":{"topic":"orders.eu"},"exclude":{"userId":"bob"}}`: true,
		`{}`:                                                false,
		`{"target":{"userId":"bob"}}`:                       false,
		`{"target":{"topic":"orders"}}`:                     false,
		`{"target":{"topic":"news"}}`:                       false,
		`{"target":{"sessionId":"a1"}}`:                     false,
		`{"target":{"clientId":"~AAAA"}}`:                   false,
		`{"targets":[{"userId":"alice"},{"userId":"bob"}]}`: false,
		`{"exclude":{"userId":"bob"}}`:                      false,
	} {
		a := s.do(t, "POST", "/api/sse/send", body, "Authorization", "Bearer alice", "Content-Type", apiJSON)
		line := s.do(t, "POST", "/api/sse/send", body+"\n", "Authorization", "Bearer alice", "Content-Type", apiNDJSON)
		if allowed {
			if a.status != 200 || strings.Contains(string(a.body), "hint") || !strings.HasPrefix(string(line.body), `{"id":`) {
				t.Errorf("%s: %d %s %s", body, a.status, a.body, line.body)
			}
			all := s.do(t, "POST", "/api/sse/send?matched=cluster", body, "Authorization", "Bearer alice", "Content-Type", apiJSON)
			for _, answer := range [][]byte{a.body, line.body, all.body} {
				var r map[string]any
				apiDecode(t, answer, &r)
				if _, told := r["matched"]; told != counted[body] || !told && len(r) != 1 {
					t.Errorf("%s: is a count told: %t, in %s", body, told, answer)
				}
			}
			continue
		}
		a.problem(403, "forbidden", "")
		if w := a.header.Get("WWW-Authenticate"); !strings.HasPrefix(w, `Bearer error="insufficient_scope", error_description="`) {
			t.Errorf("%s: WWW-Authenticate: %s", body, w)
		}
		var p tidings.Problem
		apiDecode(t, line.body, &p)
		apiCheckProblem(t, p, 403, "forbidden", "")
		s.do(t, "POST", "/api/sse/send", body, "Authorization", "Bearer mallory", "Content-Type", apiJSON).problem(403, "forbidden", "")
	}
}

func TestOneSendersKeysDontMeetAnothers(t *testing.T) {
	s := apiServeSafe(t, tidings.Options{Authorizer: everyone})
	send := func(token, body string) *apiAnswer {
		return s.do(t, "POST", "/api/sse/send", body, "Authorization", "Bearer "+token, "Content-Type", apiJSON)
	}
	first, err := s.hub.Broadcast(t.Context(), "first", nil)
	if err != nil {
		t.Fatal(err)
	}
	// Alice takes a key before the back end does, and collapses what the back end sent.
	mine := `{"type":"mine","target":{"topic":"orders.eu"},"idempotencyKey":"order-1"}`
	a1, a2 := send("alice", mine), send("alice", mine)
	if a1.status != 200 || string(a1.body) != string(a2.body) {
		t.Errorf("sent again: %s and %s", a1.body, a2.body)
	}
	if b := send("backend", `{"type":"order","target":{"topic":"orders.eu"},"idempotencyKey":"order-1","collapseKey":"order-1"}`); b.status != 200 {
		t.Errorf("the back end's event: %d %s", b.status, b.body)
	}
	send("alice", `{"type":"nothing","target":{"topic":"orders.eu"},"collapseKey":"order-1"}`)
	st := s.listen(t, "?topic=orders.eu", "Authorization", "Bearer mallory", "Last-Event-ID", first.ID)
	for _, want := range []string{"mine", "order", "nothing"} {
		if e := st.next(); e.Type != want {
			t.Errorf("got %+v, want %s", e, want)
		}
	}
}

func TestAKeyAUserAndAnAddressOfOneNameAreThreeSenders(t *testing.T) {
	const name = "192.0.2.1/32" // as the address is counted
	orders := []tidings.Target{{Topic: "orders"}}
	synctest.Test(t, func(t *testing.T) {
		known := grants{"key": {Name: name, SendTo: orders}, "user": {UserID: name, SendTo: orders}, "nobody": {SendTo: orders}}
		s := protocols[1].serveInMemory(t, &tidings.Options{Authorizer: known, MaxSendsPerSecond: 1}, withAPI, from)
		send := func(token string) (status int, id string) {
			req, err := http.NewRequestWithContext(t.Context(), "POST", s.base+"/api/sse/send", strings.NewReader(`{"target":{"topic":"orders"},"idempotencyKey":"1"}`))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+token)
			req.Header.Set("Content-Type", apiJSON)
			req.Header.Set(remoteHeader, "192.0.2.1:1")
			res, err := s.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			var r struct{ ID string }
			_ = json.Unmarshal([]byte(readAll(t, res.Body)), &r)
			return res.StatusCode, r.ID
		}
		ids := map[string]string{}
		for token := range known {
			status, id := send(token)
			if other := ids[id]; status != 200 || id == "" || other != "" {
				t.Errorf("%s: %d, the event %q, which is that of %q", token, status, id, other)
			}
			ids[id] = token
		}
		for token := range known {
			if status, _ := send(token); status != 429 {
				t.Errorf("%s, one too many: %d", token, status)
			}
		}
	})
}

func TestWhatIsWrongWithACredentialIsSaidAsRFC6750HasIt(t *testing.T) {
	s := apiServeSafe(t, tidings.Options{Authorizer: tidings.AuthorizerFunc(func(r *http.Request, a tidings.Action) (tidings.Grant, error) {
		if token, err := tidings.Bearer(r); err != nil || token == "" {
			if err == nil {
				err = &tidings.DeniedError{Unauthenticated: true, Reason: "there is none"}
			}
			return tidings.Grant{}, err
		}
		return tidings.Grant{}, &tidings.DeniedError{Unauthenticated: true, Code: tidings.CodeInvalidToken, Reason: "a \"quoted\" \\ reäson\r\nX: y"}
	})})
	for header, want := range map[string]string{
		"":               `Bearer`,
		"Bearer x":       `Bearer error="invalid_token", error_description="a 'quoted' ? re?son??X: y"`,
		"bearer x":       `Bearer error="invalid_token", error_description="a 'quoted' ? re?son??X: y"`,
		"Basic dTpw":     `Bearer error="invalid_request", error_description="the Authorization header must be: Bearer, a space, and the credential"`,
		"Bearer":         `Bearer error="invalid_request", error_description="the Authorization header must be: Bearer, a space, and the credential"`,
		"Bearer a b":     `Bearer error="invalid_request", error_description="the Authorization header must be: Bearer, a space, and the credential"`,
		"Bearer a, b":    `Bearer error="invalid_request", error_description="the Authorization header must be: Bearer, a space, and the credential"`,
		"BearerToken":    `Bearer error="invalid_request", error_description="the Authorization header must be: Bearer, a space, and the credential"`,
		"Bearer  double": `Bearer error="invalid_request", error_description="the Authorization header must be: Bearer, a space, and the credential"`,
	} {
		var hs []string
		if header != "" {
			hs = []string{"Authorization", header}
		}
		a := s.do(t, "GET", "/api/sse/stats", "", hs...)
		a.problem(401, "unauthorized", "")
		if got := a.header.Get("WWW-Authenticate"); got != want {
			t.Errorf("%q: WWW-Authenticate: %s, want %s", header, got, want)
		}
	}
	a := s.do(t, "GET", "/api/sse/stats", "", "Authorization", "Bearer x", "Authorization", "Bearer y")
	a.problem(401, "unauthorized", "")
	if got := a.header.Get("WWW-Authenticate"); !strings.Contains(got, "invalid_request") {
		t.Errorf("two headers: %s", got)
	}
}

func TestARefusedUserIsDisconnectedAndKeptAwayUntilThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := tidings.NewMemoryBroker(nil)
		defer log.Close()
		known := grants{
			"a1": {UserID: "alice", SessionID: "1", SendTo: []tidings.Target{{UserID: "alice"}}}, "a2": {UserID: "alice", SessionID: "2"}, "bob": {UserID: "bob", SessionID: "1"},
		}
		here := protocols[1].serveInMemory(t, &tidings.Options{Broker: log, Authorizer: known})
		there := protocols[1].serveInMemory(t, &tidings.Options{Broker: log, Authorizer: known})
		status := func(s *site, token string) int {
			res := s.get(t, "", "Authorization", "Bearer "+token)
			defer res.Body.Close()
			return res.StatusCode
		}
		a1, a2 := here.open(t, "", "Authorization", "Bearer a1"), there.open(t, "", "Authorization", "Bearer a2")
		bob := there.open(t, "", "Authorization", "Bearer bob")
		synctest.Wait()
		start := time.Now()
		n, err := here.hub.Refuse(t.Context(), tidings.Target{UserID: "alice"}, start.Add(time.Hour))
		if err != nil || n != 1 {
			t.Errorf("%d were disconnected here, %v", n, err)
		}
		for name, st := range map[string]*stream{"here": a1, "on the other node": a2} {
			es, err := st.rest()
			if len(es) != 1 || es[0].Type != "tidings.disconnected" || !strings.Contains(es[0].Data, `"kicked"`) || err == nil {
				t.Errorf("%s: %+v, %v", name, es, err)
			}
		}
		send(t, there.hub, "still")
		if e := bob.next(t); e.Data != "still" {
			t.Errorf("bob got %+v", e)
		}
		// A hub that starts now reads it in the log.
		late := protocols[1].serveInMemory(t, &tidings.Options{Broker: log, Authorizer: known})
		synctest.Wait()
		for name, s := range map[string]*site{"here": here, "there": there, "late": late} {
			for token, want := range map[string]int{"a1": 401, "a2": 401, "bob": 200} {
				if got := status(s, token); got != want {
					t.Errorf("%s, %s: %d, want %d", name, token, got, want)
				}
			}
		}
		time.Sleep(time.Until(start.Add(time.Hour)))
		if got := status(here, "a1"); got != 200 {
			t.Errorf("an hour later: %d", got)
		}
		// One session, and of one user only; and the end of it.
		if _, err := here.hub.Refuse(t.Context(), tidings.Target{UserID: "alice", SessionID: "1"}, time.Now().Add(time.Hour)); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		for token, want := range map[string]int{"a1": 401, "a2": 200, "bob": 200} {
			if got := status(there, token); got != want {
				t.Errorf("one session, %s: %d, want %d", token, got, want)
			}
		}
		if _, err := there.hub.Refuse(t.Context(), tidings.Target{UserID: "alice", SessionID: "1"}, time.Now().Add(-time.Second)); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if got := status(here, "a1"); got != 200 {
			t.Errorf("taken back: %d", got)
		}
	})
}

func TestOnlyAUserOrASessionCanBeRefused(t *testing.T) {
	s := apiServe(t, tidings.Options{})
	for query, field := range map[string]string{
		"refuseUntil=2030-01-01T00:00:00Z":                         "target",
		"clientId=c&refuseUntil=2030-01-01T00:00:00Z":              "target",
		"userId=u&topic=t&refuseUntil=2030-01-01T00:00:00Z":        "target",
		"userId=u&refuseUntil=tomorrow":                            "refuseUntil",
		"userId=u&refuseUntil=":                                    "refuseUntil",
		"userId=u&refuseUntil=0001-01-01T00:00:00Z":                "refuseUntil",
		"userId=u&refuseUntil=2030-01-01T00:00:00Z&refuseUntil=x":  "refuseUntil",
		"userId=u&userId=v&refuseUntil=2030-01-01T00%3A00%3A00Z":   "userId",
		"userId=%0a&refuseUntil=2030-01-01T00%3A00%3A00%2B01%3A00": "userId",
	} {
		s.do(t, "DELETE", "/api/sse/connections?"+query, "").problem(400, "invalid", field)
	}
}

func TestWhereTheQueryIsBelievedARefusedUserCanBeAskedAboutAndLetIn(t *testing.T) {
	s := apiServe(t, tidings.Options{})
	for _, c := range []struct{ method, query string }{
		{"DELETE", "userId=u&refuseUntil=2999-01-01T00:00:00Z"},
		{"GET", "userId=u"},
		{"DELETE", "userId=u&refuseUntil=2001-01-01T00:00:00Z"},
	} {
		if got := s.do(t, c.method, "/api/sse/connections?"+c.query, ""); got.status != 200 {
			t.Errorf("%s %s: %+v", c.method, c.query, got)
		}
	}
}

func TestASenderIsHeldToItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := protocols[1].serveInMemory(t, &tidings.Options{Authorizer: everyone, MaxSendsPerSecond: 5}, withAPI)
		post := func(token, contentType, body string) *http.Response {
			req, err := http.NewRequestWithContext(t.Context(), "POST", s.base+"/api/sse/send", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+token)
			req.Header.Set("Content-Type", contentType)
			res, err := s.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = res.Body.Close() })
			return res
		}
		for i := range 5 {
			if res := post("backend", apiJSON, "{}"); res.StatusCode != 200 {
				t.Errorf("send %d: %s", i, res.Status)
			}
		}
		if res := post("backend", apiJSON, "{}"); res.StatusCode != 429 || res.Header.Get("Retry-After") != "1" {
			t.Errorf("one too many: %s, Retry-After %s", res.Status, res.Header.Get("Retry-After"))
		}
		if res := post("alice", apiJSON, `{"target":{"userId":"alice"}}`); res.StatusCode != 200 {
			t.Errorf("another sender: %s", res.Status)
		}
		time.Sleep(time.Second)
		start := time.Now()
		res := post("backend", apiNDJSON, strings.Repeat("{}\n", 20))
		if n := strings.Count(readAll(t, res.Body), `{"id":`); n != 20 {
			t.Errorf("%d of 20 lines were sent", n)
		}
		if took := time.Since(start); took < 2900*time.Millisecond || took > 3100*time.Millisecond {
			t.Errorf("20 lines took %v, of which 5 a second are read beyond the first 5", took)
		}
	})
}

func TestARequestThatGoesOnSendsNothingBeyondItsCredential(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		known := grants{
			"soon":  {UserID: "alice", SendToAnyone: true, Expires: time.Now().Add(30 * time.Second)},
			"later": {UserID: "bob", SendToAnyone: true},
		}
		s := protocols[1].serveInMemory(t, &tidings.Options{Authorizer: known}, withAPI)
		for token, end := range map[string]func(){
			"soon": func() { time.Sleep(30 * time.Second) },
			"later": func() {
				if _, err := s.hub.Refuse(t.Context(), tidings.Target{UserID: "bob"}, time.Now().Add(time.Hour)); err != nil {
					t.Error(err)
				}
			},
		} {
			r, w := io.Pipe()
			req, err := http.NewRequestWithContext(t.Context(), "POST", s.base+"/api/sse/send", r)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+token)
			req.Header.Set("Content-Type", apiNDJSON)
			go func() { _, _ = io.WriteString(w, "{}\n") }()
			res, err := s.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			answers := bufio.NewReader(res.Body)
			if line, err := answers.ReadString('\n'); err != nil || !strings.HasPrefix(line, `{"id":`) {
				t.Fatalf("%s: %q, %v", token, line, err)
			}
			end()
			go func() {
				_, _ = io.WriteString(w, "{}\n")
				_ = w.Close()
			}()
			if line, err := answers.ReadString('\n'); err != nil || !strings.Contains(line, `"status":401`) {
				t.Errorf("%s: %q, %v", token, line, err)
			}
			_ = res.Body.Close()
		}
	})
}

func TestAnAddressIsHeldToItsRateOfStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		s := protocols[1].serveInMemory(t, &tidings.Options{MaxConnectsPerSecondPerIP: 3, Authorizer: tidings.AuthorizerFunc(func(r *http.Request, _ tidings.Action) (tidings.Grant, error) {
			asked++
			return tidings.Grant{}, &tidings.DeniedError{Unauthenticated: true, Reason: "no"}
		})}, from)
		statuses := func() (got [2]int) {
			for range 10 {
				res := s.get(t, "", remoteHeader, "192.0.2.1:1")
				if res.StatusCode == 401 {
					got[0]++
				} else if es, _ := decode(res).rest(); len(es) == 1 && strings.Contains(es[0].Data, `"ip-rate"`) {
					got[1]++
				}
			}
			return got
		}
		first := statuses()
		if asked != 3 && asked > 6 { // a refused stream lingers, and time goes on
			t.Errorf("the authorizer was asked %d times: %v", asked, first)
		}
		if first[0]+first[1] != 10 || first[1] == 0 {
			t.Errorf("got %v", first)
		}
		if n := s.hub.Stats().Refused["ip-rate"]; n != uint64(first[1]) {
			t.Errorf("%d are counted", n)
		}
	})
}

// withAPI has the site serve the hub's API as well.
func withAPI(s *site) {
	stream, api := s.server.Handler, s.hub.API()
	s.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/api/sse/") {
			api.ServeHTTP(w, r)
			return
		}
		stream.ServeHTTP(w, r)
	})
}

func readAll(t testing.TB, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
