// Package load puts load on an SSE server, and checks what arrives: a client that holds many streams at little cost, and a
// publisher with a schedule that does not wait for the server. "tidings bench" is a face of it.
//
//	client, err := load.New(load.Config{URL: "http://127.0.0.1:8080/api/sse?clientId=c{n}", Connections: 1000})
//	defer client.Close()
//	err = client.Connect(ctx)                                // until all are open
//	ledger := load.NewLedger()
//	sent, err := load.Publish(ctx, load.PublishConfig{..}, ledger)
//	err = client.Wait(ctx, ledger)                           // until all have what was sent
//	report := client.Report(ledger)                          // what came, how late, and what did not
//
// The words: a stream has a number, from 0. Every event's data is a payload that begins with a [Stamp], from which a stream
// knows, without asking anybody, which event comes next: publishers count the events of each target, and each stream
// expects 1, 2, 3, .. of every target that it belongs to. Latency is the time from when the schedule wanted an event sent
// to when its bytes were read, so a publisher that is held up by the server does not hide that.
package load
