package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/internal/server"
	"github.com/tidings-sse/tidings/sse"
)

type listenCmd struct {
	remote     `embed:""`
	credential `embed:""`

	Client      string   `group:"identity" placeholder:"ID" help:"A client id of your choice, by which the stream is found again. Default: a random one for each connection."`
	User        string   `group:"identity" placeholder:"ID" help:"The user. Default: none."`
	Session     string   `group:"identity" placeholder:"ID" help:"The session. Default: none."`
	Topic       []string `group:"identity" sep:"none" placeholder:"NAME" help:"A topic to listen to. Repeatable. Default: none."`
	LastEventID string   `group:"identity" name:"last-event-id" placeholder:"ID" help:"Resume after this event: what history has after it comes first. Default: begin now."`

	JSON    bool            `help:"Print each event as a line of JSON: type, id and data, which is a string if it isn't JSON. Default: off."`
	Verbose bool            `short:"v" help:"Show heartbeats, on stderr. Default: off."`
	Count   server.Count    `placeholder:"N" help:"End after N events. Default: go on."`
	For     server.Duration `placeholder:"DURATION" help:"End after this time, as 10s. Default: go on."`
	Timeout server.Duration `default:"75s" help:"Reconnect when nothing came for this time, not even a heartbeat: more than twice the server's heartbeat interval."`
}

// Help is shown under the summary.
func (listenCmd) Help() string {
	return `Each event is a line on stdout: type, id and data, with tabs between them. What Tidings itself says, and what becomes of the connection, is on stderr behind a #.

It reconnects and resumes as a browser does. It exits with 0 when it has got its --count, when its time is over without one, and on Ctrl-C; with 1 when the server refuses for good, when --count was not reached, or when the time is over and there never was a stream.`
}

// Validate refuses what can't be listened to.
func (c *listenCmd) Validate() error {
	_, err := c.address()
	if err == nil {
		_, err = c.roots()
	}
	return err
}

// address returns the URL of the stream, with its query.
func (c *listenCmd) address() (string, error) {
	base, err := c.stream()
	if err != nil {
		return "", err
	}
	q := url.Values{}
	for name, value := range map[string]string{"clientId": c.Client, "userId": c.User, "sessionId": c.Session} {
		if value != "" {
			q.Set(name, value)
		}
	}
	for _, topic := range c.Topic {
		q.Add("topic", topic)
	}
	if len(q) > 0 {
		base += "?" + q.Encode()
	}
	return base, nil
}

// Why listening ends.
var (
	errEnough  = errors.New("all events that were asked for have come")
	errElapsed = errors.New("the time is over")
	errSilent  = errors.New("nothing came for too long, not even a heartbeat")

	errNoAnswer = errors.New("the server did not answer")
)

// Run listens, and reconnects, until there is a reason not to.
func (c *listenCmd) Run(p *program) error {
	address, err := c.address()
	if err != nil {
		return err
	}
	ctx := p.ctx
	if c.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, time.Duration(c.For), errElapsed)
		defer cancel()
	}
	transport, err := c.transport()
	if err != nil {
		return err
	}
	transport.DisableCompression = true // nothing may hold an event back
	defer transport.CloseIdleConnections()
	l := &listening{
		cmd: c, address: address, client: &http.Client{Transport: transport},
		out: p.stdout, notes: p.stderr, cursor: c.LastEventID, retry: defaultRetry, trouble: errNoAnswer,
	}
	err = l.run(ctx)
	switch {
	case errors.Is(err, errEnough):
		return nil
	case ctx.Err() != nil && c.Count > 0:
		why := "it was interrupted"
		if context.Cause(ctx) == errElapsed {
			why = fmt.Sprintf("%v were over", c.For)
		}
		return fmt.Errorf("%d of %d events had come when %s", l.events, c.Count, why)
	case context.Cause(ctx) == errElapsed && l.trouble != nil:
		return fmt.Errorf("%v were over, and there never was a stream: %w", c.For, l.trouble)
	case ctx.Err() != nil:
		return nil
	}
	return err
}

const (
	defaultRetry = 3 * time.Second        // until the server says otherwise
	minRetry     = 100 * time.Millisecond // whatever it says
	maxRetry     = 30 * time.Second       // between tries that fail, unless it asks for more
)

// listening is a stream across its reconnects.
type listening struct {
	cmd     *listenCmd
	address string
	client  *http.Client
	out     io.Writer // events
	notes   io.Writer // everything else

	cursor  string        // last event ID
	retry   time.Duration // what the server asked for
	events  int           // printed
	trouble error         // why there has been no stream yet; nil once there was one
}

// A finalError is one after which another try can't help.
type finalError struct{ error }

func (e finalError) Unwrap() error { return e.error }

// A laterError says when to try again.
type laterError struct {
	error
	after time.Duration
}

