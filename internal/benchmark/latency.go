package benchmark

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
)

const (
	writers = 8
	// warmUp is for how long events do not count.
	warmUp = 2 * time.Second
	// stragglers is how long records may still come after the last commit.
	stragglers = 30 * time.Second
)

// latency measures from commit to consumer, while events are committed at a steady rate,
// one a transaction.
func (b *bench) latency(ctx context.Context, step string) (*Latency, error) {
	slot, topic := b.name+"_latency", b.name+"_latency"
	b.progress("wait for open transactions, to make a slot", 0, 0)
	if err := b.db.makeSlot(ctx, &b.cleanup, slot); err != nil {
		return nil, err
	}
	if err := b.kafka.makeTopic(ctx, &b.cleanup, topic, b.cfg.Partitions); err != nil {
		return nil, err
	}
	run, err := b.startRelay(slot, topic)
	if err != nil {
		return nil, err
	}
	if err := run.awaitStreaming(ctx); err != nil {
		return nil, err
	}
	warm := int(warmUp.Seconds() * float64(b.cfg.LatencyRate))
	w := newStopwatch(b.cfg.LatencyRate, warm+int(b.cfg.LatencyTime.Seconds()*float64(b.cfg.LatencyRate)))
	consuming, stopConsuming := context.WithCancel(ctx)
	defer stopConsuming()
	var reading errgroup.Group
	reading.Go(func() error { return w.consume(consuming, b.kafka, topic) })
	start := time.Now()
	writing, writeCtx := errgroup.WithContext(ctx)
	for n := range writers {
		writing.Go(func() error {
			return w.write(writeCtx, b.db, start, n, func(done int) { b.progress(step, done, len(w.committed)) })
		})
	}
	if err := writing.Wait(); err != nil {
		stopConsuming()
		return nil, errors.Join(fmt.Errorf("commit events: %w", err), reading.Wait())
	}
	took := time.Since(start)
	deadline := time.AfterFunc(stragglers, stopConsuming)
	defer deadline.Stop()
	if err := reading.Wait(); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	l := w.result(warm)
	l.WantRate, l.Rate = b.cfg.LatencyRate, float64(len(w.committed))/took.Seconds()
	return l, run.stop()
}

// stopwatch holds two times for every event; the aggregate id says which event it is.
type stopwatch struct {
	interval           time.Duration
	committed, arrived []time.Time
	duplicates         int
}

func newStopwatch(rate, events int) *stopwatch {
	return &stopwatch{
		interval:  time.Second / time.Duration(rate),
		committed: make([]time.Time, events),
		arrived:   make([]time.Time, events),
	}
}

// write commits every event that falls to one of the writers at its time. One that is late
// does not put off the others: what clients see is what counts. The first writer tells how
// far it is.
func (w *stopwatch) write(ctx context.Context, d *database, start time.Time, writer int, progress func(done int)) error {
	return d.afresh(ctx, func(conn *pgx.Conn) error {
		if err := execute(ctx, conn, "SET search_path = "+d.name); err != nil {
			return err
		}
		for n := writer; n < len(w.committed); n += writers {
			if err := wait(ctx, time.Until(start.Add(time.Duration(n)*w.interval))); err != nil {
				return err
			}
			_, err := conn.Exec(ctx, `
				INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
				VALUES ('order', $1, 'order.created', event_payload($2, $3))`, strconv.Itoa(n), n, d.note)
			if err != nil {
				return err
			}
			w.committed[n] = time.Now()
			if writer == 0 {
				progress(n)
			}
		}
		return nil
	})
}

// consume notes when each event arrives, until all have or ctx ends.
func (w *stopwatch) consume(ctx context.Context, k *kafka, topic string) error {
	options, err := k.options()
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(append(options, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	if err != nil {
		return fmt.Errorf("consume: %w", err)
	}
	defer client.Close()
	for left := len(w.arrived); left > 0; {
		fetches := client.PollFetches(ctx)
		now := time.Now()
		if ctx.Err() != nil {
			return nil // what has not arrived is missing
		}
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("consume: %w", err)
		}
		for iter := fetches.RecordIter(); !iter.Done(); {
			key := string(iter.Next().Key)
			n, err := strconv.Atoi(key)
			if err != nil || n < 0 || n >= len(w.arrived) {
				return fmt.Errorf("consume: record with the key %q, which nobody wrote", key)
			}
			if !w.arrived[n].IsZero() {
				w.duplicates++
				continue
			}
			w.arrived[n] = now
			left--
		}
	}
	return nil
}

// result sums up the events from number first on. One that was missing is so wherever it
// stood.
func (w *stopwatch) result(first int) *Latency {
	l := &Latency{Duplicate: w.duplicates}
	var sorted []time.Duration
	for n, arrived := range w.arrived {
		switch {
		case arrived.IsZero():
			l.Missing++
		case n >= first:
			sorted = append(sorted, arrived.Sub(w.committed[n]))
		}
	}
	slices.Sort(sorted)
	l.Events = len(sorted)
	l.P50, l.P99, l.Max = percentile(sorted, .5), percentile(sorted, .99), percentile(sorted, 1)
	return l
}

// percentile returns the smallest of the sorted values that the share of all do not exceed,
// in milliseconds.
func percentile(sorted []time.Duration, share float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(int(math.Ceil(share*float64(len(sorted)))), 1)-1].Seconds() * 1e3
}
