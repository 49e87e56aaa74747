package tidings_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"time"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/sse"
)

// A page connects with new EventSource("/api/sse?clientId=my-client-id"), and the back end sends to it.
func Example() {
	hub, err := tidings.New(nil)
	if err != nil {
		panic(err)
	}
	defer hub.Close()
	mux := http.NewServeMux()
	mux.Handle("/api/sse", hub)
	server := httptest.NewServer(mux) // yours is an http.Server
	defer server.Close()

	page := openTab(hub, "?clientId=my-client-id")
	defer page.close()

	ctx := context.Background()
	receipt, err := hub.NotifyClient(ctx, "my-client-id", "status-update", map[string]any{"status": "processing", "progress": 75})
	if err != nil {
		panic(err)
	}
	fmt.Println("matched:", receipt.Matched)
	page.print("the page")
	// Output:
	// matched: 1
	// the page: status-update {"progress":75,"status":"processing"}
}

// When an event matches nobody, the receipt says why.
func ExampleNew() {
	hub, err := tidings.New(&tidings.Options{
		HeartbeatInterval: 15 * time.Second,
		ConnectionTimeout: 40 * time.Second,
	})
	if err != nil {
		panic(err)
	}
	defer hub.Close()

	receipt, err := hub.NotifyUser(context.Background(), "user123", "new-message", "You have a new message!")
	fmt.Println(receipt.Matched, receipt.Hint, err)

	_, err = tidings.New(&tidings.Options{HeartbeatInterval: time.Minute, ConnectionTimeout: time.Second})
	fmt.Println(err)
	// Output:
	// 0 no connection has userId user123 <nil>
	// tidings: options: HeartbeatInterval is 1m0s, not below the ConnectionTimeout of 1s: a silent connection would be given up before it is probed: make the interval at most half of the timeout
}

// All tabs and devices of a user get the event, and nobody else.
func ExampleNotifier_NotifyUser() {
	hub, err := tidings.New(&tidings.Options{Authorizer: tidings.TrustQuery{}})
	if err != nil {
		panic(err)
	}
	defer hub.Close()
	laptop, phone, ben := openTab(hub, "?userId=ann"), openTab(hub, "?userId=ann"), openTab(hub, "?userId=ben")
	defer laptop.close()
	defer phone.close()
	defer ben.close()

	type message struct {
		Text string `json:"text"`
	}
	if _, err := hub.NotifyUser(context.Background(), "ann", "new-message", message{"hi"}); err != nil {
		panic(err)
	}
	laptop.print("ann's laptop")
	phone.print("ann's phone")
	ben.print("ben")
	// Output:
	// ann's laptop: new-message {"text":"hi"}
	// ann's phone: new-message {"text":"hi"}
	// ben: nothing
}

func ExampleNotifier_NotifySession() {
	hub, err := tidings.New(&tidings.Options{Authorizer: tidings.TrustQuery{}})
	if err != nil {
		panic(err)
	}
	defer hub.Close()
	one, two := openTab(hub, "?userId=ann&sessionId=one"), openTab(hub, "?userId=ann&sessionId=two")
	defer one.close()
	defer two.close()

	if _, err := hub.NotifySession(context.Background(), "one", "signed-out", nil); err != nil {
		panic(err)
	}
	one.print("session one")
	two.print("session two")
	// Output:
	// session one: signed-out null
	// session two: nothing
}

// A page says which topics it listens to, and the Authorizer which it may.
func ExampleNotifier_NotifyTopic() {
	hub, err := tidings.New(nil)
	if err != nil {
		panic(err)
	}
	defer hub.Close()
	both, news := openTab(hub, "?topic=news&topic=scores"), openTab(hub, "?topic=news")
	defer both.close()
	defer news.close()

	if _, err := hub.NotifyTopic(context.Background(), "scores", "goal", "1:0"); err != nil {
		panic(err)
	}
	both.print("both topics")
	news.print("news alone")
	// Output:
	// both topics: goal "1:0"
	// news alone: nothing
}

