package tidings_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidings-sse/tidings"
)

func TestAnAddressIsCountedByWhatOneHolderHasOfIt(t *testing.T) {
	const none = "invalid Prefix"
	for addr, want := range map[string]string{
		"192.0.2.1:1234":                  "192.0.2.1/32",
		"192.0.2.1":                       "192.0.2.1/32", // as middleware may leave it
		"[::ffff:192.0.2.1]:1234":         "192.0.2.1/32",
		"::ffff:c000:201":                 "192.0.2.1/32",
		"[2001:db8:1:2:3:4:5:6]:1234":     "2001:db8:1:2::/64",
		"[2001:db8:1:2:ffff::1]:1":        "2001:db8:1:2::/64",
		"[2001:db8:1:3::1]:1":             "2001:db8:1:3::/64",
		"2001:db8:1:2::9":                 "2001:db8:1:2::/64",
		"[fe80::1%eth0]:1":                "fe80::/64",
		"[::1]:1":                         "::/64",
		"":                                none,
		"@":                               none,
		"memory":                          none,
		"/run/tidings.sock":               none,
		"192.0.2.1:":                      none,
		"192.0.2.1:x":                     none,
		"192.0.2.256:1":                   none,
		"example.com:80":                  none,
		"192.0.2.1, 192.0.2.2":            none,
		"[2001:db8::1":                    none,
		strings.Repeat("1", 1<<10) + ":1": none,
	} {
		if got := tidings.Origin(addr); got != want {
			t.Errorf("%.40q is counted under %s, want %s", addr, got, want)
		}
	}
}

// remoteHeader names where a request is to come from, for from.
const remoteHeader = "Test-Remote-Addr"

// from makes a site's requests come from the address that the header names.
func from(s *site) {
	next := s.server.Handler
	s.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if addr := r.Header.Get(remoteHeader); addr != "" {
			r.RemoteAddr = addr
		}
		next.ServeHTTP(w, r)
	})
}

// rooms fails the test unless this many streams have room, counted under so many users and origins.
func (s *site) rooms(t testing.TB, streams, users, origins int) {
	t.Helper()
	if a, b, c := s.hub.Rooms(); a != streams || b != users || c != origins {
		t.Errorf("%d streams of %d users and %d origins have room, want %d, %d and %d", a, b, c, streams, users, origins)
	}
}

func TestAUserAndAnAddressHaveAsManyStreamsAsTheyMayAndOthersAreNotHeldUp(t *testing.T) {
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := p.serveInMemory(t, &tidings.Options{MaxConnectionsPerUser: 2, MaxConnectionsPerIP: 3}, from)
				refused := func(reason, user, addr string) {
					t.Helper()
					st := decode(s.get(t, "userId="+user, remoteHeader, addr))
					e := st.next(t)
					if _, err := st.rest(); st.resp.StatusCode != http.StatusOK || e.Type != "tidings.unavailable" || !strings.Contains(e.Data, fmt.Sprintf("%q:%q", "reason", reason)) || !s.truncated(err) {
						t.Errorf("%s of %s: %s, %+v, %v", user, addr, st.resp.Status, e, err)
					}
					if retry, ok := st.Retry(); !ok || retry < 1500*time.Millisecond || retry > 4500*time.Millisecond {
						t.Errorf("retry: %v", retry)
					}
					resp := s.get(t, "userId="+user, remoteHeader, addr, "Accept", "*/*")
					body, _ := io.ReadAll(resp.Body)
					if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || !strings.Contains(string(body), "as many streams as one may have") {
						t.Errorf("%s of %s: %s %v %s", user, addr, resp.Status, resp.Header, body)
					}
				}
				a := s.open(t, "userId=a", remoteHeader, "192.0.2.1:1")
				s.open(t, "userId=a", remoteHeader, "192.0.2.2:1")
				refused("user-full", "a", "192.0.2.3:1")
				s.open(t, "userId=b", remoteHeader, "192.0.2.1:2")
				s.open(t, "", remoteHeader, "[::ffff:192.0.2.1]:3") // of nobody
				refused("ip-full", "c", "192.0.2.1:4")
				refused("user-full", "a", "192.0.2.1:4") // both are
				s.rooms(t, 4, 2, 2)

				a.close()
				synctest.Wait()
				s.rooms(t, 3, 2, 2)
				for range 5 { // no address, and nobody: no bound
					s.open(t, "", remoteHeader, "@")
				}
				s.open(t, "userId=a", remoteHeader, "192.0.2.1:5")
				refused("ip-full", "b", "192.0.2.1:6")
				if n := s.hub.Stats().Refused; n["user-full"] != 4 || n["ip-full"] != 4 || len(n) != 2 {
					t.Errorf("refused: %v", n)
				}
				for i := range 3 { // one network of IPv6
					s.open(t, "", remoteHeader, fmt.Sprintf("[2001:db8::%d]:1", i))
				}
				refused("ip-full", "d", "[2001:db8::ffff:0:0:1]:1")
				s.open(t, "userId=d", remoteHeader, "[2001:db8:0:1::1]:1")
				if r := send(t, s.hub, "x"); r.Matched != 13 {
					t.Errorf("%d streams are live", r.Matched)
				}
			})
		})
	}
}

