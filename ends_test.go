package tidings_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidings-sse/tidings"
)

var endBehaviours = []behaviour{
	{
		name: "a drain writes what is queued, says so, and ends the stream truncated",
		opts: tidings.Options{DrainWindow: 50 * time.Millisecond},
		run: func(t *testing.T, s *site) {
			endsWith(t, s, tidings.ReasonDrained, func() {
				if err := s.hub.Shutdown(t.Context()); err != nil {
					t.Error(err)
				}
			})
		},
	},
	{
		name: "Disconnect writes what is queued, says so, and ends the stream truncated",
		run: func(t *testing.T, s *site) {
			endsWith(t, s, tidings.ReasonKicked, func() {
				if n, err := s.hub.Disconnect(tidings.Target{UserID: "u"}); n != 1 || err != nil {
					t.Errorf("Disconnect: %d, %v", n, err)
				}
			})
		},
	},
	{
		name: "a grant that expires says so, and ends the stream truncated",
		opts: tidings.Options{Authorizer: tidings.AuthorizerFunc(func(*http.Request, tidings.Action) (tidings.Grant, error) {
			return tidings.Grant{UserID: "u", Expires: time.Now().Add(500 * time.Millisecond)}, nil
		})},
		run: func(t *testing.T, s *site) {
			start := time.Now()
			ended := endsWith(t, s, tidings.ReasonExpired, func() {})
			if took := ended.Sub(start); took < 600*time.Millisecond || s.exact && took != 600*time.Millisecond {
				t.Errorf("it ended after %v", took)
			}
		},
	},
	{
		name: "Close ends the stream at once, truncated and without a notice",
		run: func(t *testing.T, s *site) {
			st := s.open(t, "")
			start := time.Now()
			if err := s.hub.Close(); err != nil {
				t.Fatal(err)
			}
			es, err := st.rest()
			// An abort is a reset where there is a socket.
			if len(es) > 0 || !s.truncated(err) && s.exact || s.version != "HTTP/1.0" && err == nil {
				t.Errorf("it ended with %v, %v", es, err)
			}
			if took := time.Since(start); s.exact && took != 0 {
				t.Errorf("it ended after %v", took)
			}
			if n := s.hub.Stats().Disconnected[tidings.ReasonStopped]; n != 1 {
				t.Errorf("%d streams were stopped", n)
			}
		},
	},
	{
		name: "a client that goes away is noticed at once",
		run: func(t *testing.T, s *site) {
			st := s.open(t, "clientId=a")
			start := time.Now()
			st.close()
			eventually(t, "the client has gone", func() bool { return s.hub.Stats().Connections == 0 })
			if took := time.Since(start); s.exact && took > 10*time.Millisecond {
				t.Errorf("it took %v", took)
			}
			eventually(t, "it is counted as closed", func() bool { return s.hub.Stats().Disconnected[tidings.ReasonClosed] == 1 })
			if r, err := s.hub.NotifyClient(t.Context(), "a", "", nil); err != nil || r.Matched != 0 {
				t.Errorf("%+v, %v", r, err)
			}
		},
	},
}

// endsWith ends a stream of the user u while it has events queued, and checks how the client sees that. It returns when the stream
// ended.
func endsWith(t *testing.T, s *site, want tidings.Reason, end func()) time.Time {
	t.Helper()
	st := s.open(t, "userId=u")
	const n = 20
	for i := range n {
		send(t, s.hub, fmt.Sprint(i))
	}
	ended := make(chan struct{})
	start := time.Now()
	go func() {
		defer close(ended)
		end()
	}()
	for i := range n {
		if e := st.next(t); e.Data != fmt.Sprint(i) {
			t.Errorf("event %d: %+v", i, e)
		}
	}
	before := st.LastEventID()
	e := st.next(t)
	said := time.Now()
	if e.Type != "tidings.disconnected" || !strings.Contains(e.Data, `"reason":"`+string(want)+`"`) {
		t.Errorf("the notice is %+v", e)
	}
	if st.LastEventID() != before {
		t.Error("the notice moved the cursor")
	}
	if retry, _ := st.Retry(); retry < 1500*time.Millisecond || retry > 4500*time.Millisecond {
		t.Errorf("retry: %v", retry)
	}
	es, err := st.rest()
	at := time.Now()
	if took := at.Sub(said); s.exact && took != 100*time.Millisecond {
		t.Errorf("the end came %v after the notice", took)
	}
	// Over a socket, a busy machine may read both at once; but the notice was not written before the stream was to end.
	if took := at.Sub(start); took < 100*time.Millisecond {
		t.Errorf("the end came %v after it was asked for", took)
	}
	if len(es) != 0 || !s.truncated(err) {
		t.Errorf("it ended with %v, %v", es, err)
	}
	<-ended
	eventually(t, "the hub knows", func() bool { return s.hub.Stats().Disconnected[want] == 1 })
	return at
}