func ExampleNotifier_Broadcast() {
	hub, err := tidings.New(nil)
	if err != nil {
		panic(err)
	}
	defer hub.Close()
	one, two := openTab(hub, ""), openTab(hub, "")
	defer one.close()
	defer two.close()

	receipt, err := hub.Broadcast(context.Background(), "system-announcement", "System maintenance in 5 minutes")
	if err != nil {
		panic(err)
	}
	fmt.Println("matched:", receipt.Matched)
	one.print("one")
	two.print("two")

	// An unset id is never a broadcast.
	_, err = hub.NotifyUser(context.Background(), "", "balance", 4200)
	fmt.Println(errors.Is(err, tidings.ErrNoTarget), err)
	// Output:
	// matched: 2
	// one: system-announcement "System maintenance in 5 minutes"
	// two: system-announcement "System maintenance in 5 minutes"
	// true tidings: send: target.userId is empty: for everyone, use Broadcast
}

// A connection must meet all conditions of a target, and any of several targets. Exclude leaves out the tab that knows
// already.
func ExampleHub_Send() {
	hub, err := tidings.New(&tidings.Options{Authorizer: tidings.TrustQuery{}})
	if err != nil {
		panic(err)
	}
	defer hub.Close()
	writer := openTab(hub, "?userId=ann&clientId=tab-1")
	reader := openTab(hub, "?userId=ann&clientId=tab-2")
	ben := openTab(hub, "?userId=ben&clientId=tab-1&topic=doc-7")
	defer writer.close()
	defer reader.close()
	defer ben.close()

	receipt, err := hub.Send(context.Background(), tidings.Event{
		Type:    "doc-changed",
		Data:    map[string]int{"doc": 7, "version": 3},
		Targets: []tidings.Target{{UserID: "ann"}, {Topic: "doc-7"}},
		Exclude: tidings.Target{UserID: "ann", ClientID: "tab-1"},
	})
	if err != nil {
		panic(err)
	}
	fmt.Println("matched:", receipt.Matched)
	writer.print("ann, who wrote it")
	reader.print("ann's other tab")
	ben.print("ben")
	// Output:
	// matched: 2
	// ann, who wrote it: nothing
	// ann's other tab: doc-changed {"doc":7,"version":3}
	// ben: doc-changed {"doc":7,"version":3}
}

// Of the events with one collapse key, a page that was away gets the newest only.
func ExampleHub_Send_collapse() {
	hub, err := tidings.New(&tidings.Options{Authorizer: tidings.TrustQuery{}})
	if err != nil {
		panic(err)
	}
	defer hub.Close()
	ctx := context.Background()
	seen, err := hub.NotifyUser(ctx, "ann", "job-started", "import")
	if err != nil {
		panic(err)
	}
	for _, percent := range []int{25, 50, 75} {
		if _, err := hub.Send(ctx, tidings.Event{
			Type: "progress", Data: percent, Target: tidings.Target{UserID: "ann"}, CollapseKey: "import",
		}); err != nil {
			panic(err)
		}
	}

	// A browser sends the id of the last event it saw by itself, as Last-Event-ID.
	ann := openTab(hub, "?userId=ann&lastEventId="+seen.ID)
	defer ann.close()
	ann.print("ann")
	// Output:
	// ann: progress 75
}

// An event is not delivered after its time to live.
func ExampleHub_Send_ttl() {
	hub, err := tidings.New(&tidings.Options{Authorizer: tidings.TrustQuery{}})
	if err != nil {
		panic(err)
	}
	defer hub.Close()
	ctx := context.Background()
	seen, err := hub.NotifyUser(ctx, "ann", "ping", nil)
	if err != nil {
		panic(err)
	}
	for _, ttl := range []time.Duration{time.Millisecond, time.Hour} {
		if _, err := hub.Send(ctx, tidings.Event{
			Type: "typing", Data: ttl.String(), Target: tidings.Target{UserID: "ann"}, TTL: ttl,
		}); err != nil {
			panic(err)
		}
	}
	time.Sleep(10 * time.Millisecond)

	ann := openTab(hub, "?userId=ann&lastEventId="+seen.ID)
	defer ann.close()
	ann.print("ann")
	// Output:
	// ann: typing "1h0m0s"
}

