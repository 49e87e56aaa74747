package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/sse"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	key    = []byte("a secret of thirty-two bytes ...")
	secret = "whsec_" + base64.StdEncoding.EncodeToString(key)
)

// A delivery is one request of a sender.
type delivery struct {
	id, timestamp, signature, body string
}

// deliver signs a body as the specification says, with nothing of the library that verifies it.
func deliver(id string, at time.Time, body string) delivery {
	t := strconv.FormatInt(at.Unix(), 10)
	return delivery{id, t, sign(key, id, t, body), body}
}

func sign(key []byte, id, timestamp, body string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + timestamp + "." + body))
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func (d delivery) request(t *testing.T, url string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/webhook", strings.NewReader(d.body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("webhook-id", d.id)
	r.Header.Set("webhook-timestamp", d.timestamp)
	r.Header.Set("webhook-signature", d.signature)
	return r
}

// A program is the whole of it, served.
type program struct {
	*httptest.Server
	hub *tidings.Hub
}

// serve runs the program; through, if not nil, stands between the receiver and the hub.
func serve(t *testing.T, through func(tidings.Sender) tidings.Sender) *program {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	hub, err := tidings.New(&tidings.Options{Authorizer: tidings.TrustQuery{}, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := newVerifier(secret)
	if err != nil {
		t.Fatal(err)
	}
	rc := &receiver{sender: hub, verifier: verifier, log: quiet}
	if through != nil {
		rc.sender = through(hub)
	}
	p := &program{httptest.NewServer(routes(hub, rc)), hub}
	t.Cleanup(p.Close)
	t.Cleanup(func() { _ = hub.Close() })
	return p
}

// status posts a webhook and returns the answer's status.
func (p *program) status(t *testing.T, d delivery) int {
	t.Helper()
	res, err := p.Client().Do(d.request(t, p.URL))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode
}

// listen opens a user's stream, and returns a function that returns the data of all events up to now.
func (p *program) listen(t *testing.T, user string) (received func() []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL+"/api/sse?userId="+user, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := p.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	events := sse.NewDecoder(res.Body, nil)
	for e, err := range events.Events() {
		if err != nil || e.Type != "tidings.connected" {
			t.Fatalf("the stream begins with %+v, %v", e, err)
		}
		break
	}
	return func() (got []string) {
		t.Helper()
		// Events are in one order for everyone: what was sent before this one has arrived before it.
		if _, err := p.hub.Broadcast(ctx, "end", nil); err != nil {
			t.Fatal(err)
		}
		for e, err := range events.Events() {
			if err != nil {
				t.Fatal(err)
			}
			if e.Type == "end" {
				return got
			}
			got = append(got, e.Type+" "+e.Data)
		}
		t.Fatal("the stream ended")
		return nil
	}
}

const (
	paid      = `{"userId":"ann","type":"invoice.paid","result":{"amount": 4200}}`
	paidEvent = `webhook-processed {"type":"invoice.paid","status":"completed","data":{"amount":4200}}`
)

func check(t *testing.T, who string, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s got %q, want %q", who, got, want)
	}
}

func TestAWebhookReachesItsUserAndNobodyElse(t *testing.T) {
	p := serve(t, nil)
	ann, tab, ben := p.listen(t, "ann"), p.listen(t, "ann"), p.listen(t, "ben")
	if got := p.status(t, deliver("msg_1", time.Now(), paid)); got != http.StatusNoContent {
		t.Fatalf("the webhook was answered %d", got)
	}
	check(t, "ann", ann(), paidEvent)
	check(t, "ann's other tab", tab(), paidEvent)
	check(t, "ben", ben())
}

func TestAWebhookThatIsRetriedArrivesOnce(t *testing.T) {
	p := serve(t, nil)
	ann := p.listen(t, "ann")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if got := p.status(t, deliver("msg_1", time.Now(), paid)); got != http.StatusNoContent {
				t.Errorf("one of several at once was answered %d", got)
			}
		})
	}
	wg.Wait()
	// A later try has a new timestamp and so another signature, and the same id.
	if got := p.status(t, deliver("msg_1", time.Now().Add(2*time.Second), paid)); got != http.StatusNoContent {
		t.Errorf("a later try was answered %d", got)
	}
	if got := p.status(t, deliver("msg_2", time.Now(), paid)); got != http.StatusNoContent {
		t.Errorf("another webhook was answered %d", got)
	}
	check(t, "ann", ann(), paidEvent, paidEvent)
}

