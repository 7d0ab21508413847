// Package shipping is the shipping service: it packs the parcels of paid orders. It owns the
// Postgres schema shipping and the topic shipment.
//
//	order.paid  → order.shipment_ready
package shipping

import (
	"context"
	_ "embed"

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
	return env.Consume(ctx, service.Shipping, []string{service.OrderTopic}, handle)
}

func handle(ctx context.Context, tx pgx.Tx, r *consumer.Record) error {
	if r.Type != "order.paid" {
		return nil
	}
	var e events.OrderPaid
	if err := r.Decode(&e); err != nil {
		return err
	}
	var parcel int64
	const insert = "INSERT INTO shipping.parcels (order_id, item, quantity) VALUES ($1, $2, $3) RETURNING id"
	if err := tx.QueryRow(ctx, insert, e.OrderID, e.Item, e.Quantity).Scan(&parcel); err != nil {
		return err
	}
	return outbox.Insert(ctx, tx, outbox.Event{
		AggregateType: service.ShipmentTopic, AggregateID: e.OrderID,
		Schema: events.OrderShipmentReadySchema, Payload: events.OrderShipmentReady{OrderID: e.OrderID, ParcelID: parcel},
	})
}
