// Benchserver is one server under test in a process of its own. The benchmark starts it, and talks to it as package
// control says.
//
//	benchserver [-protocol http1] [-resume] [-unicast] name
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"github.com/tidings-sse/tidings/bench/internal/control"
	"github.com/tidings-sse/tidings/bench/internal/publish"
	"github.com/tidings-sse/tidings/bench/internal/servers"
)

func main() {
	if err := run(context.Background(), os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "benchserver:", err)
		os.Exit(1)
	}
}

// run serves until commands end.
func run(ctx context.Context, args []string, commands io.Reader, answers io.Writer) error {
	var o servers.Options
	flags := flag.NewFlagSet("benchserver", flag.ContinueOnError)
	protocol := flags.String("protocol", string(servers.HTTP1), "what streams are spoken in: http1, http1-tls, http2-tls or h2c")
	flags.BoolVar(&o.Resume, "resume", false, "keep what was sent for streams that come back")
	flags.BoolVar(&o.Unicast, "unicast", false, "events will be for users")
	if err := flags.Parse(args); err != nil {
		return err
	}
	server, version, err := servers.New(flags.Arg(0), o)
	if err != nil {
		return err
	}
	addr, served, err := servers.Listen(ctx, server.Handler, servers.Protocol(*protocol))
	if err != nil {
		return err
	}
	fmt.Fprintln(answers, control.Ready{Addr: addr, Version: version})

	lines := bufio.NewScanner(commands)
	for lines.Scan() {
		select {
		case err := <-served:
			return err
		default:
		}
		switch line := lines.Text(); {
		case line == control.Settle:
			debug.FreeOSMemory()
			fmt.Fprintln(answers, control.Settled)
		default:
			c, err := control.ParsePublish(line)
			if err != nil {
				return err
			}
			p, err := publish.Run(ctx, c, server.Publish)
			if err != nil {
				fmt.Fprintln(answers, "error", strings.ReplaceAll(err.Error(), "\n", " "))
				continue
			}
			fmt.Fprintln(answers, p)
		}
	}
	return lines.Err()
}
