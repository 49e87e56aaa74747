package natsbroker

import (
	"crypto/sha256"
	"time"

	"github.com/tidings-sse/tidings"
	"github.com/tidings-sse/tidings/internal/ring"
)

// keyring remembers what this node appended under an idempotency key. JetStream knows that a key was used, and where; what
// it was used for is read from there, unless it was dropped since: then only this knows.
type keyring struct {
	window time.Duration
	byKey  map[string]used
	oldest ring.Ring[usedKey]
}

type used struct {
	digest [sha256.Size]byte
	first  tidings.Appended
	at     time.Time
}

type usedKey struct {
	key string
	at  time.Time
}

// maxKeys bounds the keys remembered, at about 200 bytes each.
const maxKeys = 100_000

func newKeyring(window time.Duration) *keyring {
	return &keyring{window: window, byKey: make(map[string]used)}
}

func (k *keyring) put(key string, u used) {
	for k.oldest.Len() > 0 {
		o := k.oldest.At(0)
		if k.oldest.Len() < maxKeys && u.at.Sub(o.at) < k.window {
			break
		}
		if k.byKey[o.key].at.Equal(o.at) { // else the key was used again
			delete(k.byKey, o.key)
		}
		k.oldest.Pop()
	}
	k.byKey[key] = u
	k.oldest.Push(usedKey{key, u.at})
}
