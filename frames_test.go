package tidings_test

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/sse"
)

// Behaviours of what is on the wire, byte for byte.
var wireBehaviours = []behaviour{
	{
		name: "the body is the frames, byte for byte",
		opts: tidings.Options{MaxQueuedBytes: 64 << 20}, // they are sent before they are read
		run: func(t *testing.T, s *site) {
			st := s.open(t, "")
			var want bytes.Buffer
			for i := range 300 {
				text := strings.Repeat("é", i*i%5000) + fmt.Sprint(i)
				r, err := s.hub.Broadcast(t.Context(), "numbered", tidings.Text(text))
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&want, "event: numbered\ndata: %s\nid: %s\n\n", text, r.ID)
			}
			same(t, st.resp.Body, want.Bytes())
		},
	},
	{
		name: "a stream that is cut in mid-frame resumes with that frame",
		run: func(t *testing.T, s *site) {
			cursor := s.open(t, "userId=u").LastEventID()
			for _, short := range []int{1, 2, 5, 20, 290} { // bytes that are missing of the second frame
				body := &io.LimitedReader{N: 1 << 40}
				resp := s.get(t, "userId=u", "Last-Event-ID", cursor)
				body.R = resp.Body
				st := &stream{Decoder: sse.NewDecoder(body, &sse.DecoderOptions{LastEventID: cursor}), resp: resp}
				st.greet(t)
				if st.connected.Resume != "complete" {
					t.Fatalf("%d short: resume %s", short, st.connected.Resume)
				}
				eventually(t, "the stream is registered", func() bool {
					return online(s.hub, tidings.Target{ClientID: st.connected.ConnectionID}) == 1
				})
				var ids []string
				size := 0
				for i := range 3 {
					text := fmt.Sprint(i, strings.Repeat(" x", 150))
					r, err := s.hub.NotifyUser(t.Context(), "u", "", tidings.Text(text))
					if err != nil {
						t.Fatal(err)
					}
					ids = append(ids, r.ID)
					if i < 2 {
						size += len("data: " + text + "\nid: " + r.ID + "\n\n")
					}
				}
				body.N = int64(size - short) // nothing of these was read yet
				es, _ := st.rest()
				st.close()
				// A frame that lacks only its last newline is whole but for the end of its event: that it isn't dispatched is the rule.
				if len(es) != 1 || es[0].ID != ids[0] || st.LastEventID() != ids[0] {
					t.Fatalf("%d short: got %d events, and the cursor is at %s of %q", short, len(es), st.LastEventID(), ids)
				}
				again := s.open(t, "userId=u", "Last-Event-ID", ids[0])
				if again.connected.Resume != "complete" {
					t.Errorf("%d short: resume %s", short, again.connected.Resume)
				}
				for _, id := range ids[1:] {
					if e := again.next(t); e.ID != id {
						t.Errorf("%d short: resumed with %+v, want %s", short, e, id)
					}
				}
				again.close()
				cursor = ids[2]
			}
		},
	},
}

// same reads as many bytes as are wanted, and holds them against those.
func same(t testing.TB, r io.Reader, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	n, err := io.ReadFull(r, got)
	if !bytes.Equal(got[:n], want[:n]) {
		i := 0
		for got[i] == want[i] {
			i++
		}
		t.Fatalf("byte %d of %d: got %.60q, want %.60q", i, len(want), got[i:n], want[i:])
	}
	if err != nil {
		t.Fatalf("after %d bytes of %d: %v", n, len(want), err)
	}
}

// online returns how many connections meet the target.
func online(hub *tidings.Hub, target tidings.Target) int {
	n := 0
	for range hub.Connections(target) {
		n++
	}
	return n
}
