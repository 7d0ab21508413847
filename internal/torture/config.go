package torture

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Config is what a run is told. The zero value runs a minute on servers of its own.
type Config struct {
	// PostgresURL is a role that may create databases and replicate, on a server with
	// wal_level=logical. Empty starts a server.
	PostgresURL string
	// Brokers are the Kafka to publish to. None starts one, of Nodes nodes.
	Brokers []string
	// Nodes defaults to 3. One node can be killed only as a whole.
	Nodes int

	// Duration is for how long faults are injected. One is begun only where it can be expected
	// to end in time. Defaults to a minute. It is not used when Script is set.
	Duration time.Duration
	// Seed draws everything that is left to chance. 0 takes one from the clock.
	Seed uint64
	// Faults names the faults to draw from. Defaults to all that the servers allow and that
	// pass without an operator.
	Faults []string
	// Script injects these faults, in this order, once each, instead of drawing them.
	Script []string

	// Relays is how many relays share the slot. Defaults to 1, or to 2 where a fault needs
	// a standby.
	Relays int
	// Binary is the relay to run, built with -tags failpoints where crash points are
	// wanted. Empty builds it.
	Binary string
	// Bug is a known bug for the relay to have: it proves that the checker sees it.
	Bug string
	// OnPoison is the relay's on_poison. Defaults to what the chosen faults need, which is
	// dead-letter where they do not say.
	OnPoison string

	// Slack is added to the time that a takeover may take, where the machine has other work
	// beside. Defaults to none.
	Slack time.Duration

	// Writers is the number of connections that write. Defaults to 4.
	Writers int
	// Rate is how many transactions a second all of them try to commit. Defaults to 200.
	Rate int
	// Keys is the number of keys. Defaults to 64.
	Keys int
	// Large is the number of events in the occasional large transaction. Defaults to 2000.
	Large int
	// Huge is the number of events of the fault huge-transaction. Defaults to 50000.
	Huge int
	// Backlog is the number of events that wait for a relay which was down. Defaults to 20000.
	Backlog int
	// MemoryBound is what the relay may have resident. Defaults to 150 MB.
	MemoryBound int64
	// Patience is how long the lag may take to return to 0 after a fault. Defaults to 60 s.
	Patience time.Duration

	// Progress, when set, is called at the beginning of each step of the preparation, and then
	// about once a second.
	Progress func(Progress)
	// Logger takes a line for each fault. Nil logs nothing.
	Logger *slog.Logger
	// Dir takes the relays' logs. Empty takes a temporary one, which stays when the run
	// fails.
	Dir string

	needs Need // of the chosen faults
}

func (c Config) withDefaults() Config {
	setDefault(&c.Nodes, 3)
	setDefault(&c.Duration, time.Minute)
	setDefault(&c.Seed, uint64(time.Now().UnixNano())%1_000_000)
	setDefault(&c.Relays, 1)
	setDefault(&c.Writers, 4)
	setDefault(&c.Rate, 200)
	setDefault(&c.Keys, 64)
	setDefault(&c.Large, 2000)
	setDefault(&c.Huge, 50_000)
	setDefault(&c.Backlog, 20_000)
	setDefault(&c.MemoryBound, 150<<20)
	setDefault(&c.Patience, time.Minute)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func setDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

func (c Config) validate() error {
	var errs []error
	for _, name := range append(append([]string(nil), c.Faults...), c.Script...) {
		if FaultNamed(name) == nil {
			errs = append(errs, fmt.Errorf("no fault is called %q", name))
		}
	}
	for name, n := range map[string]int{"nodes": c.Nodes, "relays": c.Relays, "writers": c.Writers, "rate": c.Rate, "keys": c.Keys} {
		if n < 0 {
			errs = append(errs, fmt.Errorf("%s: %d is negative", name, n))
		}
	}
	return errors.Join(errs...)
}
