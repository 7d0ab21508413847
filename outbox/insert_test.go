package outbox_test

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hamba/avro/v2"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/postrider/postrider/internal/testserver"
	"github.com/postrider/postrider/outbox"
	"github.com/postrider/postrider/testdata/schemas"
)

var created = outbox.MustParseSchema(schemas.OrderCreatedText)

func orderCreated(id string) schemas.OrderCreated {
	note := `a "quoted" \ note, {with} braces`
	return schemas.OrderCreated{
		OrderID: id, CustomerID: "c-1", Currency: "EUR", Total: big.NewRat(1999, 100),
		Lines:    []schemas.OrderLine{{Sku: "SKU-1", Quantity: 2}},
		Note:     &note,
		PlacedAt: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC),
	}
}

// newDatabase returns a database with the outbox in it.
func newDatabase(t testing.TB) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(testserver.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	return newPool(t, config)
}

func newPool(t testing.TB, config *pgxpool.Config) *pgxpool.Pool {
	t.Helper()
	config.MaxConns = 4
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	ddl, err := outbox.TableDDL("")
	if err != nil {
		t.Fatal(err)
	}
	mustExec(t, pool, ddl.Up)
	return pool
}

func mustExec(t testing.TB, pool *pgxpool.Pool, query string) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), query, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatalf("%.80s: %v", query, err)
	}
}

// stored is a row as it is read back.
type stored struct {
	AggregateType, AggregateID, EventType string
	ID                                    [16]byte
	Payload                               *string
	Avro, Fingerprint                     []byte
	Headers                               map[string]string
	Topic                                 *string
	ExpiresAt                             *time.Time
}

func read(t testing.TB, pool *pgxpool.Pool) []stored {
	t.Helper()
	rows, err := pool.Query(t.Context(), `SELECT aggregate_type, aggregate_id, event_type, id, payload::text,
		payload_avro, schema_fingerprint, headers, topic, expires_at FROM outbox ORDER BY tx_id, ctid`)
	if err != nil {
		t.Fatal(err)
	}
	events, err := pgx.CollectRows(rows, pgx.RowToStructByPos[stored])
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func count(t testing.TB, pool *pgxpool.Pool) (n int) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM outbox").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func jsonEvent(id string) outbox.Event {
	return outbox.Event{AggregateType: "order", AggregateID: id, Type: "order.created", Payload: map[string]any{"order_id": id}}
}

// sampler is one event of every kind, with every column used.
func sampler() []outbox.Event {
	return []outbox.Event{
		{
			ID: [16]byte{1}, AggregateType: "order", AggregateID: `o "1" \`, Schema: created, Payload: orderCreated("o-1"),
			Headers: map[string]string{"a": `b"\,{}`}, Topic: "orders-eu", ExpiresAt: time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC),
		},
		{ID: [16]byte{2}, AggregateType: "order", AggregateID: "NULL", Type: "order.paid", Payload: json.RawMessage(`{"n": 1.50, "s": "ü\\"}`)},
		{ID: [16]byte{3}, AggregateType: "order", AggregateID: "ö,3", Type: "order.gone", Tombstone: true},
	}
}

func checkSampler(t *testing.T, got []stored) {
	t.Helper()
	deadline, topic := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC), "orders-eu"
	payload := `{"n": 1.50, "s": "ü\\"}`
	fingerprint := sha256.Sum256([]byte(schemas.OrderCreatedText))
	encoded, err := created.Encode(orderCreated("o-1"))
	if err != nil {
		t.Fatal(err)
	}
	want := []stored{
		{
			AggregateType: "order", AggregateID: `o "1" \`, EventType: "order.created", ID: [16]byte{1},
			Avro: encoded, Fingerprint: fingerprint[:],
			Headers: map[string]string{"a": `b"\,{}`}, Topic: &topic, ExpiresAt: &deadline,
		},
		{AggregateType: "order", AggregateID: "NULL", EventType: "order.paid", ID: [16]byte{2}, Payload: &payload},
		{AggregateType: "order", AggregateID: "ö,3", EventType: "order.gone", ID: [16]byte{3}},
	}
	for i := range got {
		if got[i].ExpiresAt != nil {
			*got[i].ExpiresAt = got[i].ExpiresAt.UTC()
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows differ (-want +got):\n%s", diff)
	}
}

