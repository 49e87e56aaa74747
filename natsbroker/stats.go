package natsbroker

import (
	"time"

	"github.com/tidings-sse/tidings"
)

var _ tidings.Monitor = (*Broker)(nil)

// LogStats returns the counts as they are now.
func (b *Broker) LogStats() tidings.LogStats {
	c := &b.counts
	ms := func(share float64) float64 { return float64(c.latency.quantile(share)) / float64(time.Millisecond) }
	last, read := c.last.Load(), c.read.Load()
	return tidings.LogStats{
		Behind:      last - min(read, last),
		Reconnects:  c.reconnects.Load(),
		Disconnects: c.disconnects.Load(),
		Restarts:    c.restarts.Load(),
		Appends:     c.appends.Load(),
		Events:      c.records.Load(),
		Messages:    c.messages.Load(),
		Failed:      c.failed.Load(),
		Unknown:     c.unknown.Load(),
		AppendP50Ms: ms(0.50),
		AppendP99Ms: ms(0.99),
		AppendMaxMs: ms(1),
	}
}
