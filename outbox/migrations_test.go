package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/postrider/postrider/internal/testserver"
	"github.com/postrider/postrider/outbox"
)

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

// outcomes maps days from today to what outbox_create_partitions did.
func outcomes(t testing.TB, pool *pgxpool.Pool, days int) map[int]string {
	t.Helper()
	today := time.Now().UTC().Truncate(24 * time.Hour)
	got := make(map[int]string)
	rows, err := pool.Query(t.Context(), "SELECT * FROM outbox_create_partitions($1)", days)
	if err != nil {
		t.Fatal(err)
	}
	var name, outcome string
	_, err = pgx.ForEachRow(rows, []any{&name, &outcome}, func() error {
		day, err := time.Parse("outbox_p20060102", name)
		got[int(day.Sub(today).Hours()/24)] = outcome
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestTableDDL_RoutesRowsToTheirDayOrTheDefault(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	// Bounds are days of UTC, whatever the session's time zone.
	mustExec(t, pool, `
		SET timezone = 'Pacific/Auckland';
		INSERT INTO outbox (aggregate_type, aggregate_id, event_type) VALUES ('order', 'today', 'order.gone');
		INSERT INTO outbox (aggregate_type, aggregate_id, event_type, created_at)
		SELECT 'order', d::text, 'order.gone', date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' + d * interval '1 day' + late
		  FROM generate_series(-1, 8) d, unnest('{0, 1 day -1 microsecond}'::interval[]) late;
		RESET timezone`)
	day := func(d int) string { return time.Now().UTC().AddDate(0, 0, d).Format("outbox_p20060102") }
	want := map[string]string{"today": day(0), "-1": "outbox_default", "8": "outbox_default"}
	for d := range 8 {
		want[fmt.Sprint(d)] = day(d)
	}
	got := make(map[string]string)
	for _, pair := range column[[]string](t, pool, `SELECT ARRAY[aggregate_id, string_agg(DISTINCT tableoid::regclass::text, ' and ')]
		FROM outbox GROUP BY aggregate_id`) {
		got[pair[0]] = pair[1]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("partitions by row (-want +got):\n%s", diff)
	}
}

func TestCreatePartitions_SkipsDaysThatTheDefaultHolds(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	mustExec(t, pool, `INSERT INTO outbox (aggregate_type, aggregate_id, event_type, created_at)
		VALUES ('order', 'o-1', 'order.gone', now() + interval '9 days')`)
	mustExec(t, pool, "CREATE TABLE "+time.Now().UTC().AddDate(0, 0, 11).Format("outbox_p20060102")+" (id int)")
	want := map[int]string{8: "created", 9: "default_has_rows", 10: "created", 11: "name_taken"}
	for d := 1; d <= 7; d++ {
		want[d] = "present"
	}
	if diff := cmp.Diff(want, outcomes(t, pool, 11)); diff != "" {
		t.Errorf("first call (-want +got):\n%s", diff)
	}
	want[8], want[10] = "present", "present"
	if diff := cmp.Diff(want, outcomes(t, pool, 11)); diff != "" {
		t.Errorf("second call (-want +got):\n%s", diff)
	}
	mustExec(t, pool, `INSERT INTO outbox (aggregate_type, aggregate_id, event_type, created_at)
		VALUES ('order', 'o-2', 'order.gone', now() + interval '9 days')`)
	if n := count(t, pool); n != 2 {
		t.Errorf("%d rows, want both: a day of the default partition must go on taking rows", n)
	}
}

func TestCreatePartitions_LeavesTodayAlone(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	mustExec(t, pool, "DROP TABLE "+time.Now().UTC().Format("outbox_p20060102"))
	got := outcomes(t, pool, 1)
	if _, ok := got[0]; ok {
		t.Errorf("made a partition for today: %v", got)
	}
}

func TestCreatePartitions_LetsWritersGoOnAndGivesUpOnLocks(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	writer, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Rollback(t.Context())
	if err := outbox.Insert(t.Context(), writer, jsonEvent("o-1")); err != nil {
		t.Fatal(err)
	}
	if got := outcomes(t, pool, 8)[8]; got != "created" {
		t.Errorf("beside an open transaction that wrote today: %s, want created", got)
	}
	// Whoever reads the whole table holds a lock on the default partition too.
	if _, err := writer.Exec(t.Context(), "SELECT count(*) FROM outbox"); err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	if got := outcomes(t, pool, 10); got[9] != "locked" || got[10] != "" {
		t.Errorf("beside a reader of the default partition: %v, want day 9 locked and no further try", got)
	}
	if took := time.Since(started); took > time.Second {
		t.Errorf("it took %v: it waited in front of writers", took)
	}
	if err := outbox.Insert(t.Context(), writer, jsonEvent("o-2")); err != nil {
		t.Errorf("the writer failed: %v", err)
	}
}

func TestCreatePartitions_ByGrantOnly(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	name := testserver.UniqueName(t)
	ddl, err := outbox.RelayDDL("", name)
	if err != nil {
		t.Fatal(err)
	}
	mustExec(t, pool, ddl.Up)
	t.Cleanup(func() { // roles outlive the database of the test
		if _, err := pool.Exec(context.Background(), ddl.Down, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Error(err)
		}
	})
	mustExec(t, pool, "SET ROLE postrider_"+name+"; SELECT * FROM outbox_create_partitions(9); RESET ROLE")
	if got := outcomes(t, pool, 9)[9]; got != "present" {
		t.Errorf("the relay's role did not make the partition: %s", got)
	}

	_, err = pool.Exec(t.Context(), "SET ROLE pg_read_all_data; SELECT * FROM outbox_create_partitions(9)", pgx.QueryExecModeSimpleProtocol)
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) || pgErr.Code != "42501" {
		t.Errorf("a role without the grant: got %v, want permission denied", err)
	}
}

func TestRelayDDL_MakesRolePublicationAndRights(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	name := testserver.UniqueName(t)
	ddl, err := outbox.RelayDDL("", name)
	if err != nil {
		t.Fatal(err)
	}
	mustExec(t, pool, ddl.Up)
	got := column[string](t, pool, `
		SELECT format('publication inserts only: %s, through the root: %s', pubinsert AND NOT (pubupdate OR pubdelete OR pubtruncate), pubviaroot)
		  FROM pg_publication WHERE pubname = $1
		UNION ALL SELECT 'of ' || schemaname || '.' || tablename FROM pg_publication_tables WHERE pubname = $1
		UNION ALL SELECT format('role login: %s, replication: %s, superuser: %s', rolcanlogin, rolreplication, rolsuper) FROM pg_roles WHERE rolname = $1
		UNION ALL SELECT format('%s select: %s, insert: %s', t, has_table_privilege($1, t, 'SELECT'), has_table_privilege($1, t, 'INSERT'))
		  FROM unnest('{outbox,outbox_schema}'::text[]) t`, "postrider_"+name)
	want := []string{
		"publication inserts only: t, through the root: t",
		"of public.outbox",
		"role login: t, replication: t, superuser: f",
		"outbox select: t, insert: f",
		"outbox_schema select: t, insert: f",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	mustExec(t, pool, ddl.Down)
	if n := column[int](t, pool, "SELECT count(*) FROM pg_roles WHERE rolname = $1", "postrider_"+name); n[0] != 0 {
		t.Error("the role is still there")
	}
}

func TestTableDDL_TakesEventsFromPlainSQL(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	mustExec(t, pool, `
		INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload) VALUES ('order', 'o-1', 'order.paid', '{"amount": 1}');
		SELECT outbox_emit('order', 'o-2', 'order.paid', '{"amount": 2}');
		SELECT outbox_emit('order', 'o-3', 'order.paid', json_build_object('amount', 3), '{"traceparent": "00"}');
		SELECT outbox_emit('order', 'o-4', 'order.gone', NULL)`)
	got := read(t, pool)
	payload := func(s string) *string { return &s }
	want := []stored{
		{AggregateType: "order", AggregateID: "o-1", EventType: "order.paid", Payload: payload(`{"amount": 1}`)},
		{AggregateType: "order", AggregateID: "o-2", EventType: "order.paid", Payload: payload(`{"amount": 2}`)},
		{AggregateType: "order", AggregateID: "o-3", EventType: "order.paid", Payload: payload(`{"amount" : 3}`), Headers: map[string]string{"traceparent": "00"}},
		{AggregateType: "order", AggregateID: "o-4", EventType: "order.gone"},
	}
	for i := range got {
		if got[i].ID == ([16]byte{}) {
			t.Errorf("event %d has no id", i)
		}
		got[i].ID = [16]byte{}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	ids := column[bool](t, pool, "SELECT outbox_emit('order', 'o-5', 'order.gone', NULL) IN (SELECT id FROM outbox)")
	if ids[0] {
		t.Error("outbox_emit sees its own row in the statement that calls it")
	}
	id := column[string](t, pool, "SELECT outbox_emit('order', 'o-6', 'order.gone', NULL)::text")
	if n := column[int](t, pool, "SELECT count(*) FROM outbox WHERE id = $1::uuid AND aggregate_id = 'o-6'", id[0]); n[0] != 1 {
		t.Error("outbox_emit did not return the id of its row")
	}
}

func TestTableDDL_RefusesRowsThatCouldNeverBePublished(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	for _, test := range []struct{ constraint, columns, values string }{
		{"outbox_one_payload", "payload, payload_avro, schema_fingerprint", `'{}', '\x00', '\x00'`},
		{"outbox_avro_has_schema", "payload_avro", `'\x00'`},
		{"outbox_avro_has_schema", "schema_fingerprint", `'\x00'`},
		{"outbox_headers_flat", "headers", `'[]'`},
		{"outbox_headers_flat", "headers", `'"x"'`},
		{"outbox_headers_flat", "headers", `'{"a": 1}'`},
		{"outbox_headers_flat", "headers", `'{"a": null}'`},
		{"outbox_headers_flat", "headers", `'{"a": ["x"]}'`},
		{"outbox_headers_flat", "headers", `'{"a": {"b": "x"}}'`},
	} {
		_, err := pool.Exec(t.Context(), fmt.Sprintf(
			"INSERT INTO outbox (aggregate_type, aggregate_id, event_type, %s) VALUES ('order', 'o-1', 'order.paid', %s)", test.columns, test.values))
		var pgErr *pgconn.PgError
		if !errors.As(err, &pgErr) || pgErr.ConstraintName != test.constraint {
			t.Errorf("%s = %s: got %v, want a violation of %s", test.columns, test.values, err, test.constraint)
		}
	}
	mustExec(t, pool, `SELECT outbox_emit('order', 'o-1', 'order.paid', '{}', '{}'), outbox_emit('order', 'o-1', 'order.paid', '{}', '{"a": "", "b": "1"}')`)
}

func TestTableDDL_TakesAnotherTable(t *testing.T) {
	t.Parallel()
	for _, table := range []string{"billing.outbox", "public.events", "Order.User_Events"} {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			config, err := pgxpool.ParseConfig(testserver.Postgres(t))
			if err != nil {
				t.Fatal(err)
			}
			pool, err := pgxpool.NewWithConfig(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(pool.Close)
			ddl, err := outbox.TableDDL(table)
			if err != nil {
				t.Fatal(err)
			}
			relay, err := outbox.RelayDDL(table, testserver.UniqueName(t))
			if err != nil {
				t.Fatal(err)
			}
			schema, name, _ := strings.Cut(table, ".")
			mustExec(t, pool, `CREATE SCHEMA IF NOT EXISTS "`+schema+`"`)
			mustExec(t, pool, ddl.Up)
			mustExec(t, pool, relay.Up)

			o, err := outbox.New(outbox.Config{Table: table})
			if err != nil {
				t.Fatal(err)
			}
			if err := o.RegisterSchemas(t.Context(), pool, created); err != nil {
				t.Fatal(err)
			}
			inTx(t, pool, func(tx pgx.Tx) error {
				return o.Insert(t.Context(), tx, jsonEvent("o-1"), outbox.Event{AggregateType: "order", AggregateID: "o-1", Schema: created, Payload: orderCreated("o-1")})
			})
			quoted := pgx.Identifier{schema, name}.Sanitize()
			emit := pgx.Identifier{schema, name + "_emit"}.Sanitize()
			mustExec(t, pool, "SELECT "+emit+"('order', 'o-2', 'order.gone', NULL)")
			partition := column[string](t, pool, "SELECT DISTINCT tableoid::regclass::text FROM "+quoted)
			if want := time.Now().UTC().Format(name + "_p20060102"); len(partition) != 1 || !strings.Contains(partition[0], want) {
				t.Errorf("rows are in %v, want %s", partition, want)
			}

			mustExec(t, pool, relay.Down)
			mustExec(t, pool, ddl.Down)
			left := column[string](t, pool, `SELECT relname::text FROM pg_class WHERE relnamespace = $1::text::regnamespace
				UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = $1::text::regnamespace`, `"`+schema+`"`)
			if len(left) != 0 {
				t.Errorf("the down migrations left %v", left)
			}
		})
	}
}

func TestTableDDL_RefusesNamesThatNeedEscaping(t *testing.T) {
	t.Parallel()
	for _, table := range []string{"outbox", "a.b.c", `public.out"box`, "public.out'box", "public.", "public.1st", "public.out box", "public." + strings.Repeat("a", 46)} {
		if _, err := outbox.TableDDL(table); err == nil {
			t.Errorf("TableDDL(%q) was accepted", table)
		}
		if _, err := outbox.New(outbox.Config{Table: table}); err == nil {
			t.Errorf("New with table %q was accepted", table)
		}
	}
	for _, name := range []string{"", "Orders", "orders-eu", "a b", strings.Repeat("a", 54)} {
		if _, err := outbox.RelayDDL("", name); err == nil {
			t.Errorf("RelayDDL with name %q was accepted", name)
		}
	}
}
