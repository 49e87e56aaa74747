// Package servers has the servers under test that are written in Go: each is what a user of that library would write, in
// its best fair configuration: queues large enough for the load, no logging, no compression, GOGC as it is.
//
// A stream is GET /api/sse?clientId=&userId=&sessionId=&topic=. Each server gives it what it has that is equivalent.
package servers

import (
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"

	"github.com/tidings-sse/tidings/bench/internal/publish"
)

// Options are what a scenario asks of a server.
type Options struct {
	// Resume has the server keep what it sent, and replay it to a stream that comes back with a Last-Event-ID.
	Resume bool
	// Unicast has streams be found by their userId. Servers that can do that beside broadcasts always do.
	Unicast bool
}

// A Server is one server under test.
type Server struct {
	Handler http.Handler
	Publish publish.Func
}

// A builder makes a server.
type builder struct {
	name   string
	module string // whose version is reported; empty is this module
	build  func(Options) (Server, error)
}

func builders() []builder {
	return []builder{
		{"tidings", "github.com/tidings-sse/tidings", newTidings},
		{"go-sse", "github.com/tmaxmax/go-sse", newGoSSE},
		{"r3labs", "github.com/r3labs/sse/v2", newR3labs},
		{"centrifuge", "github.com/centrifugal/centrifuge", newCentrifuge},
		{"naive", "", newNaive},
	}
}

// Names returns the names of all servers.
func Names() []string {
	var names []string
	for _, b := range builders() {
		names = append(names, b.name)
	}
	return names
}

// New returns the server with the name, and the version of the library behind it.
func New(name string, o Options) (Server, string, error) {
	all := builders()
	n := slices.IndexFunc(all, func(b builder) bool { return b.name == name })
	if n < 0 {
		return Server{}, "", fmt.Errorf("there is no server %q: choose one of %q", name, Names())
	}
	s, err := all[n].build(o)
	return s, version(all[n].module), err
}

// version returns a module's version from what the linker left in this program.
func version(module string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok || module == "" {
		return ""
	}
	for _, d := range info.Deps {
		if d.Path == module {
			if d.Replace != nil {
				return "" // the tree around this module: the report has its commit
			}
			return d.Version
		}
	}
	return ""
}
