package sse_test

import (
	"strings"
	"testing"

	"github.com/tidings-sse/tidings/sse"
)

// payload makes a frame of about 170 bytes, the size that the design's figures
// are for.
var payload = []byte(`{"text":"` + strings.Repeat("x", 110) + `"}`)

func BenchmarkAppendBlockIntoABuffer(b *testing.B) {
	b.ReportAllocs()
	buf := make([]byte, 0, 4096)
	for b.Loop() {
		buf = sse.AppendBlock(buf[:0], "new-message", payload, "1k3-2y.0-c4")
	}
	b.SetBytes(int64(len(buf)))
}

func BenchmarkAppendBlockIntoANewFrame(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		sse.AppendBlock(nil, "new-message", payload, "1k3-2y.0-c4")
	}
}

func BenchmarkAppendBlockOfManyLines(b *testing.B) {
	b.ReportAllocs()
	data := []byte(strings.Repeat("a line of forty bytes of text or thereby\n", 100))
	buf := make([]byte, 0, 8192)
	for b.Loop() {
		buf = sse.AppendBlock(buf[:0], "new-message", data, "1k3-2y.0-c4")
	}
	b.SetBytes(int64(len(buf)))
}

func BenchmarkAppendEvent(b *testing.B) {
	b.ReportAllocs()
	event := sse.Event{Type: "new-message", Data: string(payload), ID: "1k3-2y.0-c4"}
	buf := make([]byte, 0, 4096)
	for b.Loop() {
		buf, _ = sse.AppendEvent(buf[:0], event)
	}
	b.SetBytes(int64(len(buf)))
}

func benchmarkDecode(b *testing.B, data []byte) {
	b.ReportAllocs()
	block := sse.AppendBlock(nil, "new-message", data, "1k3-2y.0-c4")
	b.SetBytes(int64(len(block)))
	stream := &endless{line: string(block), n: 1 << 62}
	d := sse.NewDecoder(stream, nil)
	for b.Loop() {
		for _, err := range d.Events() {
			if err != nil {
				b.Fatal(err)
			}
			break
		}
	}
}

func BenchmarkDecode(b *testing.B) { benchmarkDecode(b, payload) }

func BenchmarkDecodeALargeEvent(b *testing.B) {
	benchmarkDecode(b, []byte(strings.Repeat("x", 1<<20)))
}

func BenchmarkDecodeAnEventOfManyLines(b *testing.B) {
	benchmarkDecode(b, []byte(strings.Repeat("a line of forty bytes of text or thereby\n", 100)))
}
