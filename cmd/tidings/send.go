package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/internal/server"
)

type sendCmd struct {
	remote     `embed:""`
	credential `embed:""`

	Type string  `placeholder:"NAME" help:"The event's type: what addEventListener listens to. Default: message."`
	Data *string `arg:"" optional:"" help:"The event's data as JSON, or - to read it from stdin. Default: null."`
	Text bool    `help:"DATA is raw text, sent as it is and not as JSON. Default: off."`

	Client   string `group:"target" placeholder:"ID" help:"The client id that a page chose, or a connection id."`
	User     string `group:"target" placeholder:"ID" help:"All connections of the user."`
	Session  string `group:"target" placeholder:"ID" help:"All connections of the session."`
	Topic    string `group:"target" placeholder:"NAME" help:"All connections that listen to the topic."`
	Everyone bool   `group:"target" help:"Every connection. Nothing else is a broadcast."`
	Exclude  string `group:"target" name:"exclude-client" placeholder:"ID" help:"Leave out this client: the tab that caused the event, say."`

	TTL            server.Duration `name:"ttl" placeholder:"DURATION" help:"How long the event is worth delivering, as 30s. Default: as long as history has it."`
	CollapseKey    string          `placeholder:"KEY" help:"Replace the earlier event with this key and the same target, where it was not delivered yet. Default: none."`
	IdempotencyKey string          `placeholder:"KEY" help:"Sent again with the same key, the event is not sent twice. Default: a random one."`

	Tries  server.Count `default:"4" placeholder:"N" help:"How often to send the event at most, with growing pauses, while the server can't be reached or is unavailable. 8 outlast the time in which a cluster chooses a leader."`
	JSON   bool         `help:"Print the receipt as JSON. Default: off."`
	NDJSON bool         `name:"ndjson" help:"Send each line of stdin as an event of the HTTP API, with its own target, and print each answer as JSON. Default: off."`
}

// Help is shown under the summary.
func (sendCmd) Help() string {
	return `Examples:

  tidings send --type new-message --user bob '{"text": "hi"}'
  tidings send --type system-announcement --everyone --text 'Maintenance in 5 minutes'
  tidings send --ndjson < events.ndjson

It prints the receipt: the event's id, and how many connections matched. It exits with 1 if the event was not accepted.`
}

// Validate refuses what can't be sent before anything is read.
func (c *sendCmd) Validate() error {
	if _, err := c.stream(); err != nil {
		return err
	}
	if _, err := c.roots(); err != nil {
		return err
	}
	e := c.event()
	if c.NDJSON {
		if e.Everyone || !e.Target.IsZero() || !e.Exclude.IsZero() || e.Type != "" || e.TTL != 0 || e.CollapseKey != "" || e.IdempotencyKey != "" || c.Data != nil || c.Text {
			return errors.New("with --ndjson each line says its own type, data and target: give only --url beside it")
		}
		return nil
	}
	switch {
	case e.Everyone && !e.Target.IsZero():
		return errors.New("--everyone is given together with a target: choose one")
	case !e.Everyone && e.Target.IsZero():
		return errors.New("the event names nobody: give --client, --user, --session or --topic, or --everyone for a broadcast")
	}
	if c.Data == nil || *c.Data != fromStdin {
		if _, err := c.data(nil); err != nil {
			return err
		}
	}
	return nil
}

// fromStdin is the argument that stands for stdin.
const fromStdin = "-"

// event returns the event that the flags describe, without its data.
func (c *sendCmd) event() tidings.Event {
	return tidings.Event{
		Type: c.Type, Everyone: c.Everyone, TTL: time.Duration(c.TTL), CollapseKey: c.CollapseKey, IdempotencyKey: c.IdempotencyKey,
		Target:  tidings.Target{ClientID: c.Client, UserID: c.User, SessionID: c.Session, Topic: c.Topic},
		Exclude: tidings.Target{ClientID: c.Exclude},
	}
}

