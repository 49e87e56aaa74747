package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/tidings-sse/tidings/internal/load"
	"github.com/tidings-sse/tidings/internal/server"
)

type benchCmd struct {
	remote     `embed:""`
	credential `embed:""`

	APIKey string `name:"api-key" env:"TIDINGS_API_KEY" placeholder:"[NAME:]KEY" help:"The API key that events are sent to --url with. The first one, if the variable has several. Default: the token."`

	Stream      string       `group:"streams" placeholder:"URL" help:"The streams' URL at a server that is not Tidings. {n} in it is the connection's number from 0, {user} and {topic} are the numbers of its user and its topic. Default: Tidings' own, at --url, with clientId=c{n}, userId=u{user}, topic=t{topic}."`
	Connections server.Count `group:"streams" short:"n" default:"100" help:"How many streams to open."`
	Users       server.Count `group:"streams" placeholder:"N" help:"How many users they are spread over. Default: one for each."`
	Topics      server.Count `group:"streams" default:"1" help:"How many topics they are spread over."`
	Header      []string     `group:"streams" sep:"none" placeholder:"LINE" help:"A header of the streams' requests, as 'Authorization: Bearer ..'. It may have {n}, {user} and {topic}. Repeatable. Default: none."`
	Protocol    string       `group:"streams" default:"http1" enum:"http1,http2" help:"http1, or http2, which is h2c at an http:// URL. Only http1 at an http:// URL is measured without the client's own goroutines."`
	PerConn     server.Count `group:"streams" name:"streams-per-connection" default:"100" help:"With http2: how many streams share a connection."`
	SkipVerify  bool         `group:"streams" help:"Accept any certificate at an https:// URL. Default: off."`
	Source      []netip.Addr `group:"streams" placeholder:"ADDRESS" help:"A local address to connect from. Repeatable: they are used in turn. Default: the system's choice, and at 127.0.0.1 as many of 127.0.0.1, 127.0.0.2, .. as there must be for enough ports."`
	Loops       server.Count `group:"streams" default:"1" help:"Event loops that share the streams. More than one is of use where there are cores to spare."`

	ConnectRate    float64         `group:"connect" placeholder:"N" help:"Streams opened in a second, at most. Default: no bound."`
	ConnectAtOnce  server.Count    `group:"connect" default:"256" help:"Streams that may be opening at a time."`
	ConnectTimeout server.Duration `group:"connect" default:"10s" help:"How long a stream may take to open."`
	NoReconnect    bool            `group:"connect" help:"Leave streams that end as they are. Default: they come back as a browser's do, with their last event ID, after the time that the server asks for."`

	Publish       string          `group:"publish" placeholder:"URL" help:"Where events are published at a server that is not Tidings. {n} in it is the number of the target. Default: Tidings' own at --url; with --stream, nothing is published."`
	PublishMethod string          `group:"publish" default:"POST" help:"The method that publishes."`
	PublishBody   string          `group:"publish" placeholder:"TEXT" help:"The body that publishes: {data} is the event's data, which is JSON, and {n} the number of the target. Default: {data}, and at --url an event of Tidings' HTTP API."`
	PublishHeader []string        `group:"publish" sep:"none" placeholder:"LINE" help:"A header of the requests that publish. Repeatable. Default: none."`
	Rate          float64         `group:"publish" default:"10" help:"Events published in a second."`
	Duration      server.Duration `group:"publish" default:"10s" help:"How long events are published, or listened to."`
	Publishers    server.Count    `group:"publish" default:"1" help:"Connections that publish, each in order."`
	Batch         server.Count    `group:"publish" placeholder:"N" help:"Publish up to N events that are due in one request, as lines (NDJSON). Default: one event a request."`
	Mix           string          `group:"publish" default:"broadcast" placeholder:"CLASS=WEIGHT,.." help:"Whom events are for: broadcast, user, client or topic, with weights, as broadcast=1,user=9. Users, clients and topics are chosen at random."`
	Size          server.Size     `group:"publish" default:"110" help:"Data of one event. What it must hold takes 60 to 100 bytes; the rest is padding."`
	Settle        server.Duration `group:"publish" default:"5s" help:"How long to wait afterwards for what has not arrived, before it counts as lost."`

	Slow            server.Count    `group:"trouble" placeholder:"N" help:"How many of the streams are slow readers. Default: none."`
	SlowBytes       server.Size     `group:"trouble" placeholder:"SIZE" help:"What a slow reader reads in a second. Default: nothing, once its stream is open."`
	Storm           server.Duration `group:"trouble" placeholder:"DURATION" help:"Drop streams at once, so long after the first event, and see them come back. Default: never."`
	StormShare      float64         `group:"trouble" default:"1" help:"The part of the streams that is dropped, up to 1."`
	StormReset      bool            `group:"trouble" help:"Drop them with a reset. Default: by closing."`
	StormAfterRetry bool            `group:"trouble" help:"They come back after the time that the server asks for. Default: at once."`

	JSON bool   `help:"Print the report as JSON, with units in its names. Default: off."`
	Plot string `placeholder:"FILE" help:"Write a plot of latency and of deliveries over time, as SVG. Default: none."`
}

