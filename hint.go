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
	k := t.key()
	found := h.conns.under(k)
	if found.len() == 0 {
		return "no connection has " + k.field() + " " + k.value
	}
	failed := make(map[string]int)
	for _, c := range t.conditions() {
		if c.value == "" {
			continue
		}
		look := maxHintLook
		for conn := range found.all {
			if !conn.has(c.target()) {
				failed[c.field()]++
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
			return fmt.Sprintf("%s %s %s; %s another %s", have, k.field(), k.value, they, field)
		}
	}
	if failed["topic"] > 0 {
		return fmt.Sprintf("%s %s %s, and not the topic %s", have, k.field(), k.value, t.Topic)
	}
	return fmt.Sprintf("%s %s %s, and each is excluded", have, k.field(), k.value)
}

// target returns the condition alone.
func (k key) target() Target {
	switch k.kind {
	case kindClient:
		return Target{ClientID: k.value}
	case kindSession:
		return Target{SessionID: k.value}
	case kindUser:
		return Target{UserID: k.value}
	case kindTopic:
		return Target{Topic: k.value}
	}
	return Target{}
}
