package main

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/postrider/postrider/examples/orders/balance"
	"github.com/postrider/postrider/examples/orders/events"
	"github.com/postrider/postrider/examples/orders/inventory"
	"github.com/postrider/postrider/examples/orders/order"
	"github.com/postrider/postrider/examples/orders/payment"
	"github.com/postrider/postrider/examples/orders/service"
	"github.com/postrider/postrider/examples/orders/shop"
	"github.com/postrider/postrider/internal/testserver"
	"github.com/postrider/postrider/relay"
	schemaregistry "github.com/postrider/postrider/schema-registry"
)

func TestMain(m *testing.M) {
	if args := os.Getenv(childArgs); args != "" {
		runChild(strings.Split(args, "\n"))
		return
	}
	// One goroutine of a process that has ever made a meter; sarama makes meters.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

func TestSaga_ShipsOrCancelsEveryOrder(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.receive("lamp", 30)
	s.receive("kettle", 3)
	s.place(20)
	s.start("relay", func(ctx context.Context) error { return runRelay(ctx, s.relay) })
	s.start("services", func(ctx context.Context) error { return shop.Run(ctx, s.env) })
	sheet := s.settle()
	t.Logf("\n%s", sheet)
	if sheet.Placed != 20 || sheet.Shipped == 0 || sheet.Cancelled == 0 {
		t.Errorf("want 20 orders, some shipped and some cancelled")
	}
}

// patience is how long a test waits for what must happen. It is only reached by failures.
const patience = 60 * time.Second

// testShop is a shop with a database and topics of its own, and a registry.
type testShop struct {
	t             *testing.T
	url, registry string // of the database, of the registry
	env           service.Env
	relay         relay.Config
}

func newShop(t *testing.T) *testShop {
	t.Helper()
	s := &testShop{t: t, url: testserver.Postgres(t)}
	s.env = service.Env{Brokers: testserver.Kafka(t), Prefix: testserver.UniqueName(t) + ".", Kafka: quick()}

	server := httptest.NewServer(schemaregistry.NewHandler(schemaregistry.New(schemaregistry.NewMemoryStore()), schemaregistry.HandlerConfig{}))
	t.Cleanup(server.Close)
	s.registry = server.URL
	var err error
	if s.env.Registry, err = schemaregistry.NewClient(schemaregistry.ClientConfig{URL: server.URL}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.env.Registry.Close)
	if s.env.DB, err = pgxpool.New(t.Context(), s.url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.env.DB.Close)
	if err := shop.Migrate(t.Context(), s.env.DB); err != nil {
		t.Fatal(err)
	}
	if err := events.Register(t.Context(), s.env.DB); err != nil {
		t.Fatal(err)
	}
	if err := shop.CreateTopics(s.env, 4, 1); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.deleteTopics)
	s.relay = relay.Config{
		Name:     strings.TrimSuffix(s.env.Prefix, "."),
		Postgres: relay.PostgresConfig{URL: relay.SecretURL(s.url)},
		Outbox:   relay.OutboxConfig{Topic: s.env.Prefix + "{aggregate_type}"},
		Kafka:    relay.KafkaConfig{Brokers: s.env.Brokers},
		Registry: relay.RegistryConfig{URL: relay.SecretURL(server.URL)},
		HTTP:     relay.HTTPConfig{Listen: "-"},
	}
	return s
}

// quick is a configuration in which a group notices changes soon.
func quick() *sarama.Config {
	conf := sarama.NewConfig()
	conf.Consumer.Offsets.Initial = sarama.OffsetOldest
	conf.Consumer.Group.Heartbeat.Interval = 200 * time.Millisecond
	conf.Consumer.Group.Session.Timeout = 6 * time.Second
	conf.Consumer.Offsets.AutoCommit.Interval = 200 * time.Millisecond
	conf.Consumer.MaxWaitTime = 50 * time.Millisecond
	return conf
}

func (s *testShop) deleteTopics() {
	admin, err := sarama.NewClusterAdmin(s.env.Brokers, sarama.NewConfig())
	if err != nil {
		s.t.Error(err)
		return
	}
	defer admin.Close()
	topics, deadLetters := shop.Topics(s.env)
	for _, topic := range append(topics, deadLetters...) {
		if err := admin.DeleteTopic(topic); err != nil {
			s.t.Errorf("delete topic %s: %v", topic, err)
		}
	}
}

func (s *testShop) receive(item string, units int) {
	s.t.Helper()
	if err := inventory.Receive(s.t.Context(), s.env.DB, item, units); err != nil {
		s.t.Fatal(err)
	}
}

// sample is the n-th of a mix of orders: of one unit and of two, for an item that runs out, and
// with a card that is declined.
func sample(n int) order.New {
	o := order.New{Customer: "customer-" + strconv.Itoa(n), Item: "lamp", Quantity: 1 + n%2, AmountCents: int64(100 + n), Card: "4242"}
	if n%4 == 0 {
		o.Item = "kettle"
	}
	if n%5 == 0 {
		o.Card = payment.DeclinedCard
	}
	return o
}

// place places n orders of all sorts.
func (s *testShop) place(n int) {
	s.t.Helper()
	for i := range n {
		if err := s.placeOne(i); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *testShop) placeOne(n int) error {
	return pgx.BeginFunc(s.t.Context(), s.env.DB, func(tx pgx.Tx) error {
		_, err := order.Place(s.t.Context(), tx, sample(n))
		return err
	})
}

// start runs something until the test ends.
func (s *testShop) start(what string, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	s.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Errorf("%s: %v", what, err)
		}
	})
}

func runRelay(ctx context.Context, config relay.Config) error {
	r, err := relay.New(config, relay.Options{Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))})
	if err != nil {
		return err
	}
	return r.Run(ctx)
}

// settle waits until nothing is on its way any more, and wants the books to be right at every
// moment until then.
func (s *testShop) settle() balance.Sheet {
	s.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		sheet := s.check()
		if sheet.Settled() {
			return sheet
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("not settled in time: %s\n%s", strings.Join(sheet.Pending, ", "), sheet)
		}
	}
}

// check wants the books to be right now.
func (s *testShop) check() balance.Sheet {
	s.t.Helper()
	sheet, err := balance.Check(s.t.Context(), s.env.DB)
	if err != nil {
		s.t.Fatal(err)
	}
	if len(sheet.Violations) > 0 {
		s.t.Fatalf("the books are wrong: %s\n%s", strings.Join(sheet.Violations, ", "), sheet)
	}
	return sheet
}
