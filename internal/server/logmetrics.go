package server

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidings-sse/tidings"
)

// logCollector turns the counts of the log into those of Prometheus, where it counts: one in memory doesn't.
type logCollector struct {
	behind, disconnects, reconnects, restarts *prometheus.Desc
	appends, errors, events, messages         *prometheus.Desc
	latency                                   *prometheus.Desc
}

func newLogCollector() logCollector {
	return logCollector{
		behind:      describe("log_behind_messages", "Messages of the log that this node has not read yet."),
		disconnects: describe("log_disconnects_total", "Times that the connection to the log was lost."),
		reconnects:  describe("log_reconnects_total", "Times that it was made again."),
		restarts:    describe("log_restarts_total", "Times that following the log began again, after trouble."),
		appends:     describe("log_appends_total", "Calls that gave events to the log, each with those that were sent meanwhile."),
		errors:      describe("log_append_errors_total", "Of those, the ones that failed, by whether anything was stored.", "stored"),
		events:      describe("log_events_total", "Events that this node stored in the log."),
		messages:    describe("log_messages_total", "The same, as the log's storage counts them."),
		latency:     describe("log_append_seconds", "How long appends took since the start, rounded up to a power of two of microseconds.", "quantile"),
	}
}

func (m *logCollector) collect(out chan<- prometheus.Metric, st *tidings.LogStats) {
	one := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		one(d, prometheus.CounterValue, float64(n), labels...)
	}
	one(m.behind, prometheus.GaugeValue, float64(st.Behind))
	count(m.disconnects, st.Disconnects)
	count(m.reconnects, st.Reconnects)
	count(m.restarts, st.Restarts)
	count(m.events, st.Events)
	count(m.messages, st.Messages)
	count(m.appends, st.Appends)
	count(m.errors, st.Failed, "no")
	count(m.errors, st.Unknown, "unknown")
	for quantile, ms := range map[string]float64{"0.5": st.AppendP50Ms, "0.99": st.AppendP99Ms, "1": st.AppendMaxMs} {
		one(m.latency, prometheus.GaugeValue, ms/1000, quantile)
	}
}
