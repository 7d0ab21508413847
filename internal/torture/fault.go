package torture

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Fault is one kind of harm, with how it is undone. Adding one is adding a value to Faults.
type Fault struct {
	// Name is what --faults and the report call it.
	Name string
	// Row is its row of the fault matrix.
	Row int
	// What says for people what happens.
	What string
	// Needs is what the run must have for it.
	Needs Need
	// Forgives names invariants of which this fault may break a part, and says why. The
	// report counts what was broken all the same.
	Forgives map[string]string
	// Handover marks faults by which a relay can lose the slot to a standby while it has
	// events on their way: those may come twice.
	Handover bool
	// Operator marks faults after which somebody must mend something by hand, as Run does.
	// They are not drawn by chance.
	Operator bool
	// Alone marks faults of one relay and what it does next: no standby may take over. Those
	// of an Operator are all like that.
	Alone bool
	// Slow marks faults that take so long that the matrix injects them once, and that they are not begun when little time is left.
	Slow bool
	// Run injects the fault and takes it away. An error means that it could not be injected,
	// or that what must follow did not.
	Run func(context.Context, *Arena) error
}

// Need is what a fault needs of the run. The zero Need is a relay, any Postgres, any Kafka.
type Need uint

// The needs.
const (
	OwnPostgres   Need = 1 << iota // a Postgres that may be crashed
	OwnKafka                       // a Kafka that may be crashed
	ThreeNodes                     // a Kafka of three nodes that may be crashed
	PostgresProxy                  // the relay reaches Postgres through a proxy
	KafkaProxy                     // the relay reaches Kafka through a proxy; only one of our own advertises it
	Standby                        // a second relay
	Halting                        // on_poison: halt
	Parking                        // on_poison: halt-key
)

// missing says what servers lack for a fault, or "".
func (n Need) missing(s *Servers) string {
	var lacks []string
	if n&OwnPostgres != 0 && s.postgres == nil {
		lacks = append(lacks, "a Postgres of the harness's own")
	}
	if n&OwnKafka != 0 && s.kafka == nil {
		lacks = append(lacks, "a Kafka of the harness's own")
	}
	if n&KafkaProxy != 0 && len(s.Proxy) == 0 {
		lacks = append(lacks, "a Kafka that advertises a proxy, such as the harness's own")
	}
	if n&ThreeNodes != 0 && (s.kafka == nil || s.nodes < 3) {
		lacks = append(lacks, "a Kafka of the harness's own with three nodes")
	}
	return strings.Join(lacks, ", ")
}

// Faults are all faults, in the order of the matrix.
var Faults = slices.SortedStableFunc(
	slices.Values(slices.Concat(relayFaults, serverFaults, networkFaults, eventFaults, registryFaults, topicFaults, catalogFaults)),
	func(a, b Fault) int { return a.Row - b.Row })

// FaultNamed returns the fault of that name, or nil.
func FaultNamed(name string) *Fault {
	for i := range Faults {
		if Faults[i].Name == name {
			return &Faults[i]
		}
	}
	return nil
}

// inject runs the fault, without the standbys where it asks for that: they are started again
// afterwards.
func (f *Fault) inject(ctx context.Context, a *Arena) (err error) {
	first, others := a.relays[0], a.relays[1:]
	if (f.Alone || f.Operator) && len(others) > 0 {
		for _, other := range others {
			other.stop()
		}
		defer func() {
			for _, other := range others {
				err = errors.Join(err, other.comeBack(ctx))
			}
		}()
		if err := first.awaitStreaming(ctx); err != nil {
			return err
		}
	}
	return f.Run(ctx, a)
}

// choose returns the faults that cfg allows on these servers.
func choose(cfg Config, s *Servers) ([]*Fault, error) {
	var chosen []*Fault
	names := cfg.Faults
	if len(cfg.Script) > 0 {
		names = cfg.Script
	}
	for _, name := range names {
		f := FaultNamed(name)
		if lacks := f.Needs.missing(s); lacks != "" {
			return nil, fmt.Errorf("fault %s needs %s", name, lacks)
		}
		chosen = append(chosen, f)
	}
	if len(names) > 0 {
		return chosen, nil
	}
	for i := range Faults {
		f := &Faults[i]
		if !f.Operator && f.Needs&(Halting|Parking) == 0 && f.Needs.missing(s) == "" {
			chosen = append(chosen, f)
		}
	}
	return chosen, nil
}
