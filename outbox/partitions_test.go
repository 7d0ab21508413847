package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/postrider/postrider/internal/testserver"
	"github.com/postrider/postrider/outbox"
)

// newOldDatabase returns a database whose outbox has the partitions of the days 1 to 4 of
// September 2026 (long ago for every test), a row in the first three, and a slot.
func newOldDatabase(t *testing.T) (pool *pgxpool.Pool, slot string) {
	t.Helper()
	pool = newDatabase(t)
	slot = newSlot(t, pool)
	for day := 1; day <= 4; day++ {
		mustExec(t, pool, fmt.Sprintf(`CREATE TABLE outbox_p2026090%[1]d PARTITION OF outbox
			FOR VALUES FROM ('2026-09-0%[1]d 00:00:00+00') TO ('2026-09-0%[2]d 00:00:00+00')`, day, day+1))
	}
	for day := 1; day <= 3; day++ {
		insertAt(t, pool, fmt.Sprintf("2026-09-0%d 12:00:00+00", day))
	}
	return pool, slot
}

func newSlot(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	slot := testserver.UniqueName(t)
	mustExec(t, pool, "SELECT pg_create_logical_replication_slot('"+slot+"', 'pgoutput')")
	return slot
}

func insertAt(t *testing.T, db interface {
	Exec(context.Context, string, ...any) (pgconn.CommandTag, error)
}, created string) {
	t.Helper()
	_, err := db.Exec(t.Context(), "INSERT INTO outbox (aggregate_type, aggregate_id, event_type, created_at) VALUES ('order', 'o-1', 'order.gone', $1::timestamptz)", created)
	if err != nil {
		t.Fatal(err)
	}
}

// confirm moves slots beyond everything that was committed before the call.
func confirm(t *testing.T, pool *pgxpool.Pool, slots ...string) {
	t.Helper()
	next := column[string](t, pool, "SELECT pg_current_xact_id()::text")[0]
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		// A checkpoint writes which transactions run; a slot that has read it knows the others ended.
		mustExec(t, pool, "CHECKPOINT")
		for _, slot := range slots {
			mustExec(t, pool, "SELECT pg_replication_slot_advance('"+slot+"', pg_current_wal_lsn())")
		}
		behind := column[string](t, pool, "SELECT slot_name::text FROM pg_replication_slots WHERE slot_name = ANY ($1) AND catalog_xmin::text::bigint < $2::text::bigint", slots, next)
		if len(behind) == 0 {
			return
		}
	}
	t.Fatal("the slots do not confirm")
}

// drops returns what outbox_drop_partitions says, by day of September.
func drops(t *testing.T, db interface {
	Query(context.Context, string, ...any) (pgx.Rows, error)
}, args string) map[string]string {
	t.Helper()
	got := make(map[string]string)
	rows, err := db.Query(t.Context(), "SELECT * FROM outbox_drop_partitions("+args+")")
	if err != nil {
		t.Fatal(err)
	}
	var name, outcome string
	if _, err = pgx.ForEachRow(rows, []any{&name, &outcome}, func() error { got[name[len("outbox_p202609"):]] = outcome; return nil }); err != nil {
		t.Fatal(err)
	}
	return got
}

