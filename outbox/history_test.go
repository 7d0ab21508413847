package outbox_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/postrider/postrider/outbox"
	"github.com/postrider/postrider/testdata/schemas"
)

// collect ends the test at an error.
func collect(t testing.TB, events iter.Seq2[outbox.StoredEvent, error]) []outbox.StoredEvent {
	t.Helper()
	var all []outbox.StoredEvent
	for event, err := range events {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, event)
	}
	return all
}

func history(t testing.TB, db outbox.PgxQuerier) []outbox.StoredEvent {
	t.Helper()
	return collect(t, outbox.History(t.Context(), db, "order", "o-1"))
}

func types(events []outbox.StoredEvent) string {
	var names []string
	for _, e := range events {
		names = append(names, strings.TrimPrefix(e.Type, "order."))
	}
	return strings.Join(names, " ")
}

// said is an event of order o-1 that is known by its type.
func said(name string) outbox.Event {
	return outbox.Event{AggregateType: "order", AggregateID: "o-1", Type: "order." + name, Payload: json.RawMessage("{}")}
}

func begin(t testing.TB, pool *pgxpool.Pool) pgx.Tx {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tx.Rollback(context.Background()) })
	return tx
}

func insert(t testing.TB, tx pgx.Tx, events ...outbox.Event) {
	t.Helper()
	if err := outbox.Insert(t.Context(), tx, events...); err != nil {
		t.Fatal(err)
	}
}

// emitIn is insert in SQL, whose ids say nothing about time.
func emitIn(t testing.TB, tx pgx.Tx, name string) {
	t.Helper()
	if _, err := tx.Exec(t.Context(), "SELECT outbox_emit('order', 'o-1', $1, '{}')", "order."+name); err != nil {
		t.Fatal(err)
	}
}

func commit(t testing.TB, tx pgx.Tx) {
	t.Helper()
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func register(t testing.TB, pool *pgxpool.Pool, schemas ...*outbox.Schema) {
	t.Helper()
	if err := outbox.RegisterSchemas(t.Context(), pool, schemas...); err != nil {
		t.Fatal(err)
	}
}

func TestHistory_ReturnsTheEventsOfOneAggregate(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	register(t, pool, created)
	tx := begin(t, pool)
	deadline := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	insert(t, tx,
		outbox.Event{AggregateType: "order", AggregateID: "o-1", Schema: created, Payload: orderCreated("o-1"), Topic: "other", ExpiresAt: deadline},
		outbox.Event{AggregateType: "order", AggregateID: "o-1", Type: "order.noted", Payload: json.RawMessage(`{"n": 9007199254740993}`), Headers: map[string]string{"correlationid": "c-1"}},
		outbox.Event{AggregateType: "order", AggregateID: "o-1", Type: "order.gone", Tombstone: true},
		outbox.Event{AggregateType: "order", AggregateID: "o-2", Type: "order.gone", Tombstone: true},
		outbox.Event{AggregateType: "invoice", AggregateID: "o-1", Type: "order.gone", Tombstone: true})

	check := func(name string, events []outbox.StoredEvent) {
		t.Helper()
		if got := types(events); got != "created noted gone" {
			t.Fatalf("%s: %s", name, got)
		}
		first, second, third := events[0], events[1], events[2]
		var order schemas.OrderCreated
		if err := first.Decode(&order); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(orderCreated("o-1"), order, cmp.Comparer(func(a, b *big.Rat) bool { return a.Cmp(b) == 0 })); diff != "" {
			t.Errorf("%s: the order (-want +got):\n%s", name, diff)
		}
		if len(first.ID) != 36 || first.AggregateType != "order" || first.AggregateID != "o-1" || first.Topic != "other" || !first.ExpiresAt.Equal(deadline) || first.CreatedAt.IsZero() {
			t.Errorf("%s: %+v", name, first)
		}
		var note any
		if err := second.Decode(&note); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]any{"n": json.Number("9007199254740993")}, note); diff != "" {
			t.Errorf("%s: the note (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff(map[string]string{"correlationid": "c-1"}, second.Headers); diff != "" {
			t.Errorf("%s: headers (-want +got):\n%s", name, diff)
		}
		if first.Tombstone() || second.Tombstone() || !third.Tombstone() || third.Decode(&note) == nil || !third.ExpiresAt.IsZero() {
			t.Errorf("%s: tombstones %v %v %v", name, first.Tombstone(), second.Tombstone(), third.Tombstone())
		}
	}
	check("the transaction itself", history(t, tx))
	if events := history(t, pool); len(events) > 0 {
		t.Errorf("%d events before the commit", len(events))
	}
	commit(t, tx)
	check("a pool", history(t, pool))
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec} { // for poolers
		config := pool.Config().ConnConfig
		config.DefaultQueryExecMode = mode
		conn, err := pgx.ConnectConfig(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		check(mode.String(), history(t, conn))
		if events := collect(t, outbox.Correlated(t.Context(), conn, "c-1")); types(events) != "noted" {
			t.Errorf("%s: correlated %s", mode, types(events))
		}
	}

	db := stdlib.OpenDBFromPool(pool)
	defer db.Close()
	check("a sql.DB", collect(t, outbox.HistorySQL(t.Context(), db, "order", "o-1")))
	sqlTx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer sqlTx.Rollback()
	check("a sql.Tx", collect(t, outbox.HistorySQL(t.Context(), sqlTx, "order", "o-1")))
	if events := collect(t, outbox.History(t.Context(), pool, "order", "o-3")); len(events) > 0 {
		t.Errorf("%d events of an aggregate that has none", len(events))
	}
}