func TestWhatIsRefusedSendsNothing(t *testing.T) {
	now := time.Now()
	good := deliver("msg_1", now, paid)
	with := func(change func(*delivery)) delivery {
		d := good
		change(&d)
		return d
	}
	body := func(s string) delivery { return deliver("msg_1", now, s) }
	for _, test := range []struct {
		name string
		delivery
		want int
	}{
		{"no signature", with(func(d *delivery) { d.signature = "" }), 401},
		{"no id", with(func(d *delivery) { d.id = "" }), 401},
		{"no timestamp", with(func(d *delivery) { d.timestamp = "" }), 401},
		{"another secret", with(func(d *delivery) { d.signature = sign([]byte("another"), d.id, d.timestamp, d.body) }), 401},
		{"an empty secret", with(func(d *delivery) { d.signature = sign(nil, d.id, d.timestamp, d.body) }), 401},
		{"another body", with(func(d *delivery) { d.body = strings.Replace(paid, "ann", "ben", 1) }), 401},
		{"another id", with(func(d *delivery) { d.id = "msg_2" }), 401},
		{"another timestamp", with(func(d *delivery) { d.timestamp = strconv.FormatInt(now.Unix()+1, 10) }), 401},
		{"a version that is not ours", with(func(d *delivery) { d.signature = strings.Replace(d.signature, "v1,", "v1a,", 1) }), 401},
		{"a signature cut short", with(func(d *delivery) { d.signature = d.signature[:len(d.signature)-2] }), 401},
		{"a signature without its version", with(func(d *delivery) { d.signature = strings.TrimPrefix(d.signature, "v1,") }), 401},
		{"a timestamp that is no number", with(func(d *delivery) {
			d.timestamp = "now"
			d.signature = sign(key, d.id, d.timestamp, d.body)
		}), 401},
		{"a timestamp of six minutes ago", deliver("msg_1", now.Add(-6*time.Minute), paid), 401},
		{"a timestamp in six minutes", deliver("msg_1", now.Add(6*time.Minute), paid), 401},
		{"unsigned and malformed", with(func(d *delivery) { d.body = "{" }), 401},
		{"no body", body(""), 400},
		{"half a body", body(paid[:20]), 400},
		{"not an object", body(`[]`), 400},
		{"null", body(`null`), 400},
		{"something after it", body(paid + "{}"), 400},
		{"no userId", body(`{"type":"invoice.paid"}`), 400},
		{"an empty userId", body(`{"userId":"","type":"invoice.paid"}`), 400},
		{"a userId that forges a line", body(`{"userId":"ann\nben","type":"invoice.paid"}`), 400},
		{"no type", body(`{"userId":"ann"}`), 400},
		{"an id too long for a key", deliver(strings.Repeat("m", 300), now, paid), 400},
		{"a body too large", body(`{"userId":"ann","type":"` + strings.Repeat("x", maxBody) + `"}`), 413},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := serve(t, nil)
			ann, ben := p.listen(t, "ann"), p.listen(t, "ben")
			if got := p.status(t, test.delivery); got != test.want {
				t.Errorf("answered %d, want %d", got, test.want)
			}
			check(t, "ann", ann())
			check(t, "ben", ben())
		})
	}
}

func TestABodyOfUnknownLengthIsBounded(t *testing.T) {
	p := serve(t, nil)
	d := deliver("msg_1", time.Now(), strings.Repeat(" ", maxBody)+paid)
	r := d.request(t, p.URL)
	r.ContentLength = -1
	res, err := p.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("answered %d, want 413", res.StatusCode)
	}
}

func TestOneGoodSignatureOfSeveralIsEnough(t *testing.T) {
	p := serve(t, nil)
	ann := p.listen(t, "ann")
	d := deliver("msg_1", time.Now(), paid) // of a sender that changes its secret, and signs with both for a while
	d.signature = sign([]byte("the old secret"), d.id, d.timestamp, d.body) + " v1a,b2xk " + d.signature
	if got := p.status(t, d); got != http.StatusNoContent {
		t.Errorf("answered %d", got)
	}
	check(t, "ann", ann(), paidEvent)
}

func TestAnIDWithAnotherBodyIsAConflict(t *testing.T) {
	p := serve(t, nil)
	ann := p.listen(t, "ann")
	p.status(t, deliver("msg_1", time.Now(), paid))
	if got := p.status(t, deliver("msg_1", time.Now(), strings.Replace(paid, "4200", "1", 1))); got != http.StatusConflict {
		t.Errorf("answered %d, want 409", got)
	}
	check(t, "ann", ann(), paidEvent)
}

func TestOnlyPostIsAllowed(t *testing.T) {
	p := serve(t, nil)
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
		r := deliver("msg_1", time.Now(), paid).request(t, p.URL)
		r.Method = method
		res, err := p.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusMethodNotAllowed || res.Header.Get("Allow") != http.MethodPost {
			t.Errorf("%s was answered %d with Allow %q", method, res.StatusCode, res.Header.Get("Allow"))
		}
	}
}

