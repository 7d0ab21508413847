package bench_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/postrider/postrider/internal/benchmark"
	"github.com/postrider/postrider/internal/testserver"
	"github.com/postrider/postrider/outbox"
	"github.com/postrider/postrider/relay"
)

const (
	businessTable  = "CREATE TABLE orders (id text PRIMARY KEY, customer text NOT NULL, currency text NOT NULL, total numeric NOT NULL, status text NOT NULL, note text NOT NULL)"
	businessInsert = "INSERT INTO orders (id, customer, currency, total, status, note) VALUES ($1, $2, $3, $4, $5, $6)"
)

// BenchmarkInsert puts a price on events for the service: the time of a transaction with a
// single business row, and with an event beside it. The kinds of transaction take turns, one
// by one, so that whatever slows the disk down slows all of them down.
func BenchmarkInsert(b *testing.B) {
	needServers(b, "POSTGRES_URL")
	rounds := setting(b, "BENCH_TRANSACTIONS", 2000)
	s := newService(b)
	kinds := s.kinds()
	measured := newFigures()
	for b.Loop() {
		times := make([][]time.Duration, len(kinds))
		for round := range rounds {
			for _, k := range rand.Perm(len(kinds)) { // nobody is always behind the same neighbour
				s.order.Seq++
				started := time.Now()
				if err := kinds[k].transaction(); err != nil {
					b.Fatalf("%s: %v", kinds[k].name, err)
				}
				if round >= rounds/10 { // else statements are still being prepared
					times[k] = append(times[k], time.Since(started))
				}
			}
		}
		medians := make([]float64, len(kinds))
		for k, kind := range kinds {
			slices.Sort(times[k])
			medians[k] = benchmark.Percentile(times[k], .5)
			measured.add(kind.name+"_ms", medians[k])
			if kind.beside >= 0 {
				measured.add("x_"+kind.name, medians[k]/medians[kind.beside])
			}
		}
	}
	measured.report(b)
}

// service writes orders, and events about them.
type service struct {
	b     *testing.B
	conn  *pgx.Conn
	db    *sql.DB
	order orderCreated // whose number says which order it is
	json  outbox.Event
	avro  outbox.Event
}

func newService(b *testing.B) *service {
	b.Helper()
	url := testserver.Postgres(b)
	s := &service{b: b, conn: connect(b, url)}
	config, err := pgx.ParseConfig(url)
	if err != nil {
		b.Fatal(err)
	}
	s.db = stdlib.OpenDB(*config)
	s.db.SetMaxOpenConns(1)
	b.Cleanup(func() { _ = s.db.Close() })
	ddl, err := outbox.TableDDL(relay.DefaultTable)
	if err != nil {
		b.Fatal(err)
	}
	schema, err := outbox.ParseSchema(benchmark.OrderSchema)
	if err != nil {
		b.Fatal(err)
	}
	for _, do := range []func() error{
		func() error { _, err := s.conn.Exec(b.Context(), ddl.Up); return err },
		func() error { _, err := s.conn.Exec(b.Context(), businessTable); return err },
		func() error { _, err := s.conn.Exec(b.Context(), benchmark.WorkloadSQL); return err },
		func() error { return outbox.RegisterSchemas(b.Context(), s.conn, schema) },
	} {
		if err := do(); err != nil {
			b.Fatal(err)
		}
	}
	var text string
	err = s.conn.QueryRow(b.Context(), "SELECT event_payload(100000, $1 - octet_length(event_payload(100000, 0)::text))", payloadBytes).Scan(&text)
	if err == nil {
		err = json.Unmarshal([]byte(text), &s.order)
	}
	if err != nil {
		b.Fatal(err)
	}
	s.json = outbox.Event{AggregateType: "order", AggregateID: "order-1", Type: "order.created", Payload: json.RawMessage(text)}
	s.avro = outbox.Event{AggregateType: "order", AggregateID: "order-1", Schema: schema, Payload: &s.order}
	return s
}

// kind is a kind of transaction. Its time is compared with that of kind number beside, unless
// that is -1.
type kind struct {
	name        string
	beside      int
	transaction func() error
}

func (s *service) kinds() []kind {
	ctx := s.b.Context()
	var ten []outbox.Event
	for range 10 {
		ten = append(ten, s.avro)
	}
	beside := func(do func(tx pgx.Tx) error) func() error {
		return func() error {
			return pgx.BeginFunc(ctx, s.conn, func(tx pgx.Tx) error {
				if _, err := tx.Exec(ctx, businessInsert, s.row()...); err != nil {
					return err
				}
				return do(tx)
			})
		}
	}
	withPGX := func(events ...outbox.Event) func() error {
		return beside(func(tx pgx.Tx) error { return outbox.Insert(ctx, tx, events...) })
	}
	roundTrip := beside(func(tx pgx.Tx) error { // what a statement costs that does nothing
		_, err := tx.Exec(ctx, "SELECT $1::int", 1)
		return err
	})
	return []kind{
		{"plain", -1, withPGX()},
		{"round_trip", 0, roundTrip},
		{"json_event", 0, withPGX(s.json)},
		{"avro_event", 0, withPGX(s.avro)},
		{"ten_avro_events", 0, withPGX(ten...)},
		{"batch_plain", -1, func() error { return s.inBatch(ctx) }},
		{"batch_json_event", 5, func() error { return s.inBatch(ctx, s.json) }},
		{"sql_plain", -1, func() error { return s.withSQL(ctx) }},
		{"sql_json_event", 7, func() error { return s.withSQL(ctx, s.json) }},
	}
}

// inBatch sends the business statement and the events in one round trip.
func (s *service) inBatch(ctx context.Context, events ...outbox.Event) error {
	return pgx.BeginFunc(ctx, s.conn, func(tx pgx.Tx) error {
		var batch pgx.Batch
		batch.Queue(businessInsert, s.row()...)
		if err := outbox.Queue(ctx, &batch, events...); err != nil {
			return err
		}
		return tx.SendBatch(ctx, &batch).Close()
	})
}

func (s *service) withSQL(ctx context.Context, events ...outbox.Event) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, businessInsert, s.row()...); err != nil {
		return err
	}
	if err := outbox.InsertSQL(ctx, tx, events...); err != nil {
		return err
	}
	return tx.Commit()
}

// row returns the business row.
func (s *service) row() []any {
	o := &s.order
	return []any{strconv.FormatInt(o.Seq, 10), o.Customer, o.Currency, o.Total, o.Status, o.Note}
}