func TestAUserIsWhoWasGrantedAndNotWhoIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := named(t, "HTTP 1.1")[0].serveInMemory(t, &tidings.Options{
			MaxConnectionsPerUser: 1,
			Authorizer: tidings.AuthorizerFunc(func(r *http.Request, _ tidings.Action) (tidings.Grant, error) {
				return tidings.Grant{UserID: r.Header.Get("Authorization")}, nil
			}),
		})
		s.open(t, "", "Authorization", "a")
		resp := s.get(t, "", "Authorization", "a", "Accept", "*/*")
		if resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("a second stream of the same user: %s", resp.Status)
		}
		s.open(t, "", "Authorization", "b")
	})
}

func TestNothingIsCountedWithoutABound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := named(t, "HTTP 1.1")[0].serveInMemory(t, nil, from)
		for range 20 {
			s.open(t, "userId=a", remoteHeader, "192.0.2.1:1")
		}
		s.rooms(t, 20, 0, 0)
	})
}

// A stream has its room before it is registered: otherwise a burst would pass while the first is being replayed to.
func TestABurstOfConnectsIsNotMoreThanALimitAllows(t *testing.T) {
	for _, o := range []tidings.Options{{MaxConnections: 5}, {MaxConnectionsPerUser: 5}, {MaxConnectionsPerIP: 5}} {
		for _, p := range named(t, "HTTP 1.1", "HTTP 2 h2c") {
			t.Run(fmt.Sprintf("%d, %d, %d %s", o.MaxConnections, o.MaxConnectionsPerUser, o.MaxConnectionsPerIP, p.name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var joining atomic.Int32
					open := make(chan struct{})
					o.Snapshot = func(context.Context, tidings.Connection) ([]tidings.Event, error) {
						joining.Add(1)
						<-open
						return nil, nil
					}
					s := p.serveInMemory(t, &o, from)
					var served, refused atomic.Int32
					var clients sync.WaitGroup
					for range 40 {
						clients.Go(func() {
							switch resp := s.get(t, "userId=a", remoteHeader, "192.0.2.1:1", "Accept", "*/*"); resp.StatusCode {
							case http.StatusOK:
								served.Add(1)
							case http.StatusServiceUnavailable:
								refused.Add(1)
							}
						})
					}
					time.Sleep(5 * time.Minute) // over HTTP/2, a client waits before it repeats what a GOAWAY cut, up to a minute in all
					if joining.Load() != 5 || refused.Load() != 35 {
						t.Errorf("%d are being served, %d were refused", joining.Load(), refused.Load())
					}
					close(open)
					clients.Wait()
					synctest.Wait()
					if served.Load() != 5 || s.hub.Stats().Connections != 5 {
						t.Errorf("%d were served, %d are live", served.Load(), s.hub.Stats().Connections)
					}
				})
			})
		}
	}
}

