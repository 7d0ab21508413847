package benchmark

import (
	"context"
	"errors"
	"fmt"
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
	w := NewStopwatch(warm + int(b.cfg.LatencyTime.Seconds()*float64(b.cfg.LatencyRate)))
	consuming, stopConsuming := context.WithCancel(ctx)
	defer stopConsuming()
	var reading errgroup.Group
	reading.Go(func() error { return b.consume(consuming, w, topic) })
	start := time.Now()
	writing, writeCtx := errgroup.WithContext(ctx)
	for n := range writers {
		writing.Go(func() error {
			return b.commitTimely(writeCtx, w, start, n, func(done int) { b.progress(step, done, w.Events()) })
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
	l := w.Result(warm)
	l.WantRate, l.Rate = b.cfg.LatencyRate, float64(w.Events())/took.Seconds()
	return l, run.stop()
}

// commitTimely commits every event that falls to one of the writers at its time. One that is
// late does not put off the others: what clients see is what counts. The first writer tells
// how far it is.
func (b *bench) commitTimely(ctx context.Context, w *Stopwatch, start time.Time, writer int, progress func(done int)) error {
	d, interval := b.db, time.Second/time.Duration(b.cfg.LatencyRate)
	return d.afresh(ctx, func(conn *pgx.Conn) error {
		if err := execute(ctx, conn, "SET search_path = "+d.name); err != nil {
			return err
		}
		for n := writer; n < w.Events(); n += writers {
			if err := wait(ctx, time.Until(start.Add(time.Duration(n)*interval))); err != nil {
				return err
			}
			_, err := conn.Exec(ctx, `
				INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
				VALUES ('order', $1, 'order.created', event_payload($2, $3))`, strconv.Itoa(n), n, d.note)
			if err != nil {
				return err
			}
			w.Committed(n, time.Now())
			if writer == 0 {
				progress(n)
			}
		}
		return nil
	})
}

func (b *bench) consume(ctx context.Context, w *Stopwatch, topic string) error {
	options, err := b.kafka.options()
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(append(options, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	if err != nil {
		return fmt.Errorf("consume: %w", err)
	}
	defer client.Close()
	return w.Consume(ctx, client)
}
