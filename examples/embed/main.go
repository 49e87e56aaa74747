// Command embed has Tidings in a program with cookie sessions of its own. Run it and open http://127.0.0.1:8082.
package main

import (
	"context"
	"crypto/rand"
	"embed"
	"log"
	"net/http"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/tidings-sse/tidings"
)

//go:embed index.html
var page embed.FS

func newServer() (*http.Server, *tidings.Hub, error) {
	var sessions sync.Map // from the token in a cookie to the user
	authorize := func(r *http.Request, a tidings.Action) (tidings.Grant, error) {
		if c, err := r.Cookie("session"); err == nil && a == tidings.Listen {
			if user, ok := sessions.Load(c.Value); ok && user != "" {
				return tidings.Grant{UserID: user.(string)}, nil
			}
		}
		return tidings.Grant{}, &tidings.DeniedError{Unauthenticated: true, Reason: "log in first"}
	}
	hub, err := tidings.New(&tidings.Options{Authorizer: tidings.AuthorizerFunc(authorize)})
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServerFS(page))
	mux.Handle("/api/sse", hub)
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		token := rand.Text()
		sessions.Store(token, r.PostFormValue("user"))                                                                 // yours asks for a password first
		http.SetCookie(w, &http.Cookie{Name: "session", Value: token, HttpOnly: true, SameSite: http.SameSiteLaxMode}) // #nosec G124 -- yours is Secure; this is without TLS
	})
	mux.HandleFunc("POST /notes", func(w http.ResponseWriter, r *http.Request) {
		if grant, err := authorize(r, tidings.Listen); err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
		} else if _, err := hub.NotifyUser(r.Context(), grant.UserID, "new-note", r.PostFormValue("text")); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	return &http.Server{Addr: "127.0.0.1:8082", Handler: http.NewCrossOriginProtection().Handler(mux), ReadHeaderTimeout: 5 * time.Second}, hub, err
}

func main() {
	server, hub, err := newServer()
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	go func() { log.Print(server.ListenAndServe()); stop() }()
	<-ctx.Done()
	log.Println("stopped:", hub.Shutdown(context.Background()), server.Shutdown(context.Background())) // in this order
}
