package torture

import (
	"crypto/sha256"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/postrider/postrider/relay"
)

// began is when the run of these tests begins.
var began = time.Date(2026, 11, 21, 5, 0, 0, 0, time.UTC)

// found is the record of event id at an offset of partition 0 of topic a.
func found(id string, version int64, lsn pglogrepl.LSN, offset int64) finding {
	return finding{
		id: id, partition: partition{"a", 0}, offset: offset, at: began.Add(time.Duration(offset) * time.Second), key: "k",
		value: sha256.Sum256([]byte(id)), position: relay.Position{LSN: lsn},
		claim: claim{"k", version, version},
	}
}

// The truth: three committed events of one key, whose commits begin at 10, 20 and 30.
func committed() []event {
	var events []event
	for i, id := range []string{"one", "two", "three"} {
		version := int64(i + 1)
		events = append(events, event{id: id, topic: "a", key: "k", version: version, tx: version, bound: pglogrepl.LSN(10*version + 5)})
	}
	return events
}

func delivered() []finding {
	return []finding{found("one", 1, 10, 0), found("two", 2, 20, 1), found("three", 3, 30, 2)}
}

// looked is a sample of the slot at confirmed, taken when topic a ended at end.
func looked(confirmed pglogrepl.LSN, end int64) sample {
	return sample{at: began, confirmed: confirmed, ends: map[partition]int64{{"a", 0}: end}}
}

func TestChecker_SeesEachBrokenInvariant(t *testing.T) {
	t.Parallel()
	kill := Fault{Name: "kill"}
	again := Fault{Name: "drop", Forgives: map[string]string{"I3": "told so"}}
	for name, c := range map[string]struct {
		change func(a *Arena, f []finding) []finding
		faults []injection
		broken []string
	}{
		"all is well":         {func(_ *Arena, f []finding) []finding { return f }, nil, nil},
		"an event is missing": {func(_ *Arena, f []finding) []finding { return f[:2] }, nil, []string{"I1", "I4"}},
		"an event is a dead letter without need": {func(_ *Arena, f []finding) []finding {
			f[2].partition, f[2].dead = partition{"dead", 0}, "POISON_EVENT"
			return f
		}, nil, []string{"I1"}},
		"an event is in another topic": {func(_ *Arena, f []finding) []finding {
			f[2].partition = partition{"b", 0}
			return f
		}, nil, []string{"I1"}},
		"two events are exchanged": {func(_ *Arena, f []finding) []finding {
			f[1], f[2] = found("three", 3, 30, 1), found("two", 2, 20, 2)
			return f
		}, nil, []string{"I2"}},
		"an event comes twice": {func(_ *Arena, f []finding) []finding {
			return append(f, found("two", 2, 20, 3))
		}, []injection{{fault: &kill, began: began, recovered: true}}, []string{"I3"}},
		"an event comes twice, as the fault may do": {func(_ *Arena, f []finding) []finding {
			return append(f, found("two", 2, 20, 3))
		}, []injection{{fault: &kill, began: began, recovered: true}, {fault: &again, began: began.Add(time.Second), recovered: true}}, nil},
		"an event comes again with another value": {func(_ *Arena, f []finding) []finding {
			f = append(f, found("two", 2, 20, 3))
			f[3].value = sha256.Sum256([]byte("other"))
			return f
		}, []injection{{fault: &again, began: began, recovered: true}}, []string{"I3"}},
		"the slot passes what cannot be read yet": {func(a *Arena, f []finding) []finding {
			a.slots.samples = append(a.slots.samples, looked(21, 1))
			return f
		}, nil, []string{"I4"}},
		"the slot stands at the beginning of a commit that cannot be read yet": {func(a *Arena, f []finding) []finding {
			a.slots.samples = append(a.slots.samples, looked(20, 1))
			return f
		}, nil, nil},
		"the slot is never seen": {func(a *Arena, f []finding) []finding {
			a.slots.samples = nil
			return f
		}, nil, []string{"I4"}},
		"something was never committed": {func(_ *Arena, f []finding) []finding {
			return append(f, found("four", 4, 40, 3))
		}, nil, []string{"I5"}},
		"a record cannot be decoded": {func(_ *Arena, f []finding) []finding {
			f[1].fault = "bytes are left over"
			return f
		}, nil, []string{"I6"}},
		"a record says something else": {func(_ *Arena, f []finding) []finding {
			f[1].claim.version = 7
			return f
		}, nil, []string{"I6"}},
		"the lag stays": {func(_ *Arena, f []finding) []finding { return f },
			[]injection{{fault: &kill, began: began}}, []string{"I7"}},
		"a halt does not hold": {func(a *Arena, f []finding) []finding {
			a.violate("I8", "the slot moved")
			return f
		}, nil, []string{"I8"}},
		"much memory": {func(a *Arena, f []finding) []finding {
			a.watcher.peak = 200 << 20
			return f
		}, nil, []string{"I9"}},
		"two relays for long": {func(a *Arena, f []finding) []finding {
			a.watcher.overlap = 2 * time.Second
			return f
		}, nil, []string{"I10"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := &Arena{cfg: Config{}.withDefaults(), ledger: newLedger(), registry: &registry{}, deadLetters: "dead"}
			a.log = a.cfg.Logger
			a.slots, a.watcher = &slotWatcher{samples: []sample{looked(35, 3)}}, newWatcher(a)
			for _, e := range committed() {
				a.ledger.commit(transaction{number: e.tx, events: []event{e}}, e.bound)
			}
			report := a.check(newChecker(a, c.change(a, delivered()), c.faults), time.Minute)
			if failed := report.Failed(); !slices.Equal(failed, c.broken) {
				t.Errorf("broken are %v, want %v", failed, c.broken)
				report.Print(t.Output())
			}
		})
	}
}

func TestLedger_TellsWhatIsOutstanding(t *testing.T) {
	t.Parallel()
	l := newLedger()
	events := committed()
	l.deliver("one") // read before its writer had the answer
	l.commit(transaction{events: events[:2]}, 1)
	if committed, delivered := l.counts(); committed != 2 || delivered != 1 {
		t.Errorf("%d committed, %d delivered, want 2 and 1", committed, delivered)
	}
	l.commit(transaction{events: events[2:]}, 2)
	l.deliver("three")
	if !l.deliveredThrough(1) || l.deliveredThrough(2) {
		t.Error("the second event is outstanding, the first is not")
	}
	l.deliver("two")
	l.deliver("two")
	if _, delivered := l.counts(); !l.deliveredThrough(3) || delivered != 3 {
		t.Errorf("%d delivered, want 3", delivered)
	}
}
