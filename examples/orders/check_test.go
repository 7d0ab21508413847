package main

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/examples/orders/balance"
	"github.com/postrider/postrider/examples/orders/order"
)

func TestCheck_FailsWhereTheBooksAreWrong(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.receive("lamp", 10)
	err := pgx.BeginFunc(t.Context(), s.env.DB, func(tx pgx.Tx) error {
		_, err := order.Place(t.Context(), tx, order.New{ID: "a", Customer: "c", Item: "lamp", Quantity: 2, AmountCents: 500, Card: "4242"})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	const (
		pay     = "INSERT INTO payments.ledger (order_id, kind, amount_cents) VALUES "
		reserve = "INSERT INTO inventory.reservations (order_id, item, quantity) VALUES "
		pack    = "INSERT INTO shipping.parcels (order_id, item, quantity) VALUES "
		place   = "INSERT INTO orders.orders (id, customer, item, quantity, amount_cents) VALUES "
		undo    = `
			TRUNCATE payments.ledger, shipping.parcels, inventory.reservations;
			UPDATE inventory.stock SET available = 10;
			DELETE FROM orders.orders WHERE id <> 'a';
			UPDATE orders.orders SET status = 'placed';
			DELETE FROM outbox WHERE aggregate_id <> 'a'`
	)
	for _, c := range []struct{ change, want string }{
		{pay + "('a', 'charge', 500), ('a', 'charge', 500)", "charged twice: a"},
		{pay + "('a', 'charge', 501)", "charged another amount than ordered: a"},
		{pay + "('a', 'charge', 500)", "rows and events differ: a payment.processed"},
		{pay + "('a', 'refund', 500), ('a', 'refund', 500)", "refunded twice: a"},
		{pay + "('a', 'refund', 500)", "refunded without a charge: a"},
		{pack + "('a', 'lamp', 2), ('a', 'lamp', 2)", "shipped twice: a"},
		{pack + "('a', 'lamp', 1)", "packed something else than ordered: a"},
		{pack + "('a', 'lamp', 2)", "packed without being paid: a"},
		{reserve + "('a', 'lamp', 2), ('a', 'lamp', 2)", "reserved twice: a"},
		{reserve + "('a', 'lamp', 3)", "reserved something else than ordered: a"},
		{reserve + "('a', 'lamp', 2)", "stock does not add up: lamp"},
		{"UPDATE inventory.stock SET available = 9", "stock does not add up: lamp"},
		{"UPDATE orders.orders SET status = 'paid'", "paid or shipped without a charge that was kept: a"},
		{"UPDATE orders.orders SET status = 'paid'", "paid or shipped without units: a"},
		{"UPDATE orders.orders SET status = 'shipped'", "shipped without a parcel: a"},
		{"UPDATE orders.orders SET status = 'cancelled'", "rows and events differ: a order.cancelled"},
		{place + "('b', 'c', 'lamp', 1, 1); SELECT outbox_emit('order', 'b', 'order.created', '{}') FROM generate_series(1, 2)", "rows and events differ: b order.created"},
	} {
		s.exec(c.change)
		out, err := s.run("check")
		if err == nil || !strings.Contains(out, "VIOLATION "+c.want+"\n") {
			t.Errorf("%s: %v, want %s\n%s", c.change, err, c.want, out)
		}
		s.exec(undo)
	}
	if out := s.mustRun("check"); !strings.Contains(out, "0 violations, 1 pending\npending   open: a\n") {
		t.Errorf("the books as they should be: %s", out)
	}
}

func TestCheck_WaitsForRowsThatAreSlowerThanTheAnswerToThem(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		end  func(pgx.Tx, context.Context) error
		want []string
	}{
		{"seen in the end", pgx.Tx.Commit, nil},
		{"never there", pgx.Tx.Rollback, []string{"charged another amount than ordered: a"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			s := newShop(t)
			slow, err := s.env.DB.Begin(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer slow.Rollback(context.WithoutCancel(ctx))
			_, err = order.Place(ctx, slow, order.New{ID: "a", Customer: "c", Item: "lamp", Quantity: 2, AmountCents: 500, Card: "4242"})
			if err != nil {
				t.Fatal(err)
			}
			s.exec(`
				INSERT INTO payments.ledger (order_id, kind, amount_cents) VALUES ('a', 'charge', 500);
				SELECT outbox_emit('payment', 'a', 'payment.processed', '{}')`)

			sheet, err := balance.Check(ctx, &secondLook{s.env.DB, func() error { return test.end(slow, ctx) }})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, sheet.Violations); diff != "" {
				t.Errorf("violations (-want +got):\n%s", diff)
			}
		})
	}
}

// secondLook calls between when the first transaction has read the books.
type secondLook struct {
	balance.DB
	between func() error
}

func (d *secondLook) BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error) {
	tx, err := d.DB.BeginTx(ctx, options)
	return &firstLook{tx, d}, err
}

type firstLook struct {
	pgx.Tx
	db *secondLook
}

func (tx *firstLook) Commit(ctx context.Context) error {
	if err := tx.Tx.Commit(ctx); err != nil || tx.db.between == nil {
		return err
	}
	between := tx.db.between
	tx.db.between = nil
	return between()
}

func (s *testShop) exec(script string) {
	s.t.Helper()
	if _, err := s.env.DB.Exec(s.t.Context(), script, pgx.QueryExecModeSimpleProtocol); err != nil {
		s.t.Fatalf("%s: %v", script, err)
	}
}
