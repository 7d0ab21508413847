package relay

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

const (
	// keepEvery is how often progress is written down, and with it confirmed.
	keepEvery = 200 * time.Millisecond
	// keepAgain is how often it is written without progress: a relay that lost the slot may have
	// written after us, and brokers forget a group that is silent for days.
	keepAgain = 10 * time.Second
	// keepPause is how late a turn may come before the process counts as having stood still.
	keepPause = 2 * time.Second
	// keepTimeout bounds the last time, at a stop.
	keepTimeout = 2 * time.Second
)

// A keeper writes the memory of one session to Kafka. Only what it has written is confirmed
// to Postgres, and of that only what the monitor has inspected.
type keeper struct {
	cluster    *cluster
	checkpoint *Checkpoint
	status     *Status
	metrics    *metrics

	memory   memory // what was written last, or is to be at first
	written  time.Time
	failures int
	well     bool // the last time it went well

	flushed   atomic.Uint64 // what has been written
	inspected atomic.Uint64 // up to where publication and table are known to have been the right ones
}

// newKeeper returns a keeper that begins by writing begin. confirmed is where the slot stands.
func newKeeper(c *cluster, cp *Checkpoint, status *Status, m *metrics, begin memory, confirmed LSN) *keeper {
	k := &keeper{cluster: c, checkpoint: cp, status: status, metrics: m, memory: begin}
	k.flushed.Store(uint64(confirmed))
	k.inspected.Store(uint64(confirmed))
	return k
}

// confirmable returns the LSN that may be confirmed. It may be called from any goroutine.
func (k *keeper) confirmable() LSN { return LSN(min(k.flushed.Load(), k.inspected.Load())) }

// toInspect reports whether something waits for an inspection to be confirmed.
func (k *keeper) toInspect() bool { return k.flushed.Load() > k.inspected.Load() }

// run writes until done is closed or ctx ends. A failure is told and tried again: the slot
// waits.
func (k *keeper) run(ctx context.Context, done <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	due := time.Now()
	for {
		select {
		case <-timer.C:
		case <-done:
			return
		case <-ctx.Done():
			return
		}
		paused := time.Since(due) > keepPause
		timer.Reset(keepEvery)
		due = time.Now().Add(keepEvery)
		if paused {
			// The process stood still; another relay may have the slot, and a memory that is newer. If
			// so, this session ends now.
			continue
		}
		if err := k.keep(); err != nil && ctx.Err() == nil {
			wait := backoff(k.failures, keepEvery, retryLimit)
			if asHalt(err) != nil {
				wait = refusedRetry
			}
			timer.Reset(wait)
			due = time.Now().Add(wait)
			k.failures++
			k.well = false
			k.metrics.failed(componentMemory)
			if k.failures > 2 || asHalt(err) != nil { // a coordinator that moves is no trouble yet
				k.status.trouble(componentMemory, fmt.Errorf("write down the place in Kafka: %w", err))
			}
			continue
		}
		if !k.well { // a session before this one may have been in trouble
			k.well, k.failures = true, 0
			k.status.clear(componentMemory)
		}
	}
}

// keep writes what is flushed, if that is more than before or it is time to repeat it. Only
// one goroutine may call it, or last, at a time.
func (k *keeper) keep() error {
	if k.checkpoint.Flushed() <= k.memory.Flushed && time.Since(k.written) < keepAgain {
		return nil
	}
	return k.write(false)
}

// last writes for the last time, when run has ended and everything is acknowledged.
func (k *keeper) last() error {
	defer time.AfterFunc(keepTimeout, k.cluster.cut).Stop()
	if err := k.write(true); err != nil {
		return fmt.Errorf("write down the place in Kafka: %w", err)
	}
	return nil
}

func (k *keeper) write(clean bool) error {
	next := k.memory
	next.Flushed, next.Clean = max(next.Flushed, k.checkpoint.Flushed()), clean
	if err := k.cluster.keep(next.String()); err != nil && !errors.Is(err, errNoPlace) {
		return err
	}
	k.memory, k.written = next, time.Now()
	k.flushed.Store(uint64(next.Flushed))
	return nil
}
