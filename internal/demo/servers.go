package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/examples/orders/service"
	"github.com/postrider/postrider/examples/orders/shop"
	"github.com/postrider/postrider/internal/embedded"
	schemaregistry "github.com/postrider/postrider/schema-registry"
)

// relayDeadLetters takes what the relay cannot publish.
const relayDeadLetters = ownName + "_dead_letter"

// servers are what the relay and the services work with.
type servers struct {
	place    *place
	postgres *embedded.Postgres // nil where it is the user's
	kafka    *embedded.Kafka    // nil where it is the user's

	postgresURL string
	addresses   []string // of the brokers
	prefix      string   // of topics and groups, on the user's brokers
	registryURL string

	pool     *pgxpool.Pool
	brokers  *brokers
	registry *schemaregistry.Client
	// ahead is how much the clock of Postgres is ahead of ours.
	ahead time.Duration
}

// startServers reaches or starts everything that the relay and the services need, and makes
// tables and topics. What it starts and makes is noted down in c, also when it fails.
func startServers(ctx context.Context, cfg Config, p *place, c *cleanup) (*servers, error) {
	s := &servers{place: p}
	if len(cfg.Brokers) > 0 {
		s.prefix = ownName + "_"
	}
	// Nothing is made on one server of the user's before both are known to allow it.
	var own *ownPostgres
	g, gctx := errgroup.WithContext(ctx)
	if cfg.PostgresURL != "" {
		g.Go(func() (err error) { own, err = checkPostgres(gctx, cfg, p); return err })
	}
	if len(cfg.Brokers) > 0 {
		g.Go(func() error { return s.reachBrokers(gctx, cfg, c) })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}

	g, gctx = errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := s.startPostgres(gctx, cfg, own, c); err != nil {
			return err
		}
		return s.makeTables(gctx, c)
	})
	g.Go(func() error {
		if err := s.startRegistry(c); err != nil {
			return err
		}
		return s.startKafka(gctx, c)
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	p.memory.Made = true
	if err := p.remember(); err != nil {
		return nil, fmt.Errorf("--keep: %w", err)
	}
	return s, nil
}

// env is what the services get.
func (s *servers) env() service.Env {
	return service.Env{DB: s.pool, Brokers: s.addresses, Registry: s.registry, Prefix: s.prefix}
}

// topics of the demo.
func (s *servers) topics() topics {
	events, letters := shop.Topics(s.env())
	t := topics{events: events, letters: letters, relay: relayDeadLetters, groups: []string{ownName}}
	for name := range shop.Services {
		t.groups = append(t.groups, s.env().Group(name))
	}
	return t
}

func (s *servers) startPostgres(ctx context.Context, cfg Config, own *ownPostgres, c *cleanup) error {
	if own != nil {
		url, err := own.make(ctx, c, s.place.kept())
		s.postgresURL = url
		return err
	}
	postgres, err := embedded.StartPostgres(ctx, embedded.PostgresOptions{
		Dir: s.place.path("postgres"), NoSync: !s.place.kept(), Progress: cfg.Err,
	})
	if err != nil {
		return &UnreachableError{err}
	}
	c.add("Postgres", func(context.Context) error { return postgres.Stop() })
	s.postgres, s.postgresURL = postgres, postgres.URL()
	return nil
}

// makeTables makes the tables of outbox, inbox and services.
func (s *servers) makeTables(ctx context.Context, c *cleanup) error {
	conf, err := pgxpool.ParseConfig(s.postgresURL)
	if err != nil {
		return errors.New("--postgres-url cannot be parsed")
	}
	// A connection for each partition of a service's topics, and for the demo.
	conf.MaxConns = 20
	conf.ConnConfig.ConnectTimeout = serverTimeout
	conf.ConnConfig.RuntimeParams["application_name"] = ownName
	if s.pool, err = pgxpool.NewWithConfig(ctx, conf); err != nil {
		return err
	}
	c.close("connections to Postgres", s.pool.Close)
	if err := shop.Migrate(ctx, s.pool); err != nil {
		return err
	}
	for best, asks := time.Hour, 0; asks < 5; asks++ {
		var there time.Time
		asked := time.Now()
		if err := s.pool.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&there); err != nil {
			return fmt.Errorf("ask Postgres for the time: %w", err)
		}
		if took := time.Since(asked); took < best {
			best, s.ahead = took, there.Sub(asked.Add(took/2))
		}
	}
	return nil
}

