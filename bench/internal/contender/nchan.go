package contender

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/tidings-sse/tidings/bench/internal/control"
	"github.com/tidings-sse/tidings/bench/internal/publish"
)

// nchanPublishers is how many connections post to Nchan at a time at least, where it is to be as fast as it can.
const nchanPublishers = 4

// nchanConf is nginx's configuration: the module, the directory, the address, and the channels of a stream.
const nchanConf = `load_module %[1]s;
user %[5]s;
worker_processes 2;
worker_rlimit_nofile 20000;
daemon off;
pid %[2]s/nginx.pid;
error_log stderr crit;
events { worker_connections 19900; }
http {
	access_log off;
	gzip off;
	client_body_temp_path %[2]s/body;
	proxy_temp_path %[2]s/proxy;
	fastcgi_temp_path %[2]s/fastcgi;
	uwsgi_temp_path %[2]s/uwsgi;
	scgi_temp_path %[2]s/scgi;
	keepalive_requests 100000000;
	nchan_shared_memory_size 512m;
	server {
		listen %[3]s backlog=4096;
		location = /api/sse {
			nchan_subscriber eventsource;
			nchan_channel_id %[4]s;
			nchan_subscriber_first_message newest;
		}
		location = /pub {
			nchan_publisher;
			nchan_channel_id $arg_id;
			nchan_message_buffer_length 40000;
			nchan_message_timeout 10m;
			client_max_body_size 1m;
			client_body_buffer_size 1m;
		}
	}
}
`

// findNchan returns where nginx and its module are.
func findNchan() (binary, module string, err error) {
	const remedy = "on Debian, `apt-get install nginx-light libnginx-mod-nchan`"
	binary, err = exec.LookPath("nginx")
	if err != nil {
		if binary, err = exec.LookPath("/usr/sbin/nginx"); err != nil {
			return "", "", errors.New("nginx is not installed: " + remedy)
		}
	}
	for _, dir := range []string{"/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/local/lib/nginx/modules"} {
		module := filepath.Join(dir, "ngx_nchan_module.so")
		if _, err := os.Stat(module); err == nil {
			return binary, module, nil
		}
	}
	return "", "", errors.New("nginx has no Nchan module: " + remedy)
}

func startNchan(ctx context.Context, binary, module string, o Options) (*Server, error) {
	dir, err := os.MkdirTemp("", "tidings-bench-nchan-")
	if err != nil {
		return nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	channels := "everyone"
	if o.Unicast {
		channels = "everyone $arg_userId"
	}
	user := "nobody"
	if os.Getuid() == 0 {
		user = "root" // in a user namespace there may be no other
	}
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nchanConf, module, dir, addr, channels, user), 0o600); err != nil {
		return nil, err
	}
	p, err := startProcess(binary, "-c", conf, "-p", dir)
	if err != nil {
		return nil, err
	}
	s := &Server{URL: "http://" + addr + streamQuery, PID: p.pid(), stop: func() { p.stop(); _ = os.RemoveAll(dir) }}
	if err := waitForListener(ctx, p, addr); err != nil {
		s.Stop()
		return nil, err
	}
	if _, v, ok := strings.Cut(output(ctx, binary, "-v"), "nginx/"); ok {
		s.Version = "nginx " + strings.TrimSpace(v)
	}
	if v := output(ctx, "dpkg-query", "-W", "-f", "${Version}", "libnginx-mod-nchan"); v != "" && !strings.Contains(v, " ") {
		s.Version += ", Nchan " + v
	}
	client := newPoster()
	s.prepare = func(c control.Publish) control.Publish {
		if c.Rate == 0 {
			c.Publishers = max(c.Publishers, nchanPublishers)
		}
		return c
	}
	s.publish = func(ctx context.Context, c control.Publish) (control.Published, error) {
		return publish.Run(ctx, c, func(ctx context.Context, user string, data []byte) error {
			if user == "" {
				user = "everyone"
			}
			return client.post(ctx, "http://"+addr+"/pub?id="+user, "application/json", data)
		})
	}
	return s, nil
}

// freeAddr returns a loopback address with a port that was free a moment ago.
func freeAddr() (string, error) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}

// waitForListener waits until a connection to addr is accepted, or the process has ended.
func waitForListener(ctx context.Context, p *process, addr string) error {
	for every := time.NewTicker(20 * time.Millisecond); ; {
		if c, err := net.Dial("tcp4", addr); err == nil {
			return c.Close()
		}
		select {
		case <-every.C:
		case <-p.ended:
			return p.failed(errors.New("it ended"))
		case <-ctx.Done():
			return p.failed(context.Cause(ctx))
		}
	}
}

// A poster posts over connections that it keeps.
type poster struct{ client http.Client }

func newPoster() *poster {
	return &poster{http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}}}
}

// post returns when the whole answer was read.
func (p *poster) post(ctx context.Context, url, contentType string, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", contentType)
	answer, err := p.client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("the server answered %s", answer.Status)
	}
	return nil
}
