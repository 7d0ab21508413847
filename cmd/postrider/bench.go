package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/benchmark"
	"github.com/postrider/postrider/relay"
)

// benchFlags say where to measure and how much.
type benchFlags struct {
	config         configFlags
	postgresURL    string
	brokers        []string
	events         int
	rows           []int
	payload        int
	partitions     int
	latencyRate    int
	latencySeconds int
	asJSON         bool
}

func newBenchCommand() *cobra.Command {
	var b benchFlags
	cmd := &cobra.Command{
		Use:   "bench (-c FILE | --postgres-url URL --kafka HOST:PORT)",
		Short: "Measure the whole line on your own Postgres and Kafka",
		Long: `Loads events into a table of its own, reads them from the replication slot and
throws them away, greedily and at the relay's pace, then drains them to a topic
of its own with a relay, and last measures the latency from commit to consumer.
It prints rates, CPU, memory and latency, and says what limits.

Everything it makes is called postrider_bench_… and is removed at the end, after
Ctrl-C too: a schema, a publication, one replication slot at a time, topics,
consumer groups and a subject. The role needs REPLICATION and CREATE on the
database, Postgres wal_level = logical, the Kafka user the right to create and
delete topics. Without a registry in the configuration it serves one itself for
the time.

It loads the servers as much as they bear. Other replication slots of the same
Postgres have to decode its rows too. CPU and memory are read from /proc: on
Linux only, and the walsender's only where Postgres runs on this machine.

Exits 0 when everything was measured, 1 when the servers do not allow it or a
measurement failed, 2 on wrong usage, 3 when a server could not be reached.`,
		Example: `  postrider bench -c postrider.yaml
  postrider bench --postgres-url postgres://me@127.0.0.1/app \
      --kafka 127.0.0.1:9092
  postrider bench -c postrider.yaml --events 1000000 \
      --rows-per-transaction 10 --json`,
		Args: usageNoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return b.run(cmd) },
	}
	b.config.addFile(cmd)
	f := cmd.Flags()
	f.StringVar(&b.postgresURL, "postgres-url", "", "in place of postgres.url of the configuration")
	f.StringSliceVar(&b.brokers, "kafka", nil, "in place of kafka.brokers of the configuration, host:port (repeatable)")
	f.IntVar(&b.events, "events", 200_000, "events in each drain")
	f.IntSliceVar(&b.rows, "rows-per-transaction", []int{1, 100}, "events in a transaction; one drain for each")
	f.IntVar(&b.payload, "payload-bytes", 300, "size of an event's JSON, about")
	f.IntVar(&b.partitions, "partitions", 8, "partitions of the topics")
	f.IntVar(&b.latencyRate, "latency-rate", 500, "events a second while the latency is measured; 0 leaves that out")
	f.IntVar(&b.latencySeconds, "latency-seconds", 10, "for how long the latency is measured")
	f.BoolVar(&b.asJSON, "json", false, "print as JSON; null is what is not known")
	return cmd
}

func (b *benchFlags) run(cmd *cobra.Command) error {
	warnOfVariables(cmd.ErrOrStderr())
	cfg, err := relay.LoadConfig(b.config.file, os.Environ(), b.config.set)
	if err != nil {
		return usageError(configProblems(err))
	}
	if b.postgresURL != "" {
		cfg.Postgres.URL = relay.SecretURL(b.postgresURL)
	}
	if len(b.brokers) > 0 {
		cfg.Kafka.Brokers = b.brokers
	}
	if err := checkBenchConfig(cfg); err != nil {
		return err
	}
	if err := b.check(); err != nil {
		return usageError(err)
	}
	bar := newBenchBar(cmd.ErrOrStderr(), b.rows, b.latencyRate > 0)
	report, err := benchmark.Run(cmd.Context(), benchmark.Config{
		Postgres: cfg.Postgres, Kafka: cfg.Kafka, Registry: cfg.Registry, Headers: cfg.Outbox.Headers,
		Events: b.events, RowsPerTransaction: b.rows, PayloadBytes: b.payload, Partitions: b.partitions,
		LatencyRate: b.latencyRate, LatencyTime: time.Duration(b.latencySeconds) * time.Second,
		Progress: bar.show,
	})
	bar.end()
	switch { // what was measured before something failed is worth having
	case err != nil && len(report.Drains) == 0:
	case b.asJSON:
		enc := json.NewEncoder(cmd.OutOrStdout())
		enc.SetIndent("", "  ")
		err = errors.Join(err, enc.Encode(report))
	default:
		printBench(cmd.OutOrStdout(), report)
	}
	if err != nil {
		return benchError(err)
	}
	if l := report.Latency; l != nil && l.Missing+l.Duplicate > 0 {
		return &exitError{exitNo, fmt.Errorf("bench: %d events did not arrive in time and %d came twice: look at the brokers first, and report it if they were well",
			l.Missing, l.Duplicate)}
	}
	return nil
}

// check returns every flag that is wrong.
func (b *benchFlags) check() error {
	var wrong []error
	atLeast := func(flag string, value, least int) {
		if value < least {
			wrong = append(wrong, fmt.Errorf("--%s: %d is less than %d", flag, value, least))
		}
	}
	atLeast("events", b.events, 1)
	atLeast("payload-bytes", b.payload, benchmark.MinPayloadBytes)
	if b.payload > benchmark.MaxPayloadBytes {
		wrong = append(wrong, fmt.Errorf("--payload-bytes: %d is more than %d", b.payload, benchmark.MaxPayloadBytes))
	}
	atLeast("partitions", b.partitions, 1)
	atLeast("latency-rate", b.latencyRate, 0)
	atLeast("latency-seconds", b.latencySeconds, 1)
	if len(b.rows) == 0 {
		wrong = append(wrong, errors.New("--rows-per-transaction: there is no number"))
	}
	for i, n := range b.rows {
		atLeast("rows-per-transaction", n, 1)
		if slices.Contains(b.rows[:i], n) {
			wrong = append(wrong, fmt.Errorf("--rows-per-transaction: %d is there twice", n))
		}
	}
	return errors.Join(wrong...)
}

// checkBenchConfig checks the parts of a configuration that the benchmark uses.
func checkBenchConfig(cfg relay.Config) error {
	used := relay.Config{
		Name: "bench", Postgres: relay.PostgresConfig{URL: cfg.Postgres.URL, TLS: cfg.Postgres.TLS},
		Kafka: cfg.Kafka, Registry: cfg.Registry, Outbox: relay.OutboxConfig{Headers: cfg.Outbox.Headers},
	}
	if used.Registry.URL == "" {
		used.Registry.URL = "http://127.0.0.1" // one is served
	}
	if cfg.Postgres.URL == "" || len(cfg.Kafka.Brokers) == 0 {
		return usageError(errors.New("name the servers: -c postrider.yaml, or --postgres-url and --kafka"))
	}
	if err := used.Validate(); err != nil {
		return usageError(configProblems(err))
	}
	return nil
}

// benchError gives err its exit code.
func benchError(err error) error {
	err = fmt.Errorf("bench: %w", err)
	var down *benchmark.UnreachableError
	if errors.As(err, &down) {
		return unreachable(err)
	}
	return err
}
