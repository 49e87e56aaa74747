package servers

import (
	"bytes"
	"context"
	"net/http"
	"strconv"
	"sync"
)

// naiveQueue is how many events a stream's channel holds. A publisher waits for a stream whose channel is full.
const naiveQueue = 64

// naive is what one writes in an afternoon: a goroutine and a channel for each stream. An event is encoded once.
type naive struct {
	resume bool

	mu      sync.RWMutex
	streams map[*naiveStream]struct{}
	users   map[string]map[*naiveStream]struct{}
	sent    []naiveEvent // only with resume; the event n has the id n+1
}

type naiveStream struct {
	events chan []byte
	gone   <-chan struct{}
}

type naiveEvent struct {
	user  string
	frame []byte
}

func newNaive(o Options) (Server, error) {
	n := &naive{resume: o.Resume, streams: map[*naiveStream]struct{}{}, users: map[string]map[*naiveStream]struct{}{}}
	mux := http.NewServeMux()
	mux.HandleFunc(StreamPath, n.serve)
	return Server{Handler: mux, Publish: n.publish}, nil
}

func (n *naive) serve(w http.ResponseWriter, r *http.Request) {
	user := r.URL.Query().Get("userId")
	s := &naiveStream{events: make(chan []byte, naiveQueue), gone: r.Context().Done()}
	missed := n.add(s, user, r.Header.Get("Last-Event-ID"))
	defer n.remove(s, user)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	rc := http.NewResponseController(w)
	for _, frame := range missed {
		if _, err := w.Write(frame); err != nil {
			return
		}
	}
	for rc.Flush() == nil {
		select {
		case frame := <-s.events:
			if _, err := w.Write(frame); err != nil {
				return
			}
		case <-s.gone:
			return
		}
	}
}

// add registers the stream, and returns what it missed since the event with the id after.
func (n *naive) add(s *naiveStream, user, after string) (missed [][]byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.streams[s] = struct{}{}
	if n.users[user] == nil {
		n.users[user] = map[*naiveStream]struct{}{}
	}
	n.users[user][s] = struct{}{}
	if from, err := strconv.Atoi(after); err == nil && from <= len(n.sent) {
		for _, e := range n.sent[from:] {
			if e.user == "" || e.user == user {
				missed = append(missed, e.frame)
			}
		}
	}
	return missed
}

func (n *naive) remove(s *naiveStream, user string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.streams, s)
	delete(n.users[user], s)
	if len(n.users[user]) == 0 {
		delete(n.users, user)
	}
}

// publish keeps the order of events by holding the lock, for writing where events are numbered.
func (n *naive) publish(_ context.Context, user string, data []byte) error {
	if n.resume {
		n.mu.Lock()
		defer n.mu.Unlock()
	} else {
		n.mu.RLock()
		defer n.mu.RUnlock()
	}
	var frame bytes.Buffer
	if n.resume {
		frame.WriteString("id: " + strconv.Itoa(len(n.sent)+1) + "\n")
	}
	frame.WriteString("event: " + eventType + "\ndata: ")
	frame.Write(data)
	frame.WriteString("\n\n")
	if n.resume {
		n.sent = append(n.sent, naiveEvent{user: user, frame: frame.Bytes()})
	}
	to := n.streams
	if user != "" {
		to = n.users[user]
	}
	for s := range to {
		select {
		case s.events <- frame.Bytes():
		case <-s.gone:
		}
	}
	return nil
}