func TestHistory_EndsWithThePartitionsThatAreGone(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	for day := 1; day <= 2; day++ {
		mustExec(t, pool, fmt.Sprintf(`CREATE TABLE outbox_p2026090%[1]d PARTITION OF outbox
			FOR VALUES FROM ('2026-09-0%[1]d 00:00:00+00') TO ('2026-09-0%[2]d 00:00:00+00')`, day, day+1))
	}
	for _, day := range []int{4, 2, 1, 3} { // of the third and the fourth there is no partition
		mustExec(t, pool, fmt.Sprintf(`INSERT INTO outbox (aggregate_type, aggregate_id, event_type, created_at)
			VALUES ('order', 'o-1', 'order.day%[1]d', '2026-09-0%[1]d 12:00:00+00')`, day))
	}
	tx := begin(t, pool)
	insert(t, tx, said("today"))
	commit(t, tx)
	if got := types(history(t, pool)); got != "day1 day2 day3 day4 today" {
		t.Errorf("kept: %s", got)
	}
	mustExec(t, pool, "DROP TABLE outbox_p20260901")
	if got := types(history(t, pool)); got != "day2 day3 day4 today" {
		t.Errorf("after a partition was dropped: %s", got)
	}
}

// Two transactions that do not wait for each other.
func TestHistory_HasTheOrderOfInsertsAndTheWALThatOfCommits(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	mustExec(t, pool, "CREATE PUBLICATION everything FOR TABLE outbox WITH (publish_via_partition_root = true)")
	slot := newSlot(t, pool)
	a, b := begin(t, pool), begin(t, pool)
	insert(t, a, said("a1"))
	insert(t, b, said("b1"))
	insert(t, a, said("a2"))
	insert(t, b, said("b2"))
	commit(t, b)
	if got := types(history(t, pool)); got != "b1 b2" {
		t.Errorf("while the other is open: %s", got)
	}
	insert(t, a, said("a3"))
	commit(t, a)
	c := begin(t, pool)
	insert(t, c, said("c1"))
	d := begin(t, pool)
	insert(t, d, said("d1"))
	commit(t, d)
	commit(t, c)

	stream := bytes.Join(column[[]byte](t, pool, "SELECT data FROM pg_logical_slot_get_binary_changes($1, NULL, NULL, 'proto_version', '1', 'publication_names', 'everything')", slot), nil)
	wal := []string{"a1", "a2", "a3", "b1", "b2", "c1", "d1"}
	slices.SortFunc(wal, func(x, y string) int {
		return bytes.Index(stream, []byte("order."+x)) - bytes.Index(stream, []byte("order."+y))
	})
	if got := strings.Join(wal, " "); got != "b1 b2 a1 a2 a3 d1 c1" {
		t.Errorf("the WAL has %s", got)
	}
	if got := types(history(t, pool)); got != "b1 b2 a1 a2 a3 c1 d1" {
		t.Errorf("History has %s", got)
	}
	mustExec(t, pool, "SELECT pg_drop_replication_slot('"+slot+"')")
}

