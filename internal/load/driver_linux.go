package load

import "net/netip"

// newDriver returns what moves the bytes of a shard.
func (c *Client) newDriver(s *shard, server netip.AddrPort) (driver, error) {
	if c.portable() {
		return newPool(s, server), nil
	}
	return newLoop(s, newDialer(server, c.sources(server), c.cfg.ReceiveBuffer))
}

var _ driver = (*loop)(nil)
