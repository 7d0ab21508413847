package benchmark

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/postrider/postrider/relay"
)

// namePrefix begins the name of everything that is made.
const namePrefix = "postrider_bench_"

// Config says where to measure and how much.
type Config struct {
	Postgres relay.PostgresConfig // URL and TLS count; slot and publication are the benchmark's own
	Kafka    relay.KafkaConfig    // brokers, TLS, SASL, compression and max_in_flight_bytes count
	// Registry may be empty: then one that forgets everything is served on a loopback port.
	Registry relay.RegistryConfig
	// Headers is what outbox.headers would be. Empty means its default.
	Headers string

	Events             int           // in each drain; at least 1
	RowsPerTransaction []int         // one drain for each; at least 1
	PayloadBytes       int           // of JSON, about; no less than MinPayloadBytes
	Partitions         int           // of each topic; at least 1
	LatencyRate        int           // events a second; 0 measures no latency
	LatencyTime        time.Duration // for how long

	// Program is the postrider that runs as the relay. Defaults to this executable.
	Program string
	// Progress hears how much of a step is done; a total of 0 is not known. It is
	// called from more than one goroutine, but never by two at once. Nil means nobody listens.
	Progress func(step string, done, total int)
}

// The smallest payload there is, and the largest that every broker takes by default.
const (
	MinPayloadBytes = 200
	MaxPayloadBytes = 900_000
)

// bench is a benchmark under way.
type bench struct {
	cfg     Config
	name    string
	db      *database
	kafka   *kafka
	cleanup cleanup
}

// Run measures, and removes everything that it made. It returns what it has measured so far
// also with an error: *RefusedError where the servers do not allow it, *UnreachableError
// where one does not answer, ErrInterrupted when ctx ended. An error that says "left behind"
// names what could not be removed.
func Run(ctx context.Context, cfg Config) (Report, error) {
	b := &bench{cfg: cfg}
	report := Report{
		Registry: "configured", Cores: runtime.NumCPU(),
		Events: cfg.Events, PayloadBytes: cfg.PayloadBytes, Partitions: cfg.Partitions,
	}
	if cfg.Registry.URL == "" {
		report.Registry = "in-process"
	}
	var random [4]byte
	if _, err := rand.Read(random[:]); err != nil {
		return report, err
	}
	b.name = namePrefix + hex.EncodeToString(random[:])
	report.Name = b.name
	if b.cfg.Program == "" {
		var err error
		if b.cfg.Program, err = os.Executable(); err != nil {
			return report, fmt.Errorf("find the program to run as the relay: %w", err)
		}
	}
	err := interrupted(ctx, b.run(ctx, &report))
	b.progress("clean up", 0, 0)
	return report, errors.Join(err, b.cleanup.run(ctx))
}

func (b *bench) progress(step string, done, total int) {
	if b.cfg.Progress != nil {
		b.cfg.Progress(step, done, total)
	}
}

func (b *bench) run(ctx context.Context, report *Report) error {
	if err := b.connect(ctx, report); err != nil {
		return err
	}
	// The least likely to be allowed comes first.
	if err := b.db.make(ctx, &b.cleanup, b.cfg.PayloadBytes); err != nil {
		return fmt.Errorf("prepare the database: %w", err)
	}
	for _, rows := range b.cfg.RowsPerTransaction {
		d := Drain{RowsPerTransaction: rows}
		if err := b.measureDrain(ctx, &d); err != nil {
			return err
		}
		d.KafkaFull = d.InFlight*b.recordMemory() >= float64(b.inFlightLimit())/2
		d.Verdict = judge(d, report)
		report.Drains = append(report.Drains, d)
	}
	if b.cfg.LatencyRate > 0 {
		var err error
		if report.Latency, err = b.latency(ctx, fmt.Sprintf("latency at %d a second", b.cfg.LatencyRate)); err != nil {
			return fmt.Errorf("latency: %w", err)
		}
	}
	return nil
}

