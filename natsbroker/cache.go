package natsbroker

import (
	"container/list"
	"sync"
	"time"

	"github.com/tidings-sse/tidings"
)

// cacheBytes bounds the blocks that are kept for the next replay: clients that resume together want the same ones.
const cacheBytes = 8 << 20

// cache keeps the blocks that were read last. It may be used concurrently.
type cache struct {
	mu    sync.Mutex
	bySeq map[uint64]*list.Element
	used  list.List // of *block, that used last in front
	bytes int
	of    identity // the stream they are from
}

// A block is a message of the log.
type block struct {
	seq     uint64
	at      time.Time
	records []tidings.Record
	size    int
}

func newCache() *cache { return &cache{bySeq: make(map[uint64]*list.Element)} }

// get returns the block with this sequence, if it is there and of this stream.
func (c *cache) get(id identity, seq uint64) *block {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.bySeq[seq]
	if e == nil || c.of != id {
		return nil
	}
	c.used.MoveToFront(e)
	return e.Value.(*block)
}

func (c *cache) put(id identity, b *block) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of != id {
		c.clear()
		c.of = id
	}
	if c.bySeq[b.seq] != nil {
		return
	}
	c.bySeq[b.seq] = c.used.PushFront(b)
	for c.bytes += b.size; c.bytes > cacheBytes; {
		last := c.used.Back()
		old := c.used.Remove(last).(*block)
		delete(c.bySeq, old.seq)
		c.bytes -= old.size
	}
}

// drop forgets everything: what has these sequences may be something else now.
func (c *cache) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clear()
}

func (c *cache) clear() {
	clear(c.bySeq)
	c.used.Init()
	c.bytes = 0
}
