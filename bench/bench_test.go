package bench_test

import (
	"testing"
	"time"

	"github.com/postrider/postrider/internal/testserver"
)

// BenchmarkDrain measures how fast a backlog of committed events gets to Kafka.
func BenchmarkDrain(b *testing.B) {
	for _, bc := range []struct {
		name           string
		perTransaction int
	}{
		{"one-row", 1},
		{"hundred-row", 100},
	} {
		b.Run(bc.name, func(b *testing.B) {
			benchmarkDrain(b, bc.perTransaction)
		})
	}
}

// BenchmarkLargeTransaction is a drain of events that were committed all at once. Postgres
// decodes the whole transaction before it sends the first of them: that time is logged and
// no part of events/s.
func BenchmarkLargeTransaction(b *testing.B) {
	benchmarkDrain(b, setting(b, "BENCH_EVENTS", defaultEvents))
}

func benchmarkDrain(b *testing.B, perTransaction int) {
	events := setting(b, "BENCH_EVENTS", defaultEvents)
	r := newRig(b)
	r.loadEvents(events, perTransaction)
	measured := make(figures)
	for b.Loop() {
		r.drain(events, measured)
	}
	measured.report(b)
}

// drain lets a relay publish the loaded events, and checks that the topic then holds as many
// records.
func (r *rig) drain(events int, measured figures) {
	r.b.Helper()
	topic := testserver.Topic(r.b, partitions)
	slot := r.loadedSlot()
	load := loadAverage()
	started := time.Now()
	run := r.startRelay(topic, slot)
	first, last := run.awaitPublished(events)

	// Both processes began with this drain, so what they have used is what it cost.
	perMillion := 1e6 / float64(events)
	if cpu, ok := r.cpuOf(run.pid()); ok {
		measured.add("relay_cpu_s/1M", cpu.Seconds()*perMillion)
	}
	if peak, ok := r.peakMemoryOf(run.pid()); ok {
		measured.add("peak_rss_MB", peak/1e6)
	}
	if pid, ok := r.walsender(slot); ok {
		if cpu, ok := r.cpuOf(pid); ok {
			measured.add("walsender_cpu_s/1M", cpu.Seconds()*perMillion)
		}
	}
	run.stop()
	r.dropSlot(slot)

	took := last.at.Sub(first.at)
	if took == 0 {
		r.b.Fatalf("all %d events were published between two looks: raise BENCH_EVENTS", events)
	}
	measured.add("events/s", float64(last.published-first.published)/took.Seconds())
	r.b.Logf("%d events in %v, the first after %v; load average before %s, after %s",
		events, took.Round(time.Millisecond), first.at.Sub(started).Round(time.Millisecond), load, loadAverage())
	if appended := r.records(topic); appended != int64(events) {
		r.b.Fatalf("topic has %d records, want %d\n%s", appended, events, run.log())
	}
}

// BenchmarkIdle measures what the relay costs when nothing happens in the database.
func BenchmarkIdle(b *testing.B) {
	period := time.Duration(setting(b, "BENCH_SECONDS", 15)) * time.Second
	r := newRig(b)
	measured := make(figures)
	for b.Loop() {
		slot := r.newSlot()
		run := r.startRelay(testserver.Topic(b, partitions), slot)
		run.awaitStreaming()
		r.pause(settle)
		before, ok := r.cpuOf(run.pid())
		r.pause(period)
		if after, still := r.cpuOf(run.pid()); ok && still {
			measured.add("cpu_%", 100*(after-before).Seconds()/period.Seconds())
		}
		if peak, ok := r.peakMemoryOf(run.pid()); ok {
			measured.add("peak_rss_MB", peak/1e6)
		}
		b.Logf("load average %s", loadAverage())
		run.stop()
		r.dropSlot(slot)
	}
	measured.report(b)
}
