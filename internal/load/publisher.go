package load

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// publisher sends its part of a schedule, an event or a batch at a time.
type publisher struct {
	cfg    *PublishConfig
	number int
	ledger *Ledger
	start  time.Time
	client *http.Client
	random *rand.Rand

	server       string // scheme and host
	target, body template
	line, data   []byte // scratch

	next      int64 // of its own events, from 0
	scheduled int64
	sent      int64
	requests  int64
	last      time.Time // of its answers
	errors    map[string]int
	late      *hdrhistogram.Histogram // in microseconds
	answers   *hdrhistogram.Histogram // in microseconds
}

// An outgoing event.
type outgoing struct {
	stamp  Stamp
	target int
}

func newPublisher(cfg *PublishConfig, number int, ledger *Ledger, start time.Time) *publisher {
	server, target, _ := parseURL(cfg.URL, varNumber) // was checked
	p := &publisher{
		cfg: cfg, number: number, ledger: ledger, start: start, last: start,
		random: rand.New(rand.NewPCG(cfg.Seed, uint64(number))),
		server: server.String(), target: parseTemplate(target, varNumber), body: parseTemplate(cfg.Body, varNumber, varData),
		errors: map[string]int{}, late: newHistogram(), answers: newHistogram(),
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy = nil // it would be measured as well
	t.DisableCompression = true
	t.TLSClientConfig = &tls.Config{InsecureSkipVerify: cfg.InsecureSkipVerify, RootCAs: cfg.RootCAs}
	t.ForceAttemptHTTP2 = false
	p.client = &http.Client{Transport: t}
	return p
}

// due returns when the publisher's event n is to be sent: all publishers' events are evenly spread over the time.
func (p *publisher) due(n int64) time.Time {
	all := float64(n*int64(p.cfg.Publishers) + int64(p.number))
	return p.start.Add(time.Duration(all / p.cfg.Rate * float64(time.Second)))
}

// run sends until the schedule is over or ctx ends.
func (p *publisher) run(ctx, requests context.Context) {
	defer p.client.CloseIdleConnections()
	end := p.start.Add(p.cfg.Duration)
	batch := make([]outgoing, 0, max(1, p.cfg.Batch))
	for {
		due := p.due(p.next)
		if !due.Before(end) || !sleepUntil(ctx, due) {
			break
		}
		now := time.Now()
		for batch = batch[:0]; len(batch) < cap(batch) && due.Before(end) && !due.After(now); due = p.due(p.next) {
			class, target := p.choose()
			batch = append(batch, outgoing{p.ledger.Next(p.number, class, target, due.UnixNano()), target})
			_ = p.late.RecordValue(min(now.Sub(due).Microseconds(), longest))
			p.next++
		}
		p.send(requests, batch)
	}
	over := time.Now()
	if over.After(end) {
		over = end
	}
	for p.scheduled = p.next; p.due(p.scheduled).Before(over); p.scheduled++ {
	}
}

// sleepUntil reports false if ctx ends before.
func sleepUntil(ctx context.Context, t time.Time) bool {
	d := time.Until(t)
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// choose returns whom the next event is for.
func (p *publisher) choose() (Class, int) {
	var sum float64
	for c := range classes {
		sum += p.cfg.Mix[c]
	}
	at := p.random.Float64() * sum
	class := Broadcast
	for c := range classes {
		if w := p.cfg.Mix[c]; w > 0 {
			class = c
			if at -= w; at < 0 {
				break
			}
		}
	}
	switch class {
	case ToClient:
		return class, p.random.IntN(p.cfg.Clients)
	case ToUser:
		return class, p.random.IntN(p.cfg.Users)
	case ToTopic:
		return class, p.random.IntN(p.cfg.Topics)
	}
	return class, 0
}

// send sends events in one request, and counts what became of them.
func (p *publisher) send(ctx context.Context, es []outgoing) {
	p.line = p.line[:0]
	for i, e := range es {
		if i > 0 {
			p.line = append(p.line, '\n')
		}
		p.line = p.appendBody(p.line, e)
	}
	p.requests++
	asked := time.Now()
	taken, err := p.post(ctx, es)
	p.last = time.Now()
	_ = p.answers.RecordValue(min(p.last.Sub(asked).Microseconds(), longest))
	p.sent += int64(taken)
	p.cfg.Sent.Add(int64(taken))
	if err != nil { // for those that have no answer
		kind := failureOf(err).kind
		for _, e := range es {
			if e.stamp.Seq != 0 {
				p.errors[kind]++
				p.ledger.Doubt(e.stamp, e.target)
			}
		}
	}
}

// post sends what is in line. It returns how many of the events the server took. With an error, those that were answered
// have lost their Seq.
func (p *publisher) post(ctx context.Context, es []outgoing) (taken int, err error) {
	number := func(dst []byte, _ string) []byte { return strconv.AppendInt(dst, int64(es[0].target), 10) }
	url := p.server + string(p.target.appendTo(nil, number))
	req, err := http.NewRequestWithContext(ctx, p.cfg.Method, url, bytes.NewReader(p.line))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	if p.cfg.Batch > 0 {
		req.Header.Set("Content-Type", "application/x-ndjson")
	}
	for name, vs := range p.cfg.Header {
		req.Header[http.CanonicalHeaderKey(name)] = vs
	}
	res, err := p.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	if res.StatusCode/100 != 2 {
		_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10)) // so that the connection can be used again
		return 0, statusFailure(res.StatusCode)
	}
	if p.cfg.Batch == 0 || p.cfg.Body != "" {
		_, err = io.Copy(io.Discard, res.Body)
		return len(es), err
	}
	return p.readAnswers(res.Body, es)
}

