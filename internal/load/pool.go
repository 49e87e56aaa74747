package load

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// pool is the driver for everything but plain HTTP/1.1 on Linux: net/http, with a goroutine for each stream.
type pool struct {
	transports []*http.Transport // HTTP1: one; HTTP2: one for each connection
	perGroup   int               // streams of a transport
	turns      chan struct{}     // holds as many as may connect at once
	ctx        context.Context   // ends with the driver
	cancel     context.CancelFunc
	wg         sync.WaitGroup

	mu    sync.Mutex // guards the shard and the fields below
	shard *shard
	holds []hold
	next  time.Time // when the connect rate lets the next stream open
}

// hold is the pool's part of a stream.
type hold struct {
	cancel  context.CancelCauseFunc // ends the connection that is under way
	dropped bool                    // by a storm
	wait    time.Duration           // before it comes back from that
}

var _ driver = (*pool)(nil)

var (
	errDropped = errors.New("dropped by the client")
	errTooLate = failure{"timeout", false}
)

func newPool(s *shard, server netip.AddrPort) *pool {
	cfg := &s.client.cfg
	p := &pool{shard: s, holds: make([]hold, len(s.streams)), perGroup: len(s.streams)}
	p.turns = make(chan struct{}, max(1, cfg.ConnectAtOnce/cfg.Loops))
	p.ctx, p.cancel = context.WithCancel(context.Background())
	if cfg.Protocol == HTTP2 {
		p.perGroup = cfg.StreamsPerConnection
	}
	dial := dialFrom(s.client.sources(server), server)
	for range (len(s.streams) + p.perGroup - 1) / p.perGroup {
		t := &http.Transport{
			DialContext:        dial,
			DisableCompression: true,
			TLSClientConfig:    &tls.Config{InsecureSkipVerify: cfg.InsecureSkipVerify, RootCAs: cfg.RootCAs},
			Protocols:          &http.Protocols{},
			// Streams that open at once would otherwise each make a connection; HTTP1 has one for each anyway.
			MaxConnsPerHost: connsOf(cfg.Protocol),
			// Further streams would otherwise get a connection of their own when the server allows no more on one.
			HTTP2: &http.HTTP2Config{StrictMaxConcurrentRequests: true},
		}
		t.Protocols.SetHTTP1(cfg.Protocol == HTTP1)
		t.Protocols.SetHTTP2(cfg.Protocol == HTTP2 && s.client.server.Scheme == "https")
		t.Protocols.SetUnencryptedHTTP2(cfg.Protocol == HTTP2 && s.client.server.Scheme == "http")
		p.transports = append(p.transports, t)
	}
	p.wg.Go(p.keepTime)
	return p
}

// connsOf returns how many connections a transport may have; 0 is no bound.
func connsOf(p Protocol) int {
	if p == HTTP2 {
		return 1
	}
	return 0
}

// dialFrom returns a function that connects to the server from the sources in turn.
func dialFrom(sources []netip.Addr, server netip.AddrPort) func(context.Context, string, string) (net.Conn, error) {
	var turn atomic.Int64
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		if len(sources) > 0 {
			a := sources[int(turn.Add(1)-1)%len(sources)]
			d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, 0))
		}
		return d.DialContext(ctx, network, server.String())
	}
}

func (p *pool) do(f func(*shard)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shard.now = time.Now().UnixNano()
	f(p.shard)
	p.shard.share()
}

// snapshot returns the counts of a moment ago.
func (p *pool) snapshot() tally { return p.shard.snapshot() }

func (p *pool) begin() {
	p.do(func(s *shard) {
		for i := range s.streams {
			s.streams[i].phase = phaseWaiting
			p.wg.Go(func() { p.hold(&s.streams[i]) })
		}
	})
}

func (p *pool) close() {
	p.cancel()
	p.wg.Wait()
	for _, t := range p.transports {
		t.CloseIdleConnections()
	}
	p.do(func(s *shard) {
		for i := range s.streams {
			s.streams[i].phase = phaseOver
		}
	})
}

// keepTime does what is done by the clock.
func (p *pool) keepTime() {
	const every = 50 * time.Millisecond
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			p.do(func(s *shard) { s.tick(s.now) })
		case <-p.ctx.Done():
			return
		}
	}
}

// drop is called within do.
func (p *pool) drop(st *stream, how Storm) {
	h := &p.holds[st.index]
	h.dropped, h.wait = true, 0
	if how.AfterRetry {
		h.wait = p.shard.retryOf(st)
	}
	p.shard.dropped(st)
	h.cancel(errDropped)
}

// abandon is called within do.
func (p *pool) abandon(st *stream) {
	h := &p.holds[st.index]
	if st.phase != phaseWaiting {
		p.shard.connecting--
	}
	if h.dropped = true; h.cancel != nil { // so that it counts as nothing else
		h.cancel(errDropped)
	}
	p.shard.giveUp(st)
}