// The one that begins first, and has a lower transaction id, waits for the other's lock.
func TestHistory_HasTheOrderOfCommitsWhereWritersLock(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	mustExec(t, pool, "CREATE TABLE orders (id text PRIMARY KEY); INSERT INTO orders VALUES ('o-1')")
	waits := func(first, second func(tx pgx.Tx)) {
		t.Helper()
		waiting := begin(t, pool)
		if _, err := waiting.Exec(t.Context(), "INSERT INTO orders SELECT 'o-' || 2 + count(*) FROM orders"); err != nil {
			t.Fatal(err)
		}
		const lock = "SELECT FROM orders WHERE id = 'o-1' FOR UPDATE"
		other := begin(t, pool)
		if _, err := other.Exec(t.Context(), lock); err != nil {
			t.Fatal(err)
		}
		first(other)
		locked := make(chan error)
		go func() { _, err := waiting.Exec(t.Context(), lock); locked <- err }()
		commit(t, other)
		if err := <-locked; err != nil {
			t.Fatal(err)
		}
		second(waiting)
		commit(t, waiting)
	}
	waits(func(tx pgx.Tx) { insert(t, tx, said("first")) }, func(tx pgx.Tx) { insert(t, tx, said("second")) })
	if got := types(history(t, pool)); got != "first second" {
		t.Errorf("ids that tell the time: %s", got)
	}
	for _, by := range []string{"created_at", "tx_id"} {
		if got := column[string](t, pool, "SELECT event_type FROM outbox ORDER BY "+by); got[0] != "order.second" {
			t.Errorf("this test needs columns that say otherwise, but by %s the order is %v", by, got)
		}
	}
	mustExec(t, pool, "DELETE FROM outbox")
	waits(func(tx pgx.Tx) { emitIn(t, tx, "first") }, func(tx pgx.Tx) { emitIn(t, tx, "second") })
	if got := types(history(t, pool)); got != "second first" {
		t.Errorf("ids that do not: %s, which is better than the docs say", got)
	}
}

func TestHistory_KeepsTheOrderOfManyWritersThatLock(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	mustExec(t, pool, "CREATE TABLE orders (id text PRIMARY KEY, n int NOT NULL); INSERT INTO orders VALUES ('o-1', 0)")
	const writers, each = 4, 40
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
					var n int
					if err := tx.QueryRow(t.Context(), "UPDATE orders SET n = n + 1 RETURNING n").Scan(&n); err != nil {
						return err
					}
					return outbox.Insert(t.Context(), tx, said(fmt.Sprintf("%03d", n)))
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got := strings.Fields(types(history(t, pool)))
	if len(got) != writers*each || !slices.IsSorted(got) {
		t.Errorf("%d events: %v", len(got), got)
	}
}

// Events in Go and in SQL, with ids that tell the time and ids that do not.
func TestHistory_KeepsTransactionsTogetherAndInTheirOrder(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	old := begin(t, pool) // begins before all others
	emitIn(t, old, "a1")
	tx := begin(t, pool)
	emitIn(t, tx, "b1")
	insert(t, tx, said("b2"), said("b3"))
	insert(t, old, said("a2"))
	emitIn(t, tx, "b4")
	insert(t, tx, outbox.Event{ID: [16]byte{0xff, 15: 1}, AggregateType: "order", AggregateID: "o-1", Type: "order.b5", Tombstone: true},
		outbox.Event{ID: [16]byte{15: 2}, AggregateType: "order", AggregateID: "o-1", Type: "order.b6", Tombstone: true})
	insert(t, tx, said("b7"))
	emitIn(t, old, "a3")
	commit(t, tx)
	commit(t, old)
	if got := types(history(t, pool)); got != "a1 a2 a3 b1 b2 b3 b4 b5 b6 b7" {
		t.Error(got)
	}
}