// readAnswers reads a line for each event, as Tidings answers.
func (p *publisher) readAnswers(r io.Reader, es []outgoing) (taken int, err error) {
	lines := bufio.NewReader(r)
	for i := range es {
		line, err := lines.ReadSlice('\n')
		if err != nil {
			return taken, err
		}
		if bytes.HasPrefix(line, []byte(`{"id":`)) {
			taken++
		} else {
			var problem struct{ Status int }
			_ = json.Unmarshal(line, &problem)
			p.errors[statusFailure(problem.Status).kind]++
			p.ledger.Doubt(es[i].stamp, es[i].target)
		}
		es[i].stamp.Seq = 0
	}
	_, err = io.Copy(io.Discard, lines)
	return taken, err
}

// appendBody appends the body that sends an event.
func (p *publisher) appendBody(dst []byte, e outgoing) []byte {
	p.data = AppendPayload(p.data[:0], e.stamp, p.cfg.Size)
	if p.cfg.Body != "" {
		return p.body.appendTo(dst, func(dst []byte, name string) []byte {
			if name == varData {
				return append(dst, p.data...)
			}
			return strconv.AppendInt(dst, int64(e.target), 10)
		})
	}
	dst = append(dst, `{"type":"bench","data":`...)
	dst = append(dst, p.data...)
	switch e.stamp.Class {
	case ToClient:
		dst = fmt.Appendf(dst, `,"target":{"clientId":"c%d"}`, e.target)
	case ToUser:
		dst = fmt.Appendf(dst, `,"target":{"userId":"u%d"}`, e.target)
	case ToTopic:
		dst = fmt.Appendf(dst, `,"target":{"topic":"t%d"}`, e.target)
	}
	return append(dst, '}')
}

// reportOf adds up what the publishers did.
func reportOf(ps []*publisher, start time.Time) *PublishReport {
	r := &PublishReport{Errors: map[string]int{}}
	late, answers := newHistogram(), newHistogram()
	last := start
	for _, p := range ps {
		r.Scheduled += p.scheduled
		r.Unsent += p.scheduled - p.next
		r.Sent += p.sent
		r.Requests += p.requests
		for kind, n := range p.errors {
			r.Errors[kind] += n
		}
		late.Merge(p.late)
		answers.Merge(p.answers)
		if p.last.After(last) {
			last = p.last
		}
	}
	if r.Seconds = last.Sub(start).Seconds(); r.Seconds > 0 {
		r.PerSecond = float64(r.Sent) / r.Seconds
	}
	r.LateP50Ms, r.LateP99Ms, r.LateMaxMs = ms(late.ValueAtPercentile(50)), ms(late.ValueAtPercentile(99)), ms(late.Max())
	r.AnswerP50Ms, r.AnswerP99Ms = ms(answers.ValueAtPercentile(50)), ms(answers.ValueAtPercentile(99))
	return r
}