// Help is shown under the summary.
func (benchCmd) Help() string {
	return `It opens streams, publishes events by a schedule that waits for nobody, and checks on each stream what arrives: how late, and whether something was lost, came twice or out of order. Latency is from the time at which an event should have been sent, so that a server that holds up its publisher can't hide it.

Against Tidings, 1000 streams with 50 broadcasts a second:

  tidings serve
  tidings bench -n 1000 --rate 50

Where the server asks who is there, all streams have the token's user, and the API key sends. Who has a token may not listen as others, so events are for everyone, or for topics that the token names:

  TIDINGS_TOKEN="$(tidings token mint --user bob --topic 't*')" tidings bench --api-key ... --topics 10 --mix broadcast=1,topic=1

The credentials are presented at --url only: what another server needs goes into --header and --publish-header.

Against nginx with Nchan, where "location /sub { nchan_subscriber eventsource; nchan_channel_id $arg_id; }" and "location /pub { nchan_publisher; nchan_channel_id $arg_id; }" are in the configuration:

  tidings bench -n 1000 --rate 50 --stream 'http://127.0.0.1:8081/sub?id=all' --publish 'http://127.0.0.1:8081/pub?id=all'

It exits with 1 if something was lost, duplicated or reordered. Ctrl-C ends it early, with a report of what was measured.`
}

// Validate refuses what can't be run.
func (c *benchCmd) Validate() error {
	_, err := c.plan()
	return err
}

// Run measures, and prints the report.
func (c *benchCmd) Run(p *program) error {
	plan, err := c.plan()
	if err != nil {
		return err
	}
	if err := c.checkDescriptors(); err != nil {
		return err
	}
	defer plan.client.Close()
	ledger := load.NewLedger()
	show := startProgress(p.stderr, plan, int(c.Connections))
	r, err := c.measure(p.ctx, plan, ledger, show)
	show.end()
	if r == nil {
		return c.explain(err)
	}
	if c.Plot != "" {
		err = errors.Join(err, os.WriteFile(c.Plot, plotOf(r), 0o644)) // #nosec G306 -- a picture to show
	}
	if c.JSON {
		enc := json.NewEncoder(p.stdout)
		enc.SetIndent("", "  ")
		return errors.Join(enc.Encode(r), err, verdictOn(r))
	}
	return errors.Join(printReport(p.stdout, r), err, verdictOn(r))
}

// checkDescriptors refuses more streams than the process may have files open.
func (c *benchCmd) checkDescriptors() error {
	limit, err := load.RaiseDescriptors()
	if err != nil {
		return err
	}
	const others = 64 // what the program itself needs
	sockets := uint64(c.Connections)
	if c.Protocol == string(load.HTTP2) {
		sockets = (sockets + uint64(c.PerConn) - 1) / uint64(c.PerConn)
	}
	if need := sockets + uint64(c.Publishers) + others; need > limit {
		return fmt.Errorf("--connections %d needs %d file descriptors, and this process may have %d: raise the limit (ulimit -Hn, or LimitNOFILE of systemd), or open fewer streams", c.Connections, need, limit)
	}
	return nil
}

