package tidings_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/internal/memnet"
	"github.com/tidings-sse/tidings/sse"
)

// A joinSite is a hub behind an http.Server, in memory or on a socket.
type joinSite struct {
	hub  *tidings.Hub
	dial func() (net.Conn, error)
}

func joinHub(t testing.TB, o tidings.Options) *tidings.Hub {
	t.Helper()
	if o.Authorizer == nil {
		o.Authorizer = tidings.TrustQuery{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	hub, err := tidings.New(&o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := hub.Close(); err != nil {
			t.Error(err)
		}
	})
	return hub
}

// joinServe serves a hub in memory.
func joinServe(t testing.TB, o tidings.Options) *joinSite {
	t.Helper()
	l := memnet.Listen(64 << 10)
	srv := &http.Server{}
	served := make(chan error)
	t.Cleanup(func() {
		_ = srv.Close()
		<-served
	})
	srv.Handler = joinHub(t, o)
	go func() { served <- srv.Serve(l) }()
	return &joinSite{srv.Handler.(*tidings.Hub), func() (net.Conn, error) { return l.Dial(context.Background()) }}
}

// joinServeTCP serves a hub on a socket.
func joinServeTCP(t testing.TB, o tidings.Options) *joinSite {
	t.Helper()
	srv := httptest.NewUnstartedServer(nil)
	t.Cleanup(func() { srv.Close() })
	hub := joinHub(t, o)
	srv.Config.Handler = hub
	srv.Start()
	return &joinSite{hub, func() (net.Conn, error) { return net.Dial("tcp", srv.Listener.Addr().String()) }}
}

// to sends numbered text to a target; the zero one is everyone.
func (s *joinSite) to(t testing.TB, target tidings.Target, text string) tidings.Receipt {
	t.Helper()
	return joinSend(t, s.hub, tidings.Event{Type: "n", Data: tidings.Text(text), Target: target, Everyone: target.IsZero()})
}

func joinSend(t testing.TB, hub *tidings.Hub, e tidings.Event) tidings.Receipt {
	t.Helper()
	r, err := hub.Send(t.Context(), e)
	if err != nil {
		t.Fatalf("send %v: %v", e.Data, err)
	}
	return r
}

func user(id string) tidings.Target { return tidings.Target{UserID: id} }

// A tab is a browser's page: it keeps its cursor and what it was sent, over any number of streams. It fails the test
// when an event comes twice or out of order.
type tab struct {
	t     testing.TB
	site  *joinSite
	query url.Values

	cursor string           // what it comes back with
	newest tidings.Position // of the ids it has seen
	got    []string         // data of the events, without those of Tidings itself

	resume      string   // what the last stream began with; "unavailable" when it was refused
	reason      string   // of the refusal, or of the end
	gaps        []string // reasons
	checkpoints int

	conn net.Conn
	dec  *sse.Decoder
}

// tab returns a page with a query's identity: "userId=u&topic=t".
func (s *joinSite) tab(t testing.TB, query string) *tab {
	q, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	tb := &tab{t: t, site: s, query: q}
	t.Cleanup(tb.cut)
	return tb
}

// from sets the cursor.
func (tb *tab) from(cursor string) *tab {
	tb.cursor = cursor
	if _, p, _, err := tidings.ParseCursor(cursor); err == nil {
		tb.newest = p
	}
	return tb
}

// request connects and asks for the stream.
func (tb *tab) request() {
	tb.t.Helper()
	conn, err := tb.site.dial()
	if err != nil {
		tb.t.Fatal(err)
	}
	tb.conn = conn
	_ = conn.SetDeadline(time.Now().Add(time.Hour))
	req := "GET /?" + tb.query.Encode() + " HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n"
	if tb.cursor != "" {
		req += "Last-Event-ID: " + tb.cursor + "\r\n"
	}
	if _, err := io.WriteString(conn, req+"\r\n"); err != nil {
		tb.t.Fatal(err)
	}
}

// begin reads the head of the response.
func (tb *tab) begin(r io.Reader) error {
	resp, err := http.ReadResponse(bufio.NewReader(r), nil)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("%s: %s", resp.Status, b)
	}
	tb.dec = sse.NewDecoder(resp.Body, &sse.DecoderOptions{LastEventID: tb.cursor})
	return nil
}

// open begins a stream, reads how it begins, and says so: "none", "complete", "gap" or "unavailable".
func (tb *tab) open() string {
	tb.t.Helper()
	tb.resume = ""
	tb.request()
	if err := tb.begin(tb.conn); err != nil {
		tb.t.Fatal(err)
	}
	for tb.resume == "" {
		tb.read()
	}
	if tb.resume == "gap" && tb.site.snapshotless() {
		if e := tb.read(); e.Type != "tidings.gap" {
			tb.t.Fatalf("after the announcement of a gap comes %+v", e)
		}
	}
	return tb.resume
}

func (s *joinSite) snapshotless() bool { return !tidings.HasSnapshot(s.hub) }

// cut ends the connection.
func (tb *tab) cut() {
	if tb.conn != nil {
		_ = tb.conn.Close()
		tb.conn = nil
	}
}

// again is a reconnect.
func (tb *tab) again() string {
	tb.t.Helper()
	tb.cut()
	return tb.open()
}