// Run sends, and prints what became of it.
func (c *sendCmd) Run(p *program) error {
	base, err := c.stream()
	if err != nil {
		return err
	}
	transport, err := c.transport()
	if err != nil {
		return err
	}
	defer transport.CloseIdleConnections()
	if c.NDJSON {
		return c.explain(c.sendLines(p, &http.Client{Transport: transport}, base+"/send"))
	}
	e := c.event()
	if e.Data, err = c.data(p.stdin); err != nil {
		return err
	}
	const within = 10 * time.Second // for each try
	header := http.Header{}
	c.present(header)
	sender, err := tidings.NewRemote(base, &tidings.RemoteOptions{Header: header, Tries: int(c.Tries), Client: &http.Client{Transport: transport, Timeout: within}})
	if err != nil {
		return err
	}
	receipt, err := sender.Send(p.ctx, e)
	if err != nil {
		return c.explain(err)
	}
	return c.print(p.stdout, receipt)
}

// data returns the event's data. A line end that ends what stdin gives is that of the last line, and not part of it.
func (c *sendCmd) data(stdin io.Reader) (any, error) {
	if c.Data == nil {
		if c.Text {
			return nil, errors.New("there is no text: give it as the argument, or - to read it from stdin")
		}
		return nil, nil
	}
	data := *c.Data
	if data == fromStdin {
		b, err := io.ReadAll(stdin)
		if err != nil {
			return nil, fmt.Errorf("stdin: %w", err)
		}
		data = strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	}
	if c.Text {
		return tidings.Text(data), nil
	}
	if !json.Valid([]byte(data)) {
		return nil, errors.New(`the data is not JSON: quote it for the shell, as '{"text": "hi"}', or add --text to send it as it is`)
	}
	return json.RawMessage(data), nil
}

func (c *sendCmd) print(stdout io.Writer, r tidings.Receipt) error {
	if c.JSON {
		return json.NewEncoder(stdout).Encode(r)
	}
	matched := fmt.Sprintf("%d connections", r.Matched)
	if r.Matched == 1 {
		matched = "1 connection"
	}
	line := fmt.Sprintf("sent %s to %s", r.ID, matched)
	if r.Scope == "" {
		line = fmt.Sprintf("sent %s; you may not be told to how many connections", r.ID)
	}
	if r.Hint != "" {
		line += ": " + r.Hint
	}
	_, err := fmt.Fprintln(stdout, line)
	return err
}

// sendLines sends stdin as it is, and prints the answers as they come.
func (c *sendCmd) sendLines(p *program, client *http.Client, url string) error {
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, io.NopCloser(p.stdin))
	if err != nil {
		return err
	}
	req.ContentLength = -1 // as long as stdin is
	req.Header.Set("Content-Type", "application/x-ndjson")
	c.present(req.Header)
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return problemIn(res)
	}
	answers, refused := 0, 0
	var last int // status of the last problem; 0 for a receipt
	lines := bufio.NewReader(res.Body)
	for {
		line, err := lines.ReadBytes('\n')
		if err == nil {
			answers++
			if last = statusIn(line); last != 0 {
				refused++
			}
			if _, err := p.stdout.Write(line); err != nil {
				return err
			}
			continue
		}
		if !errors.Is(err, io.EOF) || len(line) > 0 {
			return fmt.Errorf("the answers broke off after %d: it is not known whether the lines after that were sent (%w)", answers, err)
		}
		if last == http.StatusRequestEntityTooLarge { // the server reads no further
			return fmt.Errorf("line %d is too large: neither it nor the lines after it were sent; of the %d before it %d were not", answers, answers-1, refused-1)
		}
		if refused > 0 {
			return fmt.Errorf("%d of %d lines were not sent", refused, answers)
		}
		return nil
	}
}

// statusIn returns the status of a line's answer that is a problem document; 0 for a receipt.
func statusIn(line []byte) int {
	var answer struct {
		ID     string `json:"id"`
		Status int    `json:"status"`
	}
	if json.Unmarshal(bytes.TrimSpace(line), &answer) == nil && answer.ID != "" {
		return 0
	}
	return max(answer.Status, 1)
}
