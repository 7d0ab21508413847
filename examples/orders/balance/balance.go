// Package balance checks the books of the orders example against each other: orders, stock,
// payments, parcels and events. A single service could not, for it sees its own tables only;
// here they are in one database, and one snapshot of it shows them all.
package balance

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// Sheet is what the books say at one moment.
type Sheet struct {
	Placed, Shipped, Cancelled int // orders
	Open                       int // orders that are neither shipped nor cancelled yet
	Paid                       int // orders that are paid, shipped ones too

	Events int // rows of the outbox

	ChargedCents, RefundedCents int64
	OwedCents                   int64 // the amounts of all orders that are shipped

	Received, Available, Reserved, Gone int // units; Gone are those of shipped orders

	// Violations are what must never be, at no moment.
	Violations []string

	// Pending are what must not last: it is there while events are on their way.
	Pending []string
}

// Settled tells that nothing is on its way any more: each order is shipped or cancelled, and
// all that follows from it is done.
func (s Sheet) Settled() bool { return len(s.Pending) == 0 }

func (s Sheet) String() string {
	return fmt.Sprintf(`orders    %d placed = %d shipped + %d cancelled + %d open
payments  %d cents charged = %d for shipped orders + %d refunded + %d in between
units     %d received = %d available + %d reserved + %d shipped
checks    %d violations, %d pending`,
		s.Placed, s.Shipped, s.Cancelled, s.Open,
		s.ChargedCents, s.OwedCents, s.RefundedCents, s.ChargedCents-s.OwedCents-s.RefundedCents,
		s.Received, s.Available, s.Reserved, s.Gone,
		len(s.Violations), len(s.Pending))
}

// DB is a *pgxpool.Pool or a *pgx.Conn.
type DB interface {
	BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
}

// Check reads the books. It may be called at any moment.
//
// An event can be read, and answered, a moment before the rows of its own transaction are seen
// (docs/guarantees.md). A snapshot of that moment shows an answer to nothing. So what must never
// be is looked for again when the transactions that the snapshot found open have ended, and is a
// violation if it is still there.
func Check(ctx context.Context, db DB) (Sheet, error) {
	s, wrong, open, err := read(ctx, db)
	if err == nil && len(wrong) > 0 && len(open) > 0 {
		first := wrong
		if err = awaitEnd(ctx, db, open); err == nil {
			s, wrong, _, err = read(ctx, db)
			wrong = slices.DeleteFunc(wrong, func(f finding) bool { return !slices.Contains(first, f) })
		}
	}
	if err != nil {
		return Sheet{}, fmt.Errorf("balance: %w", err)
	}
	s.Violations = lines(wrong)
	return s, nil
}

// read reads the books in one snapshot, without Sheet.Violations: what is wrong comes apart, and
// with it the transactions that were open.
func read(ctx context.Context, db DB) (s Sheet, wrong []finding, open []string, err error) {
	err = pgx.BeginTxFunc(ctx, db, snapshot, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, totals).Scan(&s.Placed, &s.Shipped, &s.Cancelled, &s.Open, &s.Paid, &s.OwedCents,
			&s.ChargedCents, &s.RefundedCents, &s.Received, &s.Available, &s.Reserved, &s.Gone, &s.Events)
		if err != nil {
			return err
		}
		if wrong, err = find(ctx, tx, never); err != nil {
			return err
		}
		pending, err := find(ctx, tx, notYet)
		if err != nil {
			return err
		}
		s.Pending = lines(pending)
		return tx.QueryRow(ctx, "SELECT array(SELECT x::text FROM pg_snapshot_xip(pg_current_snapshot()) x)").Scan(&open)
	})
	return s, wrong, open, err
}

var snapshot = pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}

const (
	// commitTime is how long a transaction may take to end. One that takes longer is not in the
	// middle of its commit.
	commitTime   = 5 * time.Second
	pollInterval = 10 * time.Millisecond
)