func TestHistory_ReleasesItsConnection(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	tx := begin(t, pool)
	insert(t, tx, said("one"), said("two"), said("three"))
	commit(t, tx)
	if err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		events := outbox.History(t.Context(), tx, "order", "o-1")
		for range 3 { // each range is a query of its own
			for event, err := range events {
				if err != nil || event.Type != "order.one" {
					t.Fatal(event.Type, err)
				}
				break
			}
		}
		return tx.Conn().Ping(t.Context())
	}); err != nil {
		t.Errorf("after ranges that were left early: %v", err)
	}
	if n := pool.Stat().AcquiredConns(); n != 0 {
		t.Errorf("%d connections are still in use", n)
	}
}

func TestHistory_ReportsAnErrorAsItsLastElement(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	tx := begin(t, pool)
	insert(t, tx, said("one"))
	commit(t, tx)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	db := stdlib.OpenDBFromPool(pool)
	defer db.Close()
	other, err := outbox.New(outbox.Config{Table: "public.elsewhere"})
	if err != nil {
		t.Fatal(err)
	}
	for want, events := range map[string]iter.Seq2[outbox.StoredEvent, error]{
		"canceled": outbox.History(ctx, pool, "order", "o-1"),
		"context":  outbox.HistorySQL(ctx, db, "order", "o-1"),
		"read events of public.elsewhere: ERROR: relation \"public.elsewhere\" does not exist (SQLSTATE 42P01) (apply the migration first": other.Correlated(t.Context(), pool, "x"),
		"public.elsewhere": other.CorrelatedSQL(t.Context(), db, "x"),
	} {
		n := 0
		for event, err := range events {
			if n++; err == nil || !strings.Contains(err.Error(), want) || event.ID != "" {
				t.Errorf("want %s, got %v, %v", want, event, err)
			}
		}
		if n != 1 {
			t.Errorf("%s: %d elements", want, n)
		}
	}
}

func TestDecodeAs_ReadsOldEventsWithNewDefaults(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	v1 := outbox.MustParseSchema(`{"type": "record", "name": "paid", "fields": [{"name": "cents", "type": "int"}]}`)
	v2 := outbox.MustParseSchema(`{"type": "record", "name": "paid", "fields": [
		{"name": "cents", "type": "long"}, {"name": "currency", "type": "string", "default": "EUR"}]}`)
	type paid1 struct {
		Cents int32 `avro:"cents"`
	}
	type paid2 struct {
		Cents    int64  `avro:"cents"`
		Currency string `avro:"currency"`
	}
	empty := outbox.MustParseSchema(`{"type": "record", "name": "empty", "fields": []}`)
	register(t, pool, v1, v2, empty)
	tx := begin(t, pool)
	event := func(schema *outbox.Schema, payload any) outbox.Event {
		return outbox.Event{AggregateType: "order", AggregateID: "o-1", Schema: schema, Payload: payload}
	}
	insert(t, tx, event(v1, paid1{7}), event(v2, paid2{8, "USD"}), event(empty, struct{}{}))
	commit(t, tx)
	events := history(t, pool)
	for i, want := range []paid2{{7, "EUR"}, {8, "USD"}} {
		var got paid2
		if err := events[i].DecodeAs(v2, &got); err != nil || got != want {
			t.Errorf("event %d: %+v, %v; want %+v", i, got, err, want)
		}
	}
	var asWritten any
	if err := events[0].Decode(&asWritten); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"cents": 7}, asWritten); diff != "" {
		t.Errorf("as it was written (-want +got):\n%s", diff)
	}
	if err := events[0].DecodeAs(created, &asWritten); err == nil {
		t.Error("a schema that cannot read the event was taken")
	}
	if err := events[2].Decode(&asWritten); events[2].Tombstone() || err != nil {
		t.Errorf("a record without fields: tombstone %v, %v", events[2].Tombstone(), err)
	}
}

