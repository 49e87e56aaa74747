package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidings-sse/tidings/sse"
)

// Who listens.
const (
	soakTopics = 40
	soakEager  = 25 // listeners to all topics
)

func soakTopic(i int) string { return "topic-" + strconv.Itoa(i) }

// listener is a client of the soak: it connects, is cut, stays away for a while, and resumes.
type listener struct {
	soak   *soak
	who    identity
	joined chan struct{} // closed when its first stream has begun
	ended  chan struct{} // closed when it has the last event
	gone   chan struct{} // closed when it listens no more
	owed   atomic.Int64  // events that were sent and that it must get, by the model

	// Owned by the goroutine of run.
	random  *rand.Rand
	cursor  string
	streams int
	got     []int           // numbers of the events it has, in their order
	ids     map[string]bool // and their ids
	fault   error           // the first thing that should not have happened

	mu           sync.Mutex // guards what follows
	conn         *tearable  // nil while it is away
	connectionID string     // of its stream; empty until that has begun
	armed        bool       // the stream is to be torn
}

func newListener(s *soak, i int, random *rand.Rand) *listener {
	l := &listener{soak: s, joined: make(chan struct{}), ended: make(chan struct{}), gone: make(chan struct{}), random: s.random(1000 + uint64(i)), ids: make(map[string]bool)}
	// Each tenth shares its clientId with the one before, as two tabs may, and each eleventh has none.
	l.who.clientID = "client-" + strconv.Itoa(i)
	switch {
	case i%10 == 0 && i > 0:
		l.who.clientID = "client-" + strconv.Itoa(i-1)
	case i%11 == 0:
		l.who.clientID = ""
	}
	l.who.userID = "user-" + strconv.Itoa(i/5)
	if i%3 > 0 {
		l.who.sessionID = "session-" + strconv.Itoa(i/2)
	}
	for n := range soakTopics {
		if i < soakEager || random.IntN(soakTopics) == 0 {
			l.who.topics = append(l.who.topics, soakTopic(n))
		}
	}
	return l
}

// run listens until its stream is ended when all is there, or ctx ends, which cuts it.
func (l *listener) run(ctx context.Context) {
	defer close(l.gone)
	for l.fault == nil {
		l.listen(ctx)
		select {
		case <-ctx.Done():
			return
		case <-l.soak.leaving:
			return
		default:
		}
		timer := time.NewTimer(time.Duration(l.random.Int64N(int64(soakMostAway))))
		select {
		case <-timer.C:
		case <-l.soak.over:
		}
		timer.Stop()
	}
}

