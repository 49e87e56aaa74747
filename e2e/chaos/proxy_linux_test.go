package chaos

import (
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// A proxy stands between a node and NATS, and can break what goes through it.
type proxy struct {
	ln   net.Listener
	port int
	wg   sync.WaitGroup

	mu    sync.Mutex
	flows chan struct{} // closed while bytes pass; open while they are held
	late  time.Duration // how much later the server's bytes pass
	conns map[net.Conn]bool
}

func newProxy(t testing.TB, port int) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{ln: ln, port: port, flows: make(chan struct{}), conns: map[net.Conn]bool{}}
	close(p.flows)
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = ln.Close()
		p.mend()
		p.mu.Lock()
		for c := range p.conns {
			_ = c.Close()
		}
		p.mu.Unlock()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) url() string { return "nats://" + p.ln.Addr().String() }

func (p *proxy) accept() {
	for {
		c, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() {
			defer c.Close()
			s, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.port))
			if err != nil {
				return
			}
			defer s.Close()
			p.mu.Lock()
			p.conns[c], p.conns[s] = true, true
			p.mu.Unlock()
			var both sync.WaitGroup
			both.Go(func() { p.pass(s, c, false); _ = s.Close() })
			both.Go(func() { p.pass(c, s, true); _ = c.Close() })
			both.Wait()
			p.mu.Lock()
			delete(p.conns, c)
			delete(p.conns, s)
			p.mu.Unlock()
		})
	}
}

// pass copies what comes, as long as it is let through.
func (p *proxy) pass(to io.Writer, from io.Reader, fromServer bool) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		flows, late := p.flows, p.late
		p.mu.Unlock()
		<-flows
		if fromServer && late > 0 {
			time.Sleep(late) // it is what a slow network does
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// cut holds everything back: to both ends, the other one is silent.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flows = make(chan struct{})
}

// mend lets everything pass again.
func (p *proxy) mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.flows:
	default:
		close(p.flows)
	}
}

// slow has what the server sends pass later.
func (p *proxy) slow(by time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.late = by
}
