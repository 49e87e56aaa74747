package e2e

import (
	"errors"
	"io"
	"net"
	"regexp"
	"slices"
	"sync"
	"testing"
)

// proxy forwards TCP to a server and cuts it: what lies between a client and its server, at its worst.
type proxy struct {
	addr string // host:port
	ln   net.Listener
	wg   sync.WaitGroup

	mu       sync.Mutex // guards what follows
	upstream string
	open     map[net.Conn]struct{} // both ends of every connection
	tearAt   *regexp.Regexp        // what the server sends ends behind the first match; nil is never
	torn     int                   // connections that did
	blocked  bool                  // new connections are closed at once
	closed   bool
}

// newProxy returns a proxy in front of the server at upstream. It ends with the test.
func newProxy(t testing.TB, upstream string) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: ln.Addr().String(), ln: ln, upstream: upstream, open: make(map[net.Conn]struct{})}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = ln.Close()
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		p.cut()
		p.wg.Wait()
	})
	return p
}

// switchTo sends new connections to another server.
func (p *proxy) switchTo(upstream string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.upstream = upstream
}

// cut ends all connections, at both ends, at once.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		_ = c.Close()
	}
}

// block closes new connections at once until unblock, as if the server were down. Those that are open stay.
func (p *proxy) block() { p.setBlocked(true) }

func (p *proxy) unblock() { p.setBlocked(false) }

func (p *proxy) setBlocked(b bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.blocked = b
}

// tear cuts the next connection whose server sends what matches, right behind the match: the client gets that, and
// nothing more. A match is no longer than a kilobyte.
func (p *proxy) tear(at string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tearAt = regexp.MustCompile(at)
}

// tears returns how many connections were torn so far.
func (p *proxy) tears() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.torn
}

func (p *proxy) accept() {
	for {
		client, err := p.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		p.wg.Go(func() { p.forward(client) })
	}
}

func (p *proxy) forward(client net.Conn) {
	p.mu.Lock()
	upstream, blocked := p.upstream, p.blocked
	p.mu.Unlock()
	if blocked {
		_ = client.Close()
		return
	}
	server, err := net.Dial("tcp", upstream)
	if err != nil {
		_ = client.Close()
		return
	}
	if !p.begin(client, server) {
		return
	}
	defer p.end(client, server)
	p.wg.Go(func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	})
	p.downstream(client, server)
}

// downstream copies what the server sends until it ends or is torn.
func (p *proxy) downstream(client, server net.Conn) {
	var sent []byte // the end of it, which may be the beginning of a match
	buf := make([]byte, 32<<10)
	for {
		n, err := server.Read(buf)
		keep, tear := p.mayPass(sent, buf[:n])
		if keep > 0 {
			if _, err := client.Write(buf[:keep]); err != nil {
				return
			}
		}
		if err != nil || tear {
			return
		}
		const longest = 1 << 10
		sent = append(sent, buf[:n]...)
		sent = sent[max(0, len(sent)-longest):]
	}
}

// mayPass returns how much of the chunk the client may get, and whether the connection is torn behind that.
func (p *proxy) mayPass(sent, chunk []byte) (keep int, tear bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tearAt == nil {
		return len(chunk), false
	}
	at := p.tearAt.FindIndex(slices.Concat(sent, chunk))
	if at == nil || at[1] <= len(sent) {
		return len(chunk), false
	}
	p.tearAt = nil
	p.torn++
	return at[1] - len(sent), true
}

func (p *proxy) begin(cs ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range cs {
		if p.closed {
			_ = c.Close()
			continue
		}
		p.open[c] = struct{}{}
	}
	return !p.closed
}

func (p *proxy) end(cs ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range cs {
		_ = c.Close()
		delete(p.open, c)
	}
}
