package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postrider/postrider/examples/orders/balance"
	"github.com/postrider/postrider/examples/orders/events"
	"github.com/postrider/postrider/examples/orders/inventory"
	"github.com/postrider/postrider/examples/orders/order"
	"github.com/postrider/postrider/examples/orders/payment"
)

// Of the steady orders every so many are declined by the payment, ask for what the stock does
// not have, or are rolled back after their event was inserted: nobody ever sees that event.
const (
	declineEvery  = 7
	shortageEvery = 9
	rollbackEvery = 10
	// restockEvery orders so many units of each item arrive, more than can be ordered.
	restockEvery = 100
	restockUnits = 3 * restockEvery
)

var items = []string{"lamp", "kettle", "chair", "bicycle", "radio"}

// neverInStock is what is ordered when the stock is to refuse.
const neverInStock = "unicorn"

// Orders is what became of the orders, read from the services' tables.
type Orders struct {
	Placed    int `json:"placed"`
	Paid      int `json:"paid"` // shipped ones too
	Shipped   int `json:"shipped"`
	Cancelled int `json:"cancelled"`
	Open      int `json:"open"`
	// DeadLetters are events that a service could not handle. There should be none.
	DeadLetters int `json:"dead_letters"`
	// Violations are what must never be, Pending what only events on their way explain.
	Violations []string `json:"violations"`
	Pending    []string `json:"pending"`
}

func (o Orders) String() string {
	text := fmt.Sprintf("placed %d = shipped %d + cancelled %d + open %d  paid %d  violations %d",
		o.Placed, o.Shipped, o.Cancelled, o.Open, o.Paid, len(o.Violations))
	if o.DeadLetters > 0 {
		text += fmt.Sprintf("  dead letters %d", o.DeadLetters)
	}
	return text
}

// atRest tells that nothing is on its way between the services.
func (o Orders) atRest() bool { return len(o.Pending) == 0 && o.DeadLetters == 0 }

// ordersOf takes the orders from the books of the services.
func ordersOf(sheet balance.Sheet, deadLetters int) Orders {
	return Orders{
		Placed: sheet.Placed, Paid: sheet.Paid, Shipped: sheet.Shipped, Cancelled: sheet.Cancelled, Open: sheet.Open,
		DeadLetters: deadLetters,
		Violations:  append([]string{}, sheet.Violations...), Pending: append([]string{}, sheet.Pending...),
	}
}

// placeOrders places the orders that were asked for, after those of an earlier run. It waits
// out a Postgres that is down.
func (d *demo) placeOrders(ctx context.Context) error {
	var last int
	err := d.retry(ctx, func(ctx context.Context) error {
		const query = `SELECT coalesce(max(substring(id FROM '^order-([0-9]{1,9})$')::int), 0) FROM orders.orders`
		return d.servers.pool.QueryRow(ctx, query).Scan(&last)
	})
	if err != nil {
		return ended(ctx, err)
	}
	var tick <-chan time.Time
	if d.cfg.Rate > 0 {
		t := time.NewTicker(time.Duration(float64(time.Second) / d.cfg.Rate))
		defer t.Stop()
		tick = t.C
	}
	restocked := false
	for n := last + 1; d.cfg.Orders == 0 || n <= last+d.cfg.Orders; n++ {
		if !d.pause.wait(ctx) {
			return nil
		}
		if !restocked || n%restockEvery == 0 {
			if err := d.retry(ctx, d.restock); err != nil {
				return ended(ctx, err)
			}
			restocked = true
		}
		if err := d.placeOrder(ctx, n); err != nil {
			return ended(ctx, err)
		}
		if tick == nil {
			continue
		}
		select {
		case <-tick:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// ended makes no error of the end of the demo.
func ended(ctx context.Context, err error) error {
	select {
	case <-ctx.Done():
		return nil
	default:
		return err
	}
}

func (d *demo) restock(ctx context.Context) error {
	for _, item := range items {
		if err := inventory.Receive(ctx, d.servers.pool, item, restockUnits); err != nil {
			return err
		}
	}
	return nil
}

var errChangedMind = errors.New("the customer changed their mind")

func (d *demo) placeOrder(ctx context.Context, n int) error {
	o := order.New{
		ID: fmt.Sprintf("order-%d", n), Customer: fmt.Sprintf("customer-%d", rand.IntN(100)),
		Item: items[rand.IntN(len(items))], Quantity: 1 + rand.IntN(3), AmountCents: 100 + rand.Int64N(90_000), Card: "visa",
	}
	asked := d.declineNext.Swap(false)
	switch {
	case asked, n%declineEvery == 0:
		o.Card = payment.DeclinedCard
	case n%shortageEvery == 0:
		o.Item = neverInStock
	}
	if asked {
		d.faults.declined(o.ID)
	}
	err := d.retry(ctx, func(ctx context.Context) error { return d.place(ctx, o, nil) })
	if err != nil || n%rollbackEvery != 0 {
		return err
	}
	o.ID = fmt.Sprintf("draft-%d", n)
	err = d.retry(ctx, func(ctx context.Context) error { return d.place(ctx, o, errChangedMind) })
	if errors.Is(err, errChangedMind) {
		d.screen.line("-", o.ID, "order.created", "rolled back: nobody will see it")
		err = nil
	}
	return err
}

// place places an order in a transaction that ends with the error given, nil for a commit.
func (d *demo) place(ctx context.Context, o order.New, outcome error) error {
	err := pgx.BeginFunc(ctx, d.servers.pool, func(tx pgx.Tx) error {
		if _, err := order.Place(ctx, tx, o); err != nil {
			return err
		}
		return outcome
	})
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "23505" {
		err = nil // it was committed by an attempt whose answer was lost
	}
	return err
}

// retry does it again while Postgres is down.
func (d *demo) retry(ctx context.Context, do func(context.Context) error) error {
	for {
		err := do(ctx)
		var pg *pgconn.PgError
		refused := errors.As(err, &pg) && pg.Code[:2] != "57" && pg.Code[:2] != "08" // it is up, and says no
		if err == nil || errors.Is(err, errChangedMind) || refused || !sleep(ctx, 100*time.Millisecond) {
			return err
		}
	}
}

// poison commits an event that its schema refuses, for an order that does not exist, and
// returns its id.
func (d *demo) poison(ctx context.Context, key string) (id string, err error) {
	err = d.servers.pool.QueryRow(ctx, `SELECT outbox_emit('order', $1, $2, json_build_object('order_id', $1::text, 'amount_cents', 'a lot'))::text`,
		key, events.OrderPaidSchema.Name()).Scan(&id)
	return id, err
}
