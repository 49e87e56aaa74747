package engine_test

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidings-sse/tidings/internal/engine"
)

// text returns a frame of these bytes.
func text(number uint64, s string) *engine.Frame {
	return engine.NewFrame(number, time.Time{}, engine.Encode(func(dst []byte) []byte { return append(dst, s...) }))
}

func TestAFrameIsTheSameBlockAsItselfAndAsAChunk(t *testing.T) {
	f := text(1, "data: x\n\n")
	if got := string(f.Block()); got != "data: x\n\n" {
		t.Errorf("block: %q", got)
	}
	if got := string(f.Chunk()); got != "9\r\ndata: x\n\n\r\n" {
		t.Errorf("chunk: %q", got)
	}
	for _, size := range []int{1, 15, 16, 255, 256, 257, 4095, 4096, 65535, 65536, 1 << 20} {
		block := bytes.Repeat([]byte("\n"), size)
		f := text(1, string(block))
		if !bytes.Equal(f.Block(), block) {
			t.Errorf("the block of %d bytes has %d", size, len(f.Block()))
		}
		if want := fmt.Sprintf("%x\r\n%s\r\n", size, block); string(f.Chunk()) != want {
			t.Errorf("the chunk of %d bytes begins with %.12q", size, f.Chunk())
		}
	}
}

func TestAFrameIsEncodedWhenItIsNeededAndOnce(t *testing.T) {
	var calls atomic.Int32
	f := engine.NewFrame(1, time.Time{}, engine.Encode(func(dst []byte) []byte {
		calls.Add(1)
		return append(dst, "data: x\n\n"...)
	}))
	if calls.Load() != 0 {
		t.Error("it was encoded before anybody needed it")
	}
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if i%2 == 0 && string(f.Block()) != "data: x\n\n" || string(f.Chunk()) != "9\r\ndata: x\n\n\r\n" {
				t.Error("it is something else")
			}
		})
	}
	wg.Wait()
	if calls.Load() != 1 {
		t.Errorf("it was encoded %d times", calls.Load())
	}
}
