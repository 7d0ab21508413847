package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/lmittmann/tint"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"github.com/postrider/postrider/internal/embedded"
	"github.com/postrider/postrider/outbox"
	"github.com/postrider/postrider/relay"
	schemaregistry "github.com/postrider/postrider/schema-registry"
)

const (
	demoTopic      = "order"
	demoDeadLetter = "postrider_demo_dead_letter"
	// demoPatience is how long the ledger may take to balance after the last order.
	demoPatience = time.Minute
	demoPrelude  = 5 * time.Second
)

type demoOptions struct {
	orders int
	rate   float64
	exit   bool
	json   bool
}

func newDemoCommand() *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See it work: Postgres, broker, registry, relay and orders in one process",
		Long: `Starts a Postgres, a stand-in for a Kafka broker, the schema registry and the relay, places
orders, and shows every event on its way from the database to a consumer. Nothing needs to
be installed: where there is no Postgres one is downloaded once (15 MB). The addresses are
printed, so that psql and kcat can join in. Ctrl-C ends it and leaves nothing behind.

The ledger must always balance:
  committed = delivered + in flight + dead-lettered + expired`,
		Example: `  postrider demo
  postrider demo --orders 500 --exit          ends when every event is accounted for
  postrider demo --orders 500 --exit --json   prints the ledger as one JSON object`,
		Args: usageNoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case o.exit && o.orders == 0:
				return usageError(errors.New("--exit needs --orders N"))
			case o.orders < 0:
				return usageError(fmt.Errorf("--orders %d is negative", o.orders))
			case o.rate < 0:
				return usageError(fmt.Errorf("--rate %v is negative", o.rate))
			}
			if o.rate == 0 && o.orders == 0 {
				o.rate = 1
			}
			return runDemo(cmd.Context(), o, cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.orders, "orders", 0, "place this many orders and no more (default: go on until Ctrl-C)")
	f.Float64Var(&o.rate, "rate", 0, "orders a second (default 1, or as fast as possible with --orders)")
	f.BoolVar(&o.exit, "exit", false, "end when the ledger balances: exit 0, or 1 after a minute without balance")
	f.BoolVar(&o.json, "json", false, "print only the final ledger, as JSON")
	return cmd
}

// demo is what runs in the process. Its servers are stopped in the reverse of the order in
// which they were started.
type demo struct {
	opts     demoOptions
	out      io.Writer
	screen   *demoScreen
	postgres *embedded.Postgres
	kafka    *embedded.Kafka
	pool     *pgxpool.Pool
	registry *schemaregistry.Client
	relay    *relay.Relay
	ledger   *demoLedger

	registryURL, relayURL string

	// committing is held from an order's transaction to the line that shows it: the consumer
	// is often faster.
	committing sync.Mutex
}

func runDemo(ctx context.Context, o demoOptions, out io.Writer) error {
	// A reader that has seen enough (demo | head) ends the demo like Ctrl-C; the signal would
	// end the process at once and leave the servers' files behind.
	signal.Ignore(syscall.SIGPIPE)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d := &demo{opts: o, out: out, screen: newDemoScreen(&watchedWriter{out, cancel}, o.json), ledger: newDemoLedger()}
	d.screen.terminal = isTerminal(out)
	var stops []func()
	defer func() {
		for i := len(stops) - 1; i >= 0; i-- {
			stops[i]()
		}
	}()
	started := func(stop func()) { stops = append(stops, stop) }

	d.screen.say("postrider demo: everything runs here, in one process.\nCtrl-C ends it and leaves nothing behind.\n")
	if err := d.startServers(ctx, started); err != nil {
		if ctx.Err() != nil {
			return nil // Ctrl-C while starting
		}
		return err
	}
	err := d.play(ctx)
	d.screen.finish(d.ledger.report())
	if o.json {
		if jsonErr := json.NewEncoder(out).Encode(d.ledger.report()); jsonErr != nil {
			return jsonErr
		}
	}
	return err
}

// watchedWriter calls failed when it cannot write.
type watchedWriter struct {
	io.Writer
	failed func()
}

func (w *watchedWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if err != nil {
		w.failed()
	}
	return n, err
}

// startServers brings everything up but the orders.
func (d *demo) startServers(ctx context.Context, started func(stop func())) error {
	postgres, err := embedded.StartPostgres(ctx, embedded.PostgresOptions{Progress: os.Stderr})
	if err != nil {
		return unreachable(fmt.Errorf("demo: %w", err))
	}
	d.postgres = postgres
	started(func() {
		if err := postgres.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "postrider: stop Postgres:", err)
		}
	})
	if d.kafka, err = embedded.StartKafka(embedded.KafkaOptions{Topics: []string{demoTopic, demoDeadLetter}}); err != nil {
		return unreachable(fmt.Errorf("demo: %w", err))
	}
	started(d.kafka.Stop)

	listener, err := listenNear(8081)
	if err != nil {
		return unreachable(fmt.Errorf("demo: registry: %w", err))
	}
	d.registryURL = "http://" + listener.Addr().String()
	server := &http.Server{
		Handler:           schemaregistry.NewHandler(schemaregistry.New(schemaregistry.NewMemoryStore()), schemaregistry.HandlerConfig{}),
		ReadHeaderTimeout: 5 * time.Second,
	}
	go func() { _ = server.Serve(listener) }() // ends by Close below
	started(func() { _ = server.Close() })
	if d.registry, err = schemaregistry.NewClient(schemaregistry.ClientConfig{URL: d.registryURL}); err != nil {
		return err
	}
	started(d.registry.Close)

	if d.pool, err = pgxpool.New(ctx, postgres.URL()); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	started(d.pool.Close)
	return d.prepare(ctx)
}

