// Package shop puts the four services of the orders example together: one database with all
// their tables, the topics, and all of them in one process.
package shop

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/examples/orders/inventory"
	"github.com/postrider/postrider/examples/orders/order"
	"github.com/postrider/postrider/examples/orders/payment"
	"github.com/postrider/postrider/examples/orders/service"
	"github.com/postrider/postrider/examples/orders/shipping"
	"github.com/postrider/postrider/outbox"
	"github.com/postrider/postrider/outbox/inbox"
)

// Services are the services by their names.
var Services = map[string]func(context.Context, service.Env) error{
	service.Order:     order.Run,
	service.Inventory: inventory.Run,
	service.Payment:   payment.Run,
	service.Shipping:  shipping.Run,
}

// Run is all services in one process, until ctx ends or one of them fails.
func Run(ctx context.Context, env service.Env) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, run := range Services {
		g.Go(func() error { return run(ctx, env) })
	}
	return g.Wait()
}

// Migrate makes what is missing of the tables of all services, the outbox and the inbox.
// A real service has the statements among its own migrations.
func Migrate(ctx context.Context, db *pgxpool.Pool) error {
	outboxTable, err := outbox.TableDDL("")
	if err != nil {
		return err
	}
	inboxTable, err := inbox.TableDDL("")
	if err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		// One at a time: IF NOT EXISTS fails when two make the same thing.
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtext('postrider orders example'))"); err != nil {
			return err
		}
		var hasOutbox, hasInbox bool
		const query = "SELECT to_regclass('public.outbox') IS NOT NULL, to_regclass('public.inbox') IS NOT NULL"
		if err := tx.QueryRow(ctx, query).Scan(&hasOutbox, &hasInbox); err != nil {
			return err
		}
		script := []string{order.Tables, inventory.Tables, payment.Tables, shipping.Tables}
		if !hasOutbox {
			script = append(script, outboxTable.Up)
		}
		if !hasInbox {
			script = append(script, inboxTable.Up)
		}
		_, err := tx.Exec(ctx, strings.Join(script, "\n"))
		return err
	})
	if err != nil {
		return fmt.Errorf("make the tables: %w", err)
	}
	return nil
}
