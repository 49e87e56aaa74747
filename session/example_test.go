package session_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/session"
)

// The routes of a program whose pages listen with a cookie or a ticket.
func ExampleNew() {
	next := tokens{"token": {UserID: "bob", Expires: time.Now().Add(time.Hour)}}
	sessions, err := session.New(next, &session.Options{Secrets: [][]byte{secret}})
	if err != nil {
		fmt.Println(err)
		return
	}
	hub, err := tidings.New(&tidings.Options{Authorizer: sessions, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer hub.Close()
	mux := http.NewServeMux()
	mux.Handle("/api/sse", sessions.Stream(hub))
	mux.Handle("/api/sse/session", sessions)
	mux.Handle("/api/sse/tickets", sessions)
	mux.Handle("/api/sse/", hub.API())
	h := http.NewCrossOriginProtection().Handler(mux)

	res := answer(h, http.MethodPost, "/api/sse/session", "Authorization", "Bearer token")
	fmt.Println(res.StatusCode, res.Cookies()[0].Name)
	// Output: 200 __Host-tidings
}
