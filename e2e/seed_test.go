package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/tidings-sse/tidings/sse"
)

// The seed's examples, as they are written there, against the program as it is started there.

func TestTheSeedsExamplesWorkAsWritten(t *testing.T) {
	p := run(t)
	base := "http://" + p.addr

	mine := open(t, base+"/api/sse?clientId=my-client-id")
	whole := open(t, base+"/api/sse?clientId=client_123&userId=user_456&sessionId=session_789")
	otherSession := open(t, base+"/api/sse?clientId=client_456&userId=user_456&sessionId=session_2")
	user123 := open(t, base+"/api/sse?userId=user123")
	client456 := open(t, base+"/api/sse?clientId=client456")
	nobody := open(t, base+"/api/sse")
	all := []*reader{mine, whole, otherSession, user123, client456, nobody}

	eventually(t, "all are online", func() bool {
		var online struct{ Connections []struct{} }
		res := get(t, base+"/api/sse/connections")
		if err := json.NewDecoder(res.Body).Decode(&online); err != nil {
			t.Fatal(err)
		}
		return len(online.Connections) == len(all)
	})

	for _, example := range []struct {
		name string
		body string
		typ  string
		data string
		for_ []*reader
	}{
		{
			name: "send, as the endpoint is documented",
			body: `{
  "type": "notification",
  "data": { "message": "Hello!" },
  "target": {
    "clientId": "client_123",
    "userId": "user_456",
    "sessionId": "session_789"
  }
}`,
			typ: "notification", data: `{"message":"Hello!"}`, for_: []*reader{whole},
		},
		{
			name: "to the client of the front end's example",
			body: `{"type": "notification", "data": {"message": "Hello!"}, "target": {"clientId": "my-client-id"}}`,
			typ:  "notification", data: `{"message":"Hello!"}`, for_: []*reader{mine},
		},
		{
			name: "to a user",
			body: `{"type": "new-message", "data": {"message": "You have a new message!", "timestamp": "2026-01-02T03:04:05.678Z"}, "target": {"userId": "user123"}}`,
			typ:  "new-message", data: `{"message":"You have a new message!","timestamp":"2026-01-02T03:04:05.678Z"}`, for_: []*reader{user123},
		},
		{
			name: "to a user with two connections",
			body: `{"type": "webhook-processed", "data": {"type": "invoice.paid", "status": "completed", "data": {"id": 7}}, "target": {"userId": "user_456"}}`,
			typ:  "webhook-processed", data: `{"type":"invoice.paid","status":"completed","data":{"id":7}}`, for_: []*reader{whole, otherSession},
		},
		{
			name: "to a session",
			body: `{"type": "notification", "data": {"message": "Hello!"}, "target": {"sessionId": "session_2"}}`,
			typ:  "notification", data: `{"message":"Hello!"}`, for_: []*reader{otherSession},
		},
		{
			name: "to a client",
			body: `{"type": "status-update", "data": {"status": "processing", "progress": 75}, "target": {"clientId": "client456"}}`,
			typ:  "status-update", data: `{"status":"processing","progress":75}`, for_: []*reader{client456},
		},
		{
			name: "to everyone",
			body: `{"type": "system-announcement", "data": {"message": "System maintenance in 5 minutes"}}`,
			typ:  "system-announcement", data: `{"message":"System maintenance in 5 minutes"}`, for_: all,
		},
	} {
		receipt := post(t, base+"/api/sse/send", example.body)
		if receipt.Matched != len(example.for_) || receipt.ID == "" {
			t.Errorf("%s: the receipt is %+v, want %d matched", example.name, receipt, len(example.for_))
		}
		for _, r := range example.for_ {
			r.want = append(r.want, sse.Event{Type: example.typ, Data: example.data, ID: receipt.ID})
		}
	}

	// Each has got exactly what was for it: the broadcast came last, so nothing more is on its way.
	for _, r := range all {
		for _, want := range r.want {
			if got := r.next(t); got != want {
				t.Errorf("%s got %+v, want %+v", r.url, got, want)
			}
		}
	}

	for _, page := range []string{"/sse-demo", "/healthz"} {
		res := get(t, base+page)
		if res.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", page, res.Status)
		}
	}
}

// reader is a stream that is read by curl -N, where there is one.
type reader struct {
	url    string
	events chan sse.Event // unbuffered: its goroutine ends with the test
	want   []sse.Event
}

// open connects, and returns when the stream has begun.
func open(t *testing.T, url string) *reader {
	t.Helper()
	r := &reader{url: url, events: make(chan sse.Event)}
	body := curl(t, url)
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for e, err := range sse.NewDecoder(body, nil).Events() {
			if err != nil {
				return
			}
			select {
			case r.events <- e:
			case <-over:
				return
			}
		}
	}()
	t.Cleanup(func() {
		close(over)
		_ = body.Close()
		<-ended
	})
	if e := r.next(t); e.Type != "tidings.connected" || !strings.Contains(e.Data, `"resume":"none"`) {
		t.Fatalf("%s began with %+v", url, e)
	}
	return r
}

func (r *reader) next(t *testing.T) (e sse.Event) {
	t.Helper()
	select {
	case e = <-r.events:
	case <-time.After(within):
		t.Fatalf("%s: nothing came within %v", r.url, within)
	}
	return e
}

// curl returns what "curl -N" prints. Without curl, it is read with net/http.
func curl(t *testing.T, url string) io.ReadCloser {
	t.Helper()
	path, err := exec.LookPath("curl")
	if err != nil {
		t.Log("curl is not on PATH: reading with net/http instead")
		return get(t, url).Body
	}
	cmd := exec.Command(path, "-sN", url)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &command{out, cmd}
}

// command is a process whose output is read until it is closed, which ends it.
type command struct {
	io.ReadCloser
	cmd *exec.Cmd
}

func (c *command) Close() error {
	_ = c.cmd.Process.Kill()
	_ = c.ReadCloser.Close()
	_ = c.cmd.Wait() // it was killed
	return nil
}

// get asks for a URL. The answer is closed with the test.
func get(t *testing.T, url string) *http.Response {
	t.Helper()
	transport := &http.Transport{}
	res, err := (&http.Client{Transport: transport}).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = res.Body.Close()
		transport.CloseIdleConnections()
	})
	return res
}

type receipt struct {
	ID      string
	Matched int
	Scope   string
}

// post sends JSON and returns the receipt.
func post(t *testing.T, url, body string) (r receipt) {
	t.Helper()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	res, err := (&http.Client{Transport: transport}).Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", res.Status, answer, err)
	}
	if err := json.Unmarshal(answer, &r); err != nil {
		t.Fatalf("%s: %v", answer, err)
	}
	return r
}