// run connects again and again.
func (l *listening) run(ctx context.Context) error {
	for failures := 0; ; {
		alive, err := l.connect(ctx)
		if _, final := errors.AsType[finalError](err); final || errors.Is(err, errEnough) || ctx.Err() != nil {
			return err
		}
		wait := max(l.retry, minRetry) // jittered by the server
		failures++
		if alive {
			failures = 0
		} else if l.trouble != nil {
			l.trouble = err
		}
		if failures > 1 {
			wait = min(wait<<min(failures-1, 10), max(maxRetry, wait))
			wait = wait/2 + rand.N(wait/2)
		}
		if later, ok := errors.AsType[laterError](err); ok {
			wait = max(wait, later.after)
		}
		if err == nil {
			err = errors.New("the server ended the stream")
		}
		l.note("%s: reconnecting in %v", printable(err.Error()), wait.Round(100*time.Millisecond))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// connect reads one stream to its end. alive says that it was one.
func (l *listening) connect(ctx context.Context) (alive bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(time.Duration(l.cmd.Timeout), func() { cancel(errSilent) })
	defer silence.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.address, nil)
	if err != nil {
		return false, finalError{err}
	}
	req.Header.Set("Accept", sse.ContentType)
	req.Header.Set("Cache-Control", "no-store")
	l.cmd.present(req.Header)
	if l.cursor != "" {
		req.Header.Set("Last-Event-ID", l.cursor)
	}
	res, err := l.client.Do(req)
	if _, unknown := errors.AsType[x509.UnknownAuthorityError](err); unknown {
		return false, finalError{l.cmd.explain(err)}
	}
	if err != nil {
		return false, causeOr(ctx, l.cmd.explain(err))
	}
	defer res.Body.Close()
	if err := checkAnswer(res); err != nil {
		return false, l.refused(err)
	}
	l.trouble = nil
	return true, causeOr(ctx, l.read(watched{res.Body, silence, time.Duration(l.cmd.Timeout)}))
}

// refused says what to do about an answer that is not a stream.
func (l *listening) refused(err error) error {
	if final, ok := errors.AsType[finalError](err); ok {
		return finalError{l.cmd.explain(final.error)}
	}
	return err
}

// causeOr returns why the context ended, if it has, and else err.
func causeOr(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && err != nil && !errors.Is(err, errEnough) {
		return cause
	}
	return err
}

// checkAnswer returns an error for an answer that is not a stream.
func checkAnswer(res *http.Response) error {
	switch status := res.StatusCode; {
	case status == http.StatusOK:
		if t, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); t != sse.ContentType {
			return finalError{fmt.Errorf("the answer is no event stream but %q: is it a Tidings server?", res.Header.Get("Content-Type"))}
		}
		return nil
	case status == http.StatusNoContent:
		return finalError{errors.New("the server says that there is nothing to come back for (204)")}
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests, status >= http.StatusInternalServerError:
		seconds, _ := strconv.Atoi(res.Header.Get("Retry-After"))
		const most = 300
		return laterError{problemIn(res), time.Duration(max(0, min(seconds, most))) * time.Second}
	}
	return finalError{problemIn(res)}
}

// watched is a body that reports each byte that comes.
type watched struct {
	io.Reader
	silence *time.Timer
	timeout time.Duration
}

func (w watched) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	if n > 0 {
		w.silence.Reset(w.timeout)
	}
	return n, err
}

// read prints the stream's events, and keeps its cursor.
func (l *listening) read(r io.Reader) error {
	o := &sse.DecoderOptions{LastEventID: l.cursor}
	if l.cmd.Verbose {
		o.OnComment = func(text string) {
			if text == "" {
				text = "heartbeat"
			}
			l.note("%s", printable(text))
		}
	}
	d := sse.NewDecoder(r, o)
	defer func() {
		l.cursor = d.LastEventID()
		if retry, ok := d.Retry(); ok {
			l.retry = retry
		}
	}()
	for e, err := range d.Events() {
		if err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) {
				return nil // how a stream ends that is to be resumed
			}
			if _, tooLarge := errors.AsType[*sse.TooLargeError](err); tooLarge {
				return finalError{err} // it would come again
			}
			return err
		}
		if strings.HasPrefix(e.Type, tidings.ReservedPrefix) {
			l.note("%s %s", printable(e.Type), printable(e.Data))
			continue
		}
		if err := l.print(e); err != nil {
			return finalError{err}
		}
		if l.events++; l.events == int(l.cmd.Count) {
			return errEnough
		}
	}
	return nil
}

// print writes an event as a line.
func (l *listening) print(e sse.Event) error {
	if !l.cmd.JSON {
		_, err := fmt.Fprintf(l.out, "%s\t%s\t%s\n", printable(e.Type), printable(e.ID), printable(e.Data))
		return err
	}
	line := struct {
		Type string `json:"type"`
		ID   string `json:"id"`
		Data any    `json:"data"`
	}{e.Type, e.ID, e.Data}
	if json.Valid([]byte(e.Data)) {
		line.Data = json.RawMessage(e.Data)
	}
	enc := json.NewEncoder(l.out)
	enc.SetEscapeHTML(false)
	return enc.Encode(line)
}

func (l *listening) note(format string, args ...any) { fmt.Fprintf(l.notes, "# "+format+"\n", args...) }

// printable escapes what would end the line or drive the terminal.
func printable(s string) string {
	if strings.IndexFunc(s, unsafeRune) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unsafeRune(r) {
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// unsafeRune reports whether a terminal may take r for anything but a visible character: controls, and what turns the
// direction of text around.
func unsafeRune(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
}
