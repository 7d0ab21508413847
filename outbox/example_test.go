package outbox_test

import (
	"context"
	"fmt"
	"math/big"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/postrider/postrider/outbox"
	"github.com/postrider/postrider/testdata/schemas"
)

// A service has its .avsc files beside its code, embeds their text, and generates the
// structs from them:
//
//	//go:generate go tool avrogen -pkg events -fullname -o generated.go order.created.avsc
var orderCreatedSchema = outbox.MustParseSchema(schemas.OrderCreatedText)

func Example() {
	start := func(ctx context.Context, pool *pgxpool.Pool) error {
		return outbox.RegisterSchemas(ctx, pool, orderCreatedSchema)
	}
	placeOrder := func(ctx context.Context, tx pgx.Tx, id string, total *big.Rat) error {
		if _, err := tx.Exec(ctx, "INSERT INTO orders (id) VALUES ($1)", id); err != nil {
			return err
		}
		return outbox.Insert(ctx, tx, outbox.Event{
			AggregateType: "order",
			AggregateID:   id,
			Schema:        orderCreatedSchema,
			Payload:       schemas.OrderCreated{OrderID: id, Currency: "EUR", Total: total, PlacedAt: time.Now()},
		})
	}
	_, _ = start, placeOrder
}

// JSON events need no schema in the service. An event can have an id of its own, headers, a
// deadline and a topic.
func ExampleInsert() {
	remind := func(ctx context.Context, tx pgx.Tx) error {
		ctx = outbox.WithCorrelationID(ctx, "checkout-4711")
		return outbox.Insert(ctx, tx,
			outbox.Event{
				ID:            outbox.NewID(),
				AggregateType: "order",
				AggregateID:   "o-1",
				Type:          "order.reminder",
				Payload:       map[string]any{"order_id": "o-1", "days": 3},
				Headers:       map[string]string{"tenant": "eu"},
				Topic:         "reminders",
				ExpiresAt:     time.Now().Add(time.Hour),
			},
			outbox.Event{AggregateType: "cart", AggregateID: "c-1", Type: "cart.deleted", Tombstone: true},
		)
	}
	_ = remind
}

// The error names the field that the schema refuses.
func ExampleSchema_Encode() {
	_, err := orderCreatedSchema.Encode(schemas.OrderCreated{
		OrderID:  "o-1",
		Currency: "EUR",
		Total:    big.NewRat(1999, 100),
		Lines:    []schemas.OrderLine{{Sku: "SKU-1", Quantity: 1}, {Sku: "SKU-2", Quantity: 3_000_000_000}},
	})
	fmt.Println(err)
	// Output: field lines[1].quantity: 3000000000 is out of range for int
}

// DDL for a migration tool that is not among those of `postrider outbox sql`.
func ExampleTableDDL() {
	ddl, err := outbox.TableDDL("public.outbox")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(ddl.Up) > 0, len(ddl.Down) > 0)
	// Output: true true
}
