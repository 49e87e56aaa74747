package server

import (
	"net/http"
	"time"
)

// HTTP returns the server that net/http runs, to see how it is set up.
func (s *Server) HTTP() *http.Server { return s.http }

// WithReadHeaderTimeout shortens it, before Run.
func (s *Server) WithReadHeaderTimeout(d time.Duration) { s.http.ReadHeaderTimeout = d }

// Bounded is the handler that limits how long a body may take.
var Bounded = bounded

// BodyWithin is how long.
const BodyWithin = bodyWithin

// Choose chooses among a name's addresses.
var Choose = choose
