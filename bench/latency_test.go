package bench_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/internal/benchmark"
	"github.com/postrider/postrider/internal/testserver"
)

const (
	defaultSeconds = 15
	writers        = 8
	// warmUp is for how long events do not count: Java compiles what it runs often.
	warmUp = 8 * time.Second
	// stragglers is how long records may still come after the last commit.
	stragglers = 30 * time.Second
)

// BenchmarkLatency measures the time from the return of a commit to the arrival of its
// events at a consumer, while events are committed at a steady rate.
func BenchmarkLatency(b *testing.B) {
	b.Run("500-per-second", func(b *testing.B) {
		r := newRig(b)
		measured := newFigures()
		for b.Loop() {
			r.latency(r.relayStarter(), timetable{rate: 500, perTransaction: 1}, measured)
		}
		measured.report(b)
	})
	// Half of what the relay drains of one-row transactions. Only transactions of many rows
	// reach that: Postgres, the broker and those who write are on the same cores.
	b.Run("half-drain-rate", func(b *testing.B) {
		r := newRig(b)
		drained := results.median("BenchmarkDrain/one-row", "events/s")
		if drained == 0 {
			events := setting(b, "BENCH_EVENTS", defaultEvents)
			r.loadJSON(events, 1)
			drained = r.drain(events, partitions, newFigures())
		}
		measured := newFigures()
		for b.Loop() {
			r.latency(r.relayStarter(), timetable{rate: int(drained / 2), perTransaction: 100}, measured)
		}
		measured.report(b)
	})
}

// starter starts what publishes to topic the events of slot.
type starter func(topic, slot string) *process

func (r *rig) relayStarter() starter {
	return func(topic, slot string) *process { return r.startRelay(topic, slot).process }
}

// timetable says when events are committed.
type timetable struct {
	rate           int // events a second
	perTransaction int // a divisor of payloads
}

func (r *rig) latency(start starter, when timetable, measured *figures) {
	r.b.Helper()
	period := warmUp + time.Duration(setting(r.b, "BENCH_SECONDS", defaultSeconds))*time.Second
	topic := testserver.Topic(r.b, partitions)
	slot := r.newSlot()
	run := start(topic, slot)
	ends := r.awaitProbe(run, topic)

	transactions := int(period.Seconds() * float64(when.rate) / float64(when.perTransaction))
	watch := benchmark.NewStopwatch(transactions * when.perTransaction)
	consuming, cancel := context.WithCancel(r.b.Context())
	defer cancel()
	var reading errgroup.Group
	reading.Go(func() error { return consume(consuming, watch, topic, ends, testserver.Kafka(r.b)) })
	began := time.Now()
	writing, ctx := errgroup.WithContext(r.b.Context())
	for w := range writers {
		writing.Go(func() error { return r.write(ctx, watch, began, when, w) })
	}
	if err := writing.Wait(); err != nil {
		r.b.Fatalf("commit events: %v", err)
	}
	took := time.Since(began)
	deadline := time.AfterFunc(stragglers, cancel)
	defer deadline.Stop()
	if err := reading.Wait(); err != nil {
		r.b.Fatal(err)
	}
	load := loadAverage()
	measured.memory(r.b, "peak_rss_MB", run.pid())
	run.stop()
	r.dropSlot(slot)
	r.exec("TRUNCATE outbox")

	l := watch.Result(int(warmUp.Seconds() * float64(when.rate)))
	if l.Missing > 0 || l.Duplicate > 0 {
		r.b.Fatalf("%d events missing, %d twice, want none\n%s", l.Missing, l.Duplicate, run.log())
	}
	r.b.Logf("%d events in %v: p50 %.2f ms, p99 %.2f ms, at most %.2f ms; load average %s",
		watch.Events(), took.Round(time.Millisecond), l.P50, l.P99, l.Max, load)
	measured.add("events/s", float64(watch.Events())/took.Seconds())
	measured.add("p50_ms", l.P50)
	measured.add("p99_ms", l.P99)
	measured.add("max_ms", l.Max)
}

// awaitProbe commits an event and returns when it is in the topic, with where the
// partitions end then: what comes later is what counts.
func (r *rig) awaitProbe(run *process, topic string) map[int32]int64 {
	r.b.Helper()
	r.exec(`INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
		VALUES ('order', 'probe', 'order.created', event_payload(0, $1))`, r.noteBytes)
	var ends map[int32]int64
	run.await("it published the first event", pollInterval, func() (bool, int64) {
		var records int64
		ends, records = r.ends(topic)
		return records == 1, records
	})
	return ends
}

// write commits every transaction that falls to one of the writers at its time. One that is
// late does not put off the others: what the clients see is what counts, not what suits us.
func (r *rig) write(ctx context.Context, watch *benchmark.Stopwatch, start time.Time, when timetable, writer int) error {
	conn, err := pgx.Connect(ctx, r.url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	interval := time.Duration(float64(time.Second) * float64(when.perTransaction) / float64(when.rate))
	timer := time.NewTimer(0)
	defer timer.Stop()
	for n := writer; n < watch.Events()/when.perTransaction; n += writers {
		timer.Reset(time.Until(start.Add(time.Duration(n) * interval)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		first := n * when.perTransaction
		// Rising ids like those of package outbox: random ones cost Postgres a half more.
		_, err := conn.Exec(ctx, `
			INSERT INTO outbox (id, aggregate_type, aggregate_id, event_type, payload)
			SELECT ('00000000-0000-7000-8000-' || lpad(to_hex($1::int + p.n - $2::int), 12, '0'))::uuid,
			       'order', ($1::int + p.n - $2::int)::text, 'order.created', p.payload
			  FROM prepared p WHERE p.n BETWEEN $2 AND $2 + $3::int - 1`, first, first%payloads, when.perTransaction)
		if err != nil {
			return err
		}
		committed := time.Now()
		for event := range when.perTransaction {
			watch.Committed(first+event, committed)
		}
	}
	return nil
}

// consume reads topic from where its partitions end.
func consume(ctx context.Context, watch *benchmark.Stopwatch, topic string, ends map[int32]int64, brokers []string) error {
	from := make(map[int32]kgo.Offset)
	for partition, end := range ends {
		from[partition] = kgo.NewOffset().At(end)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}))
	if err != nil {
		return err
	}
	defer client.Close()
	return watch.Consume(ctx, client)
}
