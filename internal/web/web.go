// Package web holds the pages that a Tidings server shows to people: plain ES modules, embedded, with no build step
// and nothing from elsewhere. The pages are clients of the HTTP API like any other; nothing here knows a hub.
package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"time"

	"github.com/tidings-sse/tidings"
)

//go:embed demo
var files embed.FS

// contentSecurityPolicy allows a page its own files and its own server, and nothing else: no inline script or style,
// no frame around it, no other host.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
	"img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Demo returns the handler of the demo page: the page itself at /sse-demo and its files under /sse-demo/. Mount it
// at both patterns, without stripping the prefix:
//
//	demo := web.Demo()
//	mux.Handle("/sse-demo", demo)
//	mux.Handle("/sse-demo/", demo)
//
// It answers GET and HEAD, with an ETag from the content and a strict Content-Security-Policy; other methods are 405,
// other paths 404, both as problem documents. The page expects the stream at /api/sse and the HTTP API under
// /api/sse/ of the same origin. The handler holds no state and may serve any number of requests at once.
func Demo() http.Handler {
	return newSite(files, "demo", "/sse-demo")
}

// site serves one page and the files beside it. It is read-only once made.
type site struct {
	root  string           // where the page is, as "/sse-demo"
	files map[string]asset // by URL path; the page under root itself
}

// asset is a file as it is served.
type asset struct {
	content     []byte
	contentType string
	etag        string
}

// newSite reads a page's directory: its index.html becomes the page at root, each other file is served under root/.
// A directory that holds anything but plain files of known types is a fault of the build, and panics.
func newSite(from fs.FS, dir, root string) *site {
	entries, err := fs.ReadDir(from, dir)
	if err != nil {
		panic(fmt.Sprintf("web: reading embedded %s: %v", dir, err))
	}
	s := &site{root: root, files: make(map[string]asset, len(entries))}
	for _, entry := range entries {
		name := entry.Name()
		content, err := fs.ReadFile(from, path.Join(dir, name))
		if err != nil {
			panic(fmt.Sprintf("web: reading embedded %s: %v", name, err))
		}
		sum := sha256.Sum256(content)
		a := asset{content: content, contentType: contentType(name), etag: `"` + hex.EncodeToString(sum[:12]) + `"`}
		if name == "index.html" {
			s.files[root] = a
		} else {
			s.files[root+"/"+name] = a
		}
	}
	return s
}

// contentType says what a file is by its name. It doesn't ask package mime, whose answers depend on the machine.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	}
	panic("web: no content type for " + name)
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", contentSecurityPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Frame-Options", "DENY") // for browsers that don't know frame-ancestors
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-cache")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		(&tidings.Problem{
			Type: "urn:tidings:method", Status: http.StatusMethodNotAllowed,
			Detail: r.Method + " is not allowed here", Hint: "use GET or HEAD",
		}).ServeHTTP(w, r)
		return
	}
	if r.URL.Path == s.root+"/" {
		http.Redirect(w, r, s.root, http.StatusPermanentRedirect)
		return
	}
	a, ok := s.files[r.URL.Path]
	if !ok {
		(&tidings.Problem{
			Type: "urn:tidings:not-found", Status: http.StatusNotFound,
			Detail: "there is nothing at " + r.URL.Path, Hint: "the page is at " + s.root,
		}).ServeHTTP(w, r)
		return
	}
	h.Set("Content-Type", a.contentType)
	h.Set("ETag", a.etag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.content))
}