func TestDecode_SaysWhatIsWrongWithAnEvent(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	register(t, pool, created)
	fingerprint := created.Fingerprint()
	for name, payload := range map[string][]byte{"broken": {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}, "lost": {}} {
		f := fingerprint[:]
		if name == "lost" {
			f = make([]byte, 32)
		}
		_, err := pool.Exec(t.Context(), `INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload_avro, schema_fingerprint)
			VALUES ('order', $1, 'order.created', $2, $3)`, name, payload, f)
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"broken": "the payload is none of its schema: order_id: ", "lost": "its schema is not in the database"} {
		for event, err := range outbox.History(t.Context(), pool, "order", name) {
			if err != nil {
				t.Fatal(err)
			}
			var order schemas.OrderCreated
			if err := event.Decode(&order); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), event.ID) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestCorrelated_ReturnsAProcessWithItsFirstEvent(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	tx := begin(t, pool)
	first := said("first")
	first.ID = outbox.NewID()
	insert(t, tx, first, said("alone"))
	commit(t, tx)
	id := history(t, pool)[0].ID

	follows := func(correlation, causation string, event outbox.Event) {
		t.Helper()
		tx := begin(t, pool)
		ctx := outbox.WithCausationID(outbox.WithCorrelationID(t.Context(), correlation), causation)
		if err := outbox.Insert(ctx, tx, event); err != nil {
			t.Fatal(err)
		}
		commit(t, tx)
	}
	follows(id, id, outbox.Event{AggregateType: "payment", AggregateID: "p-1", Type: "order.second", Tombstone: true})
	follows("checkout-1", "", said("other"))
	follows(id, "", said("third"))

	db := stdlib.OpenDBFromPool(pool)
	defer db.Close()
	for name, events := range map[string]iter.Seq2[outbox.StoredEvent, error]{
		"pgx": outbox.Correlated(t.Context(), pool, id),
		"sql": outbox.CorrelatedSQL(t.Context(), db, id),
	} {
		got := collect(t, events)
		if types(got) != "first second third" || got[1].Headers[outbox.HeaderCausationID] != id {
			t.Errorf("%s: %s, %v", name, types(got), got)
		}
	}
	if got := types(collect(t, outbox.Correlated(t.Context(), pool, "checkout-1"))); got != "other" {
		t.Errorf("of an id that is no UUID: %s", got)
	}
}

// The indexes of docs/saga.md.
func TestHistory_UsesTheIndexesThatTheDocsName(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	mustExec(t, pool, "CREATE INDEX ON outbox (aggregate_type, aggregate_id); CREATE INDEX ON outbox ((headers ->> 'correlationid'))")
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if _, err := conn.Exec(t.Context(), "SET enable_seqscan = off", pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	explain := &explaining{conn.Conn(), ""}
	for name, events := range map[string]iter.Seq2[outbox.StoredEvent, error]{
		"aggregate_type":           outbox.History(t.Context(), explain, "order", "o-1"),
		"headers ->> 'correlation": outbox.Correlated(t.Context(), explain, "0198c0de-0000-7000-8000-000000000000"),
	} {
		collect(t, events) // of which there are none
		if !strings.Contains(explain.plan, name) || !strings.Contains(explain.plan, "Index") || strings.Contains(explain.plan, "Seq Scan on public.outbox_") || strings.Contains(explain.plan, "Seq Scan on outbox_p") {
			t.Errorf("%s:\n%s", name, explain.plan)
		}
	}
}

// explaining asks for plans instead of rows.
type explaining struct {
	conn *pgx.Conn
	plan string
}

func (e *explaining) Query(ctx context.Context, query string, args ...any) (pgx.Rows, error) {
	rows, err := e.conn.Query(ctx, "EXPLAIN "+query, args...)
	if err != nil {
		return nil, err
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	e.plan = strings.Join(lines, "\n")
	return e.conn.Query(ctx, "SELECT 1 WHERE false")
}
