package load

import (
	"crypto/x509"
	"net/http"
	"net/netip"
	"time"
)

// Protocol is what the streams are spoken over.
type Protocol string

// The protocols. HTTP1 over plain http:// on Linux is the cheap one: a few event loops hold all streams. All others use
// net/http, with goroutines for each stream.
const (
	HTTP1 Protocol = "http1" // a connection for each stream
	HTTP2 Protocol = "http2" // several streams on a connection; over http:// it is h2c with prior knowledge
)

// Config says which streams to open. Only URL and Connections must be set.
type Config struct {
	// URL is the streams' URL, http:// or https://. In it, {n} is the stream's number, {user} is that modulo Users, and
	// {topic} that modulo Topics.
	URL string
	// Connections is how many streams to open. Their numbers are 0 to Connections-1.
	Connections int
	// Users and Topics are how many users and topics the streams are spread over. 0 is one for each stream of users, and
	// one of topics.
	Users, Topics int
	// Header is sent with each request. It wins over what the client sends itself. Values may hold {n}, {user}, {topic}.
	Header http.Header

	// Protocol is HTTP1 by default.
	Protocol Protocol
	// StreamsPerConnection is how many streams share a connection of HTTP2: 100 by default.
	StreamsPerConnection int
	// InsecureSkipVerify accepts any certificate of an https:// server.
	InsecureSkipVerify bool
	// RootCAs are who must have signed the certificate of an https:// server. Nil is the system's.
	RootCAs *x509.CertPool
	// Portable uses net/http also where event loops would do.
	Portable bool

	// ConnectRate is how many streams are opened in a second, also when they come back. 0 is no bound.
	ConnectRate float64
	// ConnectAtOnce is how many streams may wait for their response's head at a time: 256 by default.
	ConnectAtOnce int
	// ConnectTimeout is how long a stream may take until its response's head: 10 s by default.
	ConnectTimeout time.Duration
	// ConnectAttempts is how often a stream tries to open before it is given up: 5 by default.
	ConnectAttempts int
	// Sources are the addresses to connect from, used in turn. Nil is the system's choice, or, if the server is on IPv4
	// loopback and there are more streams than one address has ports, as many of 127.0.0.1, 127.0.0.2, .. as are needed.
	Sources []netip.Addr
	// NoReconnect leaves streams that ended as they are. Else they come back as a browser does: with their last event ID,
	// after the time that the server asked for with retry.
	NoReconnect bool
	// Retry is how long streams wait before they come back until the server has sent retry: 3 s by default.
	Retry time.Duration

	// Slow are streams that don't read as fast as they could.
	Slow Slow

	// FromFirst lets a stream begin with whatever it gets first of each target. Else it expects all that the ledger
	// counts, from number 1.
	FromFirst bool

	// Loops is how many event loops, or locks in the portable client, share the streams: 1 by default.
	Loops int
	// ReadBuffer is each loop's buffer, in bytes, and how much is read of one stream before others have their turn:
	// 256 KiB by default.
	ReadBuffer int
	// ReceiveBuffer is SO_RCVBUF of each socket, in bytes. 0 is the system's choice. Event loops only.
	ReceiveBuffer int
}

// Slow says which streams read slowly. They are spread evenly over the numbers, and no loss is counted for what they have
// not read yet.
type Slow struct {
	// Connections is how many streams are slow.
	Connections int
	// BytesPerSecond is how fast they read. 0 is not at all once the response's head has come; only event loops then see
	// that the server ends them.
	BytesPerSecond int
}
