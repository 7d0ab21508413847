package torture

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
)

// verdict is what the checker says about one invariant.
type verdict struct {
	ok       bool
	text     string
	evidence []string
}

// maxEvidence is how many cases of a broken invariant are shown.
const maxEvidence = 5

func (v *verdict) blame(format string, args ...any) {
	v.ok = false
	if len(v.evidence) < maxEvidence {
		v.evidence = append(v.evidence, fmt.Sprintf(format, args...))
	}
}

// checker compares what was found with what was committed.
type checker struct {
	arena    *Arena
	events   []event
	index    map[string]int
	findings []finding
	faults   []injection
	first    map[string]int // first finding of an event, by id; that of a parked one after its release
	parked   map[string]int // finding of an event that was parked
	copies   []int          // findings that are not the first of their event

	lost, reordered int // what loss and order have counted
}

// newChecker sorts findings. Records of one partition keep their order; those of a key that
// moved to another partition are ordered by the time of their append.
func newChecker(a *Arena, findings []finding, faults []injection) *checker {
	slices.SortStableFunc(findings, func(x, y finding) int {
		if x.partition == y.partition {
			return cmp.Compare(x.offset, y.offset)
		}
		return 0
	})
	c := &checker{arena: a, events: a.ledger.events, index: a.ledger.index, findings: findings, faults: faults, first: make(map[string]int), parked: make(map[string]int)}
	for i, f := range findings {
		before, known := c.first[f.id]
		if _, again := c.parked[f.id]; f.parked && !again {
			c.parked[f.id] = i
			if known {
				continue
			}
		}
		switch {
		case known && c.findings[before].parked && !f.parked:
			c.first[f.id] = i
		case !known:
			c.first[f.id] = i
		case f.at.Before(findings[before].at):
			c.first[f.id] = i
			c.copies = append(c.copies, before)
		default:
			c.copies = append(c.copies, i)
		}
	}
	return c
}

// during returns the last fault that had begun at a time, or nil.
func (c *checker) during(at time.Time) *injection {
	var last *injection
	for i := range c.faults {
		// Brokers stamp whole milliseconds.
		if !c.faults[i].began.Truncate(time.Millisecond).After(at) {
			last = &c.faults[i]
		}
	}
	return last
}

// forgiven reports whether what happened at a time is what the fault of then may do.
func (c *checker) forgiven(invariant string, at time.Time) bool {
	f := c.during(at)
	if f == nil {
		return false
	}
	handover := invariant == "I3" && f.fault.Handover && len(c.arena.relays) > 1
	return handover || f.fault.Forgives[invariant] != ""
}

func (c *checker) describe(e event) string {
	return fmt.Sprintf("%s of transaction %d, version %d of %s in %s", e.id, e.tx, e.version, e.key, e.topic)
}

// loss is I1.
func (c *checker) loss() verdict {
	v := verdict{ok: true}
	var published, dead, deleted, lost int
	for _, e := range c.events {
		i, found := c.first[e.id]
		switch {
		case !found && e.fate == toDeleted:
			deleted++
			continue
		case !found:
			lost++
			v.blame("lost: %s", c.describe(e))
			continue
		}
		f := c.findings[i]
		isDead := f.partition.topic == c.arena.deadLetters
		if isDead {
			dead++
		} else {
			published++
		}
		switch {
		case isDead && e.fate == toTopic:
			v.blame("a dead letter (%s): %s", f.dead, c.describe(e))
		case !isDead && e.fate == toDeadLetter:
			v.blame("published, though it cannot be valid: %s", c.describe(e))
		case !isDead && f.partition.topic != e.topic:
			v.blame("in topic %s: %s", f.partition.topic, c.describe(e))
		}
	}
	c.lost = lost
	v.text = fmt.Sprintf("%d committed, %d published, %d dead, %d lost", len(c.events), published, dead, lost)
	if deleted > 0 {
		v.text += fmt.Sprintf(", %d deleted with their topic", deleted)
	}
	return v
}

