package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/postrider/postrider/relay"
)

// ledgerReport accounts for every event: Committed = Delivered + InFlight + DeadLettered +
// Expired.
type ledgerReport struct {
	Committed    int `json:"committed"`
	Delivered    int `json:"delivered"`
	InFlight     int `json:"in_flight"`
	DeadLettered int `json:"dead_lettered"`
	Expired      int `json:"expired"`
	Duplicates   int `json:"duplicates"`
	OutOfOrder   int `json:"out_of_order"`
}

func (r ledgerReport) String() string {
	return fmt.Sprintf("committed %d = delivered %d + in flight %d + dead-lettered %d + expired %d    duplicates %d  out of order %d",
		r.Committed, r.Delivered, r.InFlight, r.DeadLettered, r.Expired, r.Duplicates, r.OutOfOrder)
}

// brief is the report in less than 80 columns.
func (r ledgerReport) brief() string {
	return fmt.Sprintf("%d = %d delivered + %d in flight + %d dead + %d expired; %d twice, %d disordered",
		r.Committed, r.Delivered, r.InFlight, r.DeadLettered, r.Expired, r.Duplicates, r.OutOfOrder)
}

// demoLedger compares what the database committed with what the consumer saw.
type demoLedger struct {
	mu        sync.Mutex
	counted   ledgerReport
	seen      map[string]bool           // ce_id
	positions map[string]relay.Position // the last of each partition
	commits   map[string]time.Time      // key and type → commit, for the latency shown
}

func newDemoLedger() *demoLedger {
	return &demoLedger{seen: make(map[string]bool), positions: make(map[string]relay.Position), commits: make(map[string]time.Time)}
}

// commit notes when an order's event was committed.
func (l *demoLedger) commit(key, event string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.commits[key+event] = time.Now()
}

// receive books a record and returns its latency in words, where it is known.
func (l *demoLedger) receive(r *kgo.Record, headers map[string]string) (latency string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if id := headers["ce_id"]; l.seen[id] {
		l.counted.Duplicates++
		return ""
	} else if id != "" {
		l.seen[id] = true
	}
	switch {
	case r.Topic == demoTopic:
		l.counted.Delivered++
		partition := strconv.Itoa(int(r.Partition))
		at, err := relay.ParsePosition(headers["postrider-position"])
		if last := l.positions[partition]; err != nil || !last.Less(at) {
			l.counted.OutOfOrder++
		}
		l.positions[partition] = at
	case headers["postrider-error-code"] == "EXPIRED":
		l.counted.Expired++
	default:
		l.counted.DeadLettered++
	}
	key := string(r.Key) + headers["ce_type"]
	if committed, ok := l.commits[key]; ok {
		delete(l.commits, key)
		latency = fmt.Sprintf("  %.1f ms", float64(time.Since(committed).Microseconds())/1000)
	}
	return latency
}

// setCommitted takes the number of rows in the outbox.
func (l *demoLedger) setCommitted(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counted.Committed = n
}

func (l *demoLedger) report() ledgerReport {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.counted
	// Between two counts of the table the consumer may have seen more than was counted.
	r.Committed = max(r.Committed, r.Delivered+r.DeadLettered+r.Expired)
	r.InFlight = r.Committed - r.Delivered - r.DeadLettered - r.Expired
	return r
}

// count reads from the database how many events are committed: the orders' and whatever
// psql added.
func (d *demo) count(ctx context.Context) error {
	var n int
	if err := d.pool.QueryRow(ctx, `SELECT count(*) FROM outbox`).Scan(&n); err != nil {
		return err
	}
	d.ledger.setCommitted(n)
	d.screen.ledger(d.ledger.report())
	return nil
}

// awaitBalance waits until nothing is in flight. It fails after a minute.
func (d *demo) awaitBalance(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, demoPatience, errUnbalanced)
	defer cancel()
	for {
		err := d.count(ctx)
		switch r := d.ledger.report(); {
		case context.Cause(ctx) != nil:
			return context.Cause(ctx)
		case err != nil:
			return fmt.Errorf("demo: count the events: %w", err)
		case r.InFlight == 0 && (r.Duplicates > 0 || r.OutOfOrder > 0):
			return fmt.Errorf("demo: the ledger balances, but not the order: %s", r)
		case r.InFlight == 0:
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

var errUnbalanced = errors.New("demo: the ledger did not balance within a minute; the lines above say what the relay waits for")

// watch keeps the ledger up to date until ctx ends.
func (d *demo) watch(ctx context.Context) error {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := d.count(ctx); err != nil && ctx.Err() == nil {
				return fmt.Errorf("demo: count the events: %w", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}
