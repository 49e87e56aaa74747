// Package control is how the benchmark talks to a server under test: a line on the server's standard input is a command,
// and each is answered by one line on its standard output. The lines are words and key=value pairs, so that a server in C
// reads them as easily as one in Go. A server ends when its standard input does, so that none outlives the benchmark.
//
//	-> ready addr=127.0.0.1:40123 version=v0.12.0
//	<- publish kind=broadcast count=2000 rate=0 size=128 publishers=1 users=0 pub=0 beside=0
//	-> published count=2000 start=1764066000000000000 end=1764066001000000000
//	<- settle
//	-> settled
package control

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Kind says whom the events of a Publish are for.
type Kind string

// The kinds.
const (
	Broadcast Kind = "broadcast" // every connection
	Unicast   Kind = "unicast"   // one user, a random one for each event
)

// Publish is the command to publish events.
type Publish struct {
	Kind       Kind
	Count      int     // events, over all publishers
	Rate       float64 // events a second, over all publishers; 0 is as fast as the server's own call takes them
	Size       int     // bytes of an event's data
	Publishers int     // that publish at the same time
	Users      int     // Unicast: the users are "user-0" up to this
	Pub        int     // the number of the first publisher. No two commands share one: each begins to count at 1
	Beside     float64 // broadcasts a second that are sent meanwhile, whose data is not stamped, so that nobody measures them
}

// String returns the command's line, without its end.
func (p Publish) String() string {
	return fmt.Sprintf("publish kind=%s count=%d rate=%g size=%d publishers=%d users=%d pub=%d beside=%g",
		p.Kind, p.Count, p.Rate, p.Size, p.Publishers, p.Users, p.Pub, p.Beside)
}

// ParsePublish reads a Publish's line.
func ParsePublish(line string) (Publish, error) {
	f := fields(line)
	p := Publish{Kind: Kind(f.values["kind"])}
	p.Count, p.Size, p.Publishers = f.int("count"), f.int("size"), f.int("publishers")
	p.Users, p.Pub = f.int("users"), f.int("pub")
	p.Rate, p.Beside = f.float("rate"), f.float("beside")
	switch {
	case f.err != nil:
		return p, fmt.Errorf("%q: %w", line, f.err)
	case f.word != "publish":
		return p, fmt.Errorf("%q is no publish command", line)
	case p.Kind != Broadcast && p.Kind != Unicast:
		return p, fmt.Errorf("%q: there is no kind %q", line, p.Kind)
	case p.Count < 1 || p.Publishers < 1 || p.Kind == Unicast && p.Users < 1:
		return p, fmt.Errorf("%q: count, publishers, and users of a unicast must be at least 1", line)
	}
	return p, nil
}

// Published is the answer to Publish.
type Published struct {
	Count      int       // events that were accepted
	Start, End time.Time // before the first call, and after the last one returned
}

// String returns the answer's line, without its end.
func (p Published) String() string {
	return fmt.Sprintf("published count=%d start=%d end=%d", p.Count, p.Start.UnixNano(), p.End.UnixNano())
}

// ParsePublished reads a Published's line.
func ParsePublished(line string) (Published, error) {
	f := fields(line)
	if f.word != "published" {
		return Published{}, fmt.Errorf("the server answered %q to publish", line)
	}
	p := Published{Count: f.int("count"), Start: time.Unix(0, int64(f.int("start"))), End: time.Unix(0, int64(f.int("end")))}
	return p, f.err
}

// Ready is the first line of a server.
type Ready struct {
	Addr    string // where its streams are
	Version string // of what is being measured
}

// String returns the line, without its end.
func (r Ready) String() string { return fmt.Sprintf("ready addr=%s version=%s", r.Addr, r.Version) }

// ParseReady reads a Ready's line.
func ParseReady(line string) (Ready, error) {
	f := fields(line)
	if f.word != "ready" || f.values["addr"] == "" {
		return Ready{}, fmt.Errorf("the server began with %q", line)
	}
	return Ready{Addr: f.values["addr"], Version: f.values["version"]}, nil
}

// The command that has a server collect its garbage and give back what memory it can, and its answer.
const (
	Settle  = "settle"
	Settled = "settled"
)

// A message is a line's first word and its pairs. err is of the first value that is not the number it should be.
type message struct {
	word   string
	values map[string]string
	err    error
}

func fields(line string) *message {
	m := &message{values: map[string]string{}}
	for n, w := range strings.Fields(line) {
		if n == 0 {
			m.word = w
			continue
		}
		k, v, _ := strings.Cut(w, "=")
		m.values[k] = v
	}
	return m
}

func (m *message) int(key string) int {
	n, err := strconv.Atoi(m.values[key])
	m.keep(key, err)
	return n
}

func (m *message) float(key string) float64 {
	n, err := strconv.ParseFloat(m.values[key], 64)
	m.keep(key, err)
	return n
}

func (m *message) keep(key string, err error) {
	if err != nil && m.err == nil {
		m.err = fmt.Errorf("%s: %w", key, err)
	}
}
