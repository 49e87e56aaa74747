// Package tidings delivers named events from a back end to browsers over Server-Sent Events: to one client, a user, a
// session, a topic, or everyone.
//
// The promise: an event that was accepted reaches every connection it was meant for, in order, once, across reconnects,
// restarts and nodes, or the connection is told in-stream that there is a gap.
//
//	hub, err := tidings.New(nil)
//	if err != nil {
//		return err
//	}
//	mux := http.NewServeMux()
//	mux.Handle("/api/sse", hub) // what new EventSource("/api/sse?clientId=my-client-id") connects to
//
//	receipt, err := hub.NotifyClient(ctx, "my-client-id", "status-update", map[string]any{"progress": 75})
//
// # Words
//
// An event is what the browser sees: type, data, id. A target says whom it is for. A connection is one live stream, with
// its identity: client, user, session, topics. The hub tracks connections and routes events. The broker is the ordered
// log that events pass through; a record is an event as the log holds it, and history is the records still held. A cursor
// is the last event id that a connection has seen, which a browser sends as Last-Event-ID when it reconnects. A receipt is
// what a sender learns. A grant is what an [Authorizer] lets a request do.
//
// # Sending
//
// [Hub] sends in the process and [Remote] over HTTP; both are a [Sender] and have the Notify methods. A [Target] is a set
// of conditions that must all be met; an [Event] with several targets reaches a connection that meets any of them, once.
// Everyone is said aloud, with Broadcast or [Event.Everyone]: an empty id is an error, never a broadcast. [EventType]
// ties a type's name to the Go type of its data.
//
// # Safety
//
// Without [Options.Authorizer], streams are anonymous: nobody can claim to be a user or a session, and nobody can send or
// look over HTTP. [TrustQuery] is the explicit choice to believe the query, for demos. Topics and client ids that an
// anonymous page asks for are given to it: private events belong to a user or a session.
//
// # Running it
//
// Give the server's listener [ListenControl], and leave its WriteTimeout as it is: streams outlive it. To stop, call
// [Hub.Shutdown], then [net/http.Server.Shutdown].
package tidings
