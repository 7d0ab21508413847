package torture

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	// calm is at most how long nothing happens between two faults.
	calm = 2 * time.Second
	// room and slowRoom are how much time must be left for a fault, and for a slow one, to be
	// begun.
	room, slowRoom = 5 * time.Second, 30 * time.Second
	// settleBound is how long the stop and the audit of an interrupted run may take.
	settleBound = 10 * time.Minute
)

// injection is a fault that was injected.
type injection struct {
	fault      *Fault
	began      time.Time
	recovery   time.Duration // from its end until everything committed by then was delivered
	recovered  bool
	duplicates int
}

func (i *injection) name() string {
	if i == nil {
		return "no fault"
	}
	return i.fault.Name
}

// Run runs the whole of it: load, faults, settling, audit. When ctx ends it injects no more
// faults and settles what there is. An error means that nothing was proved; a broken
// invariant is in the report.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	servers, err := OpenServers(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer servers.Close()
	return RunOn(ctx, cfg, servers)
}

// RunOn is Run on servers that are there already.
func RunOn(ctx context.Context, cfg Config, servers *Servers) (_ *Report, err error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	faults, err := choose(cfg, servers)
	if err != nil {
		return nil, err
	}
	binary, err := servers.binary(ctx, cfg)
	if err != nil {
		return nil, err
	}
	for _, f := range faults {
		if f.Needs&Standby != 0 {
			cfg.Relays = max(cfg.Relays, 2)
		}
		if f.Needs&Halting != 0 {
			setDefault(&cfg.OnPoison, "halt")
		}
		if f.Needs&Parking != 0 {
			setDefault(&cfg.OnPoison, "halt-key")
		}
		cfg.needs |= f.Needs
	}
	setDefault(&cfg.OnPoison, "dead-letter")
	cfg.phase("making a database and topics")
	a, err := newArena(ctx, cfg, servers, binary)
	if err != nil {
		return nil, err
	}
	var report *Report
	defer func() { a.close(err != nil || report != nil && !report.OK()) }()
	report, err = a.run(ctx, faults)
	return report, err
}

// run starts everything, injects faults and checks.
func (a *Arena) run(ctx context.Context, faults []*Fault) (*Report, error) {
	began := time.Now()
	a.cfg.phase("starting the relay")
	if err := a.launch(ctx); err != nil {
		return nil, err
	}
	var err error
	if a.consumer, err = startConsumer(a.brokers, a.allTopics(), a.ledger); err != nil {
		return nil, err
	}
	defer a.consumer.close()
	watching, stopWatching := context.WithCancel(context.WithoutCancel(ctx))
	writing, stopWriting := context.WithCancel(context.WithoutCancel(ctx))
	var watchers, writers sync.WaitGroup
	defer watchers.Wait()
	defer stopWatching()
	reporting, stopReporting := context.WithCancel(context.WithoutCancel(ctx))
	var reporter sync.WaitGroup
	defer reporter.Wait()
	defer stopReporting()
	defer writers.Wait()
	defer stopWriting()
	watchers.Go(func() { a.slots.run(watching) })
	watchers.Go(func() { a.watcher.run(watching) })
	reporter.Go(func() { a.report(reporting) })
	for n := range a.cfg.Writers {
		writers.Go(func() { newWriter(a, n+1).run(writing) })
	}

	injected := a.torture(ctx, faults)
	healthy := len(injected) == 0 || injected[len(injected)-1].recovered

	// Ctrl-C ends the faults, not the proof.
	settling, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleBound)
	defer cancel()
	a.enter("settling")
	stopWriting()
	writers.Wait()
	a.writer.close()
	a.beside.close()
	if err := a.resolve(settling); err != nil {
		return nil, fmt.Errorf("find out what was committed: %w", err)
	}
	if healthy { // else it has been waited for already
		a.settle(settling)
	}
	a.enter("stopping the relay")
	for _, i := range slices.Backward(a.relays) {
		i.stop()
	}
	pause(settling, 5*slotInterval) // for a last look at the slot
	stopWatching()
	watchers.Wait()
	a.enter("reading the topics")
	findings, err := a.audit(settling)
	if err != nil {
		return nil, err
	}
	report := a.check(newChecker(a, findings, injected), time.Since(began))
	report.Interrupted = ctx.Err() != nil
	return report, nil
}