// listen has one stream, from its request to its end.
func (l *listener) listen(ctx context.Context) {
	conn, err := l.dial(ctx)
	if err != nil {
		if ctx.Err() == nil {
			l.failed(err)
		}
		return
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	missed := int(l.owed.Load()) - len(l.got)
	if l.streams > 0 {
		l.soak.resumes.Add(1)
		l.soak.missed.Add(int64(missed))
	}
	had := len(l.got)
	err = l.read(conn)
	l.mu.Lock()
	wasTorn := conn.torn.Load()
	l.conn, l.connectionID, l.armed = nil, "", false
	l.mu.Unlock()
	_ = conn.Close()
	switch {
	case wasTorn && l.streams > 0 && len(l.got) < had+missed:
		l.soak.cuts[cutReplay].Add(1)
	case wasTorn:
		l.soak.cuts[cutTorn].Add(1)
	}
	l.streams++
	if err != nil {
		l.failed(err)
	}
}

func (l *listener) failed(err error) {
	if l.fault == nil {
		l.fault = err
		l.soak.t.Errorf("%v, stream %d: %v", l.who, l.streams, err)
	}
}

// dial connects. One in three that come back is armed to be torn early, so that it is in the middle of its replay, or
// of the head of the response.
func (l *listener) dial(ctx context.Context) (*tearable, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", l.soak.srv.addr)
	if err != nil {
		return nil, err
	}
	conn := &tearable{TCPConn: c.(*net.TCPConn)}
	conn.left.Store(whole)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn = conn
	if l.streams > 0 && l.random.IntN(3) == 0 {
		select {
		case <-l.soak.over:
		default:
			l.armed = true
			conn.left.Store(l.random.Int64N(3000))
		}
	}
	return conn, nil
}

// read sends the request and takes the events of its response until the stream ends, in whichever way. The error is for
// what should not have happened.
func (l *listener) read(conn *tearable) error {
	q := url.Values{"userId": {l.who.userID}, "topic": l.who.topics}
	if l.who.clientID != "" {
		q.Set("clientId", l.who.clientID)
	}
	if l.who.sessionID != "" {
		q.Set("sessionId", l.who.sessionID)
	}
	header := ""
	if l.cursor != "" {
		if l.random.IntN(2) == 0 {
			q.Set("lastEventId", l.cursor)
		} else {
			header = "Last-Event-ID: " + l.cursor + "\r\n"
		}
	}
	_, err := fmt.Fprintf(conn, "GET /api/sse?%s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n%s\r\n", q.Encode(), l.soak.srv.addr, header)
	if err != nil {
		return nil // cut already
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return nil
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != sse.ContentType {
		body, _ := io.ReadAll(res.Body)
		return fmt.Errorf("the answer is %s: %s", res.Status, body)
	}
	dec := sse.NewDecoder(res.Body, &sse.DecoderOptions{LastEventID: l.cursor})
	for e, err := range dec.Events() {
		if err != nil {
			return nil
		}
		if err := l.take(e); err != nil {
			return err
		}
		l.cursor = dec.LastEventID()
	}
	return errors.New("the stream ended as if it were complete, which stops some clients for ever")
}

// take takes one event.
func (l *listener) take(e sse.Event) error {
	switch e.Type {
	case "tidings.connected":
		return l.begun(e)
	case "tidings.checkpoint", "tidings.disconnected":
		return nil
	case soakMarker:
		select {
		case <-l.ended:
			return errors.New("it got the last event twice")
		default:
			close(l.ended)
		}
		return nil
	}
	n, err := numberIn(e.Data)
	if err != nil {
		return fmt.Errorf("it got %s %.60q: %w", e.Type, e.Data, err)
	}
	l.soak.mu.Lock()
	var sent *planned
	if n < len(l.soak.sent) {
		sent = l.soak.sent[n]
	}
	l.soak.mu.Unlock()
	switch {
	case sent == nil || sent.typ != e.Type || sent.data != e.Data:
		return fmt.Errorf("it got %s %.60q, which is not what was sent", e.Type, e.Data)
	case e.ID == "" || l.ids[e.ID]:
		return fmt.Errorf("event %d has the id %q, which is none, or another event's", n, e.ID)
	}
	l.ids[e.ID] = true
	l.got = append(l.got, n)
	return nil
}

// begun takes tidings.connected.
func (l *listener) begun(e sse.Event) error {
	var c struct{ ClientID, ConnectionID, Resume string }
	if err := json.Unmarshal([]byte(e.Data), &c); err != nil {
		return err
	}
	want := "complete"
	if l.cursor == "" {
		want = "none"
	}
	if c.Resume != want || c.ConnectionID == "" || l.who.clientID != "" && c.ClientID != l.who.clientID {
		return fmt.Errorf("it was told %s, and expected resume %q", e.Data, want)
	}
	l.mu.Lock()
	l.connectionID = c.ConnectionID
	l.mu.Unlock()
	if l.streams == 0 {
		close(l.joined)
	}
	return nil
}

// cut cuts the listener's stream, if it has one that is not being cut already.
func (l *listener) cut(kind cutKind, random *rand.Rand) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil || l.armed || l.connectionID == "" {
		return false
	}
	switch kind {
	case cutClosed:
		_ = l.conn.Close()
	case cutReset:
		_ = l.conn.SetLinger(0)
		_ = l.conn.Close()
	case cutTorn:
		l.armed = true
		l.conn.left.Store(random.Int64N(400))
		return true // counted when it happens
	case cutByServer:
		n, err := l.soak.disconnect(l.connectionID, random.IntN(2) == 0)
		if err != nil || n > 1 {
			l.soak.t.Errorf("disconnecting %v ended %d connections: %v", l.who, n, err)
		}
		if n == 0 {
			return false
		}
		l.armed = true
	}
	l.soak.cuts[kind].Add(1)
	return true
}

// compare holds what the listener got against what it must have got, and says where they part.
func (l *listener) compare(want []*planned) string {
	for i := range max(len(l.got), len(want)) {
		got, wanted := "nothing", "nothing"
		if i < len(l.got) {
			got = "event " + strconv.Itoa(l.got[i])
		}
		if i < len(want) {
			wanted = "event " + strconv.Itoa(want[i].number)
		}
		if got != wanted {
			return fmt.Sprintf("%v got %d events of %d, in %d streams: as number %d it got %s instead of %s", l.who, len(l.got), len(want), l.streams, i, got, wanted)
		}
	}
	return ""
}

// whole is how much a tearable connection reads that is not to be torn.
const whole = -1

// tearable is a client's connection that can be made to read only so much more.
type tearable struct {
	*net.TCPConn
	left atomic.Int64 // bytes; whole is all
	torn atomic.Bool
}

var errTorn = errors.New("torn by the test")

func (c *tearable) Read(p []byte) (int, error) {
	if c.torn.Load() {
		return 0, errTorn
	}
	n, err := c.TCPConn.Read(p)
	for {
		left := c.left.Load()
		if left == whole {
			return n, err
		}
		if int64(n) < left {
			if c.left.CompareAndSwap(left, left-int64(n)) {
				return n, err
			}
			continue
		}
		c.torn.Store(true)
		return int(left), errTorn
	}
}