func TestTheRoomOfAStreamIsGivenBackHoweverItEnds(t *testing.T) {
	big := strings.Repeat("x", 64<<10)
	for _, end := range []struct {
		name string
		with func(*tidings.Options)
		how  func(*testing.T, *site)
	}{
		{"the client closes it", nil, func(t *testing.T, s *site) { s.open(t, "userId=a").close() }},
		{"it is disconnected", nil, func(t *testing.T, s *site) {
			st := s.open(t, "userId=a")
			_, _ = s.hub.Disconnect(tidings.Target{UserID: "a"})
			_, _ = st.rest()
		}},
		{"its grant expires", func(o *tidings.Options) {
			o.Authorizer = tidings.AuthorizerFunc(func(*http.Request, tidings.Action) (tidings.Grant, error) {
				return tidings.Grant{UserID: "a", Expires: time.Now().Add(time.Second)}, nil
			})
		}, func(t *testing.T, s *site) { _, _ = s.open(t, "").rest() }},
		{"it is slow", func(o *tidings.Options) { o.MaxQueuedBytes = 256 << 10 }, func(t *testing.T, s *site) {
			s.open(t, "userId=a")
			for range 200 {
				send(t, s.hub, big)
			}
		}},
		{"its snapshot fails", func(o *tidings.Options) {
			o.Snapshot = func(context.Context, tidings.Connection) ([]tidings.Event, error) { return nil, errors.New("down") }
		}, func(t *testing.T, s *site) { _, _ = decode(s.get(t, "userId=a")).rest() }},
		{"its snapshot panics", func(o *tidings.Options) {
			o.Snapshot = func(context.Context, tidings.Connection) ([]tidings.Event, error) { panic("a mistake of the program") }
		}, func(t *testing.T, s *site) {
			if resp, err := s.client.Get(s.base + "/api/sse?userId=a"); err == nil {
				resp.Body.Close()
				t.Errorf("it is answered with %s", resp.Status)
			}
		}},
		{"the client leaves while its snapshot is made", func(o *tidings.Options) {
			o.Snapshot = func(ctx context.Context, _ tidings.Connection) ([]tidings.Event, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
		}, func(t *testing.T, s *site) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+"/api/sse?userId=a", nil)
			if err != nil {
				t.Fatal(err)
			}
			if resp, err := s.client.Do(req); err == nil {
				resp.Body.Close()
				t.Errorf("it is answered with %s", resp.Status)
			}
		}},
		{"the client leaves in its replay", nil, func(t *testing.T, s *site) {
			st := s.stalledReplay(t, big)
			s.rooms(t, 1, 1, 1)
			_ = st.Body.Close()
		}},
		{"the client doesn't read its replay", func(o *tidings.Options) { o.ConnectionTimeout = time.Minute }, func(t *testing.T, s *site) {
			s.stalledReplay(t, big)
			time.Sleep(2 * time.Minute)
		}},
		{"the hub is drained", nil, func(t *testing.T, s *site) {
			st := s.open(t, "userId=a")
			go func() { _, _ = st.rest() }()
			if err := s.hub.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		}},
		{"the hub is closed", nil, func(t *testing.T, s *site) {
			s.open(t, "userId=a")
			_ = s.hub.Close()
		}},
		{"the hub is closed in its replay", nil, func(t *testing.T, s *site) {
			s.stalledReplay(t, big)
			_ = s.hub.Close()
		}},
	} {
		for _, p := range named(t, "HTTP 1.1", "HTTP 1.1 not hijackable", "HTTP 2 h2c") {
			t.Run(end.name+" "+p.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					o := &tidings.Options{MaxConnectionsPerUser: 1, MaxConnectionsPerIP: 1, MaxReplayBytes: 1 << 30}
					if end.with != nil {
						end.with(o)
					}
					s := p.serveInMemory(t, o, func(s *site) {
						s.server.ErrorLog = log.New(io.Discard, "", 0) // a panic of the program's is logged
						next := s.server.Handler
						s.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
							r.RemoteAddr = "192.0.2.1:1"
							next.ServeHTTP(w, r)
						})
					})
					end.how(t, s)
					time.Sleep(time.Second)
					synctest.Wait()
					s.rooms(t, 0, 0, 0)
				})
			})
		}
	}
}

// stalledReplay returns the answer of a stream that is being replayed to more than it reads.
func (s *site) stalledReplay(t *testing.T, data string) *http.Response {
	t.Helper()
	cursor := s.open(t, "")
	for range 200 {
		if _, err := s.hub.NotifyUser(t.Context(), "a", "", tidings.Text(data)); err != nil {
			t.Fatal(err)
		}
	}
	cursor.close()
	synctest.Wait()
	resp := s.get(t, "userId=a", "Last-Event-ID", cursor.LastEventID())
	synctest.Wait()
	if s.hub.Stats().Connections != 0 {
		t.Fatal("the replay has not stalled")
	}
	return resp
}

func TestOfAFloodOfRefusedStreamsFewAreKeptForTheirNoticeToArrive(t *testing.T) {
	const streams, refused, kept = 1, 100, 16
	// Not over HTTP/2, where a client repeats later what it was asking for when the first refusal came with a GOAWAY.
	for _, p := range named(t, "HTTP 1.0", "HTTP 1.1", "HTTP 1.1 TLS") {
		t.Run(p.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := p.serveInMemory(t, &tidings.Options{MaxConnections: streams})
				s.open(t, "")
				var clients sync.WaitGroup
				var late, told atomic.Int32
				start := time.Now()
				for range refused {
					clients.Go(func() {
						resp, err := s.hold(t)
						if err == nil {
							defer resp.Body.Close()
							var body []byte
							if body, err = io.ReadAll(resp.Body); strings.Contains(string(body), "tidings.unavailable") {
								told.Add(1)
							}
						}
						if !s.truncated(err) {
							t.Errorf("it ended with %v", err)
						}
						if took := time.Since(start); took > 0 {
							late.Add(1)
						}
					})
				}
				clients.Wait()
				// The first ones are kept until all others have come and gone.
				if n := int(late.Load()); n < kept || n > 2*kept || int(told.Load()) < kept {
					t.Errorf("%d of %d were kept, want %d; %d got to see why", n, refused, kept, told.Load())
				}
				if n := s.hub.Stats().Refused["full"]; n != refused {
					t.Errorf("%d were refused", n)
				}
				_, err := decode(s.get(t, "")).rest()
				if took := time.Since(start); !s.truncated(err) || took < 200*time.Millisecond {
					t.Errorf("after the flood, the last one of %v was not kept: %v", took, err)
				}
			})
		})
	}
}

// stream asks for a stream.
func (s *site) hold(t testing.TB) (*http.Response, error) {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.base+"/api/sse", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "text/event-stream")
	return s.client.Do(req)
}
