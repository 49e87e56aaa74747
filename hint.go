package tidings

import "fmt"

// maxHintLook bounds how many connections are looked at to explain why none matched.
const maxHintLook = 1000

// hint says why a record matched no connection.
func (h *Hub) hint(rec *Record) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch len(rec.Targets) {
	case 0:
		if len(h.conns.all) == 0 {
			return "nobody is connected"
		}
		return "every connection is excluded"
	case 1:
		return h.hintFor(rec.Targets[0])
	}
	return fmt.Sprintf("no connection meets any of the %d targets", len(rec.Targets))
}

// hintFor explains one target: how many connections meet its narrowest condition, and which other one they fail.
func (h *Hub) hintFor(t Target) string {
	var given []condition
	for _, c := range t.conditions() {
		if c.value != "" {
			given = append(given, c)
		}
	}
	first, found := given[0], h.conns.under(t.key())
	if found.len() == 0 {
		return "no connection has " + first.field + " " + first.value
	}
	failed := make(map[string]int)
	for _, c := range given {
		look := maxHintLook
		for conn := range found.all {
			if !conn.has(c.target()) {
				failed[c.field]++
			}
			if look--; look == 0 {
				break
			}
		}
	}
	have := fmt.Sprintf("%d connections have", found.len())
	they := "they have"
	if found.len() == 1 {
		have, they = "1 connection has", "it has"
	}
	for _, field := range [...]string{"sessionId", "userId"} {
		if failed[field] > 0 {
			return fmt.Sprintf("%s %s %s; %s another %s", have, first.field, first.value, they, field)
		}
	}
	if failed["topic"] > 0 {
		return fmt.Sprintf("%s %s %s, and not the topic %s", have, first.field, first.value, t.Topic)
	}
	return fmt.Sprintf("%s %s %s, and each is excluded", have, first.field, first.value)
}

// target returns the condition alone.
func (c condition) target() Target {
	switch c.kind {
	case kindClient:
		return Target{ClientID: c.value}
	case kindSession:
		return Target{SessionID: c.value}
	case kindUser:
		return Target{UserID: c.value}
	case kindTopic:
		return Target{Topic: c.value}
	}
	return Target{}
}
