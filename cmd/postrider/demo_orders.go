package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/outbox"
)

// The orders service of the demo, small as it is, does what a real one does: business row
// and event in one transaction.

//go:embed demo_schemas/order.created.avsc
var orderCreatedText string

//go:embed demo_schemas/order.paid.avsc
var orderPaidText string

var orderCreatedSchema = outbox.MustParseSchema(orderCreatedText)

const demoTables = `
CREATE TABLE orders (
    id          text PRIMARY KEY,
    customer    text NOT NULL,
    item        text NOT NULL,
    total_cents bigint NOT NULL,
    status      text NOT NULL DEFAULT 'CREATED'
);`

type orderCreated struct {
	OrderID    string    `avro:"order_id"`
	Customer   string    `avro:"customer"`
	Item       string    `avro:"item"`
	TotalCents int64     `avro:"total_cents"`
	PlacedAt   time.Time `avro:"placed_at"`
}

// rollbackEvery is how often a customer changes their mind: the transaction is rolled back
// after its event was inserted, and nobody ever sees that event.
const rollbackEvery = 10

// placeOrders places the orders that were asked for: a transaction that creates each, and
// one that pays it.
func (d *demo) placeOrders(ctx context.Context) error {
	var tick <-chan time.Time
	if d.opts.rate > 0 {
		t := time.NewTicker(time.Duration(float64(time.Second) / d.opts.rate))
		defer t.Stop()
		tick = t.C
	}
	for n := 1; d.opts.orders == 0 || n <= d.opts.orders; n++ {
		err := d.placeOrder(ctx, n)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("place order %d: %w", n, err)
		}
		if tick != nil {
			select {
			case <-tick:
			case <-ctx.Done():
				return nil
			}
		}
	}
	return nil
}

func (d *demo) placeOrder(ctx context.Context, n int) error {
	items := []string{"lamp", "kettle", "chair", "bicycle", "radio"}
	created := orderCreated{
		OrderID: fmt.Sprintf("order-%d", n), Customer: fmt.Sprintf("customer-%d", rand.IntN(100)),
		Item: items[rand.IntN(len(items))], TotalCents: 100 + rand.Int64N(90_000), PlacedAt: time.Now(),
	}
	if err := d.create(ctx, n, created); err != nil || n%rollbackEvery == 0 {
		return err
	}
	return d.pay(ctx, created)
}

func (d *demo) create(ctx context.Context, n int, created orderCreated) error {
	d.committing.Lock()
	defer d.committing.Unlock()
	errChangedMind := errors.New("the customer changed their mind")
	err := pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO orders (id, customer, item, total_cents) VALUES ($1, $2, $3, $4)`,
			created.OrderID, created.Customer, created.Item, created.TotalCents)
		if err != nil {
			return err
		}
		err = outbox.Insert(ctx, tx, outbox.Event{
			AggregateType: "order", AggregateID: created.OrderID, Schema: orderCreatedSchema, Payload: created,
		})
		if err == nil && n%rollbackEvery == 0 {
			return errChangedMind
		}
		return err
	})
	if errors.Is(err, errChangedMind) {
		d.screen.rolledBack(created.OrderID, "order.created")
		return nil
	}
	if err != nil {
		return err
	}
	d.ledger.commit(created.OrderID, "order.created")
	d.screen.committed(created.OrderID, "order.created", "Avro, with its orders row")
	return nil
}

// pay is the payment service, which writes JSON in plain SQL.
func (d *demo) pay(ctx context.Context, created orderCreated) error {
	d.committing.Lock()
	defer d.committing.Unlock()
	err := pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `UPDATE orders SET status = 'PAID' WHERE id = $1`, created.OrderID); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `SELECT outbox_emit('order', $1, 'order.paid',
			json_build_object('order_id', $1::text, 'amount_cents', $2::bigint, 'method', 'CARD'))`, created.OrderID, created.TotalCents)
		return err
	})
	if err != nil {
		return err
	}
	d.ledger.commit(created.OrderID, "order.paid")
	d.screen.committed(created.OrderID, "order.paid", "JSON, with its orders row")
	return nil
}
