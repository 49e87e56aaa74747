package contender

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/tidings-sse/tidings/bench/internal/control"
	"github.com/tidings-sse/tidings/bench/internal/publish"
	"github.com/tidings-sse/tidings/bench/internal/servers"
)

// startTidingsServe starts the program itself, with its defaults but for its log.
func startTidingsServe(ctx context.Context, binary string) (*Server, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	p, err := startProcess(binary, "serve", "--addr", addr, "--log-level", "error", "--drain-window", "10ms")
	if err != nil {
		return nil, err
	}
	s := &Server{URL: "http://" + addr + streamQuery, PID: p.pid(), stop: p.stop}
	if err := waitForListener(ctx, p, addr); err != nil {
		s.Stop()
		return nil, err
	}
	client := newPoster()
	s.prepare = func(c control.Publish) control.Publish {
		c.Rate, c.Publishers = 0, 1 // all in one request
		return c
	}
	s.publish = func(ctx context.Context, c control.Publish) (control.Published, error) {
		var body bytes.Buffer
		made, err := publish.Run(ctx, c, func(_ context.Context, user string, data []byte) error {
			fmt.Fprintf(&body, `{"type":"new-message","data":%s`, data)
			if user != "" {
				fmt.Fprintf(&body, `,"target":{"userId":%q}`, user)
			}
			body.WriteString("}\n")
			return nil
		})
		if err != nil {
			return made, err
		}
		made.Start = time.Now()
		err = client.post(ctx, "http://"+addr+servers.StreamPath+"/send", "application/x-ndjson", body.Bytes())
		made.End = time.Now()
		return made, err
	}
	return s, nil
}
