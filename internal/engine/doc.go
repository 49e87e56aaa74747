// Package engine writes frames to sockets. It knows nothing of events, targets or logs: it is given frames and streams,
// and keeps one promise: what was posted to a stream is written in order and whole, or the stream ends.
//
// A [Frame] is an event encoded once, its bytes shared by every stream. A [Stream] is the outbox of one connection and
// its state. A writer carries frames from the outbox to where they go. There are two, with one set of rules:
//
//   - conn owns a hijacked net.Conn (TCP, TLS, a pipe): one goroutine reads, to learn at once that the peer is gone,
//     and another one exists only while there is something to write;
//   - response writes in the handler's own goroutine: HTTP/2, and whatever can't be hijacked.
//
// The rules: everything that is pending goes out in as few writes as possible; a stream whose outbox is full while its
// writer is stuck ends with reason slow, and nobody else waits for it; when nothing was written for the heartbeat
// interval, the owner is asked for something to write; a stream that ends on our side writes its notice, leaves it a
// moment to arrive, and ends truncated, so that every client comes back.
package engine
