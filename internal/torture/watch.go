package torture

import (
	"context"
	"sync"
	"time"

	"github.com/postrider/postrider/relay"
)

const (
	watchInterval = 100 * time.Millisecond
	// overlapBound is for how long two relays may both believe that they stream: one that
	// has lost the slot learns of it from its connection.
	overlapBound = time.Second
)

// watcher looks at the relays' own reports and at their memory.
type watcher struct {
	arena *Arena

	mu      sync.Mutex
	polls   int
	peak    int64         // bytes resident
	overlap time.Duration // of two relays that both streamed, at the longest
	halts   map[relay.HaltCode]int
	held    time.Duration // of halts, during which the slot was watched
}

// run watches until ctx ends.
func (w *watcher) run(ctx context.Context) {
	var both time.Time
	showing := make(map[relay.HaltCode]bool)
	for pause(ctx, watchInterval) {
		// A relay counts as streaming if it says so before and after the others were asked.
		before := w.ask(ctx)
		streaming := 0
		for _, i := range w.arena.relays {
			first, ok := before[i.name]
			if !ok || first.Phase != relay.PhaseStreaming {
				continue
			}
			if again, err := i.status(ctx); err == nil && again.Phase == relay.PhaseStreaming && again.Since.Equal(first.Since) {
				streaming++
			}
		}
		w.mu.Lock()
		w.polls++
		now := make(map[relay.HaltCode]bool)
		for _, s := range before {
			for _, t := range s.Troubles {
				if t.Code != "" {
					now[t.Code] = true
				}
			}
		}
		for code := range now {
			if !showing[code] {
				w.halts[code]++
			}
		}
		showing = now
		switch {
		case streaming < 2:
			both = time.Time{}
		case both.IsZero():
			both = time.Now()
		default:
			w.overlap = max(w.overlap, time.Since(both))
		}
		for _, i := range w.arena.relays {
			if pid := i.pid(); pid != 0 {
				w.peak = max(w.peak, peakMemory(pid))
			}
		}
		w.mu.Unlock()
	}
}

func (w *watcher) ask(ctx context.Context) map[string]relay.StatusReport {
	reports := make(map[string]relay.StatusReport)
	for _, i := range w.arena.relays {
		if s, err := i.status(ctx); err == nil {
			reports[i.name] = s
		}
	}
	return reports
}

func newWatcher(a *Arena) *watcher {
	return &watcher{arena: a, halts: make(map[relay.HaltCode]int)}
}

// hold records for how long the slot was watched in a halt.
func (w *watcher) hold(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held += d
}
