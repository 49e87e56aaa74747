package chaos

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidings-sse/tidings/internal/natstest"
)

// TestADurableServerThatIsKilledUnderLoadKeepsWhatItAcknowledged kills a node with a directory under 8 senders at full
// speed.
func TestADurableServerThatIsKilledUnderLoadKeepsWhatItAcknowledged(t *testing.T) {
	built.get(t)
	n := newNode(t, "node", "--data-dir", filepath.Join(t.TempDir(), "log"))
	n.ready()
	nodes := []*node{n}
	var ls []*listener
	for i := range 3 {
		ls = append(ls, listenAt(t, fmt.Sprint("listener ", i), 0, nodes))
	}
	s := startSenders(nodes, 8, 0, 30*time.Second)
	kills := 1
	if full() {
		kills = 5
	}
	for kill := range kills {
		before, _, _ := s.counts()
		eventually(t, "events are acknowledged", func() error {
			if now, _, _ := s.counts(); now < before+500 {
				return fmt.Errorf("%d", now-before)
			}
			return nil
		})
		say(t, "SIGKILL to the node")
		n.kill()
		n.start()
		n.ready()
		for _, l := range ls {
			eventually(t, "its stream is resumed before the next kill", func() error { return l.resumed(kill + 1) })
		}
	}
	before, _, _ := s.counts()
	eventually(t, "events are acknowledged again", func() error {
		if now, _, _ := s.counts(); now < before+100 {
			return fmt.Errorf("%d", now-before)
		}
		return nil
	})
	s.end()
	s.wantAll(t, ls...)
	for _, l := range ls {
		if l.resumes["complete"] < kills || l.resumes["gap"] > 0 {
			t.Errorf("the streams of %s began with %v", l.name, l.resumes)
		}
	}
}

// listenAt starts a listener and waits for its stream.
func listenAt(t *testing.T, name string, at int, nodes []*node) *listener {
	t.Helper()
	l := listen(name, at, nodes)
	t.Cleanup(l.stop)
	eventually(t, "a stream", l.connected)
	return l
}

// A cluster is three servers of NATS and three nodes.
type cluster struct {
	servers []*natstest.Server
	nodes   []*node
}

func newCluster(t *testing.T, perNode func(i int, servers []*natstest.Server) string) *cluster {
	t.Helper()
	b := built.get(t)
	c := &cluster{servers: natstest.Cluster(t, b.nats, 3)}
	for i := range 3 {
		url := urls(c.servers)
		if perNode != nil {
			url = perNode(i, c.servers)
		}
		// The first node creates the stream, which takes until the servers have chosen a leader.
		eventually(t, "a node that finds the log", func() error {
			n := newNode(t, fmt.Sprint("node ", i), "--nats-url", url, "--nats-replicas", "3")
			for {
				err := n.isReady()
				if err == nil {
					c.nodes = append(c.nodes, n)
					return nil
				}
				if !n.running() {
					return err
				}
			}
		})
	}
	return c
}

func urls(servers []*natstest.Server) string {
	var us []string
	for _, s := range servers {
		us = append(us, s.URL())
	}
	return strings.Join(us, ",")
}

// TestServersAndNodesAreKilledInTurnAndNothingIsLost kills each and starts it again, under senders that try for 10 s.
func TestServersAndNodesAreKilledInTurnAndNothingIsLost(t *testing.T) {
	c := newCluster(t, nil)
	var ls []*listener
	for i := range 6 {
		ls = append(ls, listenAt(t, fmt.Sprint("listener ", i), i, c.nodes))
	}
	senders, pause := 8, 40*time.Millisecond // 200 events a second
	turns := [][2]int{{0, 0}, {1, 1}}        // a server, then a node
	if full() {
		pause = 4 * time.Millisecond // 2,000
		turns = nil
		for range 2 {
			for i := range 3 {
				turns = append(turns, [2]int{0, i}, [2]int{1, i})
			}
		}
	}
	s := startSenders(c.nodes, senders, pause, 10*time.Second)
	for _, turn := range turns {
		if i := turn[1]; turn[0] == 0 {
			say(t, "SIGKILL to NATS server %d", i)
			c.servers[i].Kill()
			c.goesOn(t, s)
			c.servers[i].Run()
			c.servers[i].Await()
		} else {
			say(t, "SIGKILL to node %d", i)
			c.nodes[i].kill()
			c.goesOn(t, s)
			c.nodes[i].start()
		}
		for _, n := range c.nodes {
			n.ready()
		}
		c.goesOn(t, s)
	}
	s.end()
	s.wantAll(t, ls...)
}

// goesOn waits until events are acknowledged again.
func (c *cluster) goesOn(t *testing.T, s *senders) {
	t.Helper()
	before, _, _ := s.counts()
	began := time.Now()
	eventually(t, "events are acknowledged", func() error {
		if now, _, _ := s.counts(); now < before+100 {
			return fmt.Errorf("%d of 100", now-before)
		}
		return nil
	})
	say(t, "100 events more were acknowledged after %v", time.Since(began).Round(time.Millisecond))
}

