package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// DefaultTable is the table that an Outbox writes to if it is not told otherwise.
const DefaultTable = "public.outbox"

// Config configures an Outbox. The zero value is what the package's functions use.
type Config struct {
	// Table is the outbox table, with its schema. The writer schemas are in the table of
	// the same name with _schema behind it. Defaults to DefaultTable.
	Table string

	// Headers, when set, is called once for each Insert to add headers from the context,
	// for example OpenTelemetry's:
	//
	//	func(ctx context.Context, headers map[string]string) {
	//		otel.GetTextMapPropagator().Inject(ctx, propagation.MapCarrier(headers))
	//	}
	//
	// Defaults to none.
	Headers func(ctx context.Context, headers map[string]string)
}

// Outbox writes events to one outbox table of one database. It is safe for concurrent use.
type Outbox struct {
	table      string
	insertOne  string
	insertMany string
	register   string
	history    string
	correlated string
	headers    func(context.Context, map[string]string)
	registered sync.Map // fingerprint → struct{}
}

// New returns an Outbox. It does not touch the database.
func New(config Config) (*Outbox, error) {
	if config.Table == "" {
		config.Table = DefaultTable
	}
	name, err := parseTable(config.Table)
	if err != nil {
		return nil, err
	}
	const columns = "(id, aggregate_type, aggregate_id, event_type, payload, payload_avro, schema_fingerprint, headers, topic, expires_at)"
	table := name.sql("")
	return &Outbox{
		table: config.Table,
		// The casts, and parameters of Go's plain types only, make the statements work
		// however the driver finds out the types: a pooler may rule out prepared statements.
		insertOne: "INSERT INTO " + table + " " + columns +
			" VALUES ($1::uuid, $2::text, $3::text, $4::text, $5::text::json, $6::bytea, $7::bytea, $8::text::jsonb, $9::text, $10::timestamptz)",
		// One statement for any number of events, so that it is prepared once.
		insertMany: "INSERT INTO " + table + " " + columns +
			" SELECT id::uuid, aggregate_type, aggregate_id, event_type, payload::json, payload_avro, schema_fingerprint, headers::jsonb, topic, expires_at" +
			" FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::bytea[], $8::text[], $9::text[], $10::timestamptz[])" +
			" AS event " + columns,
		register: "INSERT INTO " + name.sql("_schema") + " (fingerprint, schema)" +
			" VALUES ($1::bytea, $2::text) ON CONFLICT (fingerprint) DO NOTHING",
		history:    storedQuery(name, whereHistory),
		correlated: storedQuery(name, whereCorrelated),
		headers:    config.Headers,
	}, nil
}

var std = func() *Outbox {
	o, err := New(Config{})
	if err != nil {
		panic(err)
	}
	return o
}()

// Insert puts events into public.outbox as part of tx; see [Outbox.Insert].
func Insert(ctx context.Context, tx pgx.Tx, events ...Event) error {
	return std.Insert(ctx, tx, events...)
}

// SQLTx is a transaction of database/sql: a *sql.Tx, or what a library has around one, such as
// the ConnPool of gorm within DB.Transaction. Commit and Rollback are not called; they keep
// out a *sql.DB, on which each statement is a transaction by itself. bun.Tx will not do, since
// it takes other placeholders: give its field Tx.
type SQLTx interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	Commit() error
	Rollback() error
}

// InsertSQL is Insert for a transaction of database/sql.
func InsertSQL(ctx context.Context, tx SQLTx, events ...Event) error {
	return std.InsertSQL(ctx, tx, events...)
}

// Queue adds events for public.outbox to batch; see [Outbox.Queue].
func Queue(ctx context.Context, batch *pgx.Batch, events ...Event) error {
	return std.Queue(ctx, batch, events...)
}

// Insert puts events into the outbox as part of tx, in the order given, in one round trip.
// They are delivered if and only if tx is committed.
//
// All events are checked and encoded before anything is sent: an *EventError leaves tx as it
// was. Any other error comes from the database, and tx can only be rolled back. Insert
// without events does nothing.
func (o *Outbox) Insert(ctx context.Context, tx pgx.Tx, events ...Event) error {
	rows, err := o.rows(ctx, events)
	if err != nil || len(rows) == 0 {
		return err
	}
	if len(rows) == 1 {
		_, err = tx.Exec(ctx, o.insertOne, rows[0].args()...)
	} else {
		_, err = tx.Exec(ctx, o.insertMany, columnArgs(rows)...)
	}
	return o.insertError(len(rows), err)
}

