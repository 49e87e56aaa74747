package load_test

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/tidings-sse/tidings/internal/load"
)

const anEvent = "event: bench\ndata: {\"s\":7,\"p\":1,\"c\":2,\"k\":3,\"t\":1764064800000000000,\"x\":\"....\"}\nid: 1k3-2x.0-9f\n\n"

const streamHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"

func chunk(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }

func TestAResponseIsReadWhateverItsFraming(t *testing.T) {
	stamp := load.Stamp{Publisher: 1, Seq: 7, Class: load.ToUser, Key: 3, Intended: 1764064800000000000}
	want := []load.ParsedEvent{{Kind: load.KindConnected}, {Kind: load.KindEvent, Stamp: stamp, Stamped: true}, {Kind: load.KindGap}}
	hello := "\ufeffretry: 2870\nevent: tidings.connected\ndata: {}\n\n"
	gap := ":\n\nevent:tidings.gap\ndata:{}\nid:g\n\n"
	body := hello + anEvent + gap
	for name, response := range map[string]string{
		"chunked":                   streamHead + "Transfer-Encoding: chunked\r\n\r\n" + chunk(hello) + chunk(anEvent) + chunk(gap) + "0\r\n\r\n",
		"chunks within lines":       streamHead + "Transfer-Encoding: chunked\r\n\r\n" + chunk(body[:50]) + "20;x=\"y\"\r\n" + body[50:82] + "\r\n" + chunk(body[82:]) + "0\r\nTrailer: x\r\n\r\n",
		"length":                    streamHead + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body)) + body,
		"until the connection ends": streamHead + "\r\n" + body,
		"CRLF":                      streamHead + "\r\n" + strings.ReplaceAll(body, "\n", "\r\n"),
		"after 103":                 "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + streamHead + "\r\n" + body,
	} {
		p := load.Parse([]byte(response))
		if p.Err != "" || p.Status != 200 || !p.StreamT || p.LastID != "g" || p.Retry != 2870 || !reflect.DeepEqual(p.Events, want) {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

func TestAnIDCountsOnlyOnceItsEventIsWhole(t *testing.T) {
	if p := load.Parse([]byte(streamHead + "\r\nid: a\n\ndata: x\nid: b\n")); p.LastID != "a" || len(p.Events) != 0 {
		t.Errorf("%+v", p)
	}
}

func TestWhatIsNoResponseIsAnError(t *testing.T) {
	for _, response := range []string{
		"SSH-2.0-OpenSSH\r\n", "HTTP/2 200\r\n", "HTTP/1.1 xyz\r\n\r\n", streamHead + "nonsense\r\n\r\n",
		streamHead + "Transfer-Encoding: gzip\r\n\r\n", streamHead + "Content-Length: -1\r\n\r\n",
		streamHead + "Transfer-Encoding: chunked\r\n\r\nxyz\r\n", streamHead + "Transfer-Encoding: chunked\r\n\r\n\r\n",
		streamHead + "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", streamHead + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nmore",
		streamHead + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", strings.Repeat("x", 70<<10),
	} {
		if p := load.Parse([]byte(response)); p.Err == "" {
			t.Errorf("%.80q: %+v", response, p)
		}
	}
}

func TestAPayloadIsReadAsItWasWrittenAndWrapped(t *testing.T) {
	s := load.Stamp{Publisher: 3, Seq: 12, Class: load.ToTopic, Key: 5, Intended: 1764064800123456789}
	for _, size := range []int{0, 1, 80, 90, 170, 5000} {
		b := load.AppendPayload(nil, s, size)
		if size >= 90 && len(b) != size {
			t.Errorf("%d bytes, want %d: %s", len(b), size, b)
		}
		for _, data := range []string{string(b), `{"channel":"x","data":` + string(b) + `}`} {
			if got, ok := load.ReadPayload([]byte(data)); !ok || got != s {
				t.Errorf("%q was read as %+v, %v", data, got, ok)
			}
		}
	}
	for _, data := range []string{"", "{}", `{"s":}`, `{"s":1}`, `{"s":1,"p":0,"t":0}`, `{"s":1,"p":999,"t":5}`, `{"s":1,"c":9,"t":5}`, `{"s":1,"c":1,"t":5}`} {
		if s, ok := load.ReadPayload([]byte(data)); ok {
			t.Errorf("%q was read as %+v", data, s)
		}
	}
	if s, ok := load.ReadPayload([]byte(`{"s":4,"p":1,"t":9}`)); !ok || s.Key != 4 || s.Class != load.Broadcast {
		t.Errorf("without k: %+v, %v", s, ok)
	}
}

// FuzzAnyCutIsReadAsTheWhole: where reads end changes nothing.
func FuzzAnyCutIsReadAsTheWhole(f *testing.F) {
	body := "retry: 5\nevent: tidings.connected\ndata: {}\n\n" + anEvent + "id: x\r\ndata: y\r\n\r\n"
	for _, r := range []string{
		streamHead + "\r\n" + body,
		streamHead + "Transfer-Encoding: chunked\r\n\r\n" + chunk(body[:40]) + chunk(body[40:]) + "0\r\n\r\n",
		streamHead + "Content-Length: 10\r\n\r\n" + body,
		streamHead + "\r\ndata: " + strings.Repeat("x", 5000) + "\r\nid: " + strings.Repeat("y", 4100) + "\r\n\r\n",
	} {
		f.Add([]byte(r), uint16(60), uint16(7))
	}
	f.Fuzz(func(t *testing.T, response []byte, first, step uint16) {
		const most = 16 << 10 // a larger one says nothing more
		response = response[:min(len(response), most)]
		whole := load.Parse(response)
		var pieces [][]byte
		rest := response
		for n := int(first); len(rest) > 0; n = int(step) {
			n = min(max(n, 1), len(rest))
			pieces = append(pieces, rest[:n])
			rest = rest[n:]
		}
		if cut := load.Parse(pieces...); !reflect.DeepEqual(cut, whole) {
			t.Errorf("cut at %d and each %d:\n%+v\nwhole:\n%+v", first, step, cut, whole)
		}
		if len(response) < 512 {
			var bytewise [][]byte
			for i := range response {
				bytewise = append(bytewise, response[i:i+1])
			}
			if cut := load.Parse(bytewise...); !reflect.DeepEqual(cut, whole) {
				t.Errorf("a byte at a time:\n%+v\nwhole:\n%+v", cut, whole)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	event := string(load.AppendPayload(nil, load.Stamp{Seq: 123456, Key: 123456, Intended: 1764064800123456789}, load.PayloadSize))
	event = "event: bench\ndata: " + event + "\nid: 1k3dq7xw2ma-1f.0-9f2k\n\n"
	feed := load.ParseForever([]byte(streamHead + "Transfer-Encoding: chunked\r\n\r\n"))
	read := bytes.Repeat([]byte(chunk(event)), 1000)
	events := 0
	b.SetBytes(int64(len(read)))
	for b.Loop() {
		events += feed(read)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(events), "ns/event")
}
