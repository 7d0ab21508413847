// The smallest idempotent consumer of events: it prints each event once, and counts in Postgres
// how many there were of each key.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/postrider/postrider/outbox/consumer"
	schemaregistry "github.com/postrider/postrider/schema-registry"
)

var group = os.Getenv("GROUP") // also the name under which the inbox marks events

const count = `INSERT INTO event_counts (consumer, key, events) VALUES ($1, $2, 1)
	ON CONFLICT (consumer, key) DO UPDATE SET events = event_counts.events + 1`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

// run consumes until ctx ends. Then the event in hand is finished, and the offsets are committed.
func run(ctx context.Context) error {
	db, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer db.Close()
	registry, err := schemaregistry.NewClient(schemaregistry.ClientConfig{URL: os.Getenv("REGISTRY_URL")})
	if err != nil {
		return err
	}
	defer registry.Close()
	return consumer.Run(ctx, consumer.Config{
		Brokers:  strings.Split(os.Getenv("KAFKA_BROKERS"), ","),
		Group:    group,
		Topics:   []string{os.Getenv("TOPIC")},
		Registry: registry,
		Handler:  consumer.Pgx(db, handle),
		Log:      slog.Default(),
		Count: func(topic string, outcome consumer.Outcome) {
			if outcome == consumer.Duplicate {
				log.Printf("skipped a duplicate in %s", topic)
			}
		},
	})
}

// handle runs once per event, in the transaction that commits the event's mark in the inbox.
func handle(ctx context.Context, tx pgx.Tx, r *consumer.Record) error {
	var data any // or a struct that avrogen made of the schema
	if !r.Tombstone() {
		if err := r.Decode(&data); err != nil {
			return err
		}
	}
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, count, group, r.Key()); err != nil {
		return err
	}
	h := r.Headers
	_, err = fmt.Printf("%s id=%s source=%s subject=%s time=%s %s\n", h["ce_type"], h["ce_id"], h["ce_source"], h["ce_subject"], h["ce_time"], text)
	return err
}
