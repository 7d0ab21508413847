package docs

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hamba/avro/v2"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/twmb/franz-go/pkg/kgo"
)

// refusalOfOrders refuses those of mallory, at the commit: when all of a snippet's statements went
// well. An event must not outlive that, nor an order the refusal of its event.
const refusalOfOrders = `
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
	    AS $$ BEGIN RAISE EXCEPTION 'no orders of mallory'; END $$;
	CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON orders DEFERRABLE INITIALLY DEFERRED
	    FOR EACH ROW WHEN (NEW.customer = 'mallory') EXECUTE FUNCTION refuse();`

const refusalOfEvents = `ALTER TABLE outbox ADD CONSTRAINT unheard CHECK (aggregate_id NOT LIKE '%-unheard')`

// event is a row of the outbox. Data is nil where the payload is Avro.
type event struct {
	AggregateType, Type string
	Avro                bool
	Data                any
	Headers             map[string]string
}

func TestGuideForExistingServices_DoesWhatItSays(t *testing.T) {
	t.Parallel()

	p := readPage(t, "guide-existing-service.md")
	s := newService(t)

	// Steps 1 and 2: the table, the schema, the relay.
	s.psql("DATABASE_URL", p.take("service.sql")+refusalOfOrders)
	s.shell(p.take("migration"))
	s.applyMigrations()
	s.adminExec(refusalOfEvents)
	s.shell(p.take("dba"))
	s.psql("ADMIN_URL", p.take("grant"))
	s.shell(p.take("init"), "ADMIN_URL="+withUser(t, s.admin.Config().ConnString(), "postgres", "development"))
	s.write("schemas/order.created.avsc", p.take("schemas/order.created.avsc"))
	s.shell(p.take("register"))
	s.write("postrider.yaml", p.take("postrider.yaml"))
	s.shell(p.take("doctor"))
	s.startInBackground(p.take("relay"))

	// Step 3: an order with its event in each way, and some of which nothing may remain.
	ada := func(id string) any { return map[string]any{"order_id": id, "customer": "ada", "total_cents": 1990.0} }
	correlated := map[string]string{"correlationid": "checkout-4711"}
	want := map[string]event{
		"sql-1":     {"order", "order.created", false, ada("sql-1"), correlated},
		"jsonb-1":   {"order", "order.created", false, ada("jsonb-1"), nil},
		"insert-1":  {"order", "order.created", false, ada("insert-1"), nil},
		"trigger-1": {"order", "order.created", false, ada("trigger-1"), nil},
		"python-1":  {"order", "order.created", false, ada("python-1"), correlated},
		"java-1":    {"order", "order.created", false, ada("java-1"), nil},
	}
	for _, way := range []string{"pgx", "batch", "stdlib", "gorm", "gorm-prepared", "bun"} {
		want[way+"-1"] = event{"order", "order.created", true, nil, nil}
	}
	s.shell(p.take("generate"))
	for _, name := range []string{"events.go", "pgx.go", "batch.go", "sql.go", "gorm.go", "bun.go", "orders_test.go"} {
		s.write(name, p.goFile(name))
	}
	s.run(s.dir, "go", "test", "-count=1", ".")
	for _, name := range []string{"plain.sql", "jsonb.sql", "insert.sql"} {
		script := p.take(name)
		s.psql("DATABASE_URL", strings.Replace(script, "COMMIT", "ROLLBACK", 1))
		s.psql("DATABASE_URL", script)
	}
	s.write("orders.py", p.take("orders.py"))
	s.run(".", clients, "python", s.dir+"/main.py")
	s.write("Main.java", s.read("Main.java")+p.take("Orders.java"))
	s.run(".", clients, "java", s.dir+"/Main.java")
	// Last, for from now on it adds to what the others do.
	s.psql("DATABASE_URL", p.take("trigger.sql"))
	const place = "BEGIN; INSERT INTO orders VALUES ('trigger-1', 'ada', 1990);"
	s.psql("DATABASE_URL", place+"ROLLBACK")
	s.psql("DATABASE_URL", place+"COMMIT")
	s.psql("ADMIN_URL", p.take("partitions.sql"))
	p.checkAllTaken()

	if diff := cmp.Diff(want, s.outbox()); diff != "" {
		t.Errorf("the outbox (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), s.orders()); diff != "" {
		t.Errorf("orders (-want +got):\n%s", diff)
	}
	wantRecords := map[string]any{}
	for key := range want {
		wantRecords[key] = map[string]any{"order_id": key, "customer": "ada", "total_cents": int64(1990)}
	}
	if diff := cmp.Diff(wantRecords, s.records(len(want))); diff != "" {
		t.Errorf("Kafka (-want +got):\n%s", diff)
	}
}

// applyMigrations applies the one migration that is there, as goose does.
func (s *service) applyMigrations() {
	s.t.Helper()
	db := stdlib.OpenDB(*s.admin.Config())
	defer db.Close()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, os.DirFS(filepath.Join(s.dir, "db/migrations")))
	if err != nil {
		s.t.Fatal(err)
	}
	if applied, err := provider.Up(s.t.Context()); err != nil || len(applied) != 1 {
		s.t.Fatalf("goose applied %d migrations, want one: %v", len(applied), err)
	}
}