// Queue adds to batch the statement that Insert would run, so that events travel with the
// business statements in one round trip. They are delivered if and only if the transaction
// that batch is sent in is committed; a batch that is sent by a connection or pool outside of
// any is a transaction by itself (PostgreSQL manual, "Pipelining").
//
// All events are checked and encoded at once: an *EventError leaves batch as it was. Errors of
// the database come when the batch is sent. Queue without events does nothing.
func (o *Outbox) Queue(ctx context.Context, batch *pgx.Batch, events ...Event) error {
	rows, err := o.rows(ctx, events)
	if err != nil || len(rows) == 0 {
		return err
	}
	if len(rows) == 1 {
		batch.Queue(o.insertOne, rows[0].args()...)
	} else {
		batch.Queue(o.insertMany, columnArgs(rows)...)
	}
	return nil
}

// InsertSQL is Insert for a transaction of database/sql, with any Postgres driver.
func (o *Outbox) InsertSQL(ctx context.Context, tx SQLTx, events ...Event) error {
	rows, err := o.rows(ctx, events)
	if err != nil || len(rows) == 0 {
		return err
	}
	if len(rows) == 1 {
		_, err = tx.ExecContext(ctx, o.insertOne, rows[0].args()...)
	} else {
		_, err = tx.ExecContext(ctx, o.insertMany, columnLiterals(rows)...)
	}
	return o.insertError(len(rows), err)
}

func (o *Outbox) rows(ctx context.Context, events []Event) ([]row, error) {
	if len(events) == 0 {
		return nil, nil
	}
	inherited := o.contextHeaders(ctx)
	rows := make([]row, len(events))
	for i := range events {
		r, refused := newRow(&events[i], inherited)
		if refused == nil && r.payloadAvro != nil {
			if _, ok := o.registered.Load(events[i].Schema.fingerprint); !ok {
				refused = &EventError{Type: r.eventType, Field: "schema", Err: ErrNotRegistered}
			}
		}
		if refused != nil {
			refused.Index = i
			return nil, refused
		}
		rows[i] = r
	}
	return rows, nil
}

func (o *Outbox) insertError(n int, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("outbox: insert %d event(s) into %s: %w%s", n, o.table, err, missingTableHint(err))
}

// missingTableHint says what to do about the one error that everybody meets once.
func missingTableHint(err error) string {
	// Both pgx and the drivers of database/sql have a method for the SQLSTATE.
	var state interface{ SQLState() string }
	var pgErr *pgconn.PgError
	switch {
	case errors.As(err, &pgErr) && pgErr.Code == "42P01",
		errors.As(err, &state) && state.SQLState() == "42P01":
		return " (apply the migration first: postrider outbox sql --help)"
	}
	return ""
}

// args are the parameters of insertOne. A nil interface is NULL for every driver.
func (r *row) args() []any {
	args := []any{formatID(r.id), r.aggregateType, r.aggregateID, r.eventType, nil, nil, nil, nil, nil, nil}
	if r.payload != "" {
		args[4] = r.payload
	}
	if r.payloadAvro != nil {
		args[5], args[6] = r.payloadAvro, r.fingerprint
	}
	if r.headers != "" {
		args[7] = r.headers
	}
	if r.topic != "" {
		args[8] = r.topic
	}
	if !r.expiresAt.IsZero() {
		args[9] = r.expiresAt
	}
	return args
}

// columnArgs are the parameters of insertMany as pgx encodes them, in binary.
func columnArgs(rows []row) []any {
	n := len(rows)
	var (
		ids, aggregateTypes       = make([]string, n), make([]string, n)
		aggregateIDs, eventTypes  = make([]string, n), make([]string, n)
		payloads, headers, topics = make([]*string, n), make([]*string, n), make([]*string, n)
		avros, fingerprints       = make([][]byte, n), make([][]byte, n)
		deadlines                 = make([]*time.Time, n)
	)
	for i := range rows {
		r := &rows[i]
		ids[i], aggregateTypes[i], aggregateIDs[i], eventTypes[i] = formatID(r.id), r.aggregateType, r.aggregateID, r.eventType
		payloads[i], headers[i], topics[i] = orNull(&r.payload), orNull(&r.headers), orNull(&r.topic)
		avros[i], fingerprints[i] = r.payloadAvro, r.fingerprint
		if !r.expiresAt.IsZero() {
			deadlines[i] = &r.expiresAt
		}
	}
	return []any{ids, aggregateTypes, aggregateIDs, eventTypes, payloads, avros, fingerprints, headers, topics, deadlines}
}

func orNull(s *string) *string {
	if *s == "" {
		return nil
	}
	return s
}