// With an idempotency key, what may or may not have been sent can be sent again.
func ExampleHub_Send_idempotencyKey() {
	hub, err := tidings.New(&tidings.Options{Authorizer: tidings.TrustQuery{}})
	if err != nil {
		panic(err)
	}
	defer hub.Close()
	ann := openTab(hub, "?userId=ann")
	defer ann.close()

	ctx := context.Background()
	event := tidings.Event{Type: "paid", Data: 4200, Target: tidings.Target{UserID: "ann"}, IdempotencyKey: "invoice-17"}
	first, err := hub.Send(ctx, event)
	if err != nil {
		panic(err)
	}
	again, err := hub.Send(ctx, event)
	if err != nil {
		panic(err)
	}
	fmt.Println("the same receipt:", first == again)
	ann.print("ann")

	event.Data = 1
	_, err = hub.Send(ctx, event)
	fmt.Println("a conflict:", errors.Is(err, tidings.ErrConflict), errors.Is(err, tidings.ErrNotStored))
	// Output:
	// the same receipt: true
	// ann: paid 4200
	// a conflict: true true
}

// A json.RawMessage is passed through, and a Text is sent as it is.
func ExampleText() {
	hub, err := tidings.New(nil)
	if err != nil {
		panic(err)
	}
	defer hub.Close()
	page := openTab(hub, "")
	defer page.close()

	ctx := context.Background()
	for _, data := range []any{"hi", tidings.Text("hi"), json.RawMessage(`{"text": "hi"}`), []byte("hi")} {
		if _, err := hub.Broadcast(ctx, "greeting", data); err != nil {
			fmt.Println(err)
		}
	}
	page.print("the page")
	// Output:
	// tidings: send: data is a []byte: say what it is: json.RawMessage(b) or tidings.Text(b)
	// the page: greeting "hi"
	// the page: greeting hi
	// the page: greeting {"text":"hi"}
}

type progress struct {
	Job     string `json:"job"`
	Percent int    `json:"percent"`
}

// An event type is a variable of your package: its name is written once, and what is sent under it is always of one Go
// type.
func ExampleMustEventType() {
	jobProgress := tidings.MustEventType[progress]("job-progress")

	hub, err := tidings.New(&tidings.Options{Authorizer: tidings.TrustQuery{}})
	if err != nil {
		panic(err)
	}
	defer hub.Close()
	ann := openTab(hub, "?userId=ann")
	defer ann.close()

	ctx := context.Background()
	if _, err := jobProgress.NotifyUser(ctx, hub, "ann", progress{"import", 50}); err != nil {
		panic(err)
	}
	event := jobProgress.Event(progress{"import", 100})
	event.Target = tidings.Target{UserID: "ann"}
	event.TTL = time.Minute
	if _, err := hub.Send(ctx, event); err != nil {
		panic(err)
	}
	ann.print("ann")
	// Output:
	// ann: job-progress {"job":"import","percent":50}
	// ann: job-progress {"job":"import","percent":100}
}

func ExampleEventType_Decode() {
	jobProgress := tidings.MustEventType[progress]("job-progress")

	stream := strings.NewReader("event: job-progress\ndata: {\"job\":\"import\",\"percent\":50}\n\nevent: job-progress\ndata: \"half\"\n\n")
	for event, err := range sse.NewDecoder(stream, nil).Events() {
		if err != nil {
			panic(err)
		}
		if event.Type == jobProgress.Name() {
			p, err := jobProgress.Decode([]byte(event.Data))
			fmt.Printf("%+v, %v\n", p, err)
		}
	}
	// Output:
	// {Job:import Percent:50}, <nil>
	// {Job: Percent:0}, tidings: data of "job-progress": json: cannot unmarshal string into Go value of type tidings_test.progress
}

