package tidings_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidings-sse/tidings"
)

// logbook keeps what is logged, as lines and as records.
type logbook struct {
	mu    sync.Mutex
	lines bytes.Buffer
	inner slog.Handler
}

func newLogbook() *logbook {
	b := new(logbook)
	b.inner = slog.NewJSONHandler(&b.lines, &slog.HandlerOptions{Level: slog.LevelDebug})
	return b
}

func (b *logbook) Enabled(context.Context, slog.Level) bool { return true }
func (b *logbook) WithAttrs([]slog.Attr) slog.Handler       { panic("not used") }
func (b *logbook) WithGroup(string) slog.Handler            { panic("not used") }

func (b *logbook) Handle(ctx context.Context, r slog.Record) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.inner.Handle(ctx, r)
}

// text returns all that was logged.
func (b *logbook) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lines.String()
}

// entries returns what was logged with the message, without its time.
func (b *logbook) entries(t testing.TB, message string) (found []map[string]any) {
	t.Helper()
	for line := range strings.Lines(b.text()) {
		entry := make(map[string]any)
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if entry["msg"] == message {
			delete(entry, "time")
			found = append(found, entry)
		}
	}
	return found
}

// only returns the one entry with the message.
func (b *logbook) only(t testing.TB, message string) map[string]any {
	t.Helper()
	found := b.entries(t, message)
	if len(found) != 1 {
		t.Fatalf("%q was logged %d times:\n%s", message, len(found), b.text())
	}
	return found[0]
}

func checkEntry(t testing.TB, entry map[string]any, want map[string]any) {
	t.Helper()
	for key, value := range want {
		if got := entry[key]; got != value {
			t.Errorf("%s is %v, want %v, in %v", key, got, value, entry)
		}
	}
}

func TestEveryChangeInAConnectionsLifeIsLoggedWithWhoItIs(t *testing.T) {
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				book := newLogbook()
				s := p.serveInMemory(t, &tidings.Options{Logger: slog.New(book), MaxConnections: 1, DrainWindow: time.Second})
				st := s.open(t, "clientId=c&userId=u&sessionId=s&topic=t1&topic=t2")
				who := map[string]any{
					"level": "INFO", "clientId": "c", "userId": "u", "sessionId": "s",
					"connectionId": st.connected.ConnectionID, "remote": "memory",
				}
				synctest.Wait()
				entry := book.only(t, "connected")
				checkEntry(t, entry, who)
				checkEntry(t, entry, map[string]any{"resume": "none", "replayed": 0.0, "proto": s.version})
				if topics, _ := entry["topics"].([]any); !slices.Equal(topics, []any{"t1", "t2"}) {
					t.Errorf("topics: %v", entry["topics"])
				}

				_, _ = decode(s.get(t, "")).rest()
				checkEntry(t, book.only(t, "refused"), map[string]any{"level": "WARN", "reason": "full", "remote": "memory"})

				time.Sleep(3 * time.Second)
				if _, err := s.hub.Disconnect(tidings.Target{ClientID: "c"}); err != nil {
					t.Fatal(err)
				}
				_, _ = st.rest()
				synctest.Wait()
				entry = book.only(t, "disconnected")
				checkEntry(t, entry, who)
				checkEntry(t, entry, map[string]any{"reason": "kicked", "error": nil})
				if after, _ := entry["after"].(float64); time.Duration(after).Round(time.Second) != 3*time.Second {
					t.Errorf("it lived for %v", entry["after"])
				}

				go func() {
					time.Sleep(50 * time.Millisecond)
					_, _ = decode(s.get(t, "")).rest()
				}()
				last := s.open(t, "clientId=last")
				go func() { _, _ = last.rest() }()
				if err := s.hub.Shutdown(t.Context()); err != nil {
					t.Fatal(err)
				}
				checkEntry(t, book.only(t, "draining"), map[string]any{"level": "INFO", "connections": 1.0})
				checkEntry(t, book.entries(t, "disconnected")[1], map[string]any{"clientId": "last", "reason": "drained"})
				checkEntry(t, book.only(t, "closed"), map[string]any{"level": "INFO"})
				synctest.Wait()
				time.Sleep(time.Second)
				checkEntry(t, book.entries(t, "refused")[1], map[string]any{"reason": "draining"})
			})
		})
	}
}

