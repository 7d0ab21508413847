package relay

import (
	"cmp"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what /metrics shows. All names begin with postrider_.
type metrics struct {
	commitToAck  prometheus.Histogram
	lagBytes     prometheus.Gauge
	lagSeconds   prometheus.Gauge
	retained     prometheus.Gauge
	safe         prometheus.Gauge
	toLoss       prometheus.Gauge
	inFlight     prometheus.Gauge
	events       *prometheus.CounterVec
	errors       *prometheus.CounterVec
	skipped      prometheus.Counter
	deadLettered *prometheus.CounterVec
	ignored      *prometheus.CounterVec
	phase        *prometheus.GaugeVec
	halted       *prometheus.GaugeVec
	waiting      *prometheus.GaugeVec
	received     prometheus.Counter
	reconnects   prometheus.Counter
	parkedKeys   prometheus.Gauge
	parkedEvents prometheus.Gauge

	partitionsCreated, partitionsDropped prometheus.Counter
	partitionsMissing, defaultBytes      prometheus.Gauge

	byTopic map[string]prometheus.Counter // the publisher's

	// The same figures for /status.
	publishedTotal, deadTotal, expiredTotal, skippedTotal atomic.Uint64
	inFlightNow                                           atomic.Int64
}

func newMetrics(reg prometheus.Registerer, name string) *metrics {
	labels := prometheus.Labels{"relay": name}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels})
	}
	counters := func(name, help string, by ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels}, by)
	}
	gauges := func(name, help string, by ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, by)
	}
	m := &metrics{
		commitToAck: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "postrider_commit_to_ack_seconds", ConstLabels: labels,
			Help:    "Time from a transaction's commit, by the database's clock, to the acknowledgement of its last event, by the relay's.",
			Buckets: []float64{.001, .002, .004, .006, .008, .01, .015, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 3600},
		}),
		lagBytes:     gauge("postrider_lag_bytes", "WAL between the confirmed LSN and the end of the server's WAL; -1 while unknown."),
		lagSeconds:   gauge("postrider_lag_seconds", "Age of the oldest transaction with an event that is not acknowledged; 0 for none, -1 while unknown."),
		retained:     gauge("postrider_retained_wal_bytes", "WAL that the slot keeps the server from removing; -1 while unknown."),
		safe:         gauge("postrider_safe_wal_bytes", "WAL that may still be written before the slot is lost; -1 for no limit."),
		toLoss:       gauge("postrider_seconds_to_slot_loss", "Time to the loss of the slot at the present rate of WAL if nothing is confirmed; -1 for no limit."),
		inFlight:     gauge("postrider_in_flight_events", "Events handed to the publisher and not acknowledged."),
		events:       counters("postrider_events_total", "Events acknowledged by Kafka.", "topic"),
		errors:       counters("postrider_errors_total", "Failed attempts, by what failed.", "class"),
		skipped:      counter("postrider_duplicates_skipped_total", "Events read again that were known to be in Kafka."),
		deadLettered: counters("postrider_dead_letters_total", "Events sent to the dead-letter topic.", "reason"),
		ignored:      counters("postrider_changes_ignored_total", "Changes of published tables that are no events.", "relation", "kind"),
		phase:        gauges("postrider_phase", "1 for the phase that the relay is in.", "phase"),
		halted:       gauges("postrider_halted", "1 for the named halt that the relay stands in.", "code"),
		waiting:      gauges("postrider_waiting", "1 for what keeps the relay from working and passes by itself.", "component"),
		received:     counter("postrider_received_bytes_total", "Bytes of the replication stream."),
		reconnects:   counter("postrider_sessions_total", "Times the relay connected to all its servers."),
		parkedKeys:   gauge("postrider_parked_keys", "Keys whose events wait in the dead-letter topic (on_poison: halt-key)."),
		parkedEvents: gauge("postrider_parked_events", "Events that wait there until their key is released."),
		byTopic:      make(map[string]prometheus.Counter),
	}
	m.partitionsCreated = counter("postrider_partitions_created_total", "Daily partitions made ahead of time.")
	m.partitionsDropped = counter("postrider_partitions_dropped_total", "Daily partitions dropped past their retention.")
	m.partitionsMissing = gauge("postrider_partitions_missing",
		"How many of today and tomorrow (UTC) have no partition of their own; -1 while unknown or not partitioned.")
	m.defaultBytes = gauge("postrider_default_partition_bytes",
		"Size of the default partition, which takes the rows of days without one; -1 while unknown or not partitioned.")
	if reg != nil {
		reg.MustRegister(m.partitionsCreated, m.partitionsDropped, m.partitionsMissing, m.defaultBytes)
		reg.MustRegister(m.commitToAck, m.lagBytes, m.lagSeconds, m.retained, m.safe, m.toLoss, m.inFlight, m.events, m.errors,
			m.skipped, m.deadLettered, m.ignored, m.phase, m.halted, m.waiting, m.received, m.reconnects, m.parkedKeys, m.parkedEvents)
	}
	m.unknownLag()
	m.setPartitions(partitions{})
	for _, p := range []Phase{PhaseStarting, PhaseStandby, PhaseSnapshot, PhaseStreaming, PhaseStopping} {
		m.phase.WithLabelValues(string(p)).Set(0)
	}
	m.setTroubles(nil)
	return m
}

func (m *metrics) observeCommit(committed, acknowledged time.Time) {
	m.commitToAck.Observe(acknowledged.Sub(committed).Seconds())
}

// published counts n records of a topic, dead of them dead letters.
func (m *metrics) published(topic string, n, dead int) {
	m.publishedTotal.Add(uint64(n - dead))
	c := m.byTopic[topic]
	if c == nil {
		c = m.events.WithLabelValues(topic)
		m.byTopic[topic] = c
	}
	c.Add(float64(n))
}

func (m *metrics) setInFlight(n int) {
	m.inFlight.Set(float64(n))
	m.inFlightNow.Store(int64(n))
}

func (m *metrics) failed(class string) { m.errors.WithLabelValues(class).Inc() }

func (m *metrics) skip() {
	m.skipped.Inc()
	m.skippedTotal.Add(1)
}

func (m *metrics) deadLetter(reason string) {
	if reason == reasonReleased {
		return // it is no event
	}
	m.deadLettered.WithLabelValues(reason).Inc()
	if reason == reasonExpired {
		m.expiredTotal.Add(1)
	} else {
		m.deadTotal.Add(1)
	}
}

func (m *metrics) setParked(keys, events int) {
	m.parkedKeys.Set(float64(keys))
	m.parkedEvents.Set(float64(events))
}

func (m *metrics) setPhase(now Phase) {
	for _, p := range []Phase{PhaseStarting, PhaseStandby, PhaseSnapshot, PhaseStreaming, PhaseStopping} {
		v := 0.0
		if p == now {
			v = 1
		}
		m.phase.WithLabelValues(string(p)).Set(v)
	}
}

func (m *metrics) setTroubles(troubles map[string]Trouble) {
	for _, code := range HaltCodes {
		m.halted.WithLabelValues(string(code)).Set(0)
	}
	for _, component := range components {
		m.waiting.WithLabelValues(component).Set(0)
	}
	for _, t := range troubles {
		if t.Code != "" {
			m.halted.WithLabelValues(string(t.Code)).Set(1)
		} else {
			m.waiting.WithLabelValues(cmp.Or(t.WaitsFor, t.Component)).Set(1)
		}
	}
}
