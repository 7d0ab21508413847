package benchmark

import (
	"context"
	"fmt"
	"time"

	"github.com/postrider/postrider/relay"
)

// readRaw reads the backlog of slot and throws it away.
func (b *bench) readRaw(ctx context.Context, slot string, greedy bool, step string) (Read, error) {
	cfg := b.db.cfg
	cfg.Slot = slot
	reader, err := relay.OpenRawReader(ctx, cfg, greedy)
	if err != nil {
		return Read{}, fmt.Errorf("read slot %s: %w", slot, err)
	}
	defer reader.Close()
	pid := int(reader.ServerPID())
	local := IsWalsender(pid)
	before, _ := CPUTime(pid)
	busyBefore, _ := machineTime()
	started := time.Now()
	raw, err := reader.Read(ctx, b.cfg.Events, func(rows int) { b.progress(step, rows, b.cfg.Events) })
	if err != nil {
		return Read{}, fmt.Errorf("read slot %s: %w", slot, err)
	}
	read := Read{RowsPerSecond: float64(raw.Rows) / raw.Took.Seconds()}
	if after, ok := CPUTime(pid); ok && local && after > before {
		read.WalsenderCPU = known((after - before).Seconds() * 1e6 / float64(raw.Rows))
		read.WalsenderCores = known((after - before).Seconds() / raw.Took.Seconds())
	}
	if busy, ok := machineTime(); ok {
		read.MachineCores = known((busy - busyBefore).Seconds() / time.Since(started).Seconds())
	}
	return read, nil
}

// sample is what could be seen of a drain at one moment.
type sample struct {
	at                        time.Time
	published                 uint64
	relay, walsender, machine time.Duration // CPU
	inFlight                  int64
}

// drain has a relay publish the backlog of slot, and checks that the topic then holds as
// many records.
func (b *bench) drain(ctx context.Context, slot string, perTransaction int, step string, d *Drain) error {
	topic := fmt.Sprintf("%s_%d", b.name, perTransaction)
	if err := b.kafka.makeTopic(ctx, &b.cleanup, topic, b.cfg.Partitions); err != nil {
		return err
	}
	run, err := b.startRelay(slot, topic)
	if err != nil {
		return err
	}
	var walsender int // once it is known to be on this machine
	var samples []sample
	err = run.await(ctx, fmt.Sprintf("it had published %d events", b.cfg.Events), func(s relay.StatusReport) (again time.Duration, mark uint64) {
		if s.Published == 0 {
			return pollInterval, 0
		}
		if len(samples) == 0 {
			// An error here would be one of the next step too.
			if pid, err := b.db.walsender(ctx, slot); err == nil && IsWalsender(pid) {
				walsender = pid
			}
		}
		seen := sample{at: time.Now(), published: s.Published, inFlight: s.InFlight}
		seen.relay, _ = CPUTime(run.process.PID())
		seen.walsender, _ = CPUTime(walsender)
		seen.machine, _ = machineTime()
		samples = append(samples, seen)
		b.progress(step, int(s.Published), b.cfg.Events)
		if s.Published >= uint64(b.cfg.Events) {
			return 0, s.Published
		}
		first := samples[0]
		return NextLook(seen.at.Sub(first.at), s.Published-first.published, uint64(b.cfg.Events)-s.Published), s.Published
	})
	if err != nil {
		return err
	}
	d.measure(samples)
	if bytes, ok := PeakMemory(run.process.PID()); ok {
		d.PeakMemory = known(float64(bytes))
	}
	if err := run.stop(); err != nil {
		return err
	}
	appended, err := b.kafka.records(ctx, topic)
	if err != nil {
		return err
	}
	if appended != int64(b.cfg.Events) {
		return fmt.Errorf("topic %s holds %d records after %d events: the figures would be worth nothing; please report this with the relay's log%s",
			topic, appended, b.cfg.Events, run.lastLines())
	}
	return nil
}

// NextLook returns how soon to ask a relay for its status again that took so long for some
// events and has others left. Each look costs it a tenth of a millisecond and more, so there
// are few of them until the end is near. A relay that has only begun may be about to be much
// faster.
func NextLook(took time.Duration, events, left uint64) time.Duration {
	const longest = 250 * time.Millisecond
	if events == 0 {
		return pollInterval
	}
	rest := float64(took) * float64(left) / float64(events)
	return max(pollInterval, min(took/4, time.Duration(min(rest/2, float64(longest)))))
}

// minWindow is the shortest time that figures are drawn from: CPU times have a tick of
// 10 ms, and near the end the status is asked for every 20.
const minWindow = 100 * time.Millisecond

// measure fills in the figures of the relay. A drain that was over too soon has none.
func (d *Drain) measure(samples []sample) {
	first, last := samples[0], samples[len(samples)-1]
	took, events := last.at.Sub(first.at), float64(last.published-first.published)
	d.InFlight = inFlight(samples)
	if took < minWindow || events == 0 {
		return
	}
	rate := events / took.Seconds()
	d.EventsPerSecond = &rate
	if d.Paced.RowsPerSecond > 0 {
		d.Ratio = known(rate / d.Paced.RowsPerSecond)
	}
	d.AckTime = known(1e3 * d.InFlight / rate) // Little's law
	cost := func(cpu time.Duration) (perMillion, cores *float64) {
		if cpu <= 0 {
			return nil, nil
		}
		return known(cpu.Seconds() * 1e6 / events), known(cpu.Seconds() / took.Seconds())
	}
	d.RelayCPU, d.RelayCores = cost(last.relay - first.relay)
	d.WalsenderCPU, d.WalsenderCores = cost(last.walsender - first.walsender)
	_, d.MachineCores = cost(last.machine - first.machine)
}

// inFlight is how much was in flight on average. The samples are not equally far apart.
func inFlight(samples []sample) float64 {
	took := samples[len(samples)-1].at.Sub(samples[0].at).Seconds()
	if took <= 0 {
		return float64(samples[0].inFlight)
	}
	sum := 0.0
	for n, s := range samples[1:] {
		sum += float64(samples[n].inFlight+s.inFlight) / 2 * s.at.Sub(samples[n].at).Seconds()
	}
	return sum / took
}
