package e2e

import (
	"fmt"
	"iter"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/internal/natstest"
	"github.com/tidings-sse/tidings/sse"
)

// composition is what the test takes from deploy/compose.yaml.
type composition struct {
	Services map[string]struct{ Command []string }
	Configs  map[string]struct{ Content string }
}

// TestTheStackOfDeployOutlivesANATSServerAndANode runs what deploy/compose.yaml does as processes of this machine: the same
// flags, and the same configurations of NATS and nginx, but for addresses.
func TestTheStackOfDeployOutlivesANATSServerAndANode(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "deploy", "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var stack composition
	if err := yaml.Unmarshal(text, &stack); err != nil {
		t.Fatal(err)
	}
	nats, addresses := natsOf(t, stack)
	nodes := make([]*process, 2)
	for i := range nodes {
		flags := stack.Services[fmt.Sprintf("tidings-%d", i+1)].Command
		if len(flags) < 2 || flags[0] != "serve" || flags[1] != "--addr=0.0.0.0:8080" {
			t.Fatalf("the command of node %d is %q", i+1, flags)
		}
		mine := []string{"--log-level=error"}
		for _, f := range flags[2:] {
			mine = append(mine, addresses.Replace(f))
		}
		nodes[i] = run(t, mine...)
	}
	url := behindNginx(t, nodes[0].addr, nodes[1].addr)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	remote, err := tidings.NewRemote(url+"/api/sse", &tidings.RemoteOptions{Client: &http.Client{Transport: transport}})
	if err != nil {
		t.Fatal(err)
	}
	send := func(data string) {
		t.Helper()
		eventually(t, "an event is accepted", func() bool {
			_, err := remote.NotifyUser(t.Context(), "u", "n", data)
			return err == nil
		})
	}
	// least_conn gives each node one of the two streams.
	streams := []*reader{open(t, url+"/api/sse?userId=u"), open(t, url+"/api/sse?userId=u")}
	last := ""
	receive := func(data string) {
		t.Helper()
		for _, r := range streams {
			e := r.next(t)
			if e.Type != "n" || e.Data != fmt.Sprintf("%q", data) {
				t.Fatalf("got %+v, want %q", e, data)
			}
			last = e.ID
		}
	}
	send("at first")
	receive("at first")
	nats[1].Kill()
	send("without nats-2")
	receive("without nats-2")
	nodes[1].stop(t)
	send("without tidings-2")
	res := get(t, url+"/api/sse?userId=u&lastEventId="+last)
	next, stop := iter.Pull2(sse.NewDecoder(res.Body, nil).Events())
	defer stop()
	for _, want := range []string{`"resume":"complete"`, `"without tidings-2"`} {
		if e, err, ok := next(); err != nil || !ok || !strings.Contains(e.Data, want) {
			t.Fatalf("got %+v, %v, want %s", e, err, want)
		}
	}
}

// natsOf starts the NATS servers, and returns what replaces their addresses.
func natsOf(t *testing.T, stack composition) ([]*natstest.Server, *strings.Replacer) {
	t.Helper()
	const n = 3
	dir := t.TempDir()
	bin := natstest.Binary(t, dir)
	var here []string
	ports := natstest.FreePorts(t, 2*n)
	clients, routes := ports[:n], ports[n:]
	for i := range n {
		name := fmt.Sprintf("nats-%d", i+1)
		here = append(here, name+":4222", fmt.Sprintf("127.0.0.1:%d", clients[i]), name+":6222", fmt.Sprintf("127.0.0.1:%d", routes[i]))
	}
	servers := make([]*natstest.Server, n)
	for i := range n {
		name := fmt.Sprintf("nats-%d", i+1)
		if flags := stack.Services[name].Command; !strings.HasSuffix(strings.Join(flags, " "), "--name "+name) {
			t.Fatalf("the command of %s is %q", name, flags)
		}
		mine := strings.NewReplacer(append([]string{
			"0.0.0.0:4222", fmt.Sprintf("127.0.0.1:%d", clients[i]), "0.0.0.0:6222", fmt.Sprintf("127.0.0.1:%d", routes[i]), "/data", filepath.Join(dir, name),
		}, here...)...)
		servers[i] = natstest.Start(t, bin, natstest.Config{Port: clients[i], More: "server_name: " + name + "\n" + mine.Replace(stack.Configs["nats"].Content)})
	}
	return servers, strings.NewReplacer(here...)
}