func TestInsert_StoresEveryKindOfEventInOrder(t *testing.T) {
	t.Parallel()
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		t.Run(strings.ReplaceAll(mode.String(), " ", "_"), func(t *testing.T) {
			t.Parallel()
			config, err := pgxpool.ParseConfig(testserver.Postgres(t))
			if err != nil {
				t.Fatal(err)
			}
			config.ConnConfig.DefaultQueryExecMode = mode
			pool := newPool(t, config)
			if err := outbox.RegisterSchemas(t.Context(), pool, created); err != nil {
				t.Fatal(err)
			}
			// All at once and one by one: two statements.
			inTx(t, pool, func(tx pgx.Tx) error { return outbox.Insert(t.Context(), tx, sampler()...) })
			checkSampler(t, read(t, pool))
			mustExec(t, pool, "TRUNCATE outbox")
			inTx(t, pool, func(tx pgx.Tx) error {
				for _, e := range sampler() {
					if err := outbox.Insert(t.Context(), tx, e); err != nil {
						return err
					}
				}
				return nil
			})
			checkSampler(t, read(t, pool))
		})
	}
}

func TestInsertSQL_StoresEveryKindOfEventInOrder(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	db := stdlib.OpenDBFromPool(pool)
	defer db.Close()
	if err := outbox.RegisterSchemasSQL(t.Context(), db, created); err != nil {
		t.Fatal(err)
	}
	for _, batches := range [][][]outbox.Event{
		{sampler()},
		{sampler()[:1], sampler()[1:2], sampler()[2:]},
	} {
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, events := range batches {
			if err := outbox.InsertSQL(t.Context(), tx, events...); err != nil {
				t.Fatal(err)
			}
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		checkSampler(t, read(t, pool))
		mustExec(t, pool, "TRUNCATE outbox")
	}
}

func inTx(t testing.TB, pool *pgxpool.Pool, do func(pgx.Tx) error) {
	t.Helper()
	if err := pgx.BeginFunc(t.Context(), pool, do); err != nil {
		t.Fatal(err)
	}
}

func TestInsert_LeavesNothingAfterRollback(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := outbox.Insert(t.Context(), tx, jsonEvent("1"), jsonEvent("2")); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := count(t, pool); n != 0 {
		t.Errorf("%d events of a transaction that was rolled back", n)
	}
	if err := outbox.Insert(t.Context(), tx, jsonEvent("3")); !errors.Is(err, pgx.ErrTxClosed) {
		t.Errorf("Insert into a finished transaction: got %v, want ErrTxClosed", err)
	}
}

func TestInsert_LeavesNothingOfSavepointRolledBack(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	inTx(t, pool, func(tx pgx.Tx) error {
		if err := outbox.Insert(t.Context(), tx, jsonEvent("kept")); err != nil {
			return err
		}
		savepoint, err := tx.Begin(t.Context())
		if err != nil {
			return err
		}
		if err := outbox.Insert(t.Context(), savepoint, jsonEvent("undone")); err != nil {
			return err
		}
		return savepoint.Rollback(t.Context())
	})
	got := read(t, pool)
	if len(got) != 1 || got[0].AggregateID != "kept" {
		t.Errorf("got %+v, want the one event in front of the savepoint", got)
	}
}

// statements counts what goes to the server.
type statements struct {
	mu      sync.Mutex
	queries int
}

func (s *statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queries++
	return ctx
}

func (s *statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (s *statements) TracePrepareStart(ctx context.Context, c *pgx.Conn, _ pgx.TracePrepareStartData) context.Context {
	return s.TraceQueryStart(ctx, c, pgx.TraceQueryStartData{})
}

func (s *statements) TracePrepareEnd(context.Context, *pgx.Conn, pgx.TracePrepareEndData) {}

func TestInsert_IsOneRoundTripForAnyNumberOfEvents(t *testing.T) {
	t.Parallel()
	config, err := pgxpool.ParseConfig(testserver.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	var sent statements
	config.ConnConfig.Tracer = &sent
	pool := newPool(t, config)
	inTx(t, pool, func(tx pgx.Tx) error {
		// The first use of a connection prepares the statement.
		if err := outbox.Insert(t.Context(), tx, jsonEvent("w"), jsonEvent("w")); err != nil {
			return err
		}
		var events []outbox.Event
		for i := range 250 {
			events = append(events, jsonEvent(fmt.Sprintf("o-%03d", i)))
		}
		for _, n := range []int{2, 250} {
			before := sent.queries
			if err := outbox.Insert(t.Context(), tx, events[:n]...); err != nil {
				return err
			}
			if got := sent.queries - before; got != 1 {
				t.Errorf("%d events took %d statements, want 1", n, got)
			}
		}
		before := sent.queries
		err := outbox.Insert(t.Context(), tx)
		if got := sent.queries - before; got != 0 {
			t.Errorf("no events took %d statements, want 0", got)
		}
		return err
	})
	got := read(t, pool)[4:]
	for i, e := range got {
		if want := fmt.Sprintf("o-%03d", i); e.AggregateID != want {
			t.Fatalf("event %d is %s, want %s", i, e.AggregateID, want)
		}
	}
}

func TestInsert_SendsNothingWhenOneEventIsRefused(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	if err := outbox.RegisterSchemas(t.Context(), pool, created); err != nil {
		t.Fatal(err)
	}
	bad := orderCreated("o-2")
	bad.Lines[0].Quantity = math.MaxInt32 + 1
	inTx(t, pool, func(tx pgx.Tx) error {
		err := outbox.Insert(t.Context(), tx, jsonEvent("o-1"),
			outbox.Event{AggregateType: "order", AggregateID: "o-2", Schema: created, Payload: bad})
		var refused *outbox.EventError
		if !errors.As(err, &refused) || refused.Index != 1 || refused.Field != "payload" {
			t.Fatalf("got %v, want an EventError for event 1", err)
		}
		if want := "field lines[0].quantity: 2147483648 is out of range for int"; !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to contain %q", err, want)
		}
		// The transaction can go on.
		return outbox.Insert(t.Context(), tx, jsonEvent("o-3"))
	})
	if got := read(t, pool); len(got) != 1 || got[0].AggregateID != "o-3" {
		t.Errorf("got %+v, want o-3 alone", got)
	}
}

func TestInsert_RefusesSchemaThatWasNotRegistered(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	o, err := outbox.New(outbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	event := outbox.Event{AggregateType: "order", AggregateID: "o-1", Schema: created, Payload: orderCreated("o-1")}
	inTx(t, pool, func(tx pgx.Tx) error {
		err := o.Insert(t.Context(), tx, event)
		if !errors.Is(err, outbox.ErrNotRegistered) || !strings.Contains(err.Error(), "call RegisterSchemas") {
			t.Errorf("got %v, want ErrNotRegistered", err)
		}
		return nil
	})
	if err := o.RegisterSchemas(t.Context(), pool, created); err != nil {
		t.Fatal(err)
	}
	inTx(t, pool, func(tx pgx.Tx) error { return o.Insert(t.Context(), tx, event) })
}

func TestRegisterSchemas_FromManyProcessesAtOnce(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	all := []*outbox.Schema{created, outbox.MustParseSchema(schemas.OrderPaidText), outbox.MustParseSchema(schemas.OrderCancelledText)}
	var wg sync.WaitGroup
	for i := range 8 {
		order := append(append([]*outbox.Schema{}, all[i%3:]...), all[:i%3]...)
		wg.Go(func() {
			o, err := outbox.New(outbox.Config{})
			if err == nil {
				err = o.RegisterSchemas(t.Context(), pool, order...)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	rows, err := pool.Query(t.Context(), "SELECT schema, fingerprint = sha256(convert_to(schema, 'UTF8')) FROM outbox_schema")
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]bool{}
	var text string
	var matches bool
	if _, err := pgx.ForEachRow(rows, []any{&text, &matches}, func() error { texts[text] = matches; return nil }); err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{schemas.OrderCreatedText: true, schemas.OrderPaidText: true, schemas.OrderCancelledText: true}
	if diff := cmp.Diff(want, texts); diff != "" {
		t.Errorf("registered texts, each with the right fingerprint (-want +got):\n%s", diff)
	}
}

func TestInsert_PayloadDecodesByTheStoredSchema(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	if err := outbox.RegisterSchemas(t.Context(), pool, created); err != nil {
		t.Fatal(err)
	}
	want := orderCreated("o-1")
	inTx(t, pool, func(tx pgx.Tx) error {
		return outbox.Insert(t.Context(), tx, outbox.Event{AggregateType: "order", AggregateID: "o-1", Schema: created, Payload: &want})
	})
	var text string
	var payload []byte
	err := pool.QueryRow(t.Context(), `SELECT s.schema, o.payload_avro FROM outbox o
		JOIN outbox_schema s ON s.fingerprint = o.schema_fingerprint`).Scan(&text, &payload)
	if err != nil {
		t.Fatal(err)
	}
	schema, err := avro.ParseBytesWithCache([]byte(text), "", &avro.SchemaCache{})
	if err != nil {
		t.Fatal(err)
	}
	var got schemas.OrderCreated
	if err := avro.Unmarshal(schema, payload, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b *big.Rat) bool { return a.Cmp(b) == 0 })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestInsert_SaysWhatToDoWithoutTheTable(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	o, err := outbox.New(outbox.Config{Table: "public.elsewhere"})
	if err != nil {
		t.Fatal(err)
	}
	const hint = "apply the migration first: postrider outbox sql"
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	if err := o.Insert(t.Context(), tx, jsonEvent("o-1")); err == nil || !strings.Contains(err.Error(), hint) {
		t.Errorf("Insert: got %v, want the hint", err)
	}
	if err := o.RegisterSchemas(t.Context(), pool, created); err == nil || !strings.Contains(err.Error(), hint) {
		t.Errorf("RegisterSchemas: got %v, want the hint", err)
	}
}

// Whether a call compiles is whether the argument's type is assignable to the parameter's.
func TestInsert_TakesTransactionsOnly(t *testing.T) {
	t.Parallel()
	var (
		pgxTx    = reflect.TypeOf(outbox.Insert).In(1)
		sqlTx    = reflect.TypeOf(outbox.InsertSQL).In(1)
		register = reflect.TypeOf(outbox.RegisterSchemas).In(1)
	)
	for _, test := range []struct {
		name     string
		argument reflect.Type
		to       reflect.Type
		compiles bool
	}{
		{"pgx.Tx to Insert", reflect.TypeFor[pgx.Tx](), pgxTx, true},
		{"pgxpool.Tx to Insert", reflect.TypeFor[*pgxpool.Tx](), pgxTx, true},
		{"pool to Insert", reflect.TypeFor[*pgxpool.Pool](), pgxTx, false},
		{"connection of a pool to Insert", reflect.TypeFor[*pgxpool.Conn](), pgxTx, false},
		{"connection to Insert", reflect.TypeFor[*pgx.Conn](), pgxTx, false},
		{"sql.DB to Insert", reflect.TypeFor[*sql.DB](), pgxTx, false},
		{"sql.Tx to InsertSQL", reflect.TypeFor[*sql.Tx](), sqlTx, true},
		{"sql.DB to InsertSQL", reflect.TypeFor[*sql.DB](), sqlTx, false},
		{"sql.Conn to InsertSQL", reflect.TypeFor[*sql.Conn](), sqlTx, false},
		{"pool to RegisterSchemas", reflect.TypeFor[*pgxpool.Pool](), register, true},
		{"connection to RegisterSchemas", reflect.TypeFor[*pgx.Conn](), register, true},
		{"pgx.Tx to RegisterSchemas", reflect.TypeFor[pgx.Tx](), register, false},
		{"pgxpool.Tx to RegisterSchemas", reflect.TypeFor[*pgxpool.Tx](), register, false},
	} {
		if got := test.argument.AssignableTo(test.to); got != test.compiles {
			t.Errorf("%s compiles: %v, want %v", test.name, got, test.compiles)
		}
	}
}