// The hub is an http.Handler. Every stream begins with tidings.connected.
func ExampleHub_ServeHTTP() {
	hub, err := tidings.New(nil)
	if err != nil {
		panic(err)
	}
	defer hub.Close()
	server := httptest.NewServer(hub)
	defer server.Close()

	res, err := server.Client().Get(server.URL + "?clientId=my-client-id")
	if err != nil {
		panic(err)
	}
	defer res.Body.Close()
	fmt.Println(res.Status, res.Header.Get("Content-Type"))
	for event, err := range sse.NewDecoder(res.Body, nil).Events() {
		if err != nil {
			panic(err)
		}
		if event.Type != "tidings.connected" {
			fmt.Println(event.Type, event.Data)
			break
		}
		var connected struct{ ClientID, ConnectionID, Resume string }
		if err := json.Unmarshal([]byte(event.Data), &connected); err != nil {
			panic(err)
		}
		fmt.Println(event.Type, connected.ClientID, connected.Resume)
		// From here on the stream gets everything that is sent to it.
		if _, err := hub.NotifyClient(context.Background(), "my-client-id", "greeting", "Hello!"); err != nil {
			panic(err)
		}
	}
	// Output:
	// 200 OK text/event-stream
	// tidings.connected my-client-id none
	// greeting "Hello!"
}

// Programs in other languages send over HTTP.
func ExampleHub_API() {
	hub, err := tidings.New(&tidings.Options{Authorizer: tidings.TrustQuery{}})
	if err != nil {
		panic(err)
	}
	defer hub.Close()
	mux := http.NewServeMux()
	mux.Handle("/api/sse", hub)
	mux.Handle("/api/sse/", hub.API())
	server := httptest.NewServer(mux)
	defer server.Close()
	ann := openTab(hub, "?userId=ann")
	defer ann.close()

	for _, body := range []string{
		`{"type": "notification", "data": {"message": "Hello!"}, "target": {"userId": "ann"}}`,
		`{"type": "notification", "data": {"message": "Hello!"}, "target": {}}`,
	} {
		res, err := server.Client().Post(server.URL+"/api/sse/send", "application/json", strings.NewReader(body))
		if err != nil {
			panic(err)
		}
		var answer struct {
			Matched      int
			Detail, Hint string
		}
		err = json.NewDecoder(res.Body).Decode(&answer)
		res.Body.Close()
		fmt.Printf("%s %+v %v\n", res.Status, answer, err)
	}
	ann.print("ann")
	// Output:
	// 200 OK {Matched:1 Detail: Hint:} <nil>
	// 400 Bad Request {Matched:0 Detail:target has no condition Hint:name a clientId, userId, sessionId or topic; for everyone, leave the target out} <nil>
	// ann: notification {"message":"Hello!"}
}

// Who is online.
func ExampleHub_Connections() {
	hub, err := tidings.New(&tidings.Options{Authorizer: tidings.TrustQuery{}})
	if err != nil {
		panic(err)
	}
	defer hub.Close()
	for _, query := range []string{"?userId=ann&clientId=laptop", "?userId=ann&clientId=phone&topic=news", "?userId=ben&clientId=desk"} {
		defer openTab(hub, query).close()
	}

	var clients []string
	for c := range hub.Connections(tidings.Target{UserID: "ann"}) {
		clients = append(clients, fmt.Sprint(c.ClientID, c.Topics))
	}
	slices.Sort(clients) // they come in no order
	fmt.Println("ann:", clients)

	everyone := 0
	for range hub.Connections(tidings.Target{}) {
		everyone++
	}
	fmt.Println("everyone:", everyone)
	// Output:
	// ann: [laptop[] phone[news]]
	// everyone: 3
}

// A connection that was ended comes back by itself, unless the Authorizer refuses it.
func ExampleHub_Disconnect() {
	hub, err := tidings.New(&tidings.Options{Authorizer: tidings.TrustQuery{}})
	if err != nil {
		panic(err)
	}
	defer hub.Close()
	defer openTab(hub, "?userId=ann&sessionId=one").close()
	defer openTab(hub, "?userId=ann&sessionId=two").close()

	fmt.Println(hub.Disconnect(tidings.Target{SessionID: "one"}))

	_, err = hub.Disconnect(tidings.Target{})
	fmt.Println(errors.Is(err, tidings.ErrNoTarget))
	// Output:
	// 1 <nil>
	// true
}

