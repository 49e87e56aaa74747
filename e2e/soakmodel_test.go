package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"
)

// A planned event is one of the model: what is sent, in the words of the HTTP API, and who must get it.
type planned struct {
	number  int
	sender  int
	typ     string
	data    string
	targets []target // nil is everyone
	exclude target   // nil is nobody
	key     string   // collapse key; empty is none
	ttl     time.Duration
	heavy   bool      // its data is large
	begun   time.Time // before it was sent

	accepted  time.Time   // after it was; guarded by soak.mu until the load has ended
	newer     *planned    // what superseded it first, in the order of the log; set by check
	listeners []*listener // who must get it; set by the sender once the event was accepted
}

// A target is conditions, all of which must be met.
type target map[string]string

// An identity is whom a listener says it is.
type identity struct {
	clientID, userID, sessionID string
	topics                      []string
}

func (id identity) String() string {
	return fmt.Sprintf("client %q, user %q, session %q, %d topics", id.clientID, id.userID, id.sessionID, len(id.topics))
}

func (id identity) meets(t target) bool {
	for condition, value := range t {
		switch condition {
		case "clientId":
			if id.clientID != value {
				return false
			}
		case "userId":
			if id.userID != value {
				return false
			}
		case "sessionId":
			if id.sessionID != value {
				return false
			}
		case "topic":
			if !slices.Contains(id.topics, value) {
				return false
			}
		}
	}
	return true
}

func (id identity) gets(e *planned) bool {
	if e.exclude != nil && id.meets(e.exclude) {
		return false
	}
	return e.targets == nil || slices.ContainsFunc(e.targets, id.meets)
}

// plan chooses whom an event is for. One in a hundred is for everyone: each of those is a thousand deliveries.
func plan(random *rand.Rand, listeners []*listener) *planned {
	someone := func() identity { return listeners[random.IntN(len(listeners))].who }
	topic := func() string { return soakTopic(random.IntN(soakTopics)) }
	session := func() target {
		for { // not everyone has one
			if id := someone(); id.sessionID != "" {
				return target{"sessionId": id.sessionID}
			}
		}
	}
	user := func() target { return target{"userId": someone().userID} }
	client := func() target {
		for {
			if id := someone(); id.clientID != "" {
				return target{"clientId": id.clientID}
			}
		}
	}
	one := []func() target{client, user, session, func() target { return target{"topic": topic()} }}
	e := &planned{typ: "soak." + strconv.Itoa(random.IntN(5))}
	switch n := random.IntN(100); { // whom it is for is as for the others, but for the first two
	case n < 6:
		e.targets, e.heavy = []target{{"topic": soakHeavy}}, true
		return e
	case n < 10: // few keys and few targets, so that they meet
		e.key = "key-" + strconv.Itoa(random.IntN(3))
		e.targets = []target{{"topic": [...]string{soakCrowd, soakTopic(0), soakTopic(1)}[random.IntN(3)]}}
		return e
	case n < 14:
		e.targets = []target{{"topic": soakCrowd}}
		return e
	case n < 24:
		e.ttl = [...]time.Duration{time.Millisecond, 50 * time.Millisecond, time.Second, time.Hour}[random.IntN(4)]
	}
	switch n := random.IntN(100); {
	case n < 25:
		e.targets = []target{client()}
	case n < 45:
		e.targets = []target{user()}
	case n < 57:
		e.targets = []target{session()}
	case n < 70:
		e.targets = []target{{"topic": topic()}}
	case n < 82: // OR, where one may meet several
		e.targets = []target{}
		for range 2 + random.IntN(4) {
			e.targets = append(e.targets, one[random.IntN(len(one))]())
		}
	case n < 92: // AND, which may be met by nobody
		id := someone()
		t := target{"userId": id.userID}
		if random.IntN(2) == 0 || id.sessionID == "" {
			t["topic"] = topic()
		} else {
			t["sessionId"] = id.sessionID
		}
		if id.clientID != "" && random.IntN(3) == 0 {
			t["clientId"] = id.clientID
		}
		e.targets = []target{t}
	case n < 98: // one of a group is left out
		id := someone()
		e.targets = []target{{"userId": id.userID}}
		if random.IntN(2) == 0 {
			e.targets = []target{{"topic": topic()}, {"userId": id.userID}}
		}
		e.exclude = client()
		if id.clientID != "" && random.IntN(2) == 0 {
			e.exclude = target{"clientId": id.clientID}
		}
	case n < 99:
		e.exclude = user()
	}
	return e
}

// fill makes the data from the number: mostly short, sometimes more than a packet.
func (e *planned) fill() {
	size := 40 + e.number*7919%160
	switch {
	case e.heavy:
		size = 24 << 10
	case e.number%17 == 0:
		size = 2000 + e.number*7919%6000
	}
	e.data = fmt.Sprintf(`{"number":%d,"pad":"%s"}`, e.number, bytes.Repeat([]byte{byte('a' + e.number%26)}, size))
}

func numberIn(data string) (int, error) {
	var d struct{ Number *int }
	if err := json.Unmarshal([]byte(data), &d); err != nil {
		return 0, err
	}
	if d.Number == nil || *d.Number < 0 {
		return 0, fmt.Errorf("no number in %.60q", data)
	}
	return *d.Number, nil
}

// optional reports whether a listener need not get the event: it was superseded, or may have expired on its way.
func (e *planned) optional() bool { return e.newer != nil || e.ttl > 0 && e.ttl < time.Hour }

// certain reports whether every listener gets the event, whatever else is sent.
func (e *planned) certain() bool { return e.key == "" && (e.ttl == 0 || e.ttl >= time.Hour) }

// over reports whether the event must not be replayed to a stream that begins at a time: there it was superseded already,
// or has expired.
func (e *planned) over(at time.Time) bool {
	return e.newer != nil && !e.newer.accepted.IsZero() && e.newer.accepted.Before(at) ||
		e.ttl > 0 && !e.accepted.IsZero() && e.accepted.Add(e.ttl).Before(at)
}

// compare holds what the listener got against what it must have got, in the order of the log, and says where they part.
func (l *listener) compare(want []*planned) string {
	gaps := l.gaps
	i := 0 // of what it got
	for _, e := range want {
		if i < len(l.got) && l.got[i].number == e.number {
			if e.over(l.got[i].began) {
				return fmt.Sprintf("%v got event %d by a stream that began when it was superseded or had expired", l.who, e.number)
			}
			i++
			continue
		}
		for len(gaps) > 0 && (gaps[0].at < i || gaps[0].at == i && !e.begun.Before(gaps[0].when)) {
			gaps = gaps[1:]
		}
		if e.optional() || len(gaps) > 0 && gaps[0].at == i {
			continue
		}
		got := "nothing"
		if i < len(l.got) {
			got = "event " + strconv.Itoa(l.got[i].number)
		}
		return fmt.Sprintf("%v got %d events of %d, in %d streams: as number %d it got %s instead of event %d", l.who, len(l.got), len(want), l.streams, i, got, e.number)
	}
	if i < len(l.got) {
		return fmt.Sprintf("%v got event %d, out of order, twice, or not meant for it", l.who, l.got[i].number)
	}
	return ""
}
