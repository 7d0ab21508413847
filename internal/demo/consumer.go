package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// consume reads all topics from the beginning, with another client than the relay's and the
// services', books every record and shows those that are not from an earlier run. before are
// the ends of the topics at the start; caughtUp is called when they are reached.
func (d *demo) consume(ctx context.Context, before kadm.ListedOffsets, caughtUp func()) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(d.servers.addresses...), kgo.ClientID(ownName+"_consumer"),
		kgo.ConsumeTopics(d.servers.topics().all()...), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxWait(100*time.Millisecond),
		// A broker that comes back is to be noticed at once.
		kgo.MetadataMinAge(100*time.Millisecond), kgo.RetryBackoffFn(func(int) time.Duration { return 100 * time.Millisecond }))
	if err != nil {
		return fmt.Errorf("consumer: %w", err)
	}
	defer client.Close()
	missing := map[string]int64{} // by partition, the end at the start
	before.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			missing[fmt.Sprint(o.Topic, "/", o.Partition)] = o.Offset
		}
	})
	if len(missing) == 0 {
		caughtUp()
		caughtUp = nil
	}
	for ctx.Err() == nil {
		fetches := client.PollFetches(ctx)
		var lost *kgo.ErrDataLoss
		if err := fetches.Err(); errors.As(err, &lost) {
			return fmt.Errorf("consumer: %w", err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			end, ok := before.Lookup(r.Topic, r.Partition)
			old := ok && r.Offset < end.Offset
			d.receive(r, old)
			if old && r.Offset == end.Offset-1 {
				delete(missing, fmt.Sprint(r.Topic, "/", r.Partition))
			}
		})
		if caughtUp != nil && len(missing) == 0 {
			caughtUp()
			caughtUp = nil
		}
	}
	return nil
}

// bad are the events that say no.
var bad = map[string]bool{"inventory.rejected": true, "payment.declined": true, "order.cancelled": true}

func (d *demo) receive(r *kgo.Record, old bool) {
	headers := make(map[string]string, len(r.Headers))
	for _, h := range r.Headers {
		headers[h.Key] = string(h.Value)
	}
	key, event := string(r.Key), headers["ce_type"]
	topics := d.topics
	where := fmt.Sprintf("%s[%d]@%d", strings.TrimPrefix(r.Topic, d.servers.prefix), r.Partition, r.Offset)
	if slices.Contains(topics.letters, r.Topic) {
		// It was delivered, and a service could not handle it: its order stays open.
		d.watch.fell()
		if !old {
			d.screen.line("✗", key, event, d.screen.oneLine(lineHead, where+" "+headers["postrider-error-code"]+": "+headers["postrider-error"]))
		}
		return
	}
	dead := r.Topic == topics.relay
	d.book.receive(r, headers, dead)
	switch {
	case old:
	case dead:
		d.screen.line("✗", key, event, "dead letter: "+headers["postrider-error-code"])
		d.watch.arrived(key, headers)
	case bad[event]:
		d.screen.hop("✗", key, event, where, d.latency(headers["ce_time"]))
	default:
		d.screen.hop("✓", key, event, where, d.latency(headers["ce_time"]))
	}
	if !old && !dead {
		d.watch.arrived(key, headers)
	}
}

// latency is the time from the beginning of the transaction that wrote an event to its arrival
// here, by the clock of Postgres.
func (d *demo) latency(written string) string {
	at, err := time.Parse(time.RFC3339Nano, written)
	if err != nil {
		return ""
	}
	took := time.Since(at) + d.servers.ahead
	if took >= 10*time.Second {
		return fmt.Sprintf("%.1f s", took.Seconds())
	}
	return fmt.Sprintf("%.1f ms", float64(took.Microseconds())/1000)
}
