package tidings

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Event is what a browser sees (Type, Data), and whom it is for. It says whom: exactly one of Everyone, Target and
// Targets is given. Nothing given is [ErrNoTarget], so an unset id can't turn private data into a broadcast.
type Event struct {
	// Type is the name that addEventListener listens to. Empty is "message", which onmessage receives.
	// At most 128 bytes; "open", "error" and the prefix "tidings." are reserved.
	Type string

	// Data is encoded as JSON by encoding/json, without HTML escaping, on one line. nil is null.
	// A json.RawMessage passes through byte for byte but for white space between its tokens.
	// A [Text] is sent as it is, not as JSON. A []byte is refused: say which of the two it is.
	Data any

	// Everyone sends the event to every connection.
	Everyone bool
	// Target sends it to the connections that meet all its conditions.
	Target Target
	// Targets sends it, once, to each connection that meets any of them. At most 100.
	Targets []Target

	// Exclude leaves out the connections that meet all its conditions: the tab that caused the event, say.
	Exclude Target

	// TTL is how long the event is worth delivering, by the log's clock. Zero is as long as history holds it.
	// Whole milliseconds.
	TTL time.Duration

	// CollapseKey makes this event replace the earlier one with the same key and exactly the same targets, where
	// that one was not yet delivered: in queues and in history. At most 256 bytes.
	CollapseKey string

	// IdempotencyKey makes a repeated send safe: within the window ([Options.IdempotencyWindow], 2 minutes by default)
	// the same key and event answer the first receipt and send nothing, and the same key with another event is
	// [ErrConflict]. Where something else tries again for longer, as webhooks do, the window must be longer than that.
	// At most 256 bytes.
	IdempotencyKey string
}

// Text is event data that is sent as it is, not as JSON. Line ends (CR, LF, CRLF) arrive as LF: that is what the wire
// format can carry. It must be valid UTF-8.
type Text string

// Receipt is what a sender learns of an event that was accepted.
type Receipt struct {
	// ID is the event's id, the one browsers see. It is also a cursor: a stream that resumes from it begins after the
	// event.
	ID string `json:"id"`
	// Matched is how many live connections the event was queued for, in Scope.
	// Connections that are away get it when they resume, and are not counted; nor is one that is being replayed to,
	// which gets it all the same.
	Matched int `json:"matched"`
	// Scope says where connections were counted: "node", the one that took the event, or "cluster", all of Nodes. It is
	// empty where a [Remote] may not be told how many matched, which the server leaves out: see [Grant.SendTo].
	Scope string `json:"scope"`
	// Nodes says how many nodes counted, where all were asked.
	Nodes *Nodes `json:"nodes,omitempty"`
	// Hint says why nobody matched, where Matched is 0 and it can be said.
	Hint string `json:"hint,omitempty"`
}

// ScopeNode is the scope of a receipt that counts the connections of one node.
const ScopeNode = "node"

const defaultType = "message"

// record checks the event and encodes its data. Past here, no field needs to be looked at again.
func (e *Event) record(limits *Options) (Record, error) {
	targets, err := e.check(limits.MaxTargets)
	if err != nil {
		return Record{}, err
	}
	rec := Record{Type: e.Type, Targets: targets, Exclude: e.Exclude, TTL: e.TTL, CollapseKey: e.CollapseKey, IdempotencyKey: e.IdempotencyKey}
	if rec.Type == "" {
		rec.Type = defaultType
	}
	if rec.Data, err = encodeData(e.Data); err != nil {
		return Record{}, err
	}
	if len(rec.Data) > limits.MaxEventBytes {
		return Record{}, notStored(fmt.Errorf("%w: its data has %d bytes, at most %d are allowed", ErrTooLarge, len(rec.Data), limits.MaxEventBytes))
	}
	return rec, nil
}

// check checks everything but the data, and returns whom the event is for.
func (e *Event) check(maxTargets int) ([]Target, error) {
	if e.Type != "" {
		if err := checkType("type", e.Type); err != nil {
			return nil, err
		}
	}
	targets, err := e.targets(maxTargets)
	if err != nil {
		return nil, err
	}
	if !e.Exclude.IsZero() {
		if err := e.Exclude.check("exclude"); err != nil {
			return nil, err
		}
	}
	if err := checkTTL("ttlMs", e.TTL); err != nil {
		return nil, err
	}
	for _, k := range [2]struct{ field, value string }{{"collapseKey", e.CollapseKey}, {"idempotencyKey", e.IdempotencyKey}} {
		if k.value == "" {
			continue
		}
		if err := checkName(k.field, k.value, maxIDBytes); err != nil {
			return nil, err
		}
	}
	return targets, nil
}

