// Package inventory is the inventory service: it sets units aside for orders. It owns the
// Postgres schema inventory and the topic inventory.
//
//	order.created    → inventory.reserved or inventory.rejected
//	order.cancelled  → inventory.released, if units are set aside
//	order.shipped      the units have left the shelf
package inventory

import (
	"context"
	_ "embed"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

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
	return env.Consume(ctx, service.Inventory, []string{service.OrderTopic}, handle)
}

// DB is a pool, a connection or a transaction of pgx.
type DB interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// Receive puts units of an item on the shelf.
func Receive(ctx context.Context, db DB, item string, units int) error {
	_, err := db.Exec(ctx, `
		INSERT INTO inventory.stock AS s (item, received, available) VALUES ($1, $2, $2)
		ON CONFLICT (item) DO UPDATE SET received = s.received + $2, available = s.available + $2`, item, units)
	if err != nil {
		return fmt.Errorf("receive %d of %s: %w", units, item, err)
	}
	return nil
}

func handle(ctx context.Context, tx pgx.Tx, r *consumer.Record) error {
	switch r.Type {
	case "order.created":
		var e events.OrderCreated
		if err := r.Decode(&e); err != nil {
			return err
		}
		return reserve(ctx, tx, e)
	case "order.cancelled":
		return release(ctx, tx, r.Key())
	case "order.shipped":
		return takeOut(ctx, tx, r.Key())
	}
	return nil
}

// reserve takes the units from the shelf if there are enough. The condition in the UPDATE is
// looked at again by whoever has waited for the row.
func reserve(ctx context.Context, tx pgx.Tx, e events.OrderCreated) error {
	taken, err := tx.Exec(ctx, `
		UPDATE inventory.stock SET available = available - $2, reserved = reserved + $2
		 WHERE item = $1 AND available >= $2`, e.Item, e.Quantity)
	if err != nil {
		return err
	}
	if taken.RowsAffected() == 0 {
		return reject(ctx, tx, e)
	}
	_, err = tx.Exec(ctx, "INSERT INTO inventory.reservations (order_id, item, quantity) VALUES ($1, $2, $3)", e.OrderID, e.Item, e.Quantity)
	if err != nil {
		return err
	}
	return emit(ctx, tx, e.OrderID, events.InventoryReservedSchema, events.InventoryReserved{
		OrderID: e.OrderID, Item: e.Item, Quantity: e.Quantity,
	})
}

func reject(ctx context.Context, tx pgx.Tx, e events.OrderCreated) error {
	var available int // 0 for what was never sold here
	err := tx.QueryRow(ctx, "SELECT available FROM inventory.stock WHERE item = $1", e.Item).Scan(&available)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	return emit(ctx, tx, e.OrderID, events.InventoryRejectedSchema, events.InventoryRejected{
		OrderID: e.OrderID, Item: e.Item, Quantity: e.Quantity, Available: available,
	})
}

// release puts back what was set aside for a cancelled order. Its order.created was handled
// before, for both events have the same topic and key: no reservation means that it was
// rejected.
func release(ctx context.Context, tx pgx.Tx, orderID string) error {
	item, quantity, err := settle(ctx, tx, orderID, "released")
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "UPDATE inventory.stock SET reserved = reserved - $2, available = available + $2 WHERE item = $1", item, quantity); err != nil {
		return err
	}
	return emit(ctx, tx, orderID, events.InventoryReleasedSchema, events.InventoryReleased{OrderID: orderID, Item: item, Quantity: quantity})
}

// takeOut books the units of a shipped order out.
func takeOut(ctx context.Context, tx pgx.Tx, orderID string) error {
	item, quantity, err := settle(ctx, tx, orderID, "shipped")
	if errors.Is(err, pgx.ErrNoRows) {
		return consumer.Final(fmt.Errorf("order %s is shipped, but nothing is set aside for it", orderID))
	}
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "UPDATE inventory.stock SET reserved = reserved - $2, shipped = shipped + $2 WHERE item = $1", item, quantity)
	return err
}

// settle ends the reservation of an order; pgx.ErrNoRows says that it has none.
func settle(ctx context.Context, tx pgx.Tx, orderID, state string) (item string, quantity int, err error) {
	err = tx.QueryRow(ctx, `
		UPDATE inventory.reservations SET state = $2 WHERE order_id = $1 AND state = 'reserved'
		RETURNING item, quantity`, orderID, state).Scan(&item, &quantity)
	return item, quantity, err
}

func emit(ctx context.Context, tx pgx.Tx, orderID string, schema *outbox.Schema, payload any) error {
	return outbox.Insert(ctx, tx, outbox.Event{AggregateType: service.InventoryTopic, AggregateID: orderID, Schema: schema, Payload: payload})
}