// prepare makes the tables and the schemas, and the relay.
func (d *demo) prepare(ctx context.Context) error {
	ddl, err := outbox.TableDDL(relay.DefaultTable)
	if err != nil {
		return err
	}
	if _, err := d.pool.Exec(ctx, ddl.Up+demoTables); err != nil {
		return fmt.Errorf("demo: make the tables: %w", err)
	}
	// The service's own schema goes into the database; the one for JSON events into the registry.
	if err := outbox.RegisterSchemas(ctx, d.pool, orderCreatedSchema); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	if _, err := d.registry.Register(ctx, "order.paid", orderPaidText); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	listener, err := listenNear(8080)
	if err != nil {
		return unreachable(fmt.Errorf("demo: relay: %w", err))
	}
	address := listener.Addr().String()
	_ = listener.Close() // the relay opens it again in a moment
	d.relayURL = "http://" + address
	d.relay, err = relay.New(relay.Config{
		Name:     "demo",
		Postgres: relay.PostgresConfig{URL: relay.SecretURL(d.postgres.URL())},
		Kafka:    relay.KafkaConfig{Brokers: d.kafka.Brokers(), DeadLetterTopic: demoDeadLetter},
		Registry: relay.RegistryConfig{URL: relay.SecretURL(d.registryURL), LatestTTL: time.Second},
		HTTP:     relay.HTTPConfig{Listen: address},
		OnPoison: "dead-letter",
	}, relay.Options{Logger: d.screen.logger()})
	return err
}

// play runs relay, consumer and orders until ctx ends or, with --exit, the ledger balances.
func (d *demo) play(ctx context.Context) error {
	// The relay outlives the orders, so that what was committed last is still delivered.
	relayCtx, stopRelay := context.WithCancel(context.WithoutCancel(ctx))
	consumeCtx, stopConsumer := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRelay()
	defer stopConsumer()
	var g errgroup.Group
	g.Go(func() error { return d.relay.Run(relayCtx) })
	g.Go(func() error { return d.consume(consumeCtx) })
	g.Go(func() error { return d.watch(consumeCtx) })
	d.introduce()
	err := d.awaitRelay(ctx)
	if d.screen.terminal && d.opts.orders == 0 {
		d.screen.say("  The first order comes in a few seconds.\n\n") // the addresses can be copied meanwhile
		select {
		case <-time.After(demoPrelude):
		case <-ctx.Done():
		}
	}
	if err == nil {
		err = d.placeOrders(ctx)
	}
	if err == nil && d.opts.exit {
		err = d.awaitBalance(ctx)
	} else if err == nil {
		<-ctx.Done()
	}
	if ctx.Err() != nil {
		err = nil // Ctrl-C is how a demo ends
		settle, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		_ = d.awaitBalance(settle) // what is in flight may land
		cancel()
	}
	stopRelay()
	stopConsumer()
	return errors.Join(err, g.Wait())
}

// awaitRelay waits until the relay streams, so that the first event shows an ordinary
// latency.
func (d *demo) awaitRelay(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, demoPatience)
	defer cancel()
	for d.relay.Status().Phase != relay.PhaseStreaming {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("demo: the relay does not stream: %s", d.relay.Status().Reason)
		}
	}
	return nil
}

// introduce prints where everything is.
func (d *demo) introduce() {
	psql := "psql '" + d.postgres.URL() + "'" // quoted: some shells take the ? for a pattern
	d.screen.say(fmt.Sprintf(`
  Postgres   %s
             %s
  Kafka      a STAND-IN for trying (kfake): in memory, not durable
             kcat -b %s -C -t %s -f '%%k %%h\n'
  registry   curl %s/subjects
  relay      curl %s/status

  Join in, in psql:
    SELECT outbox_emit('order', 'mine', 'order.paid',
      '{"order_id":"mine","amount_cents":100,"method":"CASH"}');
  With "method":"SHELLS" the event is poison, and goes to the topic
  %s.

`, filepath.Clean(d.postgres.Binary()), psql, d.kafka.Brokers()[0], demoTopic, d.registryURL, d.relayURL, demoDeadLetter))
}

// listenNear listens on 127.0.0.1 at port, or at any free one where that is taken.
func listenNear(port int) (net.Listener, error) {
	if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
		return l, nil
	}
	return net.Listen("tcp", "127.0.0.1:0")
}

// logger passes the relay's halts on; what else happens the screen shows itself.
func (s *demoScreen) logger() *slog.Logger {
	if s.quiet {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	}
	return slog.New(tint.NewTextHandler(s, &tint.Options{
		Level: slog.LevelError, TimeFormat: "15:04:05.000", NoColor: !term.IsTerminal(int(os.Stdout.Fd())),
	}))
}
