// Command webhook receives signed webhooks (https://www.standardwebhooks.com) and tells the users they concern, over
// Server-Sent Events. README.md says how to try it by hand.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/tidings-sse/tidings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Getenv("WEBHOOK_SECRET"), os.Stdout)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "webhook:", err)
		os.Exit(1)
	}
}

// run does what the command line says until ctx ends.
func run(ctx context.Context, args []string, secret string, out io.Writer) error {
	flags := flag.NewFlagSet("webhook", flag.ContinueOnError)
	addr := flags.String("addr", "127.0.0.1:8081", "`address` to listen on")
	payload := flags.String("sign", "", "instead of serving, print the curl command that posts this `JSON`, signed")
	if err := flags.Parse(args); err != nil {
		return err
	}
	verifier, err := newVerifier(secret)
	if err != nil {
		return err
	}
	if *payload != "" {
		return printCurl(out, verifier, "http://"+*addr+"/webhook", *payload)
	}

	hub, err := tidings.New(&tidings.Options{
		// Anyone is whom they claim to be: good enough to try this out on one machine. See ../embed for real users.
		Authorizer: tidings.TrustQuery{},
		// A webhook is retried for hours. The memory broker remembers its id for as long as the process lives.
		IdempotencyWindow: 24 * time.Hour,
	})
	if err != nil {
		return fmt.Errorf("start the hub: %w", err)
	}
	defer hub.Close()

	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	server := &http.Server{
		Handler:           routes(hub, &receiver{sender: hub, verifier: verifier, log: slog.Default()}),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second, // of a whole webhook; a stream has nothing left to read
	}
	fmt.Fprintf(out, "webhook: stream at http://%[1]s/api/sse?userId=ann, webhooks to http://%[1]s/webhook\n", listener.Addr())
	served := make(chan error, 1) // Serve returns once
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return errors.Join(hub.Shutdown(end), server.Shutdown(end))
}

func routes(hub *tidings.Hub, webhooks http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/api/sse", hub)
	mux.Handle("POST /webhook", webhooks)
	return mux
}
