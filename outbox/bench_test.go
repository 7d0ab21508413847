package outbox_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/postrider/postrider/outbox"
)

// BenchmarkTransaction puts a price on events: what a business transaction takes without
// and with them.
func BenchmarkTransaction(b *testing.B) {
	pool := newDatabase(b)
	mustExec(b, pool, "CREATE TABLE orders (id text PRIMARY KEY, customer text NOT NULL, total numeric NOT NULL)")
	if err := outbox.RegisterSchemas(b.Context(), pool, created); err != nil {
		b.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{"order_id": "o-1", "customer_id": "c-1", "currency": "EUR", "total": "19.99"})
	if err != nil {
		b.Fatal(err)
	}
	asJSON := outbox.Event{AggregateType: "order", AggregateID: "o-1", Type: "order.created", Payload: json.RawMessage(text)}
	asAvro := outbox.Event{AggregateType: "order", AggregateID: "o-1", Schema: created, Payload: orderCreated("o-1")}

	next := 0
	for _, test := range []struct {
		name   string
		events []outbox.Event
	}{
		{"orders", nil},
		{"orders+1json", []outbox.Event{asJSON}},
		{"orders+1avro", []outbox.Event{asAvro}},
		{"orders+10avro", []outbox.Event{asAvro, asAvro, asAvro, asAvro, asAvro, asAvro, asAvro, asAvro, asAvro, asAvro}},
	} {
		b.Run(test.name, func(b *testing.B) {
			for b.Loop() {
				next++
				placeOrder(b, pool, fmt.Sprint(next), test.events)
			}
		})
	}
}

func placeOrder(b *testing.B, pool *pgxpool.Pool, id string, events []outbox.Event) {
	inTx(b, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(b.Context(), "INSERT INTO orders VALUES ($1, $2, $3)", id, "c-1", "19.99"); err != nil {
			return err
		}
		return outbox.Insert(b.Context(), tx, events...)
	})
}

// BenchmarkTransactionInBatch is the same where the business statements travel in a batch, in
// a transaction of their own and without one.
func BenchmarkTransactionInBatch(b *testing.B) {
	pool := newDatabase(b)
	mustExec(b, pool, "CREATE TABLE orders (id text PRIMARY KEY, customer text NOT NULL, total numeric NOT NULL)")
	event := outbox.Event{AggregateType: "order", AggregateID: "o-1", Type: "order.created", Payload: json.RawMessage(`{"order_id": "o-1", "total": "19.99"}`)}
	next := 0
	for _, events := range [][]outbox.Event{nil, {event}} {
		batch := func() *pgx.Batch {
			next++
			var batch pgx.Batch
			batch.Queue("INSERT INTO orders VALUES ($1, $2, $3)", fmt.Sprint(next), "c-1", "19.99")
			if err := outbox.Queue(b.Context(), &batch, events...); err != nil {
				b.Fatal(err)
			}
			return &batch
		}
		b.Run(fmt.Sprintf("begin-commit+%djson", len(events)), func(b *testing.B) {
			for b.Loop() {
				inTx(b, pool, func(tx pgx.Tx) error { return tx.SendBatch(b.Context(), batch()).Close() })
			}
		})
		b.Run(fmt.Sprintf("alone+%djson", len(events)), func(b *testing.B) {
			for b.Loop() {
				if err := pool.SendBatch(b.Context(), batch()).Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	value := orderCreated("o-1")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := created.Encode(&value); err != nil {
			b.Fatal(err)
		}
	}
}
