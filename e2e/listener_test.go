package e2e

import (
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

	soakCrowd = "crowd" // a topic of hundreds, some of whom come and go all the time
	soakHeavy = "heavy" // a topic of few, with large events

	soakForgotten = "1zz-0.0-0" // a cursor of another log

	soakMostBehind = 5 * time.Second // how late a slow listener may be and still stop reading
)

// How some listeners are.
const (
	soakSlow      = 8  // stop reading for a while, again and again; all are in the heavy topic
	soakFleeting  = 40 // come and go all the time; all are in the crowd
	soakForgetful = 10 // come back with a cursor of another log at times, and so with a gap
)

func soakTopic(i int) string { return "topic-" + strconv.Itoa(i) }

// listener is a client of the soak: it connects, is cut, stays away for a while, and resumes.
type listener struct {
	soak                      *soak
	who                       identity
	kind                      soakKind
	slow, fleeting, forgetful bool
	joined                    chan struct{} // closed when its first stream has begun
	ended                     chan struct{} // closed when it has the last event
	gone                      chan struct{} // closed when it listens no more
	owed                      atomic.Int64  // events that were sent and that it must get, by the model

	// Owned by the goroutine of run.
	random    *rand.Rand
	cursor    string
	streams   int
	hasJoined bool      // joined is closed
	got       []arrival // the events it has, in their order
	certain   int       // how many of them every listener gets
	behind    bool      // what it got last is old: it must not get so late that a replay would be more than MaxReplayBytes
	gaps      []gap
	leaves    *time.Timer     // ends its stream, if it is fleeting
	began     time.Time       // its stream: when it was dialed
	ids       map[string]bool // and their ids
	fault     error           // the first thing that should not have happened

	mu           sync.Mutex // guards what follows
	conn         *tearable  // nil while it is away
	connectionID string     // of its stream; empty until that has begun
	armed        bool       // the stream is to be torn
}

// arrival is an event that a listener has.
type arrival struct {
	number int
	began  time.Time // the stream it came by: when that was dialed
}

// gap is what a listener was told of.
type gap struct {
	at   int // events that it had before
	when time.Time
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
	l.kind = [...]soakKind{soakHTTP1, soakHTTP1, soakHTTP1, soakTLS, soakHTTP1, soakHTTP1, soakHTTP1, soakHTTP1, soakH2C, soakHTTP1}[i%10]
	switch n := i - soakEager; {
	case n < 0:
	case n < soakSlow:
		l.slow = true
		l.who.topics = append(l.who.topics, soakHeavy)
	case n < soakSlow+soakFleeting:
		l.fleeting, l.kind = true, soakHTTP1
		l.who.topics = append(l.who.topics, soakCrowd)
	case n < soakSlow+soakFleeting+soakForgetful:
		l.forgetful = true
	case i%4 == 0:
		l.who.topics = append(l.who.topics, soakCrowd)
	}
	return l
}

// run listens until its stream is ended when all is there, or ctx ends, which cuts it.
func (l *listener) run(ctx context.Context) {
	defer close(l.gone)
	defer func() {
		if l.cursor == soakForgotten {
			l.soak.forgetting.RUnlock()
		}
	}()
	for l.fault == nil {
		l.listen(ctx)
		select {
		case <-ctx.Done():
			return
		case <-l.soak.leaving:
			return
		default:
		}
		away := soakMostAway
		if l.fleeting {
			away = soakMostAway / 30
		}
		timer := time.NewTimer(time.Duration(l.random.Int64N(int64(away))))
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
	l.began = time.Now()
	if l.forgetful && l.streams > 0 && l.cursor != soakForgotten && l.random.IntN(3) > 0 && l.soak.mayForget() {
		l.cursor = soakForgotten
	}
	missed := int(l.owed.Load()) - l.certain
	if l.streams > 0 {
		l.soak.resumes.Add(1)
		l.soak.missed.Add(int64(max(0, missed)))
	}
	had := l.certain
	err = l.read(conn)
	if l.leaves != nil {
		l.leaves.Stop()
	}
	l.mu.Lock()
	wasTorn := conn.torn.Load()
	l.conn, l.connectionID, l.armed = nil, "", false
	l.mu.Unlock()
	_ = conn.Close()
	switch {
	case wasTorn && l.streams > 0 && l.certain < had+missed:
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
	c, err := d.DialContext(ctx, "tcp", l.soak.addrs[l.kind])
	if err != nil {
		return nil, err
	}
	if l.slow {
		if err := c.(*net.TCPConn).SetReadBuffer(32 << 10); err != nil {
			return nil, err
		}
	}
	conn := &tearable{TCPConn: c.(*net.TCPConn)}
	conn.left.Store(whole)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn = conn
	if l.streams > 0 && l.random.IntN(3) == 0 {
		if !l.soak.isOver() {
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
	header := make(http.Header)
	header.Set("Accept", "text/event-stream")
	if l.cursor != "" {
		if l.random.IntN(2) == 0 {
			q.Set("lastEventId", l.cursor)
		} else {
			header.Set("Last-Event-ID", l.cursor)
		}
	}
	res, done, err := l.kind.get(l.soak, conn, "/api/sse?"+q.Encode(), header)
	if err != nil {
		return nil // cut already
	}
	defer done()
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
		if l.cursor == soakForgotten && dec.LastEventID() != soakForgotten {
			l.soak.forgetting.RUnlock()
		}
		l.cursor = dec.LastEventID()
	}
	return errors.New("the stream ended as if it were complete, which stops some clients for ever")
}

// take takes one event.
func (l *listener) take(e sse.Event) error {
	if l.slow && !l.behind && l.random.IntN(8) == 0 && !l.soak.isOver() {
		timer := time.NewTimer(time.Duration(l.random.Int64N(int64(soakMostAway))))
		select {
		case <-timer.C:
		case <-l.soak.over:
		}
		timer.Stop()
	}
	switch e.Type {
	case "tidings.gap":
		if l.cursor != soakForgotten {
			return fmt.Errorf("it was told of a gap: %s", e.Data)
		}
		l.gaps = append(l.gaps, gap{len(l.got), time.Now()})
		return nil
	case "tidings.connected":
		return l.begun(e)
	case "tidings.checkpoint", "tidings.disconnected":
		return nil
	case "tidings.unavailable":
		select {
		case <-l.soak.leaving: // it came back while the server drained
			return nil
		default:
			return fmt.Errorf("it was refused: %s", e.Data)
		}
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
	l.behind = time.Since(sent.begun) > soakMostBehind
	l.got = append(l.got, arrival{n, l.began})
	if sent.certain() {
		l.certain++
	}
	return nil
}

// begun takes tidings.connected.
func (l *listener) begun(e sse.Event) error {
	var c struct{ ClientID, ConnectionID, Resume string }
	if err := json.Unmarshal([]byte(e.Data), &c); err != nil {
		return err
	}
	want := "complete"
	switch l.cursor {
	case "":
		want = "none"
	case soakForgotten:
		want = "gap"
	}
	if c.Resume != want || c.ConnectionID == "" || l.who.clientID != "" && c.ClientID != l.who.clientID {
		return fmt.Errorf("it was told %s, and expected resume %q", e.Data, want)
	}
	l.mu.Lock()
	l.connectionID = c.ConnectionID
	conn := l.conn
	l.mu.Unlock()
	if l.fleeting && !l.soak.isOver() {
		l.leaves = time.AfterFunc(time.Duration(l.random.Int64N(int64(soakMostAway/10))), func() { _ = conn.Close() })
	}
	if !l.hasJoined { // not before its first stream ended, on a busy machine
		l.hasJoined = true
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
