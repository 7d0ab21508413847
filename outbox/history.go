package outbox

import (
	"context"
	"database/sql"
	"fmt"
	"iter"

	"github.com/jackc/pgx/v5"
)

// PgxQuerier is a *pgxpool.Pool, a *pgx.Conn or a pgx.Tx.
type PgxQuerier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// SQLQuerier is a *sql.DB, *sql.Conn or *sql.Tx.
type SQLQuerier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// History returns the kept events of an aggregate in public.outbox; see [Outbox.History].
func History(ctx context.Context, db PgxQuerier, aggregateType, aggregateID string) iter.Seq2[StoredEvent, error] {
	return std.History(ctx, db, aggregateType, aggregateID)
}

// HistorySQL is History for database/sql.
func HistorySQL(ctx context.Context, db SQLQuerier, aggregateType, aggregateID string) iter.Seq2[StoredEvent, error] {
	return std.HistorySQL(ctx, db, aggregateType, aggregateID)
}

// Correlated returns the kept events of a process in public.outbox; see [Outbox.Correlated].
func Correlated(ctx context.Context, db PgxQuerier, correlationID string) iter.Seq2[StoredEvent, error] {
	return std.Correlated(ctx, db, correlationID)
}

// CorrelatedSQL is Correlated for database/sql.
func CorrelatedSQL(ctx context.Context, db SQLQuerier, correlationID string) iter.Seq2[StoredEvent, error] {
	return std.CorrelatedSQL(ctx, db, correlationID)
}

// History returns the events of an aggregate that the outbox still keeps, in one snapshot, to
// rebuild it from:
//
//	for event, err := range outbox.History(ctx, pool, "order", "42") {
//		if err != nil { … }
//		err = event.Decode(…)
//	}
//
// Each range over it runs one query, whose rows are read as they are asked for: a connection
// or transaction can do nothing else meanwhile. An error is the last element. The role needs
// SELECT on the table and on that of the schemas.
//
// # Order
//
// Transactions come one after the other, and the events of each together, in the order in which
// they were inserted. The order of the transactions is that in which they inserted: by the time
// in their events' ids where these are UUIDv7, as Insert makes them (of several, the last), else
// by the time at which the transaction began, which is all that the row says.
//
// Kafka has them in the order of the commits, which stands in the WAL and in no column. The two
// are the same where writers lock the aggregate before they make UUIDv7 ids and insert, and the
// clocks of their hosts are closer than two such transactions. They can differ
//
//   - for transactions that write events of one aggregate without waiting for each other: the one
//     that inserted first may commit last;
//   - for events of other ids (outbox_emit): a transaction that began first may have waited for
//     the other's lock, and so have inserted and committed last.
//
// For the same reason an event can appear in front of others that were there before: do not go
// on reading from where a History ended. Whoever needs the order of the commits finds it in the
// topic, or in the header postrider-position of its records.
//
// # What is missing
//
// Events of partitions that are past their retention are gone, and the first event here need not
// be the aggregate's first. An event that expired before its delivery (ExpiresAt) is here, though
// it went to the dead-letter topic; so is one that no relay has read yet. A tombstone is an event
// like any other and ends nothing: what was before it is still here.
//
// # Cost
//
// The table has no index on the aggregate, for that would be paid by every insert: History scans
// all that is kept. If it is more than a tool for support, add one (docs/saga.md).
func (o *Outbox) History(ctx context.Context, db PgxQuerier, aggregateType, aggregateID string) iter.Seq2[StoredEvent, error] {
	return o.stored(func() (storedRows, error) {
		return pgxRows(db.Query(ctx, o.history, aggregateType, aggregateID))
	})
}

// HistorySQL is History for database/sql, with any Postgres driver.
func (o *Outbox) HistorySQL(ctx context.Context, db SQLQuerier, aggregateType, aggregateID string) iter.Seq2[StoredEvent, error] {
	return o.stored(func() (storedRows, error) {
		return sqlRows(db.QueryContext(ctx, o.history, aggregateType, aggregateID))
	})
}

