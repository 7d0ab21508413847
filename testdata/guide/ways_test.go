package orders

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/postrider/postrider/outbox"
)

// This test places orders by each way that the page shows in Go: one that goes well, one that is
// refused at the commit, and one whose event is. What became of them is for docs/guide_test.go
// to see.
func TestEachWay_PlacesAnOrder(t *testing.T) {
	ctx := t.Context()
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	must(t, err)
	defer pool.Close()
	must(t, registerSchemas(ctx, pool))
	db := stdlib.OpenDBFromPool(pool)
	defer db.Close()
	conn := postgres.New(postgres.Config{Conn: db})
	plain, err := gorm.Open(conn, &gorm.Config{Logger: logger.Discard})
	must(t, err)
	prepared, err := gorm.Open(conn, &gorm.Config{Logger: logger.Discard, PrepareStmt: true})
	must(t, err)
	bundb := bun.NewDB(db, pgdialect.New())

	for _, way := range []struct {
		name  string
		place func(Order) error
	}{
		{"pgx", func(o Order) error { return placeOrder(ctx, pool, o) }},
		{"batch", func(o Order) error { return placeOrderBatch(ctx, pool, o) }},
		{"stdlib", func(o Order) error { return placeOrderSQL(ctx, db, o) }},
		{"gorm", func(o Order) error { return placeOrderGorm(ctx, plain, o) }},
		{"gorm-prepared", func(o Order) error { return placeOrderGorm(ctx, prepared, o) }},
		{"bun", func(o Order) error { return placeOrderBun(ctx, bundb, o) }},
	} {
		if err := way.place(Order{ID: way.name + "-1", Customer: "ada", TotalCents: 1990}); err != nil {
			t.Errorf("%s: %v", way.name, err)
		}
		err := way.place(Order{ID: way.name + "-refused", Customer: "mallory", TotalCents: 1})
		if err == nil || !strings.Contains(err.Error(), "mallory") {
			t.Errorf("%s: an order that is refused at the commit: got error %v", way.name, err)
		}
		err = way.place(Order{ID: way.name + "-unheard", Customer: "ada", TotalCents: 1})
		if err == nil || !strings.Contains(err.Error(), "unheard") {
			t.Errorf("%s: an event that is refused: got error %v", way.name, err)
		}
	}

	// Where the page says that something does not go, it does not.
	if tx, ok := plain.WithContext(ctx).Statement.ConnPool.(outbox.SQLTx); ok {
		t.Errorf("gorm outside of a transaction gives %T, which counts as one", tx)
	}
	err = bundb.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		return outbox.InsertSQL(ctx, tx, Order{ID: "bun-misused"}.created())
	})
	if err == nil {
		t.Error("bun.Tx itself takes the event")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
