//go:build linux

// Command flooder does to a server what someone without a credential can do to it, for a test that measures what those
// who have one notice: a process of its own, so that what the flood costs its sender is not the measuring client's.
//
//	flooder -addr HOST:PORT -kind tokens|oversized|slow|silent -for 4s -n 2000 [-token T]
//
// With -kind silent it takes until all -n connections are open, for a minute at most, and half of -for.
//
// It gives way to every other process of the machine (nice 19), since an attacker has a machine of their own. It prints
// one line of JSON at its end: what it did, and what it was answered.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A flood is what to do, and what was done.
type flood struct {
	addr, token string
	n           int // requests a second, or connections in all

	done   atomic.Int64 // requests that were answered as they should be, or connections
	wrong  sync.Map     // the status lines of other answers
	cut    atomic.Int64 // connections that the server closed without an answer
	failed atomic.Int64 // connections that could not be opened
}

// report is what is printed.
type report struct {
	Done   int64    `json:"done"`
	Cut    int64    `json:"cut"`
	Failed int64    `json:"failed"`
	Wrong  []string `json:"wrong,omitempty"` // a status line of each kind that was not expected
}

func main() {
	f := &flood{}
	flag.StringVar(&f.addr, "addr", "", "HOST:PORT of the server")
	flag.StringVar(&f.token, "token", "", "the forged token of -kind tokens")
	flag.IntVar(&f.n, "n", 1000, "requests a second, or connections in all")
	kind := flag.String("kind", "", "tokens, oversized, slow or silent")
	lasts := flag.Duration("for", time.Second, "how long")
	flag.Parse()
	if err := giveWay(); err != nil {
		fmt.Fprintln(os.Stderr, "flooder: lowering its own priority:", err)
		os.Exit(1)
	}
	if err := f.run(*kind, *lasts); err != nil {
		fmt.Fprintln(os.Stderr, "flooder:", err)
		os.Exit(1)
	}
}

func (f *flood) run(kind string, lasts time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), lasts)
	defer cancel()
	switch kind {
	case "tokens":
		f.requests(ctx, "GET /api/sse HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nAuthorization: Bearer "+f.token+"\r\n\r\n", "401")
	case "oversized":
		const header = 1 << 20
		f.requests(ctx, "GET /api/sse HTTP/1.1\r\nHost: localhost\r\nX-Long: "+strings.Repeat("x", header)+"\r\n\r\n", "431")
	case "slow":
		f.slow(ctx)
	case "silent":
		f.silent(lasts / 2)
	default:
		return fmt.Errorf("-kind %q is none of tokens, oversized, slow and silent", kind)
	}
	r := report{Done: f.done.Load(), Cut: f.cut.Load(), Failed: f.failed.Load()}
	f.wrong.Range(func(status, _ any) bool {
		r.Wrong = append(r.Wrong, status.(string))
		return true
	})
	return json.NewEncoder(os.Stdout).Encode(r)
}

// requests sends what stands there at the rate, on connections that are kept while the server keeps them.
func (f *flood) requests(ctx context.Context, text, want string) {
	const workers = 10
	request := []byte(text)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			tick := time.NewTicker(time.Second * workers / time.Duration(f.n))
			defer tick.Stop()
			w := &worker{flood: f, request: request, want: want}
			defer w.hangUp()
			for {
				select {
				case <-tick.C:
					w.send(ctx)
				case <-ctx.Done():
					return
				}
			}
		})
	}
	wg.Wait()
}

// A worker sends one request after the other.
type worker struct {
	*flood
	request []byte
	want    string
	conn    net.Conn // nil if there is none
	in      *bufio.Reader
}

func (w *worker) hangUp() {
	if w.conn != nil {
		_ = w.conn.Close()
		w.conn = nil
	}
}

func (w *worker) send(ctx context.Context) {
	if w.conn == nil {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", w.addr)
		if err != nil {
			if !isOver(ctx) {
				w.failed.Add(1)
			}
			return
		}
		w.conn, w.in = conn, bufio.NewReader(conn)
		end, _ := ctx.Deadline()
		_ = conn.SetDeadline(end.Add(time.Second))
	}
	_, _ = w.conn.Write(w.request) // the server may hang up in the middle of it
	res, err := http.ReadResponse(w.in, nil)
	if err != nil {
		w.cut.Add(1)
		w.hangUp()
		return
	}
	if strings.HasPrefix(res.Status, w.want) {
		w.done.Add(1)
	} else {
		w.wrong.Store(res.Status, true)
	}
	if _, err = io.Copy(io.Discard, res.Body); err != nil || res.Close {
		w.hangUp()
	}
}

// isOver reports whether the time is over. A dial that ends with it may return before ctx says so.
func isOver(ctx context.Context) bool {
	end, timed := ctx.Deadline()
	return ctx.Err() != nil || timed && !time.Now().Before(end)
}

// open opens connections, over a time at the shortest.
func (f *flood) open(ctx context.Context, over time.Duration) []net.Conn {
	const together = 10
	tick := time.NewTicker(max(over*together/time.Duration(f.n), time.Microsecond))
	defer tick.Stop()
	conns := make([]net.Conn, 0, f.n)
	for i := range f.n {
		if i%together == 0 {
			<-tick.C
		}
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", f.addr)
		switch {
		case isOver(ctx):
			return conns
		case err != nil:
			f.failed.Add(1)
			continue
		}
		conns = append(conns, conn)
		f.done.Add(1)
	}
	return conns
}

// slow sends its headers a byte at a time.
func (f *flood) slow(ctx context.Context) {
	conns := f.open(ctx, 0)
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	head := "GET /api/sse HTTP/1.1\r\nHost: localhost\r\nX-Slow: " + strings.Repeat("x", 1000)
	for i := 0; i < len(head); i++ {
		for j, conn := range conns {
			if conn == nil {
				continue
			}
			if _, err := conn.Write([]byte{head[i]}); err != nil {
				f.cut.Add(1)
				_ = conn.Close()
				conns[j] = nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// silent connects, over a time at the shortest, and says nothing for as long again. However long it takes to connect where
// processors are scarce, it connects as often as it should.
func (f *flood) silent(over time.Duration) {
	const most = time.Minute
	ctx, cancel := context.WithTimeout(context.Background(), most)
	defer cancel()
	conns := f.open(ctx, over)
	time.Sleep(over)
	for _, conn := range conns {
		if ended(conn) {
			f.cut.Add(1)
		}
	}
}

// ended reports whether the server has closed a connection on which it never says anything.
func ended(conn net.Conn) (is bool) {
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return true
	}
	err = raw.Control(func(fd uintptr) {
		_, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
		is = !errors.Is(err, unix.EAGAIN)
	})
	return is || err != nil
}

// giveWay lets every other process go first. A thread's priority is its own: the program starts once more, with that of
// the thread that starts it.
func giveWay() error {
	const nicest = 19
	if has, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err != nil || 20-has == nicest { // the kernel's own count is from 40 to 1
		return err
	}
	runtime.LockOSThread()
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, nicest); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return unix.Exec(self, os.Args, os.Environ())
}