// connect reaches all servers before anything is made on them, but for the subject and a
// topic, which show whether that is allowed.
func (b *bench) connect(ctx context.Context, report *Report) error {
	b.progress("connect", 0, 0)
	var err error
	if b.db, err = openDatabase(ctx, b.cfg.Postgres, b.name); err != nil {
		return err
	}
	b.cleanup.add("the connection to Postgres", func(context.Context) error { b.db.close(); return nil })
	if b.kafka, err = openKafka(ctx, b.cfg.Kafka); err != nil {
		return err
	}
	b.cleanup.add("the connection to Kafka", func(context.Context) error { b.kafka.close(); return nil })
	report.Server = b.db.version
	postgres, err := b.db.roundTrip(ctx)
	if err != nil {
		return &UnreachableError{Server: "Postgres", Err: err}
	}
	brokers, err := b.kafka.roundTrip(ctx)
	if err != nil {
		return &UnreachableError{Server: "Kafka", Err: err}
	}
	if report.Background, err = background(ctx); err != nil {
		return err
	}
	report.PostgresRoundTrip, report.KafkaRoundTrip = postgres.Seconds()*1e3, brokers.Seconds()*1e3
	if b.cfg.Registry.URL == "" {
		if b.cfg.Registry, err = serveRegistry(&b.cleanup); err != nil {
			return err
		}
	}
	if err := registerSchema(ctx, &b.cleanup, b.cfg.Registry, b.name); err != nil {
		return err
	}
	return b.kafka.makeTopic(ctx, &b.cleanup, b.name, 1)
}

// background returns how many cores of this machine are busy with something else.
func background(ctx context.Context) (*float64, error) {
	before, ok := machineTime()
	if !ok {
		return nil, nil //nolint:nilnil // not known
	}
	const while = 500 * time.Millisecond
	if err := wait(ctx, while); err != nil {
		return nil, err
	}
	after, _ := machineTime()
	return known((after - before).Seconds() / while.Seconds()), nil
}

// measureDrain loads a backlog and reads it three times.
func (b *bench) measureDrain(ctx context.Context, d *Drain) error {
	of := fmt.Sprintf("%d a transaction", d.RowsPerTransaction)
	slot := fmt.Sprintf("%s_%d", b.name, d.RowsPerTransaction)
	b.progress("wait for open transactions, to make a slot", 0, 0)
	if err := b.db.makeSlot(ctx, &b.cleanup, slot); err != nil {
		return err
	}
	step := "load, " + of
	b.progress(step, 0, b.cfg.Events)
	err := b.db.load(ctx, b.cfg.Events, d.RowsPerTransaction, func(done int) { b.progress(step, done, b.cfg.Events) })
	if err != nil {
		return fmt.Errorf("load events: %w", err)
	}
	// Neither raw read moves the slot.
	if d.Greedy, err = b.readRaw(ctx, slot, true, "raw read, greedy, "+of); err != nil {
		return err
	}
	if d.Paced, err = b.readRaw(ctx, slot, false, "raw read, paced, "+of); err != nil {
		return err
	}
	if err := b.drain(ctx, slot, d.RowsPerTransaction, "relay, "+of, d); err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	// There may be no second one to spare, and it keeps WAL.
	return b.db.dropSlot(ctx, slot)
}

// startRelay runs a relay that publishes to topic what slot holds, until it is stopped or
// everything is cleaned up.
func (b *bench) startRelay(slot, topic string) (*child, error) {
	name := topic[len("postrider_"):] // which the relay puts before it again
	b.cleanup.add("consumer group postrider_"+name, func(ctx context.Context) error {
		return b.kafka.deleteGroup(ctx, "postrider_"+name)
	})
	run, err := startChild(b.cfg.Program, childConfig{
		name: name, slot: slot, topic: topic, subject: b.name, table: b.name + ".outbox",
		postgres: b.db.cfg, kafka: b.cfg.Kafka, registry: b.cfg.Registry, headers: b.cfg.Headers,
	})
	if err != nil {
		return nil, err
	}
	b.cleanup.add("the relay's process", func(context.Context) error { return run.stop() })
	return run, nil
}

// recordMemory is about what an event takes of max_in_flight_bytes: Avro is smaller than
// JSON, and there are headers.
func (b *bench) recordMemory() float64 { return 0.7*float64(b.cfg.PayloadBytes) + 700 }

func (b *bench) inFlightLimit() int {
	if b.cfg.Kafka.MaxInFlightBytes > 0 {
		return b.cfg.Kafka.MaxInFlightBytes
	}
	return relay.DefaultMaxInFlightBytes
}
