// Package service is what the four services of the orders example have in common: where the
// servers are, and how a service consumes.
package service

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/IBM/sarama"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/examples/orders/events"
	"github.com/postrider/postrider/outbox/consumer"
	"github.com/postrider/postrider/outbox/inbox"
	schemaregistry "github.com/postrider/postrider/schema-registry"
)

// The names of the services.
const (
	Order     = "order"
	Inventory = "inventory"
	Payment   = "payment"
	Shipping  = "shipping"
)

// The topics, named by the aggregate types of the events in them.
const (
	OrderTopic     = "order"
	InventoryTopic = "inventory"
	PaymentTopic   = "payment"
	ShipmentTopic  = "shipment"
)

// Env is what a service needs from outside. DB, Brokers and Registry are required.
type Env struct {
	DB       *pgxpool.Pool
	Brokers  []string
	Registry *schemaregistry.Client

	// Prefix stands before the names of topics and consumer groups, so that several shops can
	// share a Kafka. The relay's topic template must have it too. Defaults to none.
	Prefix string

	// Kafka is sarama's configuration. Defaults to that of package consumer.
	Kafka *sarama.Config

	// Log gets what package consumer logs. Defaults to none.
	Log *slog.Logger

	// Count, when set, is called for every outcome, from several goroutines.
	Count func(service, topic string, outcome consumer.Outcome)
}

// Group is the consumer group of a service, and the name of its marks in the inbox.
func (e Env) Group(service string) string { return e.Prefix + "orders-" + service }

// DeadLetters is the topic that takes what a service cannot handle.
func (e Env) DeadLetters(service string) string { return e.Group(service) + "_dead_letter" }

// retention is how long an event is known again, counted from when it was handled: longer
// than the topics keep their records.
const retention = 14 * 24 * time.Hour

// Consume handles the events of topics for a service, each once and in a transaction of its
// own, until ctx ends.
func (e Env) Consume(ctx context.Context, service string, topics []string, handle func(context.Context, pgx.Tx, *consumer.Record) error) error {
	if e.Log == nil {
		e.Log = slog.New(slog.DiscardHandler)
	}
	config := consumer.Config{
		Brokers:         e.Brokers,
		Group:           e.Group(service),
		DeadLetterTopic: e.DeadLetters(service),
		Handler:         consumer.Pgx(e.DB, handle),
		Registry:        e.Registry,
		Schemas:         events.Schemas,
		Kafka:           e.Kafka,
		Log:             e.Log,
	}
	for _, topic := range topics {
		config.Topics = append(config.Topics, e.Prefix+topic)
	}
	if e.Count != nil {
		config.Count = func(topic string, outcome consumer.Outcome) { e.Count(service, topic, outcome) }
	}
	if err := events.Register(ctx, e.DB); err != nil {
		return fmt.Errorf("%s: %w", service, err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { e.maintain(ctx); return nil })
	g.Go(func() error { return consumer.Run(ctx, config) })
	if err := g.Wait(); err != nil {
		return fmt.Errorf("%s: %w", service, err)
	}
	return nil
}

// maintain keeps the inbox: partitions for the coming days, no marks past their retention.
func (e Env) maintain(ctx context.Context) {
	hour := time.NewTicker(time.Hour)
	defer hour.Stop()
	for {
		if err := inbox.Maintain(ctx, e.DB, retention); err != nil && ctx.Err() == nil {
			e.Log.Warn("cannot maintain the inbox, trying again in an hour", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-hour.C:
		}
	}
}
