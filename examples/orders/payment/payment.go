// Package payment is the payment service: it charges customers and pays back. It owns the
// Postgres schema payments and the topic payment.
//
//	order.created    → payment.processed or payment.declined
//	order.cancelled  → payment.refunded, if there was a charge
//
// A real one calls the card's bank, which is in no transaction of ours: it does so with the
// event's id as the bank's idempotency key, so that an event that is handled again after a
// crash charges once there as well.
package payment

import (
	"context"
	_ "embed"
	"errors"

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

// DeclinedCard is the card that the bank declines.
const DeclinedCard = "declined"

// Run is the service, until ctx ends.
func Run(ctx context.Context, env service.Env) error {
	return env.Consume(ctx, service.Payment, []string{service.OrderTopic}, handle)
}

func handle(ctx context.Context, tx pgx.Tx, r *consumer.Record) error {
	switch r.Type {
	case "order.created":
		var e events.OrderCreated
		if err := r.Decode(&e); err != nil {
			return err
		}
		return charge(ctx, tx, e)
	case "order.cancelled":
		return refund(ctx, tx, r.Key())
	}
	return nil
}

func charge(ctx context.Context, tx pgx.Tx, e events.OrderCreated) error {
	if e.Card == DeclinedCard {
		return emit(ctx, tx, e.OrderID, events.PaymentDeclinedSchema, events.PaymentDeclined{
			OrderID: e.OrderID, AmountCents: e.AmountCents, Reason: "the card was declined",
		})
	}
	id, err := book(ctx, tx, e.OrderID, "charge", e.AmountCents)
	if err != nil {
		return err
	}
	return emit(ctx, tx, e.OrderID, events.PaymentProcessedSchema, events.PaymentProcessed{
		OrderID: e.OrderID, PaymentID: id, AmountCents: e.AmountCents,
	})
}

// refund pays back what was charged for a cancelled order. Its order.created was handled
// before, for both events have the same topic and key: no charge means that it was declined.
func refund(ctx context.Context, tx pgx.Tx, orderID string) error {
	var id, amount int64
	err := tx.QueryRow(ctx, "SELECT id, amount_cents FROM payments.ledger WHERE order_id = $1 AND kind = 'charge'", orderID).Scan(&id, &amount)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := book(ctx, tx, orderID, "refund", amount); err != nil {
		return err
	}
	return emit(ctx, tx, orderID, events.PaymentRefundedSchema, events.PaymentRefunded{OrderID: orderID, PaymentID: id, AmountCents: amount})
}

// book appends to the ledger.
func book(ctx context.Context, tx pgx.Tx, orderID, kind string, amountCents int64) (id int64, err error) {
	const insert = "INSERT INTO payments.ledger (order_id, kind, amount_cents) VALUES ($1, $2, $3) RETURNING id"
	err = tx.QueryRow(ctx, insert, orderID, kind, amountCents).Scan(&id)
	return id, err
}

func emit(ctx context.Context, tx pgx.Tx, orderID string, schema *outbox.Schema, payload any) error {
	return outbox.Insert(ctx, tx, outbox.Event{AggregateType: service.PaymentTopic, AggregateID: orderID, Schema: schema, Payload: payload})
}