// measure runs the load. The report is nil if there was nothing to measure.
func (c *benchCmd) measure(ctx context.Context, p *plan, ledger *load.Ledger, show *progress) (*load.Report, error) {
	opening := 30 * time.Second
	if c.ConnectRate > 0 {
		opening += time.Duration(float64(c.Connections) / c.ConnectRate * float64(time.Second))
	}
	connectCtx, cancel := context.WithTimeout(ctx, opening)
	defer cancel()
	show.phase("opening")
	err := p.client.Connect(connectCtx)
	if s := p.client.Snapshot(); s.Connected == 0 {
		r := p.client.Report(nil)
		if err == nil || len(r.ConnectErrors) > 0 {
			err = fmt.Errorf("no stream could be opened: %s%s", kindsOf(r.ConnectErrors), c.whyNot(r))
		}
		return nil, err
	}
	published, stormErr := c.run(ctx, p, ledger, show)
	show.phase("settling")
	settle := time.Duration(c.Settle)
	if ctx.Err() != nil {
		settle = min(settle, time.Second) // what is on its way is not lost
	}
	settled, cancel := context.WithTimeout(context.WithoutCancel(ctx), settle)
	defer cancel()
	if p.publish != nil {
		_ = p.client.Wait(settled, ledger) // what is missing is in the report
	} else {
		ledger = nil
	}
	r := p.client.Report(ledger)
	r.Publish = published
	if published != nil && published.Sent == 0 && len(published.Errors) > 0 {
		why := ""
		if c.Publish == "" && published.Errors["status 401"]+published.Errors["status 403"] > 0 {
			why = "; give a key that may send with --api-key or TIDINGS_API_KEY"
		}
		return r, fmt.Errorf("no event could be published: %s%s", kindsOf(published.Errors), why)
	}
	return r, stormErr
}

// whyNot says what to do about streams that all failed.
func (c *benchCmd) whyNot(r *load.Report) string {
	switch {
	case r.ConnectErrors["connection refused"] > 0:
		return fmt.Sprintf("; nothing listens there: start the server (tidings serve), or name another with --%s", c.flagOf("stream"))
	case c.Stream == "" && r.ConnectErrors["status 401"] > 0:
		return "; give a token with --token or TIDINGS_TOKEN: tidings token mint makes one"
	case c.Stream == "" && r.ConnectErrors["status 403"] > 0:
		return "; what the streams listen to is not the token's: see tidings bench --help"
	case r.ConnectErrors["status 400"] > 0:
		return fmt.Sprintf("; if the server speaks TLS, write https:// in --%s", c.flagOf("stream"))
	case r.ConnectErrors["not an event stream"] > 0:
		return fmt.Sprintf("; is --%s the URL of a stream?", c.flagOf("stream"))
	}
	return ""
}

// run publishes or listens for the duration, with the storm in between.
func (c *benchCmd) run(ctx context.Context, p *plan, ledger *load.Ledger, show *progress) (published *load.PublishReport, err error) {
	var wg sync.WaitGroup
	var stormErr error // until wg has been waited for, the storm's
	defer func() {
		if wg.Wait(); err == nil {
			err = stormErr
		}
	}()
	show.phase("measuring")
	if c.Storm > 0 {
		wg.Go(func() { stormErr = c.storm(ctx, p, ledger) })
	}
	if p.publish == nil {
		select {
		case <-time.After(time.Duration(c.Duration)):
		case <-ctx.Done():
		}
		return nil, nil
	}
	return load.Publish(ctx, *p.publish, ledger)
}

// storm drops streams when it is time.
func (c *benchCmd) storm(ctx context.Context, p *plan, ledger *load.Ledger) error {
	select {
	case <-time.After(time.Duration(c.Storm)):
	case <-ctx.Done():
		return nil
	}
	if p.publish == nil {
		ledger = nil
	}
	const most = time.Minute // to come back
	within, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	_, err := p.client.Storm(within, load.Storm{Share: c.StormShare, Reset: c.StormReset, AfterRetry: c.StormAfterRetry}, ledger)
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("the storm: %w", err)
	}
	return nil
}

// verdictOn is an error if something did not arrive as it should.
func verdictOn(r *load.Report) error {
	if r.Whole() {
		return nil
	}
	return fmt.Errorf("%s lost, %s duplicated, %s reordered", thousands(r.Lost), thousands(r.Duplicated), thousands(r.Reordered))
}

// hostOf is a URL's server.
func hostOf(s string) string {
	_, rest, _ := strings.Cut(s, "://")
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		rest = rest[:i]
	}
	return rest[strings.LastIndexByte(rest, '@')+1:]
}