// An authorizer says who a request is, by whatever the program already has: here, a header that a proxy in front sets.
func ExampleAuthorizerFunc() {
	authorize := func(r *http.Request, a tidings.Action) (tidings.Grant, error) {
		user := r.Header.Get("X-User")
		switch {
		case user == "":
			return tidings.Grant{}, &tidings.DeniedError{Unauthenticated: true, Reason: "log in first"}
		case a != tidings.Listen && user != "admin":
			return tidings.Grant{}, &tidings.DeniedError{Reason: "only admin may do that"}
		}
		return tidings.Grant{UserID: user, Topics: []string{"news", "orders." + user + ".*"}}, nil
	}
	hub, err := tidings.New(&tidings.Options{Authorizer: tidings.AuthorizerFunc(authorize)})
	if err != nil {
		panic(err)
	}
	defer hub.Close()
	server := httptest.NewServer(hub)
	defer server.Close()

	for _, try := range []struct{ user, query string }{
		{"", ""},
		{"ann", ""},
		{"ann", "?userId=ben"},
		{"ann", "?topic=orders.ann.17"},
		{"ann", "?topic=orders.ben.18"},
	} {
		r, err := http.NewRequest(http.MethodGet, server.URL+try.query, nil)
		if err != nil {
			panic(err)
		}
		r.Header.Set("X-User", try.user)
		res, err := server.Client().Do(r)
		if err != nil {
			panic(err)
		}
		res.Body.Close()
		fmt.Printf("%q %q: %s\n", try.user, try.query, res.Status)
	}
	// Output:
	// "" "": 401 Unauthorized
	// "ann" "": 200 OK
	// "ann" "?userId=ben": 403 Forbidden
	// "ann" "?topic=orders.ann.17": 200 OK
	// "ann" "?topic=orders.ben.18": 403 Forbidden
}

// A snapshot is what a connection begins with, and begins anew with after a gap. What is sent while it is made follows it.
func ExampleOptions_snapshot() {
	hub, err := tidings.New(&tidings.Options{
		Authorizer: tidings.TrustQuery{},
		Snapshot: func(_ context.Context, c tidings.Connection) ([]tidings.Event, error) {
			return []tidings.Event{{Type: "unread", Data: map[string]any{"user": c.UserID, "count": 3}}}, nil
		},
	})
	if err != nil {
		panic(err)
	}
	defer hub.Close()
	first := openTab(hub, "?userId=ann")
	defer first.close()
	stranger := openTab(hub, "?userId=ann&lastEventId=of-a-log-that-was-lost")
	defer stranger.close()

	receipt, err := hub.NotifyUser(context.Background(), "ann", "new-message", "hi")
	if err != nil {
		panic(err)
	}
	resumed := openTab(hub, "?userId=ann&lastEventId="+receipt.ID)
	defer resumed.close()
	first.print("a first connect")
	stranger.print("after a gap")
	resumed.print("a complete resume")
	// Output:
	// a first connect: unread {"count":3,"user":"ann"}
	// a first connect: new-message "hi"
	// after a gap: unread {"count":3,"user":"ann"}
	// after a gap: new-message "hi"
	// a complete resume: nothing
}

// A program that has no hub sends to one that has, over HTTP.
func ExampleNewRemote() {
	hub, err := tidings.New(&tidings.Options{Authorizer: tidings.TrustQuery{}})
	if err != nil {
		panic(err)
	}
	defer hub.Close()
	mux := http.NewServeMux()
	mux.Handle("/api/sse", hub)
	mux.Handle("/api/sse/", hub.API())
	server := httptest.NewServer(mux)
	defer server.Close()
	ann := openTab(hub, "?userId=ann")
	defer ann.close()

	remote, err := tidings.NewRemote(server.URL+"/api/sse", &tidings.RemoteOptions{
		Client: server.Client(), // only because server is a test's
		Header: http.Header{"Authorization": {"Bearer abc"}},
	})
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	receipt, err := remote.NotifyUser(ctx, "ann", "new-message", "hi")
	if err != nil {
		panic(err)
	}
	fmt.Println("matched:", receipt.Matched)
	ann.print("ann")

	// Errors match what a hub's own would.
	_, err = remote.NotifyUser(ctx, "ann", "large", strings.Repeat("x", 2<<20))
	fmt.Println(errors.Is(err, tidings.ErrTooLarge), errors.Is(err, tidings.ErrNotStored))
	// Output:
	// matched: 1
	// ann: new-message "hi"
	// true true
}

// recorder is the Sender of a test: it keeps what would have been sent.
type recorder struct{ events []tidings.Event }

