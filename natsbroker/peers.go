package natsbroker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/tidings-sse/tidings"
)

// What the nodes ask each other goes beside the log, by plain messages of NATS: what is lost of it is lost, and is said.

const (
	hereInterval = time.Second      // between two signs of life
	goneAfter    = 30 * time.Second // without one, unless the node said that it goes
	headerNode   = "Tidings-Node"
)

// peers are the other nodes, as this one knows them.
type peers struct {
	b    *Broker
	name string // this node, as the others know it
	subs []*nats.Subscription
	wg   sync.WaitGroup

	mu     sync.Mutex // guards what follows
	answer func([]byte) []byte
	seen   map[string]time.Time
}

var _ tidings.Peers = (*Broker)(nil)

func (p *peers) subject(what string) string { return p.b.opts.Stream + ".nodes." + what }

// join begins to listen to the others.
func (p *peers) join(b *Broker) error {
	p.b, p.name = b, nuid.Next()
	p.mu.Lock()
	p.seen = make(map[string]time.Time)
	p.mu.Unlock()
	p.subs = nil
	for what, handle := range map[string]nats.MsgHandler{
		"here": p.heard, "hello": func(*nats.Msg) { p.say("here") }, "gone": p.lost, "ask": p.asked,
	} {
		s, err := b.nc.Subscribe(p.subject(what), handle)
		if err != nil {
			return err
		}
		p.subs = append(p.subs, s)
	}
	if err := b.nc.FlushTimeout(requestTimeout); err != nil {
		return unavailable(err)
	}
	p.wg.Go(func() {
		tick := time.NewTicker(hereInterval)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p.say("here")
			case <-b.ctx.Done():
				return
			}
		}
	})
	return nil
}

// leave tells the others that this node goes.
func (p *peers) leave() {
	p.wg.Wait()
	p.say("gone")
	for _, s := range p.subs {
		_ = s.Unsubscribe()
	}
	_ = p.b.nc.FlushTimeout(requestTimeout / 4) // best effort: the connection may be gone
}

// say publishes the name of this node, if it is one that answers.
func (p *peers) say(what string) {
	p.mu.Lock()
	answers := p.answer != nil
	p.mu.Unlock()
	if answers {
		_ = p.b.nc.Publish(p.subject(what), []byte(p.name)) // without a connection nobody hears it
	}
}

func (p *peers) heard(m *nats.Msg) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen[string(m.Data)] = time.Now()
}

func (p *peers) lost(m *nats.Msg) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.seen, string(m.Data))
}

func (p *peers) asked(m *nats.Msg) {
	p.mu.Lock()
	answer := p.answer
	p.mu.Unlock()
	if answer == nil || m.Reply == "" {
		return
	}
	res := &nats.Msg{Subject: m.Reply, Header: nats.Header{headerNode: {p.name}}, Data: answer(m.Data)}
	err := p.b.nc.PublishMsg(res) // the node that asked counts who doesn't answer
	if errors.Is(err, nats.ErrMaxPayload) {
		p.b.log.Warn(logTooLarge, keyBytes, len(res.Data))
		res.Data = nil // it need not wait
		_ = p.b.nc.PublishMsg(res)
	}
}

// others returns the nodes that are known to be there.
func (p *peers) others() map[string]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	names := make(map[string]bool, len(p.seen))
	for name, at := range p.seen {
		if time.Since(at) > goneAfter {
			delete(p.seen, name)
			continue
		}
		names[name] = true
	}
	return names
}

// Answer has f answer what other nodes ask, from now on.
func (b *Broker) Answer(f func(question []byte) []byte) {
	p := &b.peers
	if f == nil {
		p.say("gone")
	}
	p.mu.Lock()
	p.answer = f
	p.mu.Unlock()
	if f == nil {
		return
	}
	p.say("here")
	_ = b.nc.Publish(p.subject("hello"), nil) // and the others say that they are
}

// Ask asks the other nodes.
func (b *Broker) Ask(ctx context.Context, question []byte) (answers [][]byte, others int, _ error) {
	ctx, cancel := b.until(ctx)
	defer cancel()
	waiting := b.peers.others()
	others = len(waiting)
	inbox := b.nc.NewInbox()
	sub, err := b.nc.SubscribeSync(inbox)
	if err == nil {
		defer func() { _ = sub.Unsubscribe() }()
		err = b.nc.PublishRequest(b.peers.subject("ask"), inbox, question)
	}
	if err != nil {
		return nil, others, fmt.Errorf("natsbroker: ask: %w", unavailable(err))
	}
	for len(waiting) > 0 {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			break // who has not answered by now is counted, and missing
		}
		if name := m.Header.Get(headerNode); waiting[name] {
			delete(waiting, name)
			if len(m.Data) > 0 { // else what it had to say was too large
				answers = append(answers, m.Data)
			}
		}
	}
	return answers, others, nil
}
