// Package engine writes frames to sockets. It knows nothing of events, targets or logs: it is given frames, streams and
// groups of streams, and keeps one promise: what was posted to a stream is written in order and whole, or the stream ends.
//
// A [Frame] is an event encoded once, its bytes shared by every stream. A [Stream] is one connection: its outbox and its
// state. A [Group] is many streams that are posted to with one call.
//
// # Loops
//
// Each stream belongs to one of a few loops, and only that loop touches it: streams have no locks, goroutines or timers of
// their own, and an idle one has no outbox. What others want of a stream they post to the inbox of its loop. The loop takes
// what was posted, queues the frames for the streams that they are for, has a slice of those written, each with one write
// however much it has queued, and looks at its inbox again. So frames share writes where there is much to do, and nothing
// is held back where there is little.
//
// Frames for few streams are urgent: those streams have a list of their own, and slices of it alternate with slices of the
// rest. One event to one user doesn't wait for the end of a broadcast to all.
//
// # Writers
//
// A writer carries a stream's bytes to where they go. There are three:
//
//   - socket owns a plain TCP or Unix socket, on Linux, that was taken from Go's net package: its loop writes to it, without
//     blocking, and is told by the kernel when there is something to learn of it;
//   - conn owns any other hijacked net.Conn (TLS, what wraps a connection, a pipe): one goroutine reads, to learn at once
//     that the peer is gone, and another one exists only while a batch is written;
//   - response writes in the handler's own goroutine: HTTP/2, and whatever can't be hijacked.
//
// They have one set of rules, which are the loop's. A stream whose writer can take no more is parked: its outbox fills. When
// that is full, the loop takes nothing more from its inbox until there is room or the stream has ended as slow, and whoever
// posts waits, see [Engine.Room]. When nothing was written for the heartbeat interval, a heartbeat is, or a checkpoint. A
// stream that ends on our side writes its notice, leaves it a moment to arrive, and ends truncated, so that every client
// comes back.
package engine
