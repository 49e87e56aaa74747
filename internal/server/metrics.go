package server

import (
	"github.com/prometheus/client_golang/prometheus"
)

// collector turns the hub's counts, when they are asked for, into those of Prometheus: the names are those of the statistics,
// with tidings_ in front.
type collector struct {
	s *Server

	connections, maxConnections, ready                   *prometheus.Desc
	connected, disconnected, unfinished, refused         *prometheus.Desc
	sent, sendErrors, routed, delivered, replayed        *prometheus.Desc
	bytes, writes, heartbeats, checkpoints, gaps, accept *prometheus.Desc
	silent                                               *prometheus.Desc
	historyEvents, historyBytes                          *prometheus.Desc
	log                                                  logCollector
}

// describe describes a metric.
func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("tidings_"+name, help, labels, nil)
}

func newCollector(s *Server) *collector {
	d := describe
	return &collector{
		s:              s,
		connections:    d("connections", "Live streams."),
		maxConnections: d("max_connections", "Streams that there may be."),
		ready:          d("ready", "1 when streams can be served."),
		connected:      d("connected_total", "Streams, by how they began.", "resume"),
		disconnected:   d("disconnected_total", "Of those, by how they ended.", "reason"),
		unfinished:     d("unfinished_total", "Streams that ended during their replay.", "reason"),
		refused:        d("refused_total", "Streams that were not served.", "reason"),
		sent:           d("sent_total", "Events that this node accepted."),
		sendErrors:     d("send_errors_total", "Sends that failed, by the kind of problem.", "type"),
		routed:         d("routed_total", "Events of the log, whoever sent them."),
		delivered:      d("delivered_total", "Events written to a stream, once for each."),
		replayed:       d("replayed_total", "Events that streams were resumed with."),
		bytes:          d("stream_bytes_total", "Bytes written to streams."),
		writes:         d("stream_writes_total", "System calls, about, that carried them."),
		heartbeats:     d("heartbeats_total", "Heartbeats."),
		checkpoints:    d("checkpoints_total", "Checkpoints."),
		gaps:           d("gaps_total", "Streams that were told of a gap.", "reason"),
		accept:         d("accept_failures_total", "Connections that could not be accepted at once."),
		silent:         d("silent_closed_total", "Connections that were closed because nothing was said on them, and there were too many."),
		historyEvents:  d("history_events", "Events that can be replayed."),
		historyBytes:   d("history_held_bytes", "Of those, bytes held in memory."),
		log:            newLogCollector(),
	}
}

// Describe says nothing: what there is depends on what happened.
func (m *collector) Describe(chan<- *prometheus.Desc) {}

// Collect reads the counts.
func (m *collector) Collect(out chan<- prometheus.Metric) {
	st := m.s.hub().Stats()
	one := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		one(d, prometheus.CounterValue, float64(n), labels...)
	}
	ready := 0.0
	if m.s.hub().Ready() == nil {
		ready = 1
	}
	one(m.connections, prometheus.GaugeValue, float64(st.Connections))
	one(m.maxConnections, prometheus.GaugeValue, float64(m.s.maxConnections))
	one(m.ready, prometheus.GaugeValue, ready)
	one(m.historyEvents, prometheus.GaugeValue, float64(st.History.Events))
	one(m.historyBytes, prometheus.GaugeValue, float64(st.History.HeldBytes))
	for reason, n := range st.Disconnected {
		count(m.disconnected, n, string(reason))
	}
	for reason, n := range st.Unfinished {
		count(m.unfinished, n, string(reason))
	}
	for _, l := range [...]struct {
		desc *prometheus.Desc
		by   map[string]uint64
	}{{m.connected, st.Connected}, {m.refused, st.Refused}, {m.sendErrors, st.SendErrors}, {m.gaps, st.Gaps}} {
		for label, n := range l.by {
			count(l.desc, n, label)
		}
	}
	failures, _ := m.s.ln.state()
	for _, c := range [...]struct {
		desc *prometheus.Desc
		n    uint64
	}{
		{m.sent, st.Sent}, {m.routed, st.Routed}, {m.delivered, st.Delivered}, {m.replayed, st.Replayed}, {m.bytes, st.Bytes},
		{m.writes, st.Writes}, {m.heartbeats, st.Heartbeats}, {m.checkpoints, st.Checkpoints}, {m.accept, failures}, {m.silent, m.s.unused.count()},
	} {
		count(c.desc, c.n)
	}
	if st.Log != nil {
		m.log.collect(out, st.Log)
	}
}