// targets returns whom the event is for; nil is everyone.
func (e *Event) targets(limit int) ([]Target, error) {
	one, many := !e.Target.IsZero(), len(e.Targets) > 0
	switch {
	case e.Everyone && (one || many):
		return nil, &InvalidError{Field: "targets", Reason: "are given together with everyone", Hint: "choose one"}
	case one && many:
		return nil, &InvalidError{Field: "targets", Reason: "is given together with target", Hint: "put the target into targets"}
	case e.Everyone:
		return nil, nil
	case one:
		ts := []Target{e.Target}
		return ts, checkTargets(ts, limit)
	case many:
		return slices.Clone(e.Targets), checkTargets(e.Targets, limit)
	}
	return nil, &InvalidError{
		Field: "target", Reason: "names nobody", Err: ErrNoTarget,
		Hint: "set Target or Targets, or Everyone for a broadcast",
	}
}

// maxTTL bounds a TTL so that a record's time plus its TTL can't overflow.
const maxTTL = 100 * 365 * 24 * time.Hour

func checkTTL(field string, ttl time.Duration) error {
	switch {
	case ttl < 0, ttl%time.Millisecond != 0:
		return &InvalidError{Field: field, Reason: fmt.Sprintf("is %v", ttl), Hint: "give whole milliseconds, one at least, or leave it out"}
	case ttl > maxTTL:
		return &InvalidError{Field: field, Reason: fmt.Sprintf("is %v", ttl), Hint: "give at most a hundred years, or leave it out"}
	}
	return nil
}

// encodeData returns what stands in the event's data lines. JSON has no line end in it; text may.
func encodeData(data any) ([]byte, error) {
	switch d := data.(type) {
	case nil:
		return []byte("null"), nil
	case Text:
		if !utf8.ValidString(string(d)) {
			return nil, &InvalidError{Field: "text", Reason: "is not valid UTF-8", Hint: "encode binary data, as base64 say"}
		}
		return []byte(d), nil
	case json.RawMessage:
		return compactJSON(d)
	case validJSON:
		return compactValid(d), nil
	case []byte:
		return nil, &InvalidError{Field: "data", Reason: "is a []byte", Hint: "say what it is: json.RawMessage(b) or tidings.Text(b)"}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(data); err != nil {
		return nil, &InvalidError{Field: "data", Reason: "can't be encoded as JSON: " + err.Error(), Hint: "give what encoding/json can encode, or a tidings.Text"}
	}
	out := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	// A Marshaler's own output, or a json.RawMessage in the data, may hold what json.Encoder passes through.
	if !utf8.Valid(out) {
		return nil, invalidUTF8("data", out)
	}
	if bytes.ContainsAny(out, "\r\n") {
		return compactJSON(out)
	}
	return out, nil
}

// compactJSON drops the white space between tokens and keeps every other byte: no float and no string is rewritten.
func compactJSON(raw []byte) ([]byte, error) {
	if len(raw) == 0 {
		return []byte("null"), nil
	}
	if !utf8.Valid(raw) {
		return nil, invalidUTF8("data", raw)
	}
	if isCompact(raw) {
		return bytes.Clone(raw), nil
	}
	var b bytes.Buffer
	b.Grow(len(raw))
	if err := json.Compact(&b, raw); err != nil {
		return nil, &InvalidError{Field: "data", Reason: "is not JSON: " + strings.TrimPrefix(err.Error(), "json: "), Hint: "send valid JSON, or raw text as \"text\""}
	}
	return b.Bytes(), nil
}

func invalidUTF8(field string, b []byte) error {
	at := 0
	for at < len(b) {
		r, n := utf8.DecodeRune(b[at:])
		if r == utf8.RuneError && n <= 1 {
			break
		}
		at += n
	}
	return &InvalidError{Field: field, Reason: fmt.Sprintf("is not valid UTF-8 at byte %d", at), Hint: "send UTF-8"}
}
