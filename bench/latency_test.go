package bench_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/internal/testserver"
)

const (
	writers = 4
	warmUp  = 5 * time.Second
	// stragglers is how long records may still come after the last commit.
	stragglers = 30 * time.Second
)

// BenchmarkLatency measures the time from the return of a commit to the arrival of its
// event at a consumer, while events are committed at a steady rate, one a transaction.
func BenchmarkLatency(b *testing.B) {
	for _, rate := range []int{500} {
		b.Run(fmt.Sprintf("%d-per-second", rate), func(b *testing.B) {
			period := time.Duration(setting(b, "BENCH_SECONDS", 20)) * time.Second
			r := newRig(b)
			measured := make(figures)
			for b.Loop() {
				r.latency(rate, period, measured)
			}
			measured.report(b)
		})
	}
}

func (r *rig) latency(rate int, period time.Duration, measured figures) {
	r.b.Helper()
	topic := testserver.Topic(r.b, partitions)
	slot := r.newSlot()
	run := r.startRelay(topic, slot)
	run.awaitStreaming()

	m := newStopwatch(rate, warmUp+period)
	consuming, cancel := context.WithCancel(r.b.Context())
	defer cancel()
	var writing, reading errgroup.Group
	reading.Go(func() error { return m.consume(consuming, topic, testserver.Kafka(r.b)) })
	start := time.Now()
	for w := range writers {
		writing.Go(func() error { return m.write(r.b.Context(), r.url, start, w) })
	}
	if err := writing.Wait(); err != nil {
		r.b.Fatalf("insert events: %v", err)
	}
	wrote := time.Since(start)
	deadline := time.AfterFunc(stragglers, cancel)
	defer deadline.Stop()
	if err := reading.Wait(); err != nil {
		r.b.Fatalf("consume: %v", err)
	}
	load := loadAverage()
	run.stop()
	r.dropSlot(slot)

	warm := int(warmUp.Seconds()) * rate
	latencies, missing := m.latencies(warm)
	measured.add("missing", float64(missing))
	if missing > 0 || m.duplicates > 0 {
		r.b.Fatalf("%d events missing, %d twice, want none\n%s", missing, m.duplicates, run.log())
	}
	p50, p99, most := percentile(latencies, .5), percentile(latencies, .99), percentile(latencies, 1)
	r.b.Logf("%d events in %v, the first %d not counted: p50 %v, p99 %v, at most %v; load average %s",
		len(m.committed), wrote.Round(time.Millisecond), warm, p50, p99, most, load)
	measured.add("p50_ms", milliseconds(p50))
	measured.add("p99_ms", milliseconds(p99))
	measured.add("max_ms", milliseconds(most))
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1e3 }

// stopwatch holds two times for every event; the aggregate id says which event it is.
type stopwatch struct {
	interval           time.Duration
	committed, arrived []time.Time
	duplicates         int
}

func newStopwatch(rate int, period time.Duration) *stopwatch {
	n := int(period.Seconds() * float64(rate))
	return &stopwatch{
		interval:  time.Second / time.Duration(rate),
		committed: make([]time.Time, n),
		arrived:   make([]time.Time, n),
	}
}

// write commits every event that falls to one of the writers at its time. One that is late
// does not put off the others: what the clients see is what counts, not what suits us.
func (m *stopwatch) write(ctx context.Context, url string, start time.Time, writer int) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	timer := time.NewTimer(0)
	defer timer.Stop()
	for n := writer; n < len(m.committed); n += writers {
		timer.Reset(time.Until(start.Add(time.Duration(n) * m.interval)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		_, err := conn.Exec(ctx, `
			INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
			VALUES ('order', $1, 'order.created', order_payload($2))`, strconv.Itoa(n), n)
		if err != nil {
			return err
		}
		m.committed[n] = time.Now()
	}
	return nil
}

// consume notes when each event arrives, until all have or ctx ends.
func (m *stopwatch) consume(ctx context.Context, topic string, brokers []string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer client.Close()
	for left := len(m.arrived); left > 0; {
		fetches := client.PollFetches(ctx)
		now := time.Now()
		if ctx.Err() != nil {
			return nil // what has not arrived is missing
		}
		if err := fetches.Err(); err != nil {
			return err
		}
		for iter := fetches.RecordIter(); !iter.Done(); {
			key := string(iter.Next().Key)
			n, err := strconv.Atoi(key)
			if err != nil || n < 0 || n >= len(m.arrived) {
				return fmt.Errorf("record with the key %q, which nobody wrote", key)
			}
			if !m.arrived[n].IsZero() {
				m.duplicates++
				continue
			}
			m.arrived[n] = now
			left--
		}
	}
	return nil
}

// latencies returns those of the events from number first on, sorted, and how many events
// of all never arrived.
func (m *stopwatch) latencies(first int) (sorted []time.Duration, missing int) {
	for n, arrived := range m.arrived {
		switch {
		case arrived.IsZero():
			missing++
		case n >= first:
			sorted = append(sorted, arrived.Sub(m.committed[n]))
		}
	}
	slices.Sort(sorted)
	return sorted, missing
}

// percentile returns the smallest of the sorted values that the share of all do not exceed.
func percentile(sorted []time.Duration, share float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(int(math.Ceil(share*float64(len(sorted)))), 1)-1]
}
