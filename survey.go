package tidings

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Questions to all nodes of a deployment, where the broker can carry them (see [Peers]). Who doesn't answer in time is not
// waited for, and the answer says of how many nodes it is.

// Nodes says of how many nodes an answer is.
type Nodes struct {
	Answered int `json:"answered"`
	Of       int `json:"of"` // that are known to be there
}

// String returns "3 of 3".
func (n Nodes) String() string { return fmt.Sprintf("%d of %d", n.Answered, n.Of) }

// ScopeCluster is the scope of what was asked of all nodes.
const ScopeCluster = "cluster"

// surveyWithin is how long the other nodes have to answer.
const surveyWithin = 2 * time.Second

// ConnectionPage is a part of a list of connections.
type ConnectionPage struct {
	Connections []Connection `json:"connections"` // in the order of their connection ids
	Next        string       `json:"next,omitempty"`
	Total       int          `json:"total"`           // how many meet the target now, listed or not
	Nodes       *Nodes       `json:"nodes,omitempty"` // nil where only this node was asked
}

// question is what a node asks the others. An unknown one is not answered: it is of a later version.
type question struct {
	Ask     string   `json:"ask"`
	Target  *Target  `json:"target,omitempty"`
	Targets []Target `json:"targets,omitempty"`
	Exclude *Target  `json:"exclude,omitempty"`
	Limit   int      `json:"limit,omitempty"`
	After   string   `json:"after,omitempty"`
}

const (
	askList       = "list"
	askDisconnect = "disconnect"
	askMatched    = "matched"
)

// reply is what a node answers.
type reply struct {
	ConnectionPage
	Count int    `json:"count"` // disconnected, or matched
	Error string `json:"error,omitempty"`
}

// answerPeers has the hub answer what others ask, until it closes.
func (h *Hub) answerPeers() {
	if p, ok := h.broker.(Peers); ok {
		p.Answer(func(raw []byte) []byte {
			var q question
			r := reply{Error: "not known"}
			if json.Unmarshal(raw, &q) == nil {
				r = h.answer(q)
			}
			return mustJSON(r)
		})
	}
}

func (h *Hub) answer(q question) reply {
	var t Target
	if q.Target != nil {
		t = *q.Target
	}
	switch q.Ask {
	case askList:
		p := h.page(t, pageLimit(q.Limit), q.After)
		p.fit(maxReplyBytes)
		return reply{ConnectionPage: p}
	case askDisconnect:
		n, err := h.Disconnect(t)
		if err != nil {
			return reply{Error: err.Error()}
		}
		return reply{Count: n}
	case askMatched:
		var exclude Target
		if q.Exclude != nil {
			exclude = *q.Exclude
		}
		return reply{Count: h.countMatching(q.Targets, exclude)}
	}
	return reply{Error: "not known"}
}

// survey asks the other nodes, and returns what they answered. nodes is nil where there is nobody to ask; it counts this
// node, too.
func (h *Hub) survey(ctx context.Context, q question) (replies []reply, nodes *Nodes, _ error) {
	p, ok := h.broker.(Peers)
	if !ok {
		return nil, nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, surveyWithin)
	defer cancel()
	answers, others, err := p.Ask(ctx, mustJSON(q))
	nodes = &Nodes{Answered: 1, Of: others + 1}
	if err != nil {
		return nil, nodes, err
	}
	for _, raw := range answers {
		var r reply
		if json.Unmarshal(raw, &r) != nil || r.Error != "" {
			continue
		}
		nodes.Answered++
		replies = append(replies, r)
	}
	return replies, nodes, nil
}

// maxPage is how many connections are listed at once.
const maxPage = 1000

// pageLimit returns the limit as a page takes it: what another node asks for is not to be trusted more than a program.
func pageLimit(limit int) int { return min(max(limit, 1), maxPage) }

// page lists the connections of this node, for a limit that was made one of pageLimit.
func (h *Hub) page(t Target, limit int, after string) ConnectionPage {
	cs := h.matching(t)
	p := ConnectionPage{Total: len(cs)}
	cs = slices.DeleteFunc(cs, func(c *conn) bool { return c.connectionID <= after })
	slices.SortFunc(cs, func(a, b *conn) int { return cmp.Compare(a.connectionID, b.connectionID) })
	p.Connections = make([]Connection, 0, min(len(cs), limit))
	for i, c := range cs {
		if i == limit {
			p.Next = cs[i-1].connectionID
			break
		}
		p.Connections = append(p.Connections, h.describe(c))
	}
	return p
}

// maxReplyBytes is how large a part of a list another node is told: NATS takes a message of 1 MiB unless it is told otherwise.
const maxReplyBytes = 512 << 10

// fit ends the page earlier where its connections, as JSON, have more bytes than this. It keeps one at least.
func (p *ConnectionPage) fit(most int) {
	size := 0
	for i := range p.Connections {
		if size += len(mustJSON(p.Connections[i])) + 1; i > 0 && size > most {
			p.Connections, p.Next = p.Connections[:i], p.Connections[i-1].ConnectionID
			return
		}
	}
}