// read returns the next event, which must come.
func (tb *tab) read() sse.Event {
	tb.t.Helper()
	e, err := tb.next()
	if err != nil {
		tb.t.Fatalf("the stream ended after %d events: %v", len(tb.got), err)
	}
	return e
}

// next takes the next event.
func (tb *tab) next() (sse.Event, error) {
	tb.t.Helper()
	for e, err := range tb.dec.Events() {
		if err != nil {
			return e, err
		}
		tb.take(e)
		return e, nil
	}
	return sse.Event{}, io.EOF
}

func (tb *tab) take(e sse.Event) {
	tb.t.Helper()
	var data struct{ Resume, Reason string }
	ours := strings.HasPrefix(e.Type, tidings.ReservedPrefix)
	if ours {
		if err := json.Unmarshal([]byte(e.Data), &data); err != nil {
			tb.t.Errorf("%+v: %v", e, err)
		}
	}
	switch e.Type {
	case "tidings.connected":
		tb.resume = data.Resume
	case "tidings.unavailable":
		tb.resume, tb.reason = "unavailable", data.Reason
	case "tidings.disconnected":
		tb.reason = data.Reason
	case "tidings.gap":
		tb.gaps = append(tb.gaps, data.Reason)
		tb.newest = tidings.Position{} // another log's positions may be smaller
	case "tidings.checkpoint":
		tb.checkpoints++
	default:
		tb.got = append(tb.got, e.Data)
	}
	if e.ID != "" {
		_, p, _, err := tidings.ParseCursor(e.ID)
		if err != nil {
			tb.t.Errorf("%+v: %v", e, err)
		}
		if c := p.Compare(tb.newest); c < 0 || c == 0 && !ours {
			tb.t.Errorf("%+v comes after the id %v: twice, or out of order", e, tb.newest)
		}
		tb.newest = p
	}
	tb.cursor = tb.dec.LastEventID()
}

// until reads up to the event with the text.
func (tb *tab) until(text string) *tab {
	tb.t.Helper()
	for tb.read().Data != text {
	}
	return tb
}

// wants compares what it was sent in all.
func (tb *tab) wants(texts ...string) {
	tb.t.Helper()
	if !slices.Equal(tb.got, texts) {
		tb.t.Errorf("%v got %q, want %q", tb.query, tb.got, texts)
	}
}

// A rigged broker is a real one with a hand on its calls. Each hook may be nil.
type rigged struct {
	tidings.Broker
	append  func(ctx context.Context, rs []tidings.Record) ([]tidings.Appended, error)
	tail    func(ctx context.Context, after tidings.Position, deliver func([]tidings.Record) error) error
	deliver func(ctx context.Context, rs []tidings.Record) error // before each delivery
	read    func(from, to tidings.Position)
	state   func(*tidings.State) error
}

func (b *rigged) Append(ctx context.Context, rs []tidings.Record) ([]tidings.Appended, error) {
	if b.append != nil {
		return b.append(ctx, rs)
	}
	return b.Broker.Append(ctx, rs)
}

func (b *rigged) Tail(ctx context.Context, after tidings.Position, deliver func([]tidings.Record) error) error {
	f := deliver
	if b.deliver != nil {
		f = func(rs []tidings.Record) error {
			if err := b.deliver(ctx, rs); err != nil {
				return err
			}
			return deliver(rs)
		}
	}
	if b.tail != nil {
		return b.tail(ctx, after, f)
	}
	return b.Broker.Tail(ctx, after, f)
}

func (b *rigged) Read(ctx context.Context, from, to tidings.Position) iter.Seq2[tidings.Record, error] {
	if b.read != nil {
		b.read(from, to)
	}
	return b.Broker.Read(ctx, from, to)
}

func (b *rigged) State(ctx context.Context) (tidings.State, error) {
	st, err := b.Broker.State(ctx)
	if err == nil && b.state != nil {
		err = b.state(&st)
	}
	return st, err
}

// A valve holds a tail up.
type valve struct{ open atomic.Pointer[chan struct{}] }

// shut holds up what comes from now on.
func (v *valve) shut() { v.open.Store(new(make(chan struct{}))) }

// release lets everything through again.
func (v *valve) release() {
	if c := v.open.Swap(nil); c != nil {
		close(*c)
	}
}

func (v *valve) deliver(ctx context.Context, _ []tidings.Record) error {
	c := v.open.Load()
	if c == nil {
		return nil
	}
	select {
	case <-*c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// numbered returns "1" to "n".
func numbered(from, to int) []string {
	var s []string
	for n := from; n <= to; n++ {
		s = append(s, strconv.Itoa(n))
	}
	return s
}

// park has the server write until the connection takes no more, so that what is sent from now on is queued. The page
// must have a clientId.
func (tb *tab) park() {
	tb.t.Helper()
	for n := 0; n < 3; n++ {
		joinSend(tb.t, tb.site.hub, tidings.Event{Type: "filler", Data: tidings.Text(strings.Repeat("x", 40_000)), Target: tidings.Target{ClientID: tb.query.Get("clientId")}})
	}
	synctest.Wait()
}

// unpark reads what park has sent, and forgets it.
func (tb *tab) unpark() *tab {
	tb.t.Helper()
	for n := 0; n < 3; {
		if tb.read().Type == "filler" {
			n++
		}
	}
	tb.got = nil
	return tb
}
