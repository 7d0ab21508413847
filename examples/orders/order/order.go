// Package order is the order service: it takes orders, joins the answers of inventory and
// payment, and closes an order when its parcel is packed. It owns the Postgres schema orders
// and the topic order.
//
//	order.Place           → order.created
//	inventory.reserved    ┐ both → order.paid
//	payment.processed     ┘
//	inventory.rejected    ┐ the first of them → order.cancelled
//	payment.declined      ┘
//	order.shipment_ready  → order.shipped
package order

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/examples/orders/events"
	"github.com/postrider/postrider/examples/orders/service"
	"github.com/postrider/postrider/outbox"
	"github.com/postrider/postrider/outbox/consumer"
)

// Tables is the service's migration. It can be applied again and again.
//
//go:embed tables.sql
var Tables string

// Run is the service, until ctx ends.
func Run(ctx context.Context, env service.Env) error {
	topics := []string{service.InventoryTopic, service.PaymentTopic, service.ShipmentTopic}
	return env.Consume(ctx, service.Order, topics, handle)
}

// New is an order to be placed.
type New struct {
	ID          string // defaults to a number
	Customer    string
	Item        string
	Quantity    int
	AmountCents int64
	Card        string // payment declines the card "declined"
}

// Place puts an order into tx, with its order.created, and returns its id. It exists when tx
// is committed. The order's id is the correlation id of all that follows from it.
func Place(ctx context.Context, tx pgx.Tx, o New) (id string, err error) {
	const insert = `
		INSERT INTO orders.orders (id, customer, item, quantity, amount_cents)
		VALUES (coalesce(nullif($1, ''), nextval('orders.order_id')::text), $2, $3, $4, $5)
		RETURNING id, placed_at`
	var placedAt time.Time
	err = tx.QueryRow(ctx, insert, o.ID, o.Customer, o.Item, o.Quantity, o.AmountCents).Scan(&id, &placedAt)
	if err != nil {
		return "", fmt.Errorf("place order: %w", err)
	}
	return id, emit(outbox.WithCorrelationID(ctx, id), tx, id, events.OrderCreatedSchema, events.OrderCreated{
		OrderID: id, Customer: o.Customer, Item: o.Item, Quantity: o.Quantity,
		AmountCents: o.AmountCents, Card: o.Card, PlacedAt: placedAt,
	})
}

func handle(ctx context.Context, tx pgx.Tx, r *consumer.Record) error {
	switch r.Type {
	case "inventory.reserved":
		return answer(ctx, tx, r.Key(), stock, "reserved", "")
	case "inventory.rejected":
		var e events.InventoryRejected
		if err := r.Decode(&e); err != nil {
			return err
		}
		reason := fmt.Sprintf("%d of %s ordered, %d available", e.Quantity, e.Item, e.Available)
		return answer(ctx, tx, r.Key(), stock, "rejected", reason)
	case "payment.processed":
		return answer(ctx, tx, r.Key(), payment, "processed", "")
	case "payment.declined":
		var e events.PaymentDeclined
		if err := r.Decode(&e); err != nil {
			return err
		}
		return answer(ctx, tx, r.Key(), payment, "declined", e.Reason)
	case "order.shipment_ready":
		var e events.OrderShipmentReady
		if err := r.Decode(&e); err != nil {
			return err
		}
		return ship(ctx, tx, r.Key(), e.ParcelID)
	}
	return nil // what others did about a cancelled order
}

// The two who answer, as columns of the table.
const (
	stock   = "stock"
	payment = "payment"
)

// answer notes an answer and, if it decides the order, says so.
func answer(ctx context.Context, tx pgx.Tx, id, column, value, reason string) error {
	o, err := lock(ctx, tx, id)
	if err != nil {
		return err
	}
	other := o.payment
	if column == payment {
		other = o.stock
	}
	var schema *outbox.Schema
	var payload any
	switch {
	case o.status != "placed": // the other one's answer has decided it
	case value == "rejected" || value == "declined":
		o.status = "cancelled"
		schema, payload = events.OrderCancelledSchema, events.OrderCancelled{OrderID: id, Reason: reason}
	case other != "":
		o.status = "paid"
		schema, payload = events.OrderPaidSchema, events.OrderPaid{
			OrderID: id, Item: o.item, Quantity: o.quantity, AmountCents: o.amountCents,
		}
	}
	if _, err := tx.Exec(ctx, "UPDATE orders.orders SET "+column+" = $2, status = $3 WHERE id = $1", id, value, o.status); err != nil {
		return err
	}
	if schema == nil {
		return nil
	}
	return emit(ctx, tx, id, schema, payload)
}

// ship closes an order whose parcel is packed.
func ship(ctx context.Context, tx pgx.Tx, id string, parcel int64) error {
	o, err := lock(ctx, tx, id)
	if err != nil {
		return err
	}
	if o.status != "paid" {
		return consumer.Final(fmt.Errorf("order %s has a parcel, but is %s", id, o.status))
	}
	if _, err := tx.Exec(ctx, "UPDATE orders.orders SET status = 'shipped' WHERE id = $1", id); err != nil {
		return err
	}
	return emit(ctx, tx, id, events.OrderShippedSchema, events.OrderShipped{OrderID: id, ParcelID: parcel})
}

// order is a row that is locked.
type order struct {
	item           string
	quantity       int
	amountCents    int64
	status         string
	stock, payment string // empty: no answer yet
}

// lock waits for whoever has the order in hand. Two answers can be handled at the same time,
// for they come on different topics: without the lock neither would see the other, and nobody
// would say that the order is paid.
func lock(ctx context.Context, tx pgx.Tx, id string) (o order, err error) {
	const query = `
		SELECT item, quantity, amount_cents, status, coalesce(stock, ''), coalesce(payment, '')
		  FROM orders.orders WHERE id = $1 FOR UPDATE`
	err = tx.QueryRow(ctx, query, id).Scan(&o.item, &o.quantity, &o.amountCents, &o.status, &o.stock, &o.payment)
	if errors.Is(err, pgx.ErrNoRows) {
		// Not final: the answer may be faster than the commit of Place, whose event leaves
		// Postgres a moment before other sessions see its row. It comes again.
		return o, fmt.Errorf("there is no order %s", id)
	}
	return o, err
}

func emit(ctx context.Context, tx pgx.Tx, id string, schema *outbox.Schema, payload any) error {
	return outbox.Insert(ctx, tx, outbox.Event{AggregateType: service.OrderTopic, AggregateID: id, Schema: schema, Payload: payload})
}