// AllConnections lists the live connections of all nodes that meet the target (all, for the zero Target), at most limit of
// them, after a connection id. A limit below 1 is taken for 1, and one above 1000 for 1000. Where other nodes can't be asked, it is those of this node, and Nodes is nil.
//
// The error says that the others could not be asked; the page is then of this node, and its Nodes say so.
func (h *Hub) AllConnections(ctx context.Context, t Target, limit int, after string) (ConnectionPage, error) {
	limit = pageLimit(limit)
	p := h.page(t, limit, after)
	replies, nodes, err := h.survey(ctx, question{Ask: askList, Target: orNil(t), Limit: limit, After: after})
	p.Nodes = nodes
	end := p.Next // up to where all nodes' parts reach; empty is all there is
	for _, r := range replies {
		p.Total += r.Total
		p.Connections = append(p.Connections, r.Connections...)
		if r.Next != "" && (end == "" || r.Next < end) {
			end = r.Next
		}
	}
	more := end != ""
	if more { // what lies beyond comes with the next page, or it would pass over what another node has before it
		p.Connections = slices.DeleteFunc(p.Connections, func(c Connection) bool { return c.ConnectionID > end })
	}
	slices.SortFunc(p.Connections, func(a, b Connection) int { return cmp.Compare(a.ConnectionID, b.ConnectionID) })
	if p.Next = ""; len(p.Connections) > limit {
		p.Connections, more = p.Connections[:limit], true
	}
	if more && len(p.Connections) > 0 {
		p.Next = p.Connections[len(p.Connections)-1].ConnectionID
	}
	return p, err
}

// DisconnectAll is [Hub.Disconnect] on all nodes. nodes is nil where other nodes can't be asked. The error is one of
// Disconnect, or says that the others could not be asked, when nodes is not nil.
func (h *Hub) DisconnectAll(ctx context.Context, t Target) (n int, nodes *Nodes, err error) {
	if n, err = h.Disconnect(t); err != nil {
		return 0, nil, err
	}
	replies, nodes, err := h.survey(ctx, question{Ask: askDisconnect, Target: orNil(t)})
	for _, r := range replies {
		n += r.Count
	}
	return n, nodes, err
}

// Reach counts the live connections of all nodes that an event for these targets, without those excluded, would be queued
// for now. No targets is everyone. nodes is nil where other nodes can't be asked: it is this node's count then.
func (h *Hub) Reach(ctx context.Context, targets []Target, exclude Target) (n int, nodes *Nodes, err error) {
	n = h.countMatching(targets, exclude)
	others, nodes, err := h.reachOthers(ctx, targets, exclude)
	return n + others, nodes, err
}

func (h *Hub) reachOthers(ctx context.Context, targets []Target, exclude Target) (n int, nodes *Nodes, err error) {
	replies, nodes, err := h.survey(ctx, question{Ask: askMatched, Targets: targets, Exclude: orNil(exclude)})
	for _, r := range replies {
		n += r.Count
	}
	return n, nodes, err
}

// countMatching counts the connections of this node that an event would be for. Routing waits while connections are
// gathered under one key, and not while they are compared with the targets: who one is never changes.
func (h *Hub) countMatching(targets []Target, exclude Target) int {
	if len(targets) == 0 {
		targets = []Target{{}} // everyone
	}
	if k := targets[0].key(); len(targets) == 1 && exclude.IsZero() && k.kind != kindClient && targets[0].isOnly(k) {
		return h.countUnder(k)
	}
	n := 0
	var cs []*conn
	for i, t := range targets {
		cs = h.gather(t.key(), cs)
		for _, c := range cs {
			if c.meets(t) && !c.isForAny(targets[:i]) && (exclude.IsZero() || !c.meets(exclude)) {
				n++
			}
		}
	}
	return n
}

// countUnder counts the connections under a key: as many as are found, but for a client id, which may find nobody.
func (h *Hub) countUnder(k key) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.conns.under(k).len()
}

// gather returns the connections under a key, in the place of those that cs has.
func (h *Hub) gather(k key, cs []*conn) []*conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	cs = cs[:0]
	for c := range h.conns.under(k).all {
		cs = append(cs, c)
	}
	return cs
}

// isForAny reports whether the identity meets one of the targets.
func (id *identity) isForAny(targets []Target) bool {
	return slices.ContainsFunc(targets, id.meets)
}

// orNil returns nil for the zero Target, which JSON leaves out.
func orNil(t Target) *Target {
	if t.IsZero() {
		return nil
	}
	return &t
}

// countAll makes the receipt of a send one of all nodes: what the others have is counted now.
func (h *Hub) countAll(ctx context.Context, e Event, r Receipt) Receipt {
	targets, err := e.targets(h.opts.MaxTargets)
	if err != nil {
		return r // it was sent, so they are good
	}
	n, nodes, _ := h.reachOthers(ctx, targets, e.Exclude) // who could not be asked is counted in nodes
	if nodes == nil {
		nodes = &Nodes{Answered: 1, Of: 1}
	}
	r.Scope, r.Nodes = ScopeCluster, nodes
	if r.Matched += n; n > 0 {
		r.Hint = ""
	}
	return r
}
