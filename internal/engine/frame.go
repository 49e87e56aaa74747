package engine

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Frame is a piece of a stream, encoded once, when it is first needed, whichever stream needs it: as it stands in the
// stream, and as a chunk of HTTP/1.1 (RFC 9112, section 7.1) in the same bytes. It may be used concurrently.
type Frame struct {
	number  uint64
	expires time.Time // by this machine's clock; zero is never
	encoder Encoder

	once  sync.Once
	chunk []byte // size, CRLF, block, CRLF
	head  int    // length of the size and its CRLF

	superseded atomic.Bool
	beat       bool // a heartbeat or a checkpoint, which is no event; set before it is posted
}

// chunkHead is room for the size of a chunk of up to 4 GiB, and its CRLF.
const chunkHead = 8 + len("\r\n")

// An Encoder appends the whole lines of a frame.
type Encoder interface {
	AppendFrame(dst []byte) []byte
}

// Encode is a function that is an Encoder.
type Encode func(dst []byte) []byte

// AppendFrame calls the function.
func (f Encode) AppendFrame(dst []byte) []byte { return f(dst) }

// NewFrame returns a frame, for which the encoder is called once at most.
// number orders frames: it is what a stream reports as the last it has written; zero leaves that as it is.
// After expires, unless it is zero, the frame is dropped where it is still queued.
func NewFrame(number uint64, expires time.Time, encoder Encoder) *Frame {
	return &Frame{number: number, expires: expires, encoder: encoder}
}

// Supersede drops the frame wherever it is still queued. A write under way is not recalled.
func (f *Frame) Supersede() { f.superseded.Store(true) }

// stale reports whether the frame need not be written any more.
func (f *Frame) stale() bool {
	return f.superseded.Load() || !f.expires.IsZero() && !time.Now().Before(f.expires)
}

func (f *Frame) encoded() []byte {
	f.once.Do(func() {
		// The size is known after the block, so the block is put behind room for it and the size in front.
		buf := f.encoder.AppendFrame(make([]byte, chunkHead, chunkHead+256))
		size := strconv.AppendUint(make([]byte, 0, chunkHead), uint64(len(buf)-chunkHead), 16)
		size = append(size, "\r\n"...)
		start := chunkHead - len(size)
		copy(buf[start:], size)
		f.chunk = append(buf[start:], "\r\n"...)
		f.head = len(size)
		f.encoder = nil // what it refers to is not needed any more
	})
	return f.chunk
}

// Block returns the frame as it stands in the stream. The bytes are shared.
func (f *Frame) Block() []byte {
	c := f.encoded()
	return c[f.head : len(c)-len("\r\n")]
}

// Chunk returns the frame as a chunk of HTTP/1.1. The bytes are shared.
func (f *Frame) Chunk() []byte { return f.encoded() }

// form returns the frame as it is written.
func (f *Frame) form(chunked bool) []byte {
	if chunked {
		return f.Chunk()
	}
	return f.Block()
}
