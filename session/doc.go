// Package session carries what a token grants to where a browser's EventSource can take it. EventSource can't set a
// header, so the token, which arrives in one once, becomes:
//
//   - a cookie, with POST /api/sse/session: from then on plain new EventSource("/api/sse") works, and resumes by itself.
//     Posted again with a new token, the cookie is renewed, and streams need not reconnect for it.
//   - or a ticket for the URL, with POST /api/sse/tickets: new EventSource("/api/sse?ticket=..."). It is valid for a minute.
//     Its first use sets the cookie, with which the same URL goes on working when the ticket has expired.
//
// Both hold the grant itself, signed, with its expiry: nothing is stored, and every node that has the secret takes them.
//
//	sessions, err := session.New(tokens, &session.Options{Secrets: [][]byte{secret}})
//	if err != nil {
//		return err
//	}
//	hub, err := tidings.New(&tidings.Options{Authorizer: sessions})
//	mux.Handle("/api/sse", sessions.Stream(hub))
//	mux.Handle("/api/sse/session", sessions)
//	mux.Handle("/api/sse/tickets", sessions)
//	mux.Handle("/api/sse/", hub.API())
//
// A browser sends the cookie with whatever a page makes it request. It is SameSite=Lax, so pages of other sites can't use
// it. For those of the same site, and for links with a ticket that isn't the visitor's, Stream looks at the Origin and at
// Sec-Fetch-Site, as Options.Origins says. What is posted is not its business: put http.CrossOriginProtection before the mux,
// which lets every GET through.
package session
