// Command browser shows the ways in which a page can carry a token: as a cookie, as a ticket and in a header. Run it and
// open the page that it names, http://localhost:8083 where -addr says nothing else.
package main

import (
	"context"
	"crypto/rand"
	"embed"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os/signal"
	"syscall"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/jwtauth"
	"github.com/tidings-sse/tidings/session"
)

//go:embed index.html app.js fetch-stream.js
var files embed.FS

// tokenLife is short, to see that pages outlive it.
const tokenLife = 20 * time.Second

func newHandler(life time.Duration) (http.Handler, *tidings.Hub, error) {
	secret := []byte(rand.Text() + rand.Text()) // yours is in the environment
	tokens, err := jwtauth.New(&jwtauth.Options{Keys: []jwtauth.Key{{Secret: secret}}})
	if err != nil {
		return nil, nil, err
	}
	sessions, err := session.New(tokens, &session.Options{Secrets: [][]byte{secret}})
	if err != nil {
		return nil, nil, err
	}
	hub, err := tidings.New(&tidings.Options{Authorizer: sessions, RetryInterval: 500 * time.Millisecond})
	if err != nil {
		return nil, nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServerFS(files))
	mux.Handle("/api/sse", sessions.Stream(hub))
	mux.Handle("/api/sse/session", sessions)
	mux.Handle("/api/sse/tickets", sessions)
	mux.Handle("/api/sse/", hub.API())
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, _ *http.Request) {
		// Yours asks who it is first: with a login, and the session that your program already has.
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
			"sub": "user123", "send": []string{"self"}, "exp": time.Now().Add(life).Unix(),
		}).SignedString(secret)
		if err != nil {
			http.Error(w, "no token", http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"token": token})
	})
	return http.NewCrossOriginProtection().Handler(secured(mux)), hub, nil
}

// secured lets a page load what is this server's own, and nothing else.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "no-referrer")
		next.ServeHTTP(w, r)
	})
}

func main() {
	addr := flag.String("addr", "127.0.0.1:8083", "where to listen, on loopback; port 0 takes a free one")
	flag.Parse()
	handler, hub, err := newHandler(tokenLife)
	if err != nil {
		log.Fatal(err)
	}
	ln, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("Open http://localhost:%d\n", ln.Addr().(*net.TCPAddr).Port) // as localhost, so that the cookie, which is Secure, is kept
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	go func() { log.Print(server.Serve(ln)); stop() }()
	<-ctx.Done()
	log.Println("stopped:", hub.Shutdown(context.Background()), server.Shutdown(context.Background())) // in this order
}