// reachBrokers connects to the user's brokers and asks what is left there.
func (s *servers) reachBrokers(ctx context.Context, cfg Config, c *cleanup) (err error) {
	s.addresses = cfg.Brokers
	if s.brokers, err = openBrokers(ctx, s.addresses, s.topics()); err != nil {
		return err
	}
	c.close("the connection to Kafka", s.brokers.client.Close)
	return s.brokers.check(ctx, cfg.Replace, s.place)
}

// startKafka starts the stand-in, unless the user's brokers are there, and makes the topics.
func (s *servers) startKafka(ctx context.Context, c *cleanup) (err error) {
	mine := s.brokers == nil
	if mine {
		options := embedded.KafkaOptions{}
		if s.place.kept() {
			options.Dir = s.place.path("kafka")
		}
		if s.kafka, err = embedded.StartKafka(options); err != nil {
			return &UnreachableError{err}
		}
		c.close("the stand-in for Kafka", s.kafka.Stop)
		s.addresses = s.kafka.Brokers()
		if s.brokers, err = openBrokers(ctx, s.addresses, s.topics()); err != nil {
			return err
		}
		c.close("the connection to Kafka", s.brokers.client.Close)
		if s.place.memory.Made {
			if err := s.brokers.check(ctx, false, s.place); err != nil {
				return err
			}
		}
	}
	// What is in the stand-in goes with it.
	s.place.memory.Topics, err = s.brokers.make(ctx, c, mine || s.place.kept())
	return err
}

// startRegistry serves a registry, which keeps its schemas in a file with --keep.
func (s *servers) startRegistry(c *cleanup) error {
	var store schemaregistry.Store = schemaregistry.NewMemoryStore()
	if s.place.kept() {
		file, err := schemaregistry.OpenFile((&url.URL{Scheme: "file", Path: s.place.path("registry.db")}).String())
		if err != nil {
			return err
		}
		c.close("the registry's file", file.Close)
		store = file
	}
	listener, err := listenNear(8081)
	if err != nil {
		return &UnreachableError{fmt.Errorf("registry: %w", err)}
	}
	server := &http.Server{
		Handler:           schemaregistry.NewHandler(schemaregistry.New(store), schemaregistry.HandlerConfig{}),
		ReadHeaderTimeout: 5 * time.Second,
	}
	go func() { _ = server.Serve(listener) }() // ends by Close
	c.add("the registry", func(context.Context) error { return server.Close() })
	s.registryURL = "http://" + listener.Addr().String()
	if s.registry, err = schemaregistry.NewClient(schemaregistry.ClientConfig{URL: s.registryURL}); err != nil {
		return err
	}
	c.close("the registry's client", s.registry.Close)
	return nil
}

// listenNear listens on 127.0.0.1 at port, or at any free one where that is taken.
func listenNear(port int) (net.Listener, error) {
	if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
		return l, nil
	}
	return net.Listen("tcp", "127.0.0.1:0")
}

// introduce says where everything is.
func (s *servers) introduce(relayURL string) string {
	var b strings.Builder
	b.WriteString("\n")
	if s.postgres != nil {
		// Quoted: some shells take the ? for a pattern.
		fmt.Fprintf(&b, "  Postgres   psql '%s'\n", s.postgresURL)
	} else {
		fmt.Fprintf(&b, "  Postgres   yours: database %s, removed at the end\n", ownName)
	}
	if s.kafka != nil {
		fmt.Fprintf(&b, "  Kafka      a STAND-IN for trying (kfake), in this process\n             kcat -b %s -C -t order -f '%%k %%h\\n'\n", s.addresses[0])
	} else {
		fmt.Fprintf(&b, "  Kafka      yours: topics and groups %s_…, removed at the end\n             (shown here without %s_)\n", ownName, ownName)
	}
	fmt.Fprintf(&b, "  registry   curl %s/subjects\n  relay      curl %s/status\n", s.registryURL, relayURL)
	text := b.String()
	if s.place.kept() {
		text = strings.ReplaceAll(text, ", removed at the end", ", kept")
		text += fmt.Sprintf("  kept       %s: give --keep again to go on, or delete it\n", s.place.dir)
	}
	return text + "\n"
}
