package torture

import (
	"context"
	"time"
)

// Progress is where a run stands.
type Progress struct {
	Phase     string        // what is being prepared, settled or read; empty while faults are injected
	Left      time.Duration // until the last fault; 0 where a script decides
	Committed int
	Delivered int
	Faults    int
	Doing     string // the fault that is being injected, or "calm"
}

// phase tells cfg.Progress what begins before there is any load.
func (c Config) phase(what string) {
	if c.Progress != nil {
		c.Progress(Progress{Phase: what})
	}
}

// report calls cfg.Progress once a second until ctx ends.
func (a *Arena) report(ctx context.Context) {
	if a.cfg.Progress == nil {
		return
	}
	for pause(ctx, time.Second) {
		var p Progress
		p.Committed, p.Delivered = a.ledger.counts()
		a.mu.Lock()
		p.Phase, p.Faults, p.Doing = a.phase, a.faults, a.now
		if len(a.cfg.Script) == 0 {
			p.Left = max(0, time.Until(a.until))
		}
		a.mu.Unlock()
		a.cfg.Progress(p)
	}
}

func (a *Arena) doing(what string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.now = what
}

// enter begins a phase.
func (a *Arena) enter(phase string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.phase = phase
}

func (a *Arena) countFault() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.faults++
}