// orders returns the ids of all orders.
func (s *service) orders() []string {
	s.t.Helper()
	rows, err := s.admin.Query(s.t.Context(), `SELECT id FROM orders ORDER BY id COLLATE "C"`)
	if err != nil {
		s.t.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		s.t.Fatal(err)
	}
	return ids
}

// outbox returns all rows of the outbox by their aggregates, each of which has one.
func (s *service) outbox() map[string]event {
	s.t.Helper()
	// A row with Avro has a schema that the relay can find.
	rows, err := s.admin.Query(s.t.Context(), `
		SELECT e.aggregate_id, e.aggregate_type, e.event_type, e.payload_avro IS NOT NULL AND s.schema IS NOT NULL,
		       coalesce(e.payload, 'null'), coalesce(e.headers, 'null')
		  FROM outbox e LEFT JOIN outbox_schema s ON s.fingerprint = e.schema_fingerprint`)
	if err != nil {
		s.t.Fatal(err)
	}
	events := map[string]event{}
	var id string
	var e event
	var payload, headers []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &e.AggregateType, &e.Type, &e.Avro, &payload, &headers}, func() error {
		if _, ok := events[id]; ok {
			s.t.Errorf("there are two events of order %s", id)
		}
		e.Data, e.Headers = nil, nil
		err := errors.Join(json.Unmarshal(payload, &e.Data), json.Unmarshal(headers, &e.Headers))
		events[id] = e
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return events
}

// records waits for n records in Kafka and returns their values by their keys.
func (s *service) records(n int) map[string]any {
	s.t.Helper()
	kafka, err := kgo.NewClient(kgo.SeedBrokers(s.brokers...), kgo.ConsumeTopics(s.topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		s.t.Fatal(err)
	}
	defer kafka.Close()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	values := map[string]any{}
	for len(values) < n {
		fetches := kafka.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			s.t.Fatalf("after %d of %d records: %v", len(values), n, err)
		}
		for _, r := range fetches.Records() {
			if values[string(r.Key)] != nil {
				s.t.Errorf("there are two records of order %s", r.Key)
			}
			values[string(r.Key)] = s.decode(r.Value)
		}
	}
	return values
}

// decode decodes Confluent's wire format.
func (s *service) decode(value []byte) (data any) {
	s.t.Helper()
	text, err := s.registry.SchemaByID(s.t.Context(), int(binary.BigEndian.Uint32(value[1:5])))
	if err != nil {
		s.t.Fatal(err)
	}
	schema, err := avro.ParseBytesWithCache([]byte(text), "", &avro.SchemaCache{})
	if err == nil {
		err = avro.Unmarshal(schema, value[5:], &data)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return data
}