// TestANodeThatIsCutOffSaysSoAndCatchesUp cuts the connection of one node to NATS, without a word.
func TestANodeThatIsCutOffSaysSoAndCatchesUp(t *testing.T) {
	b := built.get(t)
	server := natstest.Start(t, b.nats, natstest.Config{})
	p := newProxy(t, server.Port)
	away := newNode(t, "the node that is cut off", "--nats-url", p.url())
	away.ready()
	near := newNode(t, "the other node", "--nats-url", server.URL())
	near.ready()
	stays := listenAt(t, "who stays", 0, []*node{away})
	moves := listenAt(t, "who moves", 0, []*node{away, near})
	s := startSenders([]*node{near}, 2, 20*time.Millisecond, 10*time.Second)
	eventually(t, "events arrive", func() error { return stays.lacks(map[string]string{"0-10": ""}) })
	say(t, "the node is cut off, in silence")
	p.cut()
	body := []byte(`{"type":"n","data":"0-1000000","idempotencyKey":"cut"}`)
	var status []string
	var mu sync.Mutex
	eventually(t, "it isn't ready", func() error {
		if away.isReady() == nil {
			return fmt.Errorf("it still is")
		}
		return nil
	})
	// What was handed to a connection that is dead may have been stored; later, nothing is handed over.
	eventually(t, "sends are certain not to be stored", func() error {
		_, err := post(client, away.addr, body)
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			t.Fatal("an event was acknowledged by a node that is cut off")
		}
		status = append(status, err.Error()[:3])
		if !strings.HasPrefix(err.Error(), "503") || !strings.Contains(err.Error(), "not-stored") {
			return err
		}
		return nil
	})
	say(t, "sends at the node that is cut off were answered %v", status)
	say(t, "the cut is mended")
	p.mend()
	away.ready()
	// The key settles what was not known.
	eventually(t, "the same event with its key", func() error {
		_, err := post(client, away.addr, body)
		return err
	})
	s.end()
	s.mu.Lock()
	s.gaveUp["0-1000000"] = true // not one of theirs
	s.mu.Unlock()
	for _, l := range []*listener{stays, moves} {
		eventually(t, "it arrives", func() error { return l.lacks(map[string]string{"0-1000000": ""}) })
	}
	s.wantOnce(t, "0-1000000", stays, moves)
	if n := len(stays.resumes); n != 1 || stays.resumes["none"] != 1 {
		t.Errorf("the stream of a node that is cut off did not stay: %v", stays.resumes)
	}
}

// wantOnce is wantAll, without the order of an event that was sent in between.
func (s *senders) wantOnce(t *testing.T, besides string, ls ...*listener) {
	t.Helper()
	for _, l := range ls {
		l.mu.Lock()
		n := 0
		kept := l.events[:0:0]
		for _, e := range l.events {
			if e.data == besides {
				n++
				continue
			}
			kept = append(kept, e)
		}
		l.events = kept
		l.mu.Unlock()
		if n != 1 {
			t.Errorf("%s got %s %d times", l.name, besides, n)
		}
	}
	s.wantAll(t, ls...)
}

// TestAClientThatMovesToANodeThatLagsLosesNothing resumes at a node that has not read as far as the client has.
func TestAClientThatMovesToANodeThatLagsLosesNothing(t *testing.T) {
	b := built.get(t)
	server := natstest.Start(t, b.nats, natstest.Config{})
	p := newProxy(t, server.Port)
	behind := newNode(t, "the node that lags", "--nats-url", p.url())
	behind.ready()
	ahead := newNode(t, "the node that is ahead", "--nats-url", server.URL())
	ahead.ready()
	l := listenAt(t, "a listener", 0, []*node{ahead, behind})
	s := startSenders([]*node{ahead}, 2, 10*time.Millisecond, 10*time.Second)
	p.slow(300 * time.Millisecond) // before each piece that NATS sends to the node
	for turn := range 3 {
		before, _, _ := s.counts()
		eventually(t, "events go on", func() error {
			if now, _, _ := s.counts(); now < before+50 {
				return fmt.Errorf("%d", now-before)
			}
			return nil
		})
		say(t, "its streams are ended")
		for _, n := range []*node{ahead, behind} {
			req, err := http.NewRequest(http.MethodDelete, "http://"+n.addr+"/api/sse/connections?clientId=chaos&scope=node", nil)
			if err != nil {
				t.Fatal(err)
			}
			if res, err := client.Do(req); err == nil {
				_ = res.Body.Close()
			}
		}
		eventually(t, "the stream is resumed at the other node", func() error { return l.resumed(turn + 1) })
	}
	s.end()
	s.wantAll(t, l)
}