func (r *recorder) Send(_ context.Context, e tidings.Event) (tidings.Receipt, error) {
	r.events = append(r.events, e)
	return tidings.Receipt{ID: "1"}, nil
}

// Code that sends takes a Notifier or a Sender. A program gives it a Hub's or a Remote's, and a test its own.
func ExampleNotifier() {
	greet := func(ctx context.Context, n tidings.Notifier, user string) error {
		_, err := n.NotifyUser(ctx, user, "greeting", "Hello!")
		return err
	}

	var kept recorder
	if err := greet(context.Background(), tidings.Notifier{Sender: &kept}, "ann"); err != nil {
		panic(err)
	}
	for _, e := range kept.events {
		fmt.Println(e.Target, e.Type, e.Data)
	}
	// Output:
	// userId=ann greeting Hello!
}

// An error says which part of the event can't be used, why, and what to do.
func ExampleInvalidError() {
	hub, err := tidings.New(nil)
	if err != nil {
		panic(err)
	}
	defer hub.Close()

	_, err = hub.Send(context.Background(), tidings.Event{
		Type:    "new-message",
		Targets: []tidings.Target{{UserID: "ann"}, {UserID: "ben\ndata: forged"}},
	})
	if invalid, ok := errors.AsType[*tidings.InvalidError](err); ok {
		fmt.Println("field: ", invalid.Field)
		fmt.Println("reason:", invalid.Reason)
		fmt.Println("hint:  ", invalid.Hint)
	}
	// Output:
	// field:  targets[1].userId
	// reason: holds a control character, U+000A, at byte 3
	// hint:   use letters, digits and punctuation that can be seen
}

// After ErrNotStored it is certain that nothing was sent. After any other error, send again with the same idempotency
// key.
func ExampleSender_notStored() {
	hub, err := tidings.New(nil)
	if err != nil {
		panic(err)
	}
	if err := hub.Close(); err != nil {
		panic(err)
	}

	_, err = hub.Broadcast(context.Background(), "system-announcement", "too late")
	fmt.Println(err)
	fmt.Println(errors.Is(err, tidings.ErrClosed), errors.Is(err, tidings.ErrNotStored))
	// Output:
	// tidings: send: the hub is closed (nothing was sent)
	// true true
}

// An exampleTab stands for the browser in these examples: one stream of a hub.
type exampleTab struct {
	hub    *tidings.Hub
	server *httptest.Server
	body   io.Closer
	events *sse.Decoder
}

// openTab opens a stream, and returns when it is registered and so counted in receipts.
func openTab(hub *tidings.Hub, query string) *exampleTab {
	server := httptest.NewServer(hub)
	res, err := server.Client().Get(server.URL + query)
	if err != nil {
		panic(err)
	}
	t := &exampleTab{hub, server, res.Body, sse.NewDecoder(res.Body, nil)}
	for event, err := range t.events.Events() {
		if err != nil {
			panic(err)
		}
		var connected struct{ ConnectionID string }
		if err := json.Unmarshal([]byte(event.Data), &connected); err != nil {
			panic(err)
		}
		for !t.registered(connected.ConnectionID) {
			time.Sleep(time.Millisecond)
		}
		break
	}
	return t
}

func (t *exampleTab) registered(connectionID string) bool {
	for range t.hub.Connections(tidings.Target{ClientID: connectionID}) {
		return true
	}
	return false
}

// print prints what has arrived since the last print, but for Tidings' own events.
func (t *exampleTab) print(who string) {
	// Events are in one order for everyone: what was sent before this one arrives before it.
	end, err := t.hub.Broadcast(context.Background(), "end", nil)
	if err != nil {
		panic(err)
	}
	printed := false
	for event, err := range t.events.Events() {
		switch {
		case err != nil:
			panic(err)
		case event.ID == end.ID:
			if !printed {
				fmt.Println(who + ": nothing")
			}
			return
		case event.Type == "end" || strings.HasPrefix(event.Type, tidings.ReservedPrefix):
			continue
		}
		fmt.Printf("%s: %s %s\n", who, event.Type, event.Data)
		printed = true
	}
	panic("the stream ended")
}

func (t *exampleTab) close() {
	t.body.Close()
	t.server.Close()
}
