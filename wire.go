package tidings

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// The JSON form of an event, in the HTTP API and wherever an Event is stored as JSON:
//
//	{"type": "new-message", "data": {"text": "hi"}, "target": {"userId": "user_456"}}
//
// data is any JSON, passed through byte for byte but for white space between tokens; "text" in its place is raw text. An
// absent target is everyone. The others are targets, exclude, ttlMs, collapseKey and idempotencyKey. It is read
// strictly: what is unknown, given twice or empty is refused, because it is a mistake of somebody's program.

// MarshalJSON writes the event in the form of the HTTP API.
func (e Event) MarshalJSON() ([]byte, error) {
	if _, err := e.check(math.MaxInt); err != nil { // json would replace what is not UTF-8, and leave out a short TTL
		return nil, err
	}
	form := struct {
		Type           string          `json:"type,omitempty"`
		Data           json.RawMessage `json:"data,omitempty"`
		Text           *Text           `json:"text,omitempty"`
		Target         *Target         `json:"target,omitempty"`
		Targets        []Target        `json:"targets,omitempty"`
		Exclude        *Target         `json:"exclude,omitempty"`
		TTL            int64           `json:"ttlMs,omitempty"`
		CollapseKey    string          `json:"collapseKey,omitempty"`
		IdempotencyKey string          `json:"idempotencyKey,omitempty"`
	}{Type: e.Type, Targets: e.Targets, TTL: e.TTL.Milliseconds(), CollapseKey: e.CollapseKey, IdempotencyKey: e.IdempotencyKey}
	if !e.Target.IsZero() {
		form.Target = &e.Target
	}
	if !e.Exclude.IsZero() {
		form.Exclude = &e.Exclude
	}
	data, err := encodeData(e.Data)
	if err != nil {
		return nil, err
	}
	if t, ok := e.Data.(Text); ok {
		form.Text = &t
	} else {
		form.Data = data
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(form); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// UnmarshalJSON reads an event in the form of the HTTP API. The error is an [*InvalidError] that says where.
func (e *Event) UnmarshalJSON(b []byte) error {
	ev, err := parseEvent(slices.Clone(b))
	if err == nil {
		_, err = ev.check(math.MaxInt)
	}
	if err != nil {
		return err
	}
	if data, ok := ev.Data.(validJSON); ok {
		ev.Data = json.RawMessage(data)
	}
	*e = ev
	return nil
}

// eventFields are the members of an event.
func eventFields() []string {
	return []string{"type", "data", "text", "target", "targets", "exclude", "ttlMs", "collapseKey", "idempotencyKey"}
}

// validJSON is event data that was found to be valid, as a part of something larger.
type validJSON json.RawMessage

// parseEvent reads one event, and nothing after it. Its data may be a part of b, and is a validJSON where it is not a Text.
func parseEvent(b []byte) (Event, error) {
	e := Event{Everyone: true}
	var data validJSON
	err := parseObject("", b, eventFields(), func(name, field string, raw json.RawMessage) (err error) {
		switch name {
		case "type":
			err = parseString(field, raw, &e.Type)
		case "data":
			data = validJSON(raw)
		case "text":
			var s string
			err = parseJSONString(field, raw, &s)
			e.Data = Text(s)
		case "target":
			e.Everyone = false
			e.Target, err = parseTarget(field, raw)
		case "targets":
			e.Everyone = false
			e.Targets, err = parseTargets(field, raw)
		case "exclude":
			e.Exclude, err = parseTarget(field, raw)
		case "ttlMs":
			err = parseMillis(field, raw, &e.TTL)
		case "collapseKey":
			err = parseString(field, raw, &e.CollapseKey)
		case "idempotencyKey":
			err = parseString(field, raw, &e.IdempotencyKey)
		}
		return err
	})
	switch {
	case err != nil:
		return Event{}, err
	case data == nil:
	case e.Data != nil:
		return Event{}, &InvalidError{Field: "text", Reason: "is given together with data", Hint: "choose one: data is JSON, text is sent as it is"}
	default:
		e.Data = data
	}
	return e, nil
}

// parseTarget reads a target from JSON that is valid.
func parseTarget(field string, raw json.RawMessage) (Target, error) {
	var t Target
	err := readObject(field, raw, []string{"clientId", "userId", "sessionId", "topic"}, func(name, field string, raw json.RawMessage) error {
		switch name {
		case "clientId":
			return parseString(field, raw, &t.ClientID)
		case "userId":
			return parseString(field, raw, &t.UserID)
		case "sessionId":
			return parseString(field, raw, &t.SessionID)
		}
		return parseString(field, raw, &t.Topic)
	})
	if err != nil {
		return Target{}, err
	}
	return t, t.check(field)
}

func parseTargets(field string, raw json.RawMessage) ([]Target, error) {
	var raws []json.RawMessage
	if raw[0] != '[' {
		return nil, &InvalidError{Field: field, Reason: "is " + jsonKind(raw) + ", not an array", Hint: "give an array of targets"}
	}
	if err := json.Unmarshal(raw, &raws); err != nil {
		return nil, &InvalidError{Field: field, Reason: err.Error()}
	}
	if len(raws) == 0 {
		return nil, &InvalidError{Field: field, Reason: "is empty", Err: ErrNoTarget, Hint: "name at least one target; for everyone, leave targets out"}
	}
	ts := make([]Target, len(raws))
	for i, r := range raws {
		var err error
		if ts[i], err = parseTarget(fmt.Sprintf("%s[%d]", field, i), r); err != nil {
			return nil, err
		}
	}
	return ts, nil
}

// parseObject reads one JSON object, whose members may be those of the names, and calls read for each that it has. It
// refuses anything else: another kind of value, a member that is unknown or given twice, anything after the object.
func parseObject(field string, b []byte, names []string, read func(name, field string, raw json.RawMessage) error) error {
	if !utf8.Valid(b) {
		return invalidUTF8(orBody(field), b)
	}
	if !json.Valid(b) {
		return syntaxError(field, b)
	}
	return readObject(field, bytes.TrimSpace(b), names, read)
}

// readObject is parseObject for JSON that is valid, and without white space around it.
func readObject(field string, b []byte, names []string, read func(name, field string, raw json.RawMessage) error) error {
	if b[0] != '{' {
		return &InvalidError{Field: orBody(field), Reason: "is " + jsonKind(b) + ", not an object", Hint: "send a JSON object"}
	}
	seen := uint64(0) // by the index in names
	for quoted, raw := range members(b) {
		at := slices.IndexFunc(names, func(name string) bool { return name == string(quoted[1:len(quoted)-1]) })
		if at < 0 {
			var name string
			if err := json.Unmarshal(quoted, &name); err != nil {
				return syntaxError(field, b)
			}
			if at = slices.Index(names, name); at < 0 { // else it was written with escapes
				return &InvalidError{Field: join2(field, shorten(name)), Reason: "is not known", Hint: unknownHint(name, names)}
			}
		}
		name := join2(field, names[at])
		if seen&(1<<at) != 0 {
			return &InvalidError{Field: name, Reason: "is given twice", Hint: "give it once"}
		}
		seen |= 1 << at
		if err := read(names[at], name, raw); err != nil {
			return err
		}
	}
	return nil
}

func orBody(field string) string {
	if field == "" {
		return "body"
	}
	return field
}

func join2(field, name string) string {
	if field == "" {
		return name
	}
	return field + "." + name
}

// syntaxError says what is wrong with JSON that is not valid, and where.
func syntaxError(field string, b []byte) error {
	var v json.RawMessage
	dec := json.NewDecoder(bytes.NewReader(b))
	err := dec.Decode(&v)
	reason := "is not JSON"
	switch se, ok := errors.AsType[*json.SyntaxError](err); {
	case errors.Is(err, io.EOF):
		reason = "is empty"
	case errors.Is(err, io.ErrUnexpectedEOF):
		reason = "is not complete JSON"
	case ok:
		reason = fmt.Sprintf("is not JSON: %s, at byte %d", se, se.Offset)
	case err == nil:
		reason = fmt.Sprintf("has something after its end, at byte %d", dec.InputOffset())
	}
	return &InvalidError{Field: orBody(field), Reason: reason, Hint: "send one JSON object"}
}

func unknownHint(name string, names []string) string {
	plain := strings.NewReplacer("_", "", "-", "").Replace(name)
	for _, known := range names {
		if strings.EqualFold(known, plain) {
			return "did you mean " + known + "?"
		}
	}
	for _, c := range (Target{}).conditions() {
		if strings.EqualFold(c.field(), plain) {
			return "did you mean {\"target\": {\"" + c.field() + "\": ..}}?"
		}
	}
	return "leave it out"
}

// shorten makes a name of somebody else's choice fit for an error: neither filling it nor missing from it.
func shorten(name string) string {
	const most = 64
	switch {
	case name == "":
		return `""`
	case len(name) <= most:
		return name
	}
	return strings.ToValidUTF8(name[:most], "") + ".."
}

// parseString reads a string that is not empty.
func parseString(field string, raw json.RawMessage, into *string) error {
	if err := parseJSONString(field, raw, into); err != nil {
		return err
	}
	if *into == "" {
		return &InvalidError{Field: field, Reason: "is empty", Hint: "leave it out, or give it a value"}
	}
	return nil
}

func parseJSONString(field string, raw json.RawMessage, into *string) error {
	if raw[0] != '"' {
		return &InvalidError{Field: field, Reason: "is " + jsonKind(raw) + ", not a string", Hint: "leave it out, or give a string"}
	}
	if !bytes.ContainsRune(raw, '\\') {
		*into = string(raw[1 : len(raw)-1])
		return nil
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return &InvalidError{Field: field, Reason: err.Error()}
	}
	// encoding/json writes U+FFFD for half of a surrogate pair: what was sent would not be what arrives.
	if halfPair(raw) {
		return &InvalidError{Field: field, Reason: "holds half of a surrogate pair", Hint: "escape both halves, or send the character as UTF-8"}
	}
	return nil
}

// halfPair reports whether a JSON string escapes half of a surrogate pair.
func halfPair(raw []byte) bool {
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		i++ // what is escaped
		if r := escaped(raw[i:]); utf16.IsSurrogate(r) {
			if i+5 >= len(raw) || raw[i+5] != '\\' || utf16.DecodeRune(r, escaped(raw[i+6:])) == utf8.RuneError {
				return true
			}
			i += 6
		}
	}
	return false
}

// escaped returns the code unit of "u" and its four digits, or 0.
func escaped(b []byte) rune {
	if len(b) < 5 || b[0] != 'u' {
		return 0
	}
	n, _ := strconv.ParseUint(string(b[1:5]), 16, 16)
	return rune(n)
}

func parseMillis(field string, raw json.RawMessage, into *time.Duration) error {
	var ms int64
	if err := json.Unmarshal(raw, &ms); err != nil || raw[0] == 'n' {
		return &InvalidError{Field: field, Reason: "is not a whole number of milliseconds", Hint: "give one, or leave it out"}
	}
	if ms <= 0 || ms > maxTTL.Milliseconds() {
		return &InvalidError{Field: field, Reason: fmt.Sprintf("is %d", ms), Hint: fmt.Sprintf("give 1 to %d, or leave it out", maxTTL.Milliseconds())}
	}
	*into = time.Duration(ms) * time.Millisecond
	return nil
}

func jsonKind(raw []byte) string {
	switch raw[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "a number"
}
