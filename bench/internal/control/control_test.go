package control_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tidings-sse/tidings/bench/internal/control"
)

func TestLinesAreReadAsTheyWereWritten(t *testing.T) {
	for _, want := range []control.Publish{
		{Kind: control.Broadcast, Count: 1, Publishers: 1},
		{Kind: control.Unicast, Count: 200_000, Rate: 2.631578947368421, Size: 110, Publishers: 8, Users: 10_000, Pub: 12, Beside: 5},
	} {
		if got, err := control.ParsePublish(want.String()); err != nil || got != want {
			t.Errorf("%s: got %+v, %v", want, got, err)
		}
	}
	published := control.Published{Count: 3, Start: time.Unix(1, 5), End: time.Unix(2, 7)}
	if got, err := control.ParsePublished(published.String()); err != nil || got != published {
		t.Errorf("%s: got %+v, %v", published, got, err)
	}
	for _, ready := range []control.Ready{{Addr: "127.0.0.1:1", Version: "v1"}, {Addr: "127.0.0.1:1"}} {
		if got, err := control.ParseReady(ready.String()); err != nil || got != ready {
			t.Errorf("%s: got %+v, %v", ready, got, err)
		}
	}
}

func TestLinesThatCantBeMeantAreRefused(t *testing.T) {
	good := control.Publish{Kind: control.Unicast, Count: 1, Publishers: 1, Users: 1}.String()
	for _, change := range [][2]string{{"publish ", "publsh "}, {"unicast", "all"}, {"count=1", "count=0"}, {"count=1", "count=x"}, {"publishers=1", ""}, {"users=1", "users=0"}, {"rate=0", "rate=fast"}} {
		line := strings.Replace(good, change[0], change[1], 1)
		if got, err := control.ParsePublish(line); err == nil {
			t.Errorf("%q: got %+v", line, got)
		}
	}
	for _, line := range []string{"", "error it is full", "published count=1 start=0", "published count=x start=0 end=0"} {
		if got, err := control.ParsePublished(line); err == nil {
			t.Errorf("%q: got %+v", line, got)
		}
	}
	for _, line := range []string{"", "ready", "listening addr=127.0.0.1:1"} {
		if got, err := control.ParseReady(line); err == nil {
			t.Errorf("%q: got %+v", line, got)
		}
	}
}
