//go:build !linux

package load

import "net/netip"

// newDriver returns what moves the bytes of a shard.
func (c *Client) newDriver(s *shard, server netip.AddrPort) (driver, error) {
	return newPool(s, server), nil
}

// socket is an event loop's part of a stream, and there are no event loops.
type socket struct{}
