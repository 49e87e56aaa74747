package natsbroker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/internal/natstest"
	"github.com/tidings-sse/tidings/natsbroker"
)

// clusterOf returns the addresses of three nodes.
func clusterOf(t *testing.T) []string {
	t.Helper()
	at := make([]string, 3)
	for i, port := range natstest.FreePorts(t, len(at)) {
		at[i] = fmt.Sprintf("127.0.0.1:%d", port)
	}
	return at
}

// startNode starts a node of a cluster, without waiting for the others, and closes it when the test ends.
func startNode(t *testing.T, at []string, i int, secret string, log *lockedBuffer) *natsbroker.Node {
	t.Helper()
	n, err := natsbroker.Start(natsbroker.EmbedOptions{
		Dir: t.TempDir(), ClusterListen: at[i], ClusterPeers: at, ClusterSecret: secret,
		Options: natsbroker.Options{Logger: slog.New(slog.NewTextHandler(log, nil))},
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func says(log *lockedBuffer, words ...string) func() error {
	return func() error {
		for line := range strings.Lines(log.String()) {
			has := true
			for _, w := range words {
				has = has && strings.Contains(line, w)
			}
			if has {
				return nil
			}
		}
		return fmt.Errorf("no line of the log has %q: %s", words, log.String())
	}
}

func TestANodeThatWaitsForTheOthersSaysWhichAndEndsWithItsContext(t *testing.T) {
	at := clusterOf(t)
	var first, second lockedBuffer
	n := startNode(t, at, 0, "right", &first)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	opened := make(chan error, 1)
	go func() {
		_, err := n.Open(ctx)
		opened <- err
	}()
	eventually(t, "it says what it waits for", says(&first, "waiting for the log", at[1], at[2], "--cluster-peers"))
	if w := n.Waits(); !strings.Contains(w, "1 of the 3 nodes") || !strings.Contains(w, at[1]) || !strings.Contains(w, at[2]) {
		t.Errorf("it waits: %s", w)
	}
	other := startNode(t, at, 1, "right", &second)
	eventually(t, "the other is connected", says(&first, "level=INFO", "a node of the cluster is connected", at[1]))
	if w := n.Waits(); !strings.Contains(w, "2 of the 3 nodes") || strings.Contains(w, at[1]) || !strings.Contains(w, at[2]) {
		t.Errorf("it waits: %s", w)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other is away", says(&first, "level=WARN", "not connected any more", at[1]))
	eventually(t, "there is no majority", says(&first, "level=ERROR", "no other node of the cluster is connected", "remedy"))
	cancel()
	if err := <-opened; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "no majority") {
		t.Errorf("it ended with %v", err)
	}
	withoutNoise(t, &first, &second)
}

// withoutNoise fails the test where a log has what nats-server says of other nodes, and members says in its own words.
func withoutNoise(t *testing.T, logs ...*lockedBuffer) {
	t.Helper()
	for _, log := range logs {
		for _, noise := range []string{"Plaintext", "Waiting for routing", "trying to connect", "authentication error", "Authorization Violation"} {
			if strings.Contains(log.String(), noise) {
				t.Errorf("the log has %q: %s", noise, log.String())
			}
		}
	}
}

func TestAWrongClusterSecretIsNamedOnBothSides(t *testing.T) {
	at := clusterOf(t)
	var right, wrong lockedBuffer
	a, b := startNode(t, at, 0, "right", &right), startNode(t, at, 1, "wrong", &wrong)
	for _, log := range []*lockedBuffer{&right, &wrong} {
		eventually(t, "who was refused", says(log, "level=ERROR", "a node was refused", "127.0.0.1", "--cluster-secret"))
		eventually(t, "who refuses", says(log, "level=ERROR", "refuses this one", "--cluster-secret"))
	}
	eventually(t, "what it waits for", func() error {
		if w := b.Waits(); !strings.Contains(w, at[0]+" (it refuses this node") {
			return errors.New(w)
		}
		return nil
	})
	if err := errors.Join(a.Close(), b.Close()); err != nil {
		t.Fatal(err)
	}
	for _, log := range []*lockedBuffer{&right, &wrong} {
		if s := log.String(); strings.Count(s, "a node was refused") != 1 || strings.Count(s, "refuses this one") != 1 {
			t.Errorf("the log: %s", s)
		}
	}
	withoutNoise(t, &right, &wrong)
}

func TestAWrongClusterSecretIsNamedForNodesThatAreGivenByNameAndEachTime(t *testing.T) {
	at := clusterOf(t)
	for i := range at {
		at[i] = strings.Replace(at[i], "127.0.0.1", "localhost", 1)
	}
	var right lockedBuffer
	a := startNode(t, at, 0, "right", &right)
	defer func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}()
	for i, secret := range []string{"wrong", "right", "wrong again"} {
		var log lockedBuffer
		b := startNode(t, at, 1, secret, &log)
		eventually(t, "it shows "+secret, func() error {
			w, s := b.Waits(), right.String()
			switch told := strings.Count(s, "refuses this one"); {
			case told != 1+i/2, told != strings.Count(s, `refuses this one: its secret is another one" peer=`+at[1]):
				return fmt.Errorf("it is told %d times: %s", told, s)
			case secret == "right" && !strings.Contains(w, "2 of the 3 nodes"),
				secret != "right" && !strings.Contains(w, at[0]+" (it refuses this node"):
				return errors.New(w)
			}
			return nil
		})
		if secret == "right" {
			eventually(t, "it is connected", says(&right, "level=INFO", "a node of the cluster is connected", at[1]))
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if secret == "right" {
			eventually(t, "it is away", says(&right, "level=WARN", "not connected any more", at[1]))
		}
	}
}

func TestNodesThatComeFromAnotherAddressThanTheyWereGivenAreThereAllTheSame(t *testing.T) {
	at, theirs := clusterOf(t), clusterOf(t)
	var log, other lockedBuffer
	node := func(listen string, peers []string, log *lockedBuffer) *natsbroker.Node {
		t.Helper()
		return startNode(t, append([]string{listen}, peers...), 0, "", log)
	}
	a := node(at[0], at[1:], &log) // it can't reach the others where it is told that they are
	b := node(theirs[1], []string{at[0], theirs[2]}, &other)
	c := node(theirs[2], []string{at[0], theirs[1]}, &other)
	waits := func(what string) {
		t.Helper()
		eventually(t, what, func() error {
			if w := a.Waits(); !strings.Contains(w, what) {
				return errors.New(w)
			}
			return nil
		})
	}
	waits("3 of the 3 nodes")
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	waits("2 of the 3 nodes")
	waits("but for 1 that came from another address")
	if s := log.String(); strings.Contains(s, "no other node of the cluster is connected") || strings.Contains(s, "not connected any more") {
		t.Errorf("the log: %s", s)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	waits("1 of the 3 nodes")
	for _, peer := range at[1:] {
		eventually(t, "it is away", says(&log, "level=WARN", "not connected any more", peer))
	}
	eventually(t, "there is no majority", says(&log, "level=ERROR", "no other node of the cluster is connected"))
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAnAddressOfTheClusterThatIsTakenIsAnErrorAtOnce(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for addr, remedy := range map[string]string{ln.Addr().String(): "another program listens there", "192.0.2.1:6222": "an address of this machine"} {
		n, err := natsbroker.Start(natsbroker.EmbedOptions{
			Dir: t.TempDir(), ClusterListen: addr, ClusterPeers: []string{"127.0.0.1:1", "127.0.0.1:2"}, Options: natsbroker.Options{Logger: quiet()},
		})
		if err == nil {
			_ = n.Close()
		}
		if e, ok := errors.AsType[*tidings.InvalidError](err); !ok || e.Field != "ClusterListen" || !strings.Contains(e.Reason, addr) || !strings.Contains(e.Hint, remedy) {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

func TestADirectoryThatCantBeWrittenToIsRefusedWithARemedy(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{filepath.Join(file, "log"), "/proc/log"} {
		_, err := natsbroker.Embed(t.Context(), natsbroker.EmbedOptions{Dir: dir, Options: natsbroker.Options{Logger: quiet()}})
		if e, ok := errors.AsType[*tidings.InvalidError](err); !ok || e.Field != "Dir" || !strings.Contains(e.Reason, dir) || !strings.Contains(e.Hint, "write") {
			t.Errorf("%s: %v", dir, err)
		}
	}
}