func wantDrops(t *testing.T, got, want map[string]string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDropPartitions_TakesWhatIsPastRetentionAndConfirmed(t *testing.T) {
	t.Parallel()
	pool, slot := newOldDatabase(t)
	mustExec(t, pool, `CREATE TABLE outbox_october PARTITION OF outbox
		FOR VALUES FROM ('2026-09-05 00:00:00+00') TO ('2026-10-01 00:00:00+00')`)
	wantDrops(t, drops(t, pool, "'1 day'"), map[string]string{"01": "unconfirmed", "02": "unconfirmed", "03": "unconfirmed", "04": "dropped"})
	confirm(t, pool, slot)
	wantDrops(t, drops(t, pool, "'1 day', most => 1"), map[string]string{"01": "dropped"})
	wantDrops(t, drops(t, pool, "now() - '2026-09-02 23:59:59+00'"), map[string]string{})
	wantDrops(t, drops(t, pool, "now() - '2026-09-03 00:00:00+00'"), map[string]string{"02": "dropped"})
	wantDrops(t, drops(t, pool, "'1 day'"), map[string]string{"03": "dropped"})
	if n := column[int](t, pool, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'outbox'::regclass")[0]; n != 1+8+1 {
		t.Errorf("%d partitions, want the default, today and seven days, and the one that was made by hand", n)
	}
}

func TestDropPartitions_CountsEverySlot(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	mustExec(t, pool, `CREATE TABLE outbox_p20260901 PARTITION OF outbox FOR VALUES FROM ('2026-09-01 00:00:00+00') TO ('2026-09-02 00:00:00+00')`)
	insertAt(t, pool, "2026-09-01 12:00:00+00")
	wantDrops(t, drops(t, pool, "'1 day'"), map[string]string{"01": "unconfirmed"}) // no slot: nobody has it
	first := newSlot(t, pool)
	confirm(t, pool, first)
	second := newSlot(t, pool)
	insertAt(t, pool, "2026-09-01 12:00:00+00")
	confirm(t, pool, first)
	wantDrops(t, drops(t, pool, "'1 day'"), map[string]string{"01": "unconfirmed"})
	mark := column[string](t, pool, "SELECT outbox_confirmed_xid()::text")[0]
	confirm(t, pool, first, second)
	wantDrops(t, drops(t, pool, "'1 day', confirmed => '"+mark+"'"), map[string]string{"01": "unconfirmed"})
	wantDrops(t, drops(t, pool, "'1 day'"), map[string]string{"01": "dropped"})
}

func TestDropPartitions_KeepsRowsThatWereCopiedBackWithAnOldTransactionID(t *testing.T) {
	t.Parallel()
	pool, slot := newOldDatabase(t)
	confirm(t, pool, slot)
	mustExec(t, pool, `INSERT INTO outbox (aggregate_type, aggregate_id, event_type, created_at, tx_id)
		VALUES ('order', 'o-1', 'order.gone', '2026-09-02 12:00:00+00', '3')`)
	wantDrops(t, drops(t, pool, "'1 day', most => 2"), map[string]string{"01": "dropped", "02": "unconfirmed", "03": "dropped"})
}

func TestDropPartitions_KeepsNamedEvents(t *testing.T) {
	t.Parallel()
	pool, slot := newOldDatabase(t)
	confirm(t, pool, slot)
	id := column[string](t, pool, "SELECT id::text FROM outbox_p20260902")[0]
	wantDrops(t, drops(t, pool, "'1 day', keep => ARRAY['"+id+"', gen_random_uuid()]::uuid[]"),
		map[string]string{"01": "dropped", "02": "kept", "03": "dropped", "04": "dropped"})
}

func TestDropPartitions_LeavesWhatSomebodyWritesOrReads(t *testing.T) {
	t.Parallel()
	pool, slot := newOldDatabase(t)
	confirm(t, pool, slot)
	writer, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Rollback(t.Context())
	insertAt(t, writer, "2026-09-01 12:00:00+00")
	reader, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Rollback(t.Context())
	if _, err := reader.Exec(t.Context(), "SELECT FROM outbox_p20260902"); err != nil {
		t.Fatal(err)
	}
	mark := "'" + column[string](t, pool, "SELECT pg_snapshot_xmin(pg_current_snapshot())::text")[0] + "'"
	for range 3 {
		mustExec(t, pool, "CHECKPOINT; SELECT pg_replication_slot_advance('"+slot+"', pg_current_wal_lsn())")
	}
	if !column[bool](t, pool, "SELECT outbox_confirmed_xid() <= "+mark+"::xid8")[0] {
		t.Error("a transaction that is open counts as confirmed")
	}
	wantDrops(t, drops(t, pool, "'1 day'"), map[string]string{"01": "locked", "02": "locked", "03": "emptied", "04": "empty"})
	if err := writer.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantDrops(t, drops(t, pool, "'1 day'"), map[string]string{"01": "unconfirmed", "02": "locked", "03": "dropped", "04": "dropped"})
	if err := reader.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	confirm(t, pool, slot)
	wantDrops(t, drops(t, pool, "'1 day'"), map[string]string{"01": "dropped", "02": "dropped"})
}

func TestDropPartitions_NeverQueuesInFrontOfWriters(t *testing.T) {
	t.Parallel()
	pool, slot := newOldDatabase(t)
	confirm(t, pool, slot)
	busy, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Rollback(t.Context())
	if err := outbox.Insert(t.Context(), busy, jsonEvent("o-1")); err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	wantDrops(t, drops(t, pool, "'1 day'"), map[string]string{"01": "emptied", "02": "emptied", "03": "emptied", "04": "empty"})
	wantDrops(t, drops(t, pool, "'1 day'"), map[string]string{"01": "empty", "02": "empty", "03": "empty", "04": "empty"})
	if took := time.Since(started); took > time.Second {
		t.Errorf("it took %v beside a writer: it waited for a lock", took)
	}
	// A row of an emptied day goes there like before, and is safe.
	insertAt(t, pool, "2026-09-02 13:00:00+00")
	if err := busy.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantDrops(t, drops(t, pool, "'1 day'"), map[string]string{"01": "dropped", "02": "unconfirmed", "03": "dropped", "04": "dropped"})
	// And one of a dropped day to the default partition.
	insertAt(t, pool, "2026-09-01 13:00:00+00")
	if n := count(t, pool); n != 3 {
		t.Errorf("%d rows, want 3", n)
	}
}

func TestDropPartitions_RefusesWhatCannotBeMeant(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	for _, query := range []string{
		"SELECT outbox_drop_partitions('0')",
		"SELECT outbox_drop_partitions('-1 day')",
		"SELECT outbox_drop_partitions(NULL)",
		"SELECT outbox_trim_default(NULL)",
		"BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT outbox_drop_partitions('1 day')",
		"SET ROLE pg_read_all_data; SELECT outbox_drop_partitions('1 day')",
		"SET ROLE pg_read_all_data; SELECT outbox_trim_default('1 day')",
	} {
		conn, err := pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, err = conn.Exec(t.Context(), query, pgx.QueryExecModeSimpleProtocol)
		var pgErr *pgconn.PgError
		if !errors.As(err, &pgErr) || pgErr.Code != "P0001" && pgErr.Code != "42501" {
			t.Errorf("%s: got %v", query, err)
		}
		_ = conn.Conn().Close(t.Context())
		conn.Release()
	}
}

func TestTrimDefault_DeletesOldConfirmedRowsInBatches(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	slot := newSlot(t, pool)
	insertAt(t, pool, "2100-01-01 00:00:00+00")
	for range 5 {
		insertAt(t, pool, "2026-09-01 12:00:00+00")
	}
	trim := func(args string) int { return column[int](t, pool, "SELECT outbox_trim_default("+args+")")[0] }
	if n := trim("'1 day'"); n != 0 {
		t.Errorf("%d unconfirmed rows deleted", n)
	}
	confirm(t, pool, slot)
	insertAt(t, pool, "2026-09-01 12:00:00+00")
	kept := column[string](t, pool, "SELECT min(id::text) FROM outbox WHERE created_at < now()")[0]
	confirm(t, pool, slot)
	insertAt(t, pool, "2026-09-01 12:00:00+00")
	var got []int
	for range 3 {
		got = append(got, trim("'1 day', batch => 3, keep => ARRAY['"+kept+"']::uuid[]"))
	}
	if diff := cmp.Diff([]int{3, 2, 0}, got); diff != "" {
		t.Errorf("deleted by batch (-want +got):\n%s", diff)
	}
	if n := count(t, pool); n != 3 {
		t.Errorf("%d rows left, want the future one, the kept one and the unconfirmed one", n)
	}
}