func TestWhatWentWrongIsLoggedWithItsCause(t *testing.T) {
	t.Run("slow", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			book := newLogbook()
			s := named(t, "HTTP 1.1")[0].serveInMemory(t, &tidings.Options{Logger: slog.New(book), MaxQueuedEvents: 10})
			s.open(t, "")
			for range 30 {
				send(t, s.hub, strings.Repeat("x", 64<<10))
			}
			time.Sleep(time.Second)
			synctest.Wait()
			checkEntry(t, book.only(t, "disconnected"), map[string]any{"reason": "slow", "error": "its outbox is full and it does not read"})
		})
	})
	t.Run("the authorizer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			book := newLogbook()
			s := named(t, "HTTP 1.1")[0].serveInMemory(t, &tidings.Options{
				Logger: slog.New(book),
				Authorizer: tidings.AuthorizerFunc(func(*http.Request, tidings.Action) (tidings.Grant, error) {
					return tidings.Grant{}, errors.New("no route to the session store")
				}),
			})
			_, _ = decode(s.get(t, "")).rest()
			checkEntry(t, book.only(t, "authorizer failed"), map[string]any{"level": "ERROR", "error": "no route to the session store"})
			checkEntry(t, book.only(t, "refused"), map[string]any{"reason": "authorizer"})
		})
	})
	t.Run("a denial", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			book := newLogbook()
			s := named(t, "HTTP 1.1")[0].serveInMemory(t, &tidings.Options{
				Logger: slog.New(book),
				Authorizer: tidings.AuthorizerFunc(func(*http.Request, tidings.Action) (tidings.Grant, error) {
					return tidings.Grant{}, &tidings.DeniedError{Reason: "not a member"}
				}),
			})
			s.get(t, "")
			checkEntry(t, book.only(t, "refused"), map[string]any{"level": "INFO", "status": 403.0, "remote": "memory", "error": "denied: not a member"})
		})
	})
	t.Run("the snapshot", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			book := newLogbook()
			s := named(t, "HTTP 1.1")[0].serveInMemory(t, &tidings.Options{
				Logger: slog.New(book),
				Snapshot: func(context.Context, tidings.Connection) ([]tidings.Event, error) {
					return nil, errors.New("the database is down")
				},
			})
			_, _ = decode(s.get(t, "clientId=c")).rest()
			checkEntry(t, book.only(t, "snapshot failed"), map[string]any{"level": "ERROR", "clientId": "c", "error": "the database is down"})
			checkEntry(t, book.only(t, "refused"), map[string]any{"reason": "snapshot"})
		})
	})
	t.Run("a client that doesn't read its replay", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			book := newLogbook()
			s := named(t, "HTTP 1.1")[0].serveInMemory(t, &tidings.Options{Logger: slog.New(book), MaxReplayBytes: 64 << 20})
			cursor := s.open(t, "")
			for range 20 {
				if _, err := s.hub.NotifyUser(t.Context(), "u", "", tidings.Text(strings.Repeat("x", 64<<10))); err != nil {
					t.Fatal(err)
				}
			}
			s.get(t, "userId=u", "Last-Event-ID", cursor.LastEventID())
			time.Sleep(2 * time.Minute)
			checkEntry(t, book.only(t, "stream ended before it was connected"), map[string]any{"userId": "u", "reason": "slow"})
		})
	})
}

func TestNoPayloadAndNoSecretIsLogged(t *testing.T) {
	const secret = "s3cr3t"
	for _, p := range named(t, "HTTP 1.1", "HTTP 1.1 not hijackable", "HTTP 2 TLS") {
		t.Run(p.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				book := newLogbook()
				deny := errors.New("")
				s := p.serveInMemory(t, &tidings.Options{
					Logger: slog.New(book), MaxConnections: 2, MaxQueuedEvents: 5, MaxEventBytes: 100 << 10,
					Authorizer: tidings.AuthorizerFunc(func(r *http.Request, a tidings.Action) (tidings.Grant, error) {
						switch {
						case r.URL.Query().Has("denied"):
							return tidings.Grant{}, &tidings.DeniedError{Unauthenticated: true, Reason: "no"}
						case r.URL.Query().Has("failed"):
							return tidings.Grant{}, deny
						}
						return tidings.TrustQuery{}.Authorize(r, a)
					}),
				})
				get := func(query string) *http.Response {
					return s.get(t, query+"&token="+secret+"&access_token="+secret,
						"Authorization", "Bearer "+secret, "Cookie", "__Host-tidings="+secret, "X-Api-Key", secret, "Referer", "https://example.com/?t="+secret)
				}
				st := decode(get("clientId=a"))
				st.greet(t)
				stalled := get("clientId=b")
				synctest.Wait()
				for _, query := range []string{"", "denied=1", "failed=1", "clientId=%00", "topic=%zz" + secret, "lastEventId=" + strings.Repeat(secret, 200), "clientId=1&clientId=2"} {
					_, _ = decode(get(query)).rest()
				}
				go func() { _, _ = st.rest() }()
				for range 30 {
					_, _ = s.hub.Broadcast(t.Context(), "", tidings.Text(secret+strings.Repeat("x", 64<<10)))
				}
				_, _ = s.hub.Broadcast(t.Context(), "", tidings.Text(strings.Repeat(secret, 100<<10)))
				_, _ = s.hub.Send(t.Context(), tidings.Event{Everyone: true, Data: secret, IdempotencyKey: secret})
				_, _ = s.hub.Send(t.Context(), tidings.Event{Everyone: true, Data: 1, IdempotencyKey: secret})
				_, _ = s.hub.Disconnect(tidings.Target{ClientID: "a"})
				time.Sleep(time.Second)
				_ = stalled.Body.Close()
				_ = s.hub.Close()
				for _, message := range []string{"connected", "disconnected", "refused", "authorizer failed", "closed"} {
					if len(book.entries(t, message)) == 0 {
						t.Errorf("%q was not logged", message)
					}
				}
				if text := book.text(); strings.Contains(text, secret) {
					t.Errorf("a secret was logged:\n%s", text)
				}
			})
		})
	}
}
