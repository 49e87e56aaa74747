package sse_test

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/tidings-sse/tidings/sse"
)

func ExampleAppendEvent() {
	wire, err := sse.AppendEvent(nil, sse.Event{
		Type: "greeting",
		Data: "Hello,\nworld",
		ID:   "42",
	})
	if err != nil {
		panic(err)
	}
	os.Stdout.Write(wire)

	_, err = sse.AppendEvent(nil, sse.Event{ID: "42\ndata: forged"})
	fmt.Println(err)
	// Output:
	// event: greeting
	// data: Hello,
	// data: world
	// id: 42
	//
	// sse: event id has a line break at byte 2
}

// A type and an id that were checked when they came in need no second check for
// each event.
func ExampleAppendBlock() {
	const typ, id = "new-message", "1k3-2y.0-c4"
	if err := sse.CheckType(typ); err != nil {
		panic(err)
	}
	frame := sse.AppendBlock(nil, typ, []byte(`{"text":"hi"}`), id)
	os.Stdout.Write(frame)
	// Output:
	// event: new-message
	// data: {"text":"hi"}
	// id: 1k3-2y.0-c4
}

// A retry line belongs to the block that follows.
func ExampleAppendRetry() {
	wire := sse.AppendRetry(nil, 3*time.Second)
	wire = sse.AppendBlock(wire, "welcome", []byte("{}"), "1")
	os.Stdout.Write(wire)
	// Output:
	// retry: 3000
	// event: welcome
	// data: {}
	// id: 1
}

func ExampleAppendComment() {
	wire := sse.AppendComment(nil, "going down for a minute")
	wire = append(wire, '\n')
	os.Stdout.Write(wire)
	// Output:
	// : going down for a minute
}

// A block without data moves the last event ID and fires no event.
func ExampleAppendID() {
	wire := append(sse.AppendID(nil, "43"), '\n')

	events := sse.NewDecoder(strings.NewReader(string(wire)), nil)
	for event := range events.Events() {
		fmt.Println("an event:", event)
	}
	fmt.Println("last event ID:", events.LastEventID())
	// Output:
	// last event ID: 43
}

func ExampleDecoder() {
	body := strings.NewReader("retry: 3000\nevent: greeting\ndata: Hello,\ndata: world\nid: 42\n\ndata: no type\n\ndata: cut off")

	events := sse.NewDecoder(body, nil)
	for event, err := range events.Events() {
		if err != nil {
			panic(err)
		}
		fmt.Printf("%s: %q\n", event.Type, event.Data)
	}

	retry, _ := events.Retry()
	fmt.Printf("come back in %v with Last-Event-ID: %s\n", retry, events.LastEventID())
	// Output:
	// greeting: "Hello,\nworld"
	// message: "no type"
	// come back in 3s with Last-Event-ID: 42
}

// Heartbeats are comments: no event, but a sign of life.
func ExampleDecoderOptions_heartbeats() {
	body := strings.NewReader(sse.Heartbeat + "data: tick\n\n" + sse.Heartbeat)

	events := sse.NewDecoder(body, &sse.DecoderOptions{
		OnComment: func(text string) { fmt.Printf("alive (%q)\n", text) },
	})
	for event, err := range events.Events() {
		if err != nil {
			panic(err)
		}
		fmt.Println(event.Data)
	}
	// Output:
	// alive ("")
	// tick
	// alive ("")
}
