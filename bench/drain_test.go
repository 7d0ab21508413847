package bench_test

import (
	"os"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/benchmark"
	"github.com/postrider/postrider/relay"
)

// BenchmarkDrain measures how fast a backlog of committed events gets to Kafka. Each
// repetition reads the same backlog in turn: raw, greedily and at the relay's pace, by the
// relay, and by Debezium. So the machine is the same for all of them, and the ratios are
// between neighbours.
func BenchmarkDrain(b *testing.B) {
	events := setting(b, "BENCH_EVENTS", defaultEvents)
	for _, bc := range []struct {
		name           string
		load           func(*rig)
		forDebeziumToo bool // it would have to leave Avro as it is
	}{
		{"one-row", func(r *rig) { r.loadJSON(events, 1) }, true},
		{"hundred-row", func(r *rig) { r.loadJSON(events, 100) }, true},
		{"one-row-avro", func(r *rig) { r.loadAvro(events, 1) }, false},
	} {
		b.Run(bc.name, func(b *testing.B) {
			r := newRig(b)
			bc.load(r)
			measured := newFigures()
			for b.Loop() {
				r.readRaw(events, true, measured)
				paced := r.readRaw(events, false, measured)
				drained := r.drain(events, partitions, measured)
				measured.add("x_paced_raw", drained/paced)
				if bc.forDebeziumToo && debeziumAvailable() {
					measured.add("x_debezium", drained/r.drainByDebezium(events, measured))
				}
			}
			measured.report(b)
		})
	}
}

// BenchmarkLargeTransaction is a drain of events that were committed all at once. Postgres
// decodes the whole transaction before it sends the first of them: that time is logged and
// no part of events/s.
func BenchmarkLargeTransaction(b *testing.B) {
	events := setting(b, "BENCH_EVENTS", defaultEvents)
	benchmarkDrain(b, events, events)
}

// BenchmarkBacklog is a drain of so many events that memory would tell if it depended on
// them. It takes long, so it runs only where BENCH_BACKLOG says how many.
func BenchmarkBacklog(b *testing.B) {
	if os.Getenv("BENCH_BACKLOG") == "" {
		for b.Loop() { // else it would be run again and again
		}
		b.Log("nothing measured: set BENCH_BACKLOG=10000000, or run `make bench-backlog`")
		return
	}
	benchmarkDrain(b, setting(b, "BENCH_BACKLOG", 0), 1)
}

func benchmarkDrain(b *testing.B, events, perTransaction int) {
	r := newRig(b)
	r.loadJSON(events, perTransaction)
	measured := newFigures()
	for b.Loop() {
		r.drain(events, partitions, measured)
	}
	measured.report(b)
}

// readRaw reads the loaded events and throws them away, and returns how many a second.
func (r *rig) readRaw(events int, greedy bool, measured *figures) float64 {
	r.b.Helper()
	name := "paced"
	if greedy {
		name = "greedy"
	}
	slot := r.loadedSlot()
	defer r.dropSlot(slot)
	cfg := relay.PostgresConfig{URL: relay.SecretURL(r.url), Slot: slot, Publication: r.name}
	reader, err := relay.OpenRawReader(r.b.Context(), cfg, greedy)
	if err != nil {
		r.b.Fatal(err)
	}
	defer reader.Close()
	read, err := reader.Read(r.b.Context(), events, nil)
	if err != nil {
		r.b.Fatal(err)
	}
	perSecond := float64(read.Rows) / read.Took.Seconds()
	measured.add(name+"_rows/s", perSecond)
	if pid := int(reader.ServerPID()); benchmark.IsWalsender(pid) {
		measured.cost(r.b, name+"_walsender_cpu_s/1M", pid, events)
	}
	return perSecond
}

// drain lets a relay publish the loaded events, checks that the topic then holds as many
// records, and returns how many were published in a second.
func (r *rig) drain(events, partitions int, measured *figures) float64 {
	r.b.Helper()
	topic, before := r.usedTopic(partitions)
	slot := r.loadedSlot()
	load := loadAverage()
	started := time.Now()
	run := r.startRelay(topic, slot)
	first, last := run.awaitPublished(events)

	// Both processes began with this drain, so what they have used is what it cost.
	if last.at.Equal(first.at) {
		r.b.Fatalf("all %d events were published between two looks: raise BENCH_EVENTS", events)
	}
	perSecond := rate(first, last)
	measured.add("events/s", perSecond)
	measured.cost(r.b, "relay_cpu_s/1M", run.pid(), events)
	measured.cost(r.b, "walsender_cpu_s/1M", r.walsender(slot), events)
	measured.memory(r.b, "peak_rss_MB", run.pid())
	run.stop()
	r.dropSlot(slot)

	r.b.Logf("relay: %d events in %v, the first after %v; load average before %s, after %s",
		events, last.at.Sub(first.at).Round(time.Millisecond), first.at.Sub(started).Round(time.Millisecond), load, loadAverage())
	if _, appended := r.ends(topic); appended-before != int64(events) {
		r.b.Fatalf("topic has %d records more, want %d\n%s", appended-before, events, run.log())
	}
	return perSecond
}
