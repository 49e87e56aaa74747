package natsbroker_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/natsbroker"
)

// A log in a directory outlives the hub and the program.
func ExampleEmbed() {
	dir, err := os.MkdirTemp("", "log")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	quiet := slog.New(slog.DiscardHandler)
	for range 2 {
		log, err := natsbroker.Embed(context.Background(), natsbroker.EmbedOptions{Dir: dir, Options: natsbroker.Options{Logger: quiet}})
		if err != nil {
			fmt.Println(err)
			return
		}
		hub, err := tidings.New(&tidings.Options{Broker: log, Logger: quiet})
		if err != nil {
			fmt.Println(err)
			return
		}
		if _, err := hub.NotifyUser(context.Background(), "user123", "new-message", "hi"); err != nil {
			fmt.Println(err)
		}
		fmt.Println(hub.Stats().History.Events, "in the log")
		_ = hub.Close()
		_ = log.Close()
	}
	// Output:
	// 1 in the log
	// 2 in the log
}

// A log on NATS servers is shared by the programs that connect to it.
func ExampleConnect() {
	log, err := natsbroker.Connect(context.Background(), natsbroker.ConnectOptions{
		URL: "nats://nats-1:4222,nats://nats-2:4222,nats://nats-3:4222", CredentialsFile: "tidings.creds", Replicas: 3,
	})
	if err != nil {
		fmt.Println(err) // it says what is missing, and what to do
		return
	}
	defer log.Close()
	hub, err := tidings.New(&tidings.Options{Broker: log})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer hub.Close()
}