// hold keeps a stream open until it is given up, or the driver ends.
func (p *pool) hold(st *stream) {
	for {
		if !p.turn() {
			return
		}
		err := p.once(st)
		if p.ctx.Err() != nil {
			return
		}
		var wait time.Duration
		var again bool
		p.do(func(s *shard) {
			h := &p.holds[st.index]
			switch {
			case st.phase == phaseOver: // abandoned
			case h.dropped:
				wait, again = h.wait, true
			default:
				wait, again = s.ended(st, err)
			}
			*h = hold{}
		})
		if !again || !p.pause(wait) {
			return
		}
	}
}

// pause reports false if the driver ends meanwhile.
func (p *pool) pause(d time.Duration) bool {
	if d <= 0 {
		return p.ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-p.ctx.Done():
		return false
	}
}

// turn waits until a stream may open. The turn ends with <-p.turns.
func (p *pool) turn() bool {
	select {
	case p.turns <- struct{}{}:
	case <-p.ctx.Done():
		return false
	}
	var wait time.Duration
	cfg := &p.shard.client.cfg
	if cfg.ConnectRate > 0 {
		each := time.Duration(float64(time.Second) / cfg.ConnectRate * float64(cfg.Loops))
		p.mu.Lock()
		if now := time.Now(); p.next.Before(now) {
			p.next = now
		}
		wait = time.Until(p.next)
		p.next = p.next.Add(each)
		p.mu.Unlock()
	}
	if !p.pause(wait) {
		<-p.turns
		return false
	}
	return true
}

// once opens a stream and reads it to its end. It ends the turn once the stream is open, or has failed.
func (p *pool) once(st *stream) error {
	endTurn := sync.OnceFunc(func() { <-p.turns })
	defer endTurn()
	ctx, cancel := context.WithCancelCause(p.ctx)
	defer cancel(nil)
	var req *http.Request
	var err error
	p.do(func(s *shard) {
		if st.phase == phaseOver { // abandoned
			err = errDropped
			return
		}
		s.began(st)
		p.holds[st.index].cancel = cancel
		req, err = p.request(ctx, st)
	})
	if err != nil {
		return failure{err.Error(), true}
	}
	inTime := time.AfterFunc(p.shard.client.cfg.ConnectTimeout, func() { cancel(errTooLate) })
	defer inTime.Stop()
	res, err := p.transports[int(st.index)/p.perGroup].RoundTrip(req)
	if err != nil {
		return causeOr(ctx, err)
	}
	defer res.Body.Close()
	t, _, _ := strings.Cut(res.Header.Get("Content-Type"), ";")
	h := head{res.StatusCode, strings.EqualFold(strings.TrimSpace(t), "text/event-stream"), res.Header.Get("Content-Encoding") != ""}
	var open bool
	p.do(func(s *shard) {
		if st.phase == phaseOver {
			err = errDropped
			return
		}
		st.bodyOnly()
		st.phase = phaseHead
		s.badHead = nil
		if s.head(h); s.badHead != nil {
			err = *s.badHead
			return
		}
		err = s.read(st, nil)
		open = st.phase == phaseOpen
	})
	if err != nil {
		return err
	}
	buf := make([]byte, p.bufferOf(st))
	for {
		if open {
			inTime.Stop()
			endTurn()
			if st.pace == paceStop {
				<-ctx.Done()
				return context.Cause(ctx)
			}
		}
		n, err := res.Body.Read(buf)
		if n > 0 {
			p.do(func(s *shard) {
				if p.holds[st.index].dropped {
					err = errDropped
					return
				}
				if failed := s.read(st, buf[:n]); failed != nil {
					err = failed
				}
				open = st.phase == phaseOpen
			})
		}
		if err != nil {
			return causeOr(ctx, err)
		}
		if st.pace == paceSlow && open && !p.pause(slowTurn) {
			return context.Cause(ctx)
		}
	}
}

// slowTurn is how often a slow stream is read.
const slowTurn = 50 * time.Millisecond

// bufferOf returns how much of a stream is read at a time.
func (p *pool) bufferOf(st *stream) int {
	const usual = 4 << 10
	if st.pace == paceSlow {
		return max(1, int(int64(p.shard.client.cfg.Slow.BytesPerSecond)*int64(slowTurn)/int64(time.Second)))
	}
	return usual
}

func causeOr(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	return err
}

// request returns a stream's request.
func (p *pool) request(ctx context.Context, st *stream) (*http.Request, error) {
	c := p.shard.client
	url := c.server.Scheme + "://" + c.server.Host + string(c.fill(nil, c.target, int(st.number)))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	for name, vs := range c.header() {
		for _, v := range vs {
			req.Header.Add(name, string(c.fill(nil, streamTemplate(v), int(st.number))))
		}
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	if len(st.lastID) > 0 {
		req.Header.Set("Last-Event-ID", string(st.lastID))
	}
	return req, nil
}
