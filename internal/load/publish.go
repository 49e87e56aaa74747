package load

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// PublishConfig says what to publish, and how. URL, Rate and Duration must be set.
type PublishConfig struct {
	// URL takes the events. In it, {n} is the target's number.
	URL string
	// Method is POST by default.
	Method string
	// Body is a request's body. In it, {data} is the event's data (JSON) and {n} the target's number. Empty is Tidings'
	// own: an event of the HTTP API with the target that its class says: clientId c{n}, userId u{n}, topic t{n}.
	Body string
	// Header is sent with each request.
	Header http.Header
	// Batch is how many events a request may have, as lines of NDJSON: those that are due. 0 is one event a request.
	Batch int

	// Rate is how many events are sent in a second, by all publishers together. At most 10,000,000.
	Rate float64
	// Duration is how long the schedule is. What is late when it is over has as long again, at most 5 s, to be sent.
	Duration time.Duration
	// Publishers is how many connections send, each in the order of its own schedule: 1 by default.
	Publishers int
	// Mix is which classes of targets events are for, by weight. Nil is broadcasts.
	Mix map[Class]float64
	// Clients, Users and Topics are how many targets there are of a class; which one an event is for is random. 0 is 1.
	Clients, Users, Topics int
	// Size of an event's data, in bytes: PayloadSize by default.
	Size int
	// Seed of the random choices. 0 is a seed like others: a schedule is the same each time.
	Seed uint64
	// InsecureSkipVerify accepts any certificate.
	InsecureSkipVerify bool
	// RootCAs are who must have signed the server's. Nil is the system's.
	RootCAs *x509.CertPool
	// Sent, if set, is where the number of events that the server took is kept meanwhile.
	Sent *atomic.Int64
}

// complete puts in the defaults, and refuses what can't work.
func (cfg *PublishConfig) complete() error {
	const mostRate, mostTargets = 10_000_000, 10_000_000
	cfg.Method = cmp.Or(cfg.Method, http.MethodPost)
	cfg.Publishers = cmp.Or(cfg.Publishers, 1)
	cfg.Size = cmp.Or(cfg.Size, PayloadSize)
	if len(cfg.Mix) == 0 {
		cfg.Mix = map[Class]float64{Broadcast: 1}
	}
	for _, f := range []struct {
		name string
		v    *int
		most int
	}{
		{"Publishers", &cfg.Publishers, MaxPublishers}, {"Clients", &cfg.Clients, mostTargets}, {"Users", &cfg.Users, mostTargets},
		{"Topics", &cfg.Topics, mostTargets}, {"Size", &cfg.Size, 16 << 20}, {"Batch", &cfg.Batch, 1 << 20},
	} {
		if *f.v < 0 || *f.v > f.most {
			return &ConfigError{f.name, fmt.Sprintf("is %d: give up to %d", *f.v, f.most)}
		}
	}
	cfg.Clients, cfg.Users, cfg.Topics = max(cfg.Clients, 1), max(cfg.Users, 1), max(cfg.Topics, 1)
	var sum float64
	for class, weight := range cfg.Mix {
		if class >= classes || !(weight >= 0 && weight <= math.MaxInt32) {
			return &ConfigError{"Mix", fmt.Sprintf("has %v for %v: give weights that are not negative", weight, class)}
		}
		sum += weight
	}
	switch {
	case sum == 0:
		return &ConfigError{"Mix", "has no weight above 0"}
	case !(cfg.Rate > 0 && cfg.Rate <= mostRate):
		return &ConfigError{"Rate", fmt.Sprintf("is %v: give more than 0 and up to %d events a second", cfg.Rate, mostRate)}
	case cfg.Duration <= 0:
		return &ConfigError{"Duration", "is not more than zero"}
	case strings.TrimSpace(cfg.Body) != "" && !strings.Contains(cfg.Body, "{"+varData+"}"):
		return &ConfigError{"Body", "has no {data}: the events could not be told from each other"}
	case cfg.Batch > 0 && strings.Contains(cfg.URL, "{"+varNumber+"}"):
		return &ConfigError{"Batch", "is given for a URL with {n}: requests with several events have one URL"}
	}
	if _, _, err := parseURL(cfg.URL, varNumber); err != nil {
		return &ConfigError{"URL", err.Error()}
	}
	return nil
}

// Check returns the *[ConfigError] that Publish would return.
func (cfg PublishConfig) Check() error { return cfg.complete() }

// Publish sends events by an open-loop schedule: when each is due is fixed in advance, and an event's stamp has that time
// also when it is sent late. It returns when the schedule is over or ctx ends, which is no error. What was sent is in the
// ledger. Another schedule for the same streams goes on where the same ledger stands.
func Publish(ctx context.Context, cfg PublishConfig, ledger *Ledger) (*PublishReport, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	if cfg.Sent == nil {
		cfg.Sent = new(atomic.Int64)
	}
	start := time.Now()
	within := cfg.Duration + min(cfg.Duration, mostGrace)
	ctx, cancel := context.WithDeadline(ctx, start.Add(within))
	defer cancel()
	requests, cancelRequests := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelRequests()
	// What is under way when the time is over may be answered yet.
	stop := context.AfterFunc(ctx, func() {
		t := time.AfterFunc(answerGrace, cancelRequests)
		context.AfterFunc(requests, func() { t.Stop() })
	})
	defer stop()
	ps := make([]*publisher, cfg.Publishers)
	var wg sync.WaitGroup
	for i := range ps {
		ps[i] = newPublisher(&cfg, i, ledger, start)
		wg.Go(func() { ps[i].run(ctx, requests) })
	}
	wg.Wait()
	return reportOf(ps, start), nil
}

const (
	mostGrace   = 5 * time.Second // to send what is late, and no more than the schedule's length
	answerGrace = time.Second     // to get the last answer
)
