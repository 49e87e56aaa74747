package contender_test

import (
	"bufio"
	"net/http"
	"strings"
	"testing"

	"github.com/tidings-sse/tidings/bench/internal/built"
	"github.com/tidings-sse/tidings/bench/internal/contender"
	"github.com/tidings-sse/tidings/bench/internal/control"
	"github.com/tidings-sse/tidings/bench/internal/proc"
)

func TestEveryContenderDeliversWhatItPublishesAndLeavesNoProcess(t *testing.T) {
	all, leftOut := contender.List(built.Programs(t, "../.."))
	for _, l := range leftOut {
		t.Run("left out", func(t *testing.T) { t.Skip(l) })
	}
	for _, c := range all {
		t.Run(c.Name, func(t *testing.T) {
			s, err := c.Start(t.Context(), contender.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Stop()
			url := strings.NewReplacer("{n}", "1", "{user}", "1", "{topic}", "1").Replace(s.URL)
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Accept", "text/event-stream")
			r, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Body.Close()
			if got := r.Header.Get("Content-Type"); !strings.HasPrefix(got, "text/event-stream") {
				t.Errorf("the Content-Type is %q", got)
			}
			got := make(chan string, 100)
			go func() {
				lines := bufio.NewScanner(r.Body)
				for lines.Scan() {
					got <- lines.Text()
				}
				close(got)
			}()
			// A stream may be open before it is registered, so there are several events, and the first may be missed.
			done, err := s.Publish(t.Context(), s.Prepare(control.Publish{Kind: control.Broadcast, Count: 20, Rate: 50, Size: 100, Publishers: 1}))
			if err != nil || done.Count != 20 {
				t.Fatalf("published %+v, %v", done, err)
			}
			for line := range got {
				if strings.Contains(line, `"s":20,"p":0,"c":0,"k":20,"t":`) {
					break
				}
			}
			cpu, err := proc.CPU(s.PID)
			memory, err2 := proc.Memory(s.PID)
			if err != nil || err2 != nil || memory < 100<<10 || cpu < 0 {
				t.Errorf("it used %v, %v and %d bytes, %v", cpu, err, memory, err2)
			}
			s.Stop()
			if left := proc.Tree(s.PID); len(left) > 1 {
				t.Errorf("processes %v are left", left)
			}
			if _, err := proc.Memory(s.PID); err == nil {
				t.Error("the server still runs")
			}
		})
	}
}