// Correlated returns all events with the header correlationid, of any aggregate, that the
// outbox still keeps, and the event of which that is the id: it is the first of a process whose
// later events were tied to it by a consumer. HeaderCausationID says which event each followed
// from. Order, what is missing, and the cost are those of [Outbox.History].
func (o *Outbox) Correlated(ctx context.Context, db PgxQuerier, correlationID string) iter.Seq2[StoredEvent, error] {
	return o.stored(func() (storedRows, error) {
		return pgxRows(db.Query(ctx, o.correlated, correlationID))
	})
}

// CorrelatedSQL is Correlated for database/sql, with any Postgres driver.
func (o *Outbox) CorrelatedSQL(ctx context.Context, db SQLQuerier, correlationID string) iter.Seq2[StoredEvent, error] {
	return o.stored(func() (storedRows, error) {
		return sqlRows(db.QueryContext(ctx, o.correlated, correlationID))
	})
}

// Conditions of storedQuery, which can use indexes on just these expressions.
const (
	whereHistory    = `aggregate_type = $1::text AND aggregate_id = $2::text`
	whereCorrelated = `headers ->> 'correlationid' = $1::text
	            OR id = CASE WHEN $1::text ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN $1::text::uuid END`
)

// storedQuery selects events in the order of History. Times are in 1/4096 of a millisecond, the
// unit of the first 60 bits of NewID; the version in a UUIDv7 stands between bits 48 and 49.
// Within a transaction the order is that of the commands (cmin: nobody updates these rows), and
// within a command that of the ids, or of the places in the table.
func storedQuery(name tableName, where string) string {
	return `
	SELECT e.id::text, aggregate_type, aggregate_id, event_type, payload::text, payload_avro, s.schema,
	       headers::text, topic, expires_at, e.created_at
	  FROM (SELECT *, cmin::text::bigint AS command, ctid AS place,
	               CASE WHEN id::text ~ '^.{14}7.{4}[89ab]'
	                    THEN ('x0' || left(id::text, 8) || substr(id::text, 10, 4) || substr(id::text, 16, 3))::bit(64)::bigint
	               END AS made
	          FROM ` + name.sql("") + `
	         WHERE ` + where + `) e
	  LEFT JOIN ` + name.sql("_schema") + ` s ON s.fingerprint = e.schema_fingerprint
	 ORDER BY coalesce(max(made) OVER (PARTITION BY tx_id, e.created_at), (extract(epoch FROM e.created_at) * 4096000)::bigint),
	          e.created_at, tx_id, command, made, place`
}

// storedRows is what pgx.Rows and *sql.Rows have in common.
type storedRows interface {
	Next() bool
	Scan(dest ...any) error
	Err() error
	Close() error
}

type pgxStoredRows struct{ pgx.Rows }

func (r pgxStoredRows) Close() error {
	r.Rows.Close()
	return nil
}

func pgxRows(rows pgx.Rows, err error) (storedRows, error) { return pgxStoredRows{rows}, err }

func sqlRows(rows *sql.Rows, err error) (storedRows, error) { return rows, err }

// stored runs a query for each range over what it returns.
func (o *Outbox) stored(query func() (storedRows, error)) iter.Seq2[StoredEvent, error] {
	return func(yield func(StoredEvent, error) bool) {
		fail := func(err error) {
			yield(StoredEvent{}, fmt.Errorf("outbox: read events of %s: %w%s", o.table, err, missingTableHint(err)))
		}
		rows, err := query()
		if err != nil {
			fail(err)
			return
		}
		defer rows.Close()
		schemas := &storedSchemas{}
		for rows.Next() {
			event, err := scanStored(rows)
			if err != nil {
				fail(err)
				return
			}
			event.schemas = schemas
			if !yield(event, nil) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			fail(err)
		}
	}
}
