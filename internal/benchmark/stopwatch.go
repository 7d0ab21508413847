package benchmark

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Stopwatch holds two times for every event: when it was committed, and when its record
// arrived at a consumer. The record's key is the event's number.
type Stopwatch struct {
	start time.Time
	// After start, 0 where it has not happened. They hold no pointers: the garbage collector
	// would take the CPU of what is measured.
	committed, arrived []time.Duration
	duplicates         int
}

// NewStopwatch returns one for events with the numbers 0 to events - 1.
func NewStopwatch(events int) *Stopwatch {
	return &Stopwatch{
		start:     time.Now(),
		committed: make([]time.Duration, events),
		arrived:   make([]time.Duration, events),
	}
}

// Events returns how many events there are.
func (w *Stopwatch) Events() int { return len(w.committed) }

// Committed notes when the commit of event n returned. Goroutines may call it for different
// events at once.
func (w *Stopwatch) Committed(n int, at time.Time) { w.committed[n] = at.Sub(w.start) }

// Consume notes when each event arrives at client, until all have or ctx ends, which is
// no error.
func (w *Stopwatch) Consume(ctx context.Context, client *kgo.Client) error {
	for left := len(w.arrived); left > 0; {
		fetches := client.PollFetches(ctx)
		now := time.Since(w.start)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // what has not arrived is missing
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
			if w.arrived[n] != 0 {
				w.duplicates++
				continue
			}
			w.arrived[n] = now
			left--
		}
	}
	return nil
}

// Result sums up the events from number first on; one that is missing counts wherever it
// stood. It is for after Consume and the last Committed have returned. The rates are left to
// the caller.
func (w *Stopwatch) Result(first int) *Latency {
	l := &Latency{Duplicate: w.duplicates}
	var sorted []time.Duration
	for n, arrived := range w.arrived {
		switch {
		case arrived == 0:
			l.Missing++
		case n >= first:
			sorted = append(sorted, arrived-w.committed[n])
		}
	}
	slices.Sort(sorted)
	l.Events = len(sorted)
	l.P50, l.P99, l.Max = Percentile(sorted, .5), Percentile(sorted, .99), Percentile(sorted, 1)
	return l
}

// Percentile returns the smallest of the sorted times that the share of all do not exceed, in
// milliseconds; 0 where there are none.
func Percentile(sorted []time.Duration, share float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(int(math.Ceil(share*float64(len(sorted)))), 1)-1].Seconds() * 1e3
}