// launch starts the relays. The slot is made by one without the bug, for not every bug lets
// it be made.
func (a *Arena) launch(ctx context.Context) error {
	first := a.relays[0]
	if err := first.start(); err != nil {
		return err
	}
	if err := first.awaitStreaming(ctx); err != nil {
		return err
	}
	if a.cfg.Bug != "" {
		first.stop()
		a.bug = a.cfg.Bug
		if err := first.start(); err != nil {
			return err
		}
		if err := first.awaitStreaming(ctx); err != nil {
			return err
		}
	}
	for _, other := range a.relays[1:] {
		if err := other.start(); err != nil {
			return err
		}
	}
	return nil
}

// torture injects the faults: a script in its order, others by chance until the time is up.
func (a *Arena) torture(ctx context.Context, faults []*Fault) []injection {
	var injected []injection
	a.mu.Lock()
	a.until = time.Now().Add(a.cfg.Duration)
	a.mu.Unlock()
	if !a.calm(ctx) {
		return nil
	}
	for n := 0; ; n++ {
		var f *Fault
		if len(a.cfg.Script) > 0 {
			if n == len(faults) {
				return injected
			}
			f = faults[n]
		} else {
			if f = a.draw(faults); f == nil {
				return injected
			}
		}
		i := injection{fault: f, began: time.Now()}
		a.log.Info("fault", "name", f.Name)
		a.doing(f.Name)
		// One that has begun is carried through: it takes back what it has done.
		err := f.inject(context.WithoutCancel(ctx), a)
		if err != nil {
			a.violate("I7", "fault %s: %v", f.Name, err)
		}
		i.recovery, i.recovered = a.recover(context.WithoutCancel(ctx))
		injected = append(injected, i)
		a.countFault()
		if !i.recovered {
			return injected // what comes after it would prove nothing
		}
		if !a.calm(ctx) {
			return injected
		}
	}
}

// draw returns a fault for which there is time, or nil.
func (a *Arena) draw(faults []*Fault) *Fault {
	left := time.Until(a.until)
	if len(faults) == 0 || left < min(room, a.cfg.Duration/2) {
		return nil
	}
	for {
		f := faults[a.rng.IntN(len(faults))]
		onlySlow := !slices.ContainsFunc(faults, func(f *Fault) bool { return !f.Slow })
		if !f.Slow || left >= slowRoom || onlySlow {
			return f
		}
	}
}

// calm lets the load run undisturbed for a while.
func (a *Arena) calm(ctx context.Context) bool {
	a.doing("calm")
	return pause(ctx, 200*time.Millisecond+time.Duration(a.rng.Int64N(int64(calm))))
}

// recover waits until everything that is committed now is delivered, and returns how long
// that took.
func (a *Arena) recover(ctx context.Context) (time.Duration, bool) {
	began := time.Now()
	committed, _ := a.ledger.counts()
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Patience)
	defer cancel()
	for !a.ledger.deliveredThrough(committed) {
		if !pause(ctx, 5*time.Millisecond) {
			return time.Since(began), false
		}
	}
	return time.Since(began), true
}

// settle waits until everything is delivered and confirmed. What it waits for in vain is a
// violation.
func (a *Arena) settle(ctx context.Context) {
	if _, ok := a.recover(ctx); !ok {
		committed, delivered := a.ledger.counts()
		a.violate("I7", "%d of %d committed events were delivered %v after the load had ended", delivered, committed, a.cfg.Patience)
	}
}

// check makes the report.
func (a *Arena) check(c *checker, took time.Duration) *Report {
	r := &Report{Seed: a.cfg.Seed, Server: a.serverVersion, Took: took, Durations: a.notices, Logs: a.dir}
	for _, invariant := range Invariants {
		v := invariant.check(c)
		for _, seen := range a.violations {
			if seen.invariant == invariant.Name {
				v.blame("%s", seen.what)
			}
		}
		r.Lines = append(r.Lines, Line{invariant.Name, invariant.What, v.ok, v.text, v.evidence})
	}
	if r.OK() {
		r.Logs = ""
	}
	r.Faults = summarize(c.faults)
	r.Committed, r.Lost, r.Reordered = len(c.events), c.lost, c.reordered
	return r
}

// summarize makes a line of each kind of fault, in the order of the table.
func summarize(injected []injection) []FaultLine {
	var lines []FaultLine
	for _, f := range Faults {
		line := FaultLine{Name: f.Name}
		var total time.Duration
		for _, i := range injected {
			if i.fault.Name == f.Name {
				line.Times++
				line.Duplicates += i.duplicates
				line.Longest = max(line.Longest, i.recovery)
				total += i.recovery
			}
		}
		if line.Times > 0 {
			line.Mean = total / time.Duration(line.Times)
			lines = append(lines, line)
		}
	}
	return lines
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