// order is I2. The version of a key rises in the order of commits and, inside a transaction,
// in that of the inserts.
func (c *checker) order() verdict {
	v := verdict{ok: true}
	type stream struct{ topic, key string }
	firsts := make(map[stream][]int)
	for _, i := range c.sortedFirsts() {
		f := c.findings[i]
		if _, known := c.index[f.id]; known && f.dead == "" {
			s := stream{f.partition.topic, f.key}
			firsts[s] = append(firsts[s], i)
		}
	}
	reordered, forgiven := 0, 0
	for s, of := range firsts {
		// A key that moved to another partition: there is no other order than that of time.
		if slices.ContainsFunc(of, func(i int) bool { return c.findings[i].partition != c.findings[of[0]].partition }) {
			slices.SortStableFunc(of, func(x, y int) int { return c.findings[x].at.Compare(c.findings[y].at) })
		}
		var last event
		for _, i := range of {
			e := c.events[c.index[c.findings[i].id]]
			switch {
			case e.version > last.version:
				last = e
			case c.forgiven("I2", c.findings[i].at):
				forgiven++
			default:
				reordered++
				v.blame("version %d of %s in %s comes after version %d, at offset %d of partition %d",
					e.version, s.key, s.topic, last.version, c.findings[i].offset, c.findings[i].partition.id)
			}
		}
	}
	c.reordered = reordered + forgiven
	v.text = fmt.Sprintf("%d keys, %d reorderings%s", len(firsts), reordered, excused(forgiven))
	return v
}

// sortedFirsts returns the first findings of all events, in the order of the partitions.
func (c *checker) sortedFirsts() []int {
	firsts := make([]int, 0, len(c.first))
	for _, i := range c.first {
		firsts = append(firsts, i)
	}
	slices.Sort(firsts)
	return firsts
}

func excused(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d more excused)", n)
}

// duplicates is I3.
func (c *checker) duplicates() verdict {
	v := verdict{ok: true}
	var changed, forgiven, twice int
	for _, i := range c.copies {
		f, first := c.findings[i], c.findings[c.first[c.findings[i].id]]
		fault := c.during(f.at)
		if fault != nil {
			fault.duplicates++
		}
		switch {
		case f.partition.topic == first.partition.topic && (f.key != first.key || f.value != first.value || f.partition != first.partition && !c.forgiven("I2", f.at)):
			changed++
			v.blame("%s comes again changed, at offset %d of partition %d of %s", f.id, f.offset, f.partition.id, f.partition.topic)
		case c.forgiven("I3", f.at):
			forgiven++
		default:
			twice++
			v.blame("%s comes twice, at offsets %d and %d of partition %d of %s, after %s", f.id, first.offset, f.offset, f.partition.id, f.partition.topic, fault.name())
		}
	}
	v.text = fmt.Sprintf("%d duplicates%s, %d of them changed", twice, excused(forgiven), changed)
	return v
}

// slot is I4. A transaction is confirmed where the slot stands beyond the start of its
// commit record; for events that are nowhere, a position read after their commit has to do.
func (c *checker) slot() verdict {
	v := verdict{ok: true}
	samples := slices.Clone(c.arena.slots.taken())
	slices.SortStableFunc(samples, func(x, y sample) int { return cmp.Compare(x.confirmed, y.confirmed) })
	type end struct {
		confirmed pglogrepl.LSN // the event counts as confirmed from here on
		finding   int           // -1 where it was not found
		event     int
	}
	ends := make([]end, 0, len(c.events))
	for n, e := range c.events {
		if e.fate == toDeleted {
			continue
		}
		at := end{e.bound, -1, n}
		i, found := c.parked[e.id] // where it was safe first
		if !found {
			i, found = c.first[e.id]
		}
		if found {
			at.finding = i
			if lsn := c.findings[i].position.LSN + 1; lsn < at.confirmed {
				at.confirmed = lsn
			}
		}
		ends = append(ends, at)
	}
	slices.SortFunc(ends, func(x, y end) int { return cmp.Compare(x.confirmed, y.confirmed) })

	// highest holds, for the events confirmed so far, the highest offset of each partition.
	highest := make(map[partition]int)
	var missing []int
	next, ahead, forgiven := 0, 0, 0
	for _, s := range samples {
		for ; next < len(ends) && ends[next].confirmed <= s.confirmed; next++ {
			i := ends[next].finding
			if i < 0 {
				missing = append(missing, ends[next].event)
				continue
			}
			p := c.findings[i].partition
			if before, ok := highest[p]; !ok || c.findings[i].offset > c.findings[before].offset {
				highest[p] = i
			}
		}
		var what []string
		for p, i := range highest {
			if end, sampled := s.ends[p]; sampled && c.findings[i].offset >= end {
				what = append(what, fmt.Sprintf("offset %d of partition %d of %s, which ended at %d", c.findings[i].offset, p.id, p.topic, end))
			}
		}
		if len(missing) > 0 {
			what = append(what, c.describe(c.events[missing[0]])+", which is nowhere")
		}
		switch {
		case len(what) == 0:
		case c.forgiven("I4", s.at):
			forgiven++
		default:
			ahead++
			v.blame("at %s the slot stood at %s and passed %s", s.at.Format("15:04:05.000"), s.confirmed, strings.Join(what, "; "))
		}
	}
	v.text = fmt.Sprintf("%d positions of the slot, %d ahead%s", len(samples), ahead, excused(forgiven))
	if len(samples) == 0 {
		v.blame("the slot was never seen to move")
	}
	return v
}

