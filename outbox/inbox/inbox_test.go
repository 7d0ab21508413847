package inbox_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/postrider/postrider/internal/testserver"
	"github.com/postrider/postrider/outbox/inbox"
)

// newDatabase returns a database with an inbox and the table effect, to which handlers add
// rows, in it.
func newDatabase(t testing.TB) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(testserver.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns = 4
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	ddl, err := inbox.TableDDL("")
	if err != nil {
		t.Fatal(err)
	}
	mustExec(t, pool, ddl.Up)
	mustExec(t, pool, "CREATE TABLE effect (event text NOT NULL)")
	return pool
}

func mustExec(t testing.TB, pool *pgxpool.Pool, query string) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), query, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatalf("%.80s: %v", query, err)
	}
}

func column[T any](t testing.TB, pool *pgxpool.Pool, query string, args ...any) []T {
	t.Helper()
	rows, err := pool.Query(t.Context(), query, args...)
	if err != nil {
		t.Fatal(err)
	}
	values, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatal(err)
	}
	return values
}

func effects(t testing.TB, pool *pgxpool.Pool) []string {
	t.Helper()
	return column[string](t, pool, "SELECT event FROM effect ORDER BY event")
}

// handler handles an event in a transaction of its own: work, then a row in effect.
type handler func(consumer, key string, work func(context.Context) error) (ran bool, err error)

// drivers are the two kinds of transactions.
func drivers(t *testing.T, pool *pgxpool.Pool) map[string]handler {
	t.Helper()
	db := stdlib.OpenDBFromPool(pool)
	t.Cleanup(func() { db.Close() })
	return map[string]handler{
		"pgx": func(consumer, key string, work func(context.Context) error) (bool, error) {
			tx, err := pool.Begin(t.Context())
			if err != nil {
				return false, err
			}
			defer tx.Rollback(t.Context())
			ran, err := inbox.Once(t.Context(), tx, consumer, key, func(ctx context.Context) error {
				if _, err := tx.Exec(ctx, "INSERT INTO effect VALUES ($1)", key); err != nil {
					return err
				}
				return work(ctx)
			})
			// A caller that does not look at err must not be able to do harm.
			return ran, errors.Join(err, tx.Commit(t.Context()))
		},
		"database/sql": func(consumer, key string, work func(context.Context) error) (bool, error) {
			tx, err := db.BeginTx(t.Context(), nil)
			if err != nil {
				return false, err
			}
			defer tx.Rollback()
			ran, err := inbox.OnceSQL(t.Context(), tx, consumer, key, func(ctx context.Context) error {
				if _, err := tx.ExecContext(ctx, "INSERT INTO effect VALUES ($1)", key); err != nil {
					return err
				}
				return work(ctx)
			})
			return ran, errors.Join(err, tx.Commit())
		},
	}
}

func succeed(context.Context) error { return nil }

// uuidv7 is an id that was made at that time.
func uuidv7(at time.Time) string {
	id := uuid.New()
	for i := range 6 {
		id[i] = byte(at.UnixMilli() >> (40 - 8*i))
	}
	id[6] = 0x70 | id[6]&0x0f
	return id.String()
}

func TestOnce_HandlesAnEventOncePerConsumer(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	for driver, handle := range drivers(t, pool) {
		for _, key := range []string{uuidv7(time.Now()), uuid.NewString(), driver + " order-1 'paid'"} {
			for _, step := range []struct {
				consumer string
				want     bool
			}{{"shipping", true}, {"shipping", false}, {"billing", true}, {"shipping", false}, {"billing", false}} {
				ran, err := handle(step.consumer, key, succeed)
				if err != nil || ran != step.want {
					t.Errorf("%s, key %s: %s handles it: %v, %v; want %v", driver, key, step.consumer, ran, err, step.want)
				}
			}
			if got := column[int](t, pool, "SELECT count(*)::int FROM effect WHERE event = $1", key); got[0] != 2 {
				t.Errorf("%s, key %s: two consumers had %d effects", driver, key, got[0])
			}
		}
	}
}

func TestOnce_LeavesNothingOfAHandlerThatFails(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	refused := errors.New("refused")
	for driver, handle := range drivers(t, pool) {
		key := "failing with " + driver
		ran, err := handle("shipping", key, func(context.Context) error { return refused })
		if ran || !errors.Is(err, refused) {
			t.Errorf("%s: a handler that fails: %v, %v", driver, ran, err)
		}
		if !errors.Is(err, pgx.ErrTxClosed) && !errors.Is(err, sql.ErrTxDone) {
			t.Errorf("%s: the transaction of a handler that failed was committed (%v)", driver, err)
		}
		func() {
			defer func() { _ = recover() }()
			ran, err = handle("shipping", key, func(context.Context) error { panic("at the disco") })
			t.Errorf("%s: a handler that panics: %v, %v", driver, ran, err)
		}()
		if got := effects(t, pool); len(got) > 0 {
			t.Errorf("%s: failed handlers left %q", driver, got)
		}
		if got := column[int](t, pool, "SELECT count(*)::int FROM inbox"); got[0] != 0 {
			t.Errorf("%s: failed handlers left %d marks", driver, got[0])
		}
		if ran, err := handle("shipping", key, succeed); !ran || err != nil {
			t.Errorf("%s: after failures: %v, %v", driver, ran, err)
		}
		mustExec(t, pool, "TRUNCATE effect; TRUNCATE inbox")
	}
}

