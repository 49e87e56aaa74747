package server_test

import (
	"runtime"
	"testing"

	"github.com/tidings-sse/tidings/internal/server"
)

// Not parallel: what other tests allocate would count.
func TestWhatAStormOfConnectionsTookIsGivenBackOnceItIsQuiet(t *testing.T) {
	trimmer := server.NewTrimmer()
	trimmer.Look() // what tests before this one have left
	var kept [][]byte
	for range 1000 {
		kept = append(kept, make([]byte, 64<<10))
	}
	if trimmer.Look() {
		t.Error("it collected while much was allocated")
	}
	runtime.KeepAlive(kept)
	kept = nil
	before := trimmer.Resident()
	if !trimmer.Look() {
		t.Fatal("it did not, though it was quiet")
	}
	if after := trimmer.Resident(); after > before-32<<20 {
		t.Errorf("%d bytes of %d are resident still", after, before)
	}
	if trimmer.Look() {
		t.Error("it collected again, with nothing to gain")
	}
}