// phantoms is I5.
func (c *checker) phantoms() verdict {
	v := verdict{ok: true}
	phantoms := 0
	for _, i := range c.sortedFirsts() {
		f := c.findings[i]
		if _, known := c.index[f.id]; !known {
			phantoms++
			v.blame("%q at offset %d of partition %d of %s was never committed", f.id, f.offset, f.partition.id, f.partition.topic)
		}
	}
	v.text = fmt.Sprintf("%d events rolled back, %d phantoms", c.arena.ledger.rolledBack, phantoms)
	return v
}

// readable is I6.
func (c *checker) readable() verdict {
	v := verdict{ok: true}
	bad, dead := 0, 0
	for _, f := range c.findings {
		fault := f.fault
		if f.dead != "" {
			dead++
		} else if n, known := c.index[f.id]; known && fault == "" {
			if e := c.events[n]; f.key != e.key || f.claim != (claim{e.key, e.version, e.tx}) {
				fault = fmt.Sprintf("it says key %s, version %d, transaction %d, and is %s", f.claim.key, f.claim.version, f.claim.tx, c.describe(e))
			}
		}
		if fault != "" {
			bad++
			v.blame("offset %d of partition %d of %s: %s", f.offset, f.partition.id, f.partition.topic, fault)
		}
	}
	v.text = fmt.Sprintf("%d records, %d schemas, %d dead letters, %d bad", len(c.findings)-dead-bad, len(c.arena.registry.schemas), dead, bad)
	return v
}

// recovery is I7.
func (c *checker) recovery() verdict {
	v := verdict{ok: true}
	var longest time.Duration
	for n, f := range c.faults {
		longest = max(longest, f.recovery)
		if !f.recovered {
			v.blame("after %s, fault %d, the lag did not return to 0", f.name(), n+1)
		}
	}
	v.text = fmt.Sprintf("%d faults, recovery at most %s, stall %s", len(c.faults), brief(longest), brief(c.arena.ledger.stall()))
	return v
}

// halts is I8.
func (c *checker) halts() verdict {
	w := c.arena.watcher
	var shown []string
	for code, n := range w.halts {
		shown = append(shown, fmt.Sprintf("%s %d×", code, n))
	}
	slices.Sort(shown)
	v := verdict{ok: true, text: "no halt"}
	if len(shown) > 0 {
		v.text = fmt.Sprintf("%s, watched for %s", strings.Join(shown, ", "), brief(w.held))
	}
	return v
}

// memory is I9.
func (c *checker) memory() verdict {
	bound, peak := c.arena.cfg.MemoryBound, c.arena.watcher.peak
	v := verdict{ok: true, text: fmt.Sprintf("at most %d MB resident, bound %d MB", peak>>20, bound>>20)}
	if peak > bound {
		v.blame("the relay had %d MB resident", peak>>20)
	}
	if peak == 0 {
		v.text = "not measured: this system does not tell what a process has resident"
	}
	return v
}

// alone is I10.
func (c *checker) alone() verdict {
	w := c.arena.watcher
	v := verdict{ok: true, text: fmt.Sprintf("%d relays, looked at %d times", len(c.arena.relays), w.polls)}
	if w.overlap > 0 {
		v.text += fmt.Sprintf(", two at once %s", brief(w.overlap))
	}
	if w.overlap > overlapBound {
		v.blame("two relays streamed at once for %s", brief(w.overlap))
	}
	return v
}

// brief prints a duration as people say it.
func brief(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