// senderFunc is a function that is a Sender.
type senderFunc func(context.Context, tidings.Event) (tidings.Receipt, error)

func (f senderFunc) Send(ctx context.Context, e tidings.Event) (tidings.Receipt, error) {
	return f(ctx, e)
}

func TestAWebhookThatCouldNotBeSentIsSentByItsRetry(t *testing.T) {
	for _, test := range []struct {
		name   string
		stored bool // by the try that failed
	}{{"nothing was stored", false}, {"the answer was lost", true}} {
		t.Run(test.name, func(t *testing.T) {
			broken := true
			p := serve(t, func(s tidings.Sender) tidings.Sender {
				return senderFunc(func(ctx context.Context, e tidings.Event) (receipt tidings.Receipt, err error) {
					if test.stored || !broken {
						receipt, err = s.Send(ctx, e)
					}
					if broken {
						return tidings.Receipt{}, tidings.ErrUnavailable
					}
					return receipt, err
				})
			})
			ann := p.listen(t, "ann")
			if got := p.status(t, deliver("msg_1", time.Now(), paid)); got != http.StatusServiceUnavailable {
				t.Errorf("the first try was answered %d, want 503", got)
			}
			broken = false
			if got := p.status(t, deliver("msg_1", time.Now(), paid)); got != http.StatusNoContent {
				t.Errorf("the retry was answered %d, want 204", got)
			}
			check(t, "ann", ann(), paidEvent)
		})
	}
}

func TestAClosedHubAnswers503(t *testing.T) {
	p := serve(t, nil)
	if err := p.hub.Close(); err != nil {
		t.Fatal(err)
	}
	if got := p.status(t, deliver("msg_1", time.Now(), paid)); got != http.StatusServiceUnavailable {
		t.Errorf("answered %d, want 503", got)
	}
}

func TestASecretThatCantBeOneIsRefused(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	stop() // if one were taken, the program would not serve
	for _, test := range []struct{ secret, want string }{
		{"", "WEBHOOK_SECRET is not set"},
		{"whsec_", "0 bytes"},
		{"whsec_c2hvcnQ=", "5 bytes"},
		{"whsec_not base64", "base64"},
		{"whsec_" + strings.Repeat("AAAA", 22), "66 bytes"},
	} {
		err := run(ctx, []string{"-addr", "127.0.0.1:0"}, test.secret, io.Discard)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("with %q: %v", test.secret, err)
		}
	}
}

func TestTheProgramServesUntilItIsStopped(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out, w := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, []string{"-addr", "127.0.0.1:0"}, secret, w) }()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(line, "http://")
	addr, _, _ := strings.Cut(rest, "/")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(deliver("msg_1", time.Now(), paid).request(t, "http://"+addr))
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusNoContent {
		t.Errorf("the webhook was answered %d", res.StatusCode)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestSignPrintsACommandThatAShellReadsBack(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("SKIPPED: there is no sh to read the command with")
	}
	var command bytes.Buffer
	const payload = `{"userId":"o'neill","type":"$(x)","result":"\\ \" é"}`
	if err := run(t.Context(), []string{"-sign", payload}, secret, &command); err != nil {
		t.Fatal(err)
	}
	// A curl that prints its arguments, each with a NUL after it.
	printed, err := exec.CommandContext(t.Context(), sh, "-c", `curl() { printf '%s\0' "$@"; }`+"\n"+command.String()).Output()
	if err != nil {
		t.Fatal(err)
	}
	args := strings.Split(strings.TrimSuffix(string(printed), "\x00"), "\x00")
	if len(args) != 12 || args[1] != "http://127.0.0.1:8081/webhook" {
		t.Fatalf("the command's arguments are %q", args)
	}
	header := func(i int) string {
		_, value, _ := strings.Cut(args[i], ": ")
		return value
	}
	d := delivery{id: header(5), timestamp: header(7), signature: header(9), body: args[11]}
	if d.body != payload {
		t.Errorf("the body is %q, want %q", d.body, payload)
	}
	if want := sign(key, d.id, d.timestamp, d.body); d.signature != want {
		t.Errorf("the signature is %q, want %q", d.signature, want)
	}
	p := serve(t, nil)
	ann := p.listen(t, "o%27neill")
	if got := p.status(t, d); got != http.StatusNoContent {
		t.Errorf("answered %d", got)
	}
	check(t, "o'neill", ann(), `webhook-processed {"type":"$(x)","status":"completed","data":"\\ \" é"}`)
}