// awaitEnd returns when all of these transactions have ended, or commitTime is over.
func awaitEnd(ctx context.Context, db DB, transactions []string) error {
	const query = "SELECT count(*) FROM unnest($1::text[]::xid8[]) x WHERE pg_xact_status(x) = 'in progress'"
	for late := time.Now().Add(commitTime); time.Now().Before(late); {
		var open int
		err := pgx.BeginTxFunc(ctx, db, snapshot, func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, query, transactions).Scan(&open)
		})
		if err != nil || open == 0 {
			return err
		}
		select {
		case <-time.After(pollInterval):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

const totals = `
	SELECT placed, shipped, cancelled, open, paid, owed, charged, refunded, received, available, reserved, gone, events
	  FROM (SELECT count(*) AS placed,
	               count(*) FILTER (WHERE status = 'shipped') AS shipped,
	               count(*) FILTER (WHERE status = 'cancelled') AS cancelled,
	               count(*) FILTER (WHERE status NOT IN ('shipped', 'cancelled')) AS open,
	               count(*) FILTER (WHERE status IN ('paid', 'shipped')) AS paid,
	               coalesce(sum(amount_cents) FILTER (WHERE status = 'shipped'), 0)::bigint AS owed
	          FROM orders.orders) o,
	       (SELECT coalesce(sum(amount_cents) FILTER (WHERE kind = 'charge'), 0)::bigint AS charged,
	               coalesce(sum(amount_cents) FILTER (WHERE kind = 'refund'), 0)::bigint AS refunded
	          FROM payments.ledger) p,
	       (SELECT coalesce(sum(received), 0)::int AS received, coalesce(sum(available), 0)::int AS available,
	               coalesce(sum(reserved), 0)::int AS reserved, coalesce(sum(shipped), 0)::int AS gone
	          FROM inventory.stock) s,
	       (SELECT count(*) AS events FROM public.outbox) e`

// check is a query that returns a line for each thing that is wrong.
type check struct{ what, query string }

// never holds what no moment may show.
var never = []check{
	{"charged twice", `SELECT order_id FROM payments.ledger WHERE kind = 'charge' GROUP BY order_id HAVING count(*) > 1`},
	{"refunded twice", `SELECT order_id FROM payments.ledger WHERE kind = 'refund' GROUP BY order_id HAVING count(*) > 1`},
	{"shipped twice", `SELECT order_id FROM shipping.parcels GROUP BY order_id HAVING count(*) > 1`},
	{"reserved twice", `SELECT order_id FROM inventory.reservations GROUP BY order_id HAVING count(*) > 1`},

	{"charged another amount than ordered", `
		SELECT order_id FROM payments.ledger l LEFT JOIN orders.orders o ON o.id = l.order_id
		 WHERE o.amount_cents IS DISTINCT FROM l.amount_cents`},
	{"reserved something else than ordered", `
		SELECT order_id FROM inventory.reservations r LEFT JOIN orders.orders o ON o.id = r.order_id
		 WHERE (o.item, o.quantity) IS DISTINCT FROM (r.item, r.quantity)`},
	{"packed something else than ordered", `
		SELECT order_id FROM shipping.parcels p LEFT JOIN orders.orders o ON o.id = p.order_id
		 WHERE (o.item, o.quantity) IS DISTINCT FROM (p.item, p.quantity)`},

	{"packed without being paid", `
		SELECT order_id FROM shipping.parcels p JOIN orders.orders o ON o.id = p.order_id WHERE o.status NOT IN ('paid', 'shipped')`},
	{"paid or shipped without a charge that was kept", `
		SELECT id FROM orders.orders o WHERE status IN ('paid', 'shipped')
		   AND (NOT EXISTS (SELECT FROM payments.ledger WHERE order_id = o.id AND kind = 'charge')
		        OR EXISTS (SELECT FROM payments.ledger WHERE order_id = o.id AND kind = 'refund'))`},
	{"paid or shipped without units", `
		SELECT id FROM orders.orders o WHERE status IN ('paid', 'shipped')
		   AND NOT EXISTS (SELECT FROM inventory.reservations WHERE order_id = o.id AND state <> 'released')`},
	{"shipped without a parcel", `
		SELECT id FROM orders.orders o WHERE status = 'shipped' AND NOT EXISTS (SELECT FROM shipping.parcels WHERE order_id = o.id)`},
	{"refunded without a charge", `
		SELECT order_id FROM payments.ledger l WHERE kind = 'refund'
		   AND NOT EXISTS (SELECT FROM payments.ledger WHERE order_id = l.order_id AND kind = 'charge')`},

	{"stock does not add up", `
		SELECT item FROM inventory.stock s
		  LEFT JOIN (SELECT item, sum(quantity) FILTER (WHERE state = 'reserved') AS reserved,
		                    sum(quantity) FILTER (WHERE state = 'shipped') AS shipped
		               FROM inventory.reservations GROUP BY item) r USING (item)
		 WHERE available < 0 OR received <> available + s.reserved + s.shipped
		    OR s.reserved <> coalesce(r.reserved, 0) OR s.shipped <> coalesce(r.shipped, 0)`},

	// Rows and events are written in one transaction. Only orders whose first event is still
	// kept are looked at: the later ones are, then, too.
	{"rows and events differ", `
		WITH kept AS (SELECT DISTINCT aggregate_id AS id FROM public.outbox WHERE event_type = 'order.created'),
		     said AS (SELECT aggregate_id AS id, event_type, count(*) AS n FROM public.outbox GROUP BY 1, 2),
		     done AS (SELECT id, 'order.created' AS event_type, count(*) AS n FROM orders.orders GROUP BY 1
		        UNION ALL SELECT id, 'order.shipped', count(*) FROM orders.orders WHERE status = 'shipped' GROUP BY 1
		        UNION ALL SELECT id, 'order.paid', count(*) FROM orders.orders WHERE status IN ('paid', 'shipped') GROUP BY 1
		        UNION ALL SELECT id, 'order.cancelled', count(*) FROM orders.orders WHERE status = 'cancelled' GROUP BY 1
		        UNION ALL SELECT order_id, 'order.shipment_ready', count(*) FROM shipping.parcels GROUP BY 1
		        UNION ALL SELECT order_id, 'inventory.reserved', count(*) FROM inventory.reservations GROUP BY 1
		        UNION ALL SELECT order_id, 'inventory.released', count(*) FROM inventory.reservations WHERE state = 'released' GROUP BY 1
		        UNION ALL SELECT order_id, 'payment.processed', count(*) FROM payments.ledger WHERE kind = 'charge' GROUP BY 1
		        UNION ALL SELECT order_id, 'payment.refunded', count(*) FROM payments.ledger WHERE kind = 'refund' GROUP BY 1)
		SELECT id || ' ' || event_type FROM kept JOIN said USING (id) FULL JOIN done USING (id, event_type)
		 WHERE id IN (SELECT id FROM kept) AND said.n IS DISTINCT FROM done.n
		   AND event_type NOT IN ('inventory.rejected', 'payment.declined')`},
}

// notYet holds what only events that are on their way may explain.
var notYet = []check{
	{"open", `SELECT id FROM orders.orders WHERE status NOT IN ('shipped', 'cancelled')`},
	{"waits for an answer", `SELECT id FROM orders.orders WHERE status = 'cancelled' AND (stock IS NULL OR payment IS NULL)`},
	{"not refunded", `
		SELECT l.order_id FROM payments.ledger l JOIN orders.orders o ON o.id = l.order_id
		 WHERE l.kind = 'charge' AND o.status = 'cancelled'
		   AND NOT EXISTS (SELECT FROM payments.ledger WHERE order_id = o.id AND kind = 'refund')`},
	{"units not released", `
		SELECT order_id FROM inventory.reservations r JOIN orders.orders o ON o.id = r.order_id
		 WHERE r.state = 'reserved' AND o.status = 'cancelled'`},
	{"units not taken out", `
		SELECT order_id FROM inventory.reservations r JOIN orders.orders o ON o.id = r.order_id
		 WHERE r.state = 'reserved' AND o.status = 'shipped'`},
}

// finding is a thing that a check has found.
type finding struct{ what, name string }

// find runs checks.
func find(ctx context.Context, tx pgx.Tx, checks []check) (found []finding, err error) {
	for _, c := range checks {
		rows, err := tx.Query(ctx, c.query)
		if err != nil {
			return nil, err
		}
		names, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.what, err)
		}
		for _, name := range names {
			found = append(found, finding{c.what, name})
		}
	}
	return found, nil
}

// lines names a few findings of each check and counts the rest.
func lines(found []finding) (text []string) {
	const most = 3
	for len(found) > 0 {
		what, n := found[0].what, 0
		for n < len(found) && found[n].what == what {
			if n < most {
				text = append(text, what+": "+found[n].name)
			}
			n++
		}
		if n > most {
			text = append(text, fmt.Sprintf("%s: %d more", what, n-most))
		}
		found = found[n:]
	}
	return text
}