func TestOnce_InANestedTransactionGoesBackToItsSavepoint(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	for i, key := range []string{"a", "b", "c"} {
		nested, err := tx.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, err = inbox.Once(t.Context(), nested, "shipping", key, func(ctx context.Context) error {
			_, err := nested.Exec(ctx, "INSERT INTO effect VALUES ($1)", key)
			if i == 1 {
				return errors.New("refused")
			}
			return err
		})
		if err == nil {
			err = nested.Commit(t.Context())
		}
		if (err != nil) != (i == 1) {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{"a", "c"}
	if diff := cmp.Diff(want, effects(t, pool)); diff != "" {
		t.Errorf("effects (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, column[string](t, pool, "SELECT dedupe_key FROM inbox ORDER BY 1")); diff != "" {
		t.Errorf("marks (-want +got):\n%s", diff)
	}
}

// awaitBlocked returns when a session of the test's database waits for another one.
func awaitBlocked(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if column[int](t, pool, `SELECT count(*)::int FROM pg_stat_activity
			WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0`)[0] > 0 {
			return
		}
	}
	t.Fatal("nobody waits")
}

func TestOnce_WaitsForTheTransactionThatHasTheEventInHand(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]string{"UUIDv7": uuidv7(time.Now()), "other key": "order-1"} {
		for _, commits := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, first commits %v", name, commits), func(t *testing.T) {
				t.Parallel()
				pool := newDatabase(t)
				for driver, handle := range drivers(t, pool) {
					consumer := "shipping with " + driver
					first, err := pool.Begin(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					defer first.Rollback(t.Context())
					if ran, err := inbox.Once(t.Context(), first, consumer, key, succeed); !ran || err != nil {
						t.Fatal(ran, err)
					}

					type result struct {
						ran bool
						err error
					}
					second := make(chan result, 1)
					go func() {
						ran, err := handle(consumer, key, succeed)
						second <- result{ran, err}
					}()
					awaitBlocked(t, pool)
					if commits {
						err = first.Commit(t.Context())
					} else {
						err = first.Rollback(t.Context())
					}
					if err != nil {
						t.Fatal(err)
					}
					if got := <-second; got.err != nil || got.ran == commits {
						t.Errorf("%s: the second ran: %v, %v", driver, got.ran, got.err)
					}
				}
			})
		}
	}
}

func TestOnce_FailsToSerializeAboveReadCommitted(t *testing.T) {
	t.Parallel()
	for _, level := range []pgx.TxIsoLevel{pgx.RepeatableRead, pgx.Serializable} {
		t.Run(string(level), func(t *testing.T) {
			t.Parallel()
			pool := newDatabase(t)
			tx, err := pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: level})
			if err != nil {
				t.Fatal(err)
			}
			defer tx.Rollback(t.Context())
			if _, err := tx.Exec(t.Context(), "SELECT count(*) FROM effect"); err != nil { // takes the snapshot
				t.Fatal(err)
			}
			if ran, err := drivers(t, pool)["pgx"]("shipping", "order-1", succeed); !ran || err != nil {
				t.Fatal(ran, err)
			}
			ran, err := inbox.Once(t.Context(), tx, "shipping", "order-1", func(context.Context) error {
				t.Error("the handler ran a second time")
				return nil
			})
			var pgErr *pgconn.PgError
			if ran || !errors.As(err, &pgErr) || pgErr.Code != "40001" {
				t.Errorf("got %v, %v; want SQLSTATE 40001", ran, err)
			}
		})
	}
}

func TestOnce_RefusesNamesThatWouldMixEventsUp(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	long := strings.Repeat("k", 257)
	for _, names := range [][2]string{{"", "k"}, {"c", ""}, {long, "k"}, {"c", long}, {"c", "a\x00b"}, {"c", "a\xff"}} {
		for driver, handle := range drivers(t, pool) {
			ran, err := handle(names[0], names[1], succeed)
			if ran || err == nil || !strings.HasPrefix(err.Error(), "inbox: the ") {
				t.Errorf("%s, consumer %.10q, key %.10q: %v, %v", driver, names[0], names[1], ran, err)
			}
		}
	}
	if ran, err := drivers(t, pool)["pgx"](long[:256], long[:256], succeed); !ran || err != nil {
		t.Errorf("the longest names: %v, %v", ran, err)
	}
}

func TestOnce_SaysWhichMigrationIsMissing(t *testing.T) {
	t.Parallel()
	pool, err := pgxpool.New(t.Context(), testserver.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	for driver, handle := range drivers(t, pool) {
		_, err = handle("shipping", "order-1", succeed)
		if err == nil || !strings.Contains(err.Error(), "postrider outbox sql --part inbox") {
			t.Errorf("%s: got %v", driver, err)
		}
	}
	if err := inbox.Maintain(t.Context(), pool, time.Hour); err == nil || !strings.Contains(err.Error(), "postrider outbox sql --part inbox") {
		t.Errorf("Maintain: got %v", err)
	}
}

func TestOnceSQL_TakesNoPoolAndNoConnection(t *testing.T) {
	t.Parallel()
	tx := reflect.TypeOf(inbox.OnceSQL).In(1)
	for _, test := range []struct {
		given reflect.Type
		want  bool
	}{
		{reflect.TypeFor[*sql.Tx](), true},
		{reflect.TypeFor[*sql.DB](), false},
		{reflect.TypeFor[*sql.Conn](), false},
	} {
		if got := test.given.AssignableTo(tx); got != test.want {
			t.Errorf("OnceSQL takes a %s: %t, want %t", test.given, got, test.want)
		}
	}
}
