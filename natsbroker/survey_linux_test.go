package natsbroker_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/internal/natstest"
	"github.com/tidings-sse/tidings/natsbroker"
)

// site serves a hub as a program does.
func site(t testing.TB, hub *tidings.Hub) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("/api/sse", hub)
	mux.Handle("/api/sse/", hub.API())
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv.URL
}

// open opens a stream and returns its lines, after it is registered. It is closed when the test ends.
func open(t testing.TB, hub *tidings.Hub, url, query string) *bufio.Scanner {
	t.Helper()
	before := hub.Stats().Connections
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/api/sse?"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = res.Body.Close() })
	eventually(t, "a connection", func() error {
		if n := hub.Stats().Connections; n == before {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	return bufio.NewScanner(res.Body)
}

// call makes a request, and decodes what it is answered with.
func call(t testing.TB, method, url, body string, into any) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: within}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %d %s", method, url, res.StatusCode, b)
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
}

func TestAllNodesAreAskedWhoIsOnline(t *testing.T) {
	s := natstest.Start(t, natsServer(t), natstest.Config{})
	var hubs []*tidings.Hub
	var urls []string
	for range 3 {
		hub := newHub(t, connect(t, natsbroker.ConnectOptions{URL: s.URL()}))
		hubs, urls = append(hubs, hub), append(urls, site(t, hub))
	}
	for i := range 6 {
		open(t, hubs[i%3], urls[i%3], fmt.Sprintf("userId=u%d&topic=all", i%2))
	}
	all := tidings.Nodes{Answered: 3, Of: 3}
	var page tidings.ConnectionPage
	eventually(t, "all nodes answer", func() error {
		call(t, "GET", urls[0]+"/api/sse/connections", "", &page)
		if page.Nodes == nil || *page.Nodes != all {
			return fmt.Errorf("%v", page.Nodes)
		}
		return nil
	})
	if page.Total != 6 || len(page.Connections) != 6 || page.Next != "" {
		t.Fatalf("the page is %+v", page)
	}
	t.Run("page by page, in one order", func(t *testing.T) {
		var ids []string
		after := ""
		for {
			var p tidings.ConnectionPage
			call(t, "GET", urls[1]+"/api/sse/connections?limit=4&after="+after, "", &p)
			for _, c := range p.Connections {
				ids = append(ids, c.ConnectionID)
			}
			if p.Total != 6 {
				t.Errorf("the total is %d", p.Total)
			}
			if after = p.Next; after == "" {
				break
			}
		}
		for i, c := range page.Connections {
			if i >= len(ids) || ids[i] != c.ConnectionID {
				t.Fatalf("got %q, want those of %+v", ids, page.Connections)
			}
		}
	})
	t.Run("one node, where only it is asked", func(t *testing.T) {
		var p tidings.ConnectionPage
		call(t, "GET", urls[1]+"/api/sse/connections?scope=node", "", &p)
		if p.Total != 2 || p.Nodes != nil {
			t.Errorf("got %+v", p)
		}
	})
	t.Run("a send counts its own node, and all where it is asked to", func(t *testing.T) {
		const event = `{"type":"x","targets":[{"userId":"u0"},{"topic":"all","userId":"u1"}],"exclude":{"userId":"u1"}}`
		var r tidings.Receipt
		call(t, "POST", urls[0]+"/api/sse/send", event, &r)
		if r.Matched != 1 || r.Scope != "node" || r.Nodes != nil {
			t.Errorf("got %+v", r)
		}
		call(t, "POST", urls[0]+"/api/sse/send?matched=cluster", event, &r)
		if r.Matched != 3 || r.Scope != "cluster" || r.Nodes == nil || *r.Nodes != all {
			t.Errorf("got %+v of %v", r, r.Nodes)
		}
		n, nodes, err := hubs[2].Reach(t.Context(), nil, tidings.Target{})
		if n != 6 || *nodes != all || err != nil {
			t.Errorf("everyone is %d of %v, %v", n, nodes, err)
		}
	})
	t.Run("disconnecting ends them on every node", func(t *testing.T) {
		var d struct {
			Disconnected int
			Nodes        tidings.Nodes
		}
		call(t, "DELETE", urls[0]+"/api/sse/connections?userId=u1", "", &d)
		if d.Disconnected != 3 || d.Nodes != all {
			t.Errorf("got %+v", d)
		}
		eventually(t, "they are gone", func() error {
			n, _, err := hubs[0].Reach(t.Context(), nil, tidings.Target{})
			if err == nil && n != 3 {
				err = fmt.Errorf("%d are left", n)
			}
			return err
		})
	})
	t.Run("a node that is not there any more is not counted", func(t *testing.T) {
		if err := hubs[2].Close(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "two nodes", func() error {
			p, err := hubs[0].AllConnections(t.Context(), tidings.Target{}, 10, "")
			if err == nil && (*p.Nodes != tidings.Nodes{Answered: 2, Of: 2}) {
				err = fmt.Errorf("%v", p.Nodes)
			}
			return err
		})
	})
	t.Run("without a connection to the others, the answer says so", func(t *testing.T) {
		s.Stop()
		began := time.Now()
		var p tidings.ConnectionPage
		call(t, "GET", urls[0]+"/api/sse/connections", "", &p)
		if p.Nodes == nil || p.Nodes.Answered != 1 || p.Nodes.Of != 2 || time.Since(began) > 10*time.Second {
			t.Errorf("got %+v of %v after %v", p, p.Nodes, time.Since(began))
		}
	})
}
