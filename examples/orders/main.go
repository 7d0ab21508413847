// Command orders is an example of services that postrider ties together: order, inventory,
// payment and shipping, each with tables and a consumer group of its own. README.md beside it
// says how to run it, docs/saga.md how it works.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/IBM/sarama"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/postrider/postrider/examples/orders/service"
	"github.com/postrider/postrider/examples/orders/shop"
	schemaregistry "github.com/postrider/postrider/schema-registry"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	err := newCommand().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "orders: %v%s\n", err, hint(err))
		os.Exit(1)
	}
}

// servers are what the flags say.
type servers struct {
	postgres, kafka, registry string
	prefix, instance          string
}

func newCommand() *cobra.Command {
	var s servers
	root := &cobra.Command{
		Use:   "orders",
		Short: "Four services and a saga, on Postgres and Kafka",
		Example: `  orders migrate && orders topics
  orders all                     all services in one process; or orders order, orders payment, … in four
  orders place --count 20
  orders check
  orders history 7`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	flags := root.PersistentFlags()
	flags.StringVar(&s.postgres, "postgres-url", env("POSTGRES_URL", "postgres://postgres:postgres@127.0.0.1:5432/orders"), "the database, or POSTGRES_URL")
	flags.StringVar(&s.kafka, "kafka", env("KAFKA_BROKERS", "127.0.0.1:9092"), "brokers, separated by commas, or KAFKA_BROKERS")
	flags.StringVar(&s.registry, "registry", env("REGISTRY_URL", "http://127.0.0.1:8081"), "the schema registry, or REGISTRY_URL")
	flags.StringVar(&s.prefix, "prefix", "", "before the names of topics and groups, as in the relay's outbox.topic")
	flags.StringVar(&s.instance, "instance", "", "name of this process that stays the same over restarts: Kafka gives it its partitions back at once")

	root.AddCommand(newMigrateCommand(&s), newTopicsCommand(&s), newReceiveCommand(&s), newPlaceCommand(&s),
		newCheckCommand(&s), newHistoryCommand(&s), newAuditCommand(&s),
		newServiceCommand(&s, "all", "Run all four services in one process", shop.Run))
	for name, run := range shop.Services {
		root.AddCommand(newServiceCommand(&s, name, "Run the "+name+" service", run))
	}
	return root
}

func newServiceCommand(s *servers, name, short string, run func(context.Context, service.Env) error) *cobra.Command {
	return &cobra.Command{
		Use:   name,
		Short: short,
		Args:  arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			db, err := s.open(cmd.Context())
			if err != nil {
				return err
			}
			defer db.Close()
			env := s.env()
			env.DB = db
			env.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
			if env.Registry, err = schemaregistry.NewClient(schemaregistry.ClientConfig{URL: s.registry}); err != nil {
				return err
			}
			defer env.Registry.Close()
			return run(cmd.Context(), env)
		},
	}
}

// arguments wants that many.
func arguments(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return fmt.Errorf("usage: %s", cmd.UseLine())
		}
		return nil
	}
}

// env is what the services need of Kafka.
func (s *servers) env() service.Env {
	conf := sarama.NewConfig()
	conf.ClientID = "orders"
	conf.Consumer.Offsets.Initial = sarama.OffsetOldest
	conf.Consumer.Group.InstanceId = s.instance
	return service.Env{Brokers: strings.Split(s.kafka, ","), Prefix: s.prefix, Kafka: conf}
}

// connections is enough for all services in one process, of which most wait for events.
const connections = 16

// open connects to a database that has the tables.
func (s *servers) open(ctx context.Context) (*pgxpool.Pool, error) {
	db, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	var ready bool
	err = db.QueryRow(ctx, "SELECT to_regclass('orders.orders') IS NOT NULL").Scan(&ready)
	if err == nil && !ready {
		err = errors.New("the database has no tables of ours: run orders migrate")
	}
	if err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

func (s *servers) connect(ctx context.Context) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(s.postgres)
	if err != nil {
		return nil, err
	}
	config.MaxConns = max(config.MaxConns, connections)
	db, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	if err := db.Ping(ctx); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// hint says what to do about an error that everybody meets.
func hint(err error) string {
	var refused *pgconn.ConnectError
	switch {
	case errors.As(err, &refused):
		return " (is Postgres up? --postgres-url or POSTGRES_URL says where)"
	case errors.Is(err, sarama.ErrOutOfBrokers):
		return " (is Kafka up? --kafka or KAFKA_BROKERS says where)"
	case errors.Is(err, sarama.ErrUnknownTopicOrPartition):
		return " (make the topics: orders topics)"
	}
	return ""
}

func env(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
