// Package outboxtest checks in a service's tests which events a transaction has put into
// the outbox. It looks into the open transaction, so that a test can roll everything back:
//
//	tx, _ := pool.Begin(ctx)
//	defer tx.Rollback(ctx)
//	err := service.PlaceOrder(ctx, tx, order)
//	...
//	outboxtest.Expect(t, tx, outbox.Event{
//		AggregateType: "order",
//		AggregateID:   order.ID,
//		Schema:        created,
//		Payload:       events.OrderCreated{OrderID: order.ID},
//	})
package outboxtest

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hamba/avro/v2"
	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/outbox"
)

// Event is an event as it lies in the outbox, its payload decoded to maps, slices and plain
// values. The payload of a tombstone is nil.
type Event struct {
	ID            string
	AggregateType string
	AggregateID   string
	Type          string
	Payload       any
	Headers       map[string]string
	Topic         string
	ExpiresAt     time.Time
}

// Table is the outbox table to look into. Functions of the package look into
// outbox.DefaultTable.
type Table string

// Expect reports an error with the differences unless tx has put exactly the wanted events
// into the outbox so far, in this order. Of ID, ExpiresAt and Headers only what is set is
// compared. The schemas of the events must be registered, as for Insert.
func Expect(t testing.TB, tx pgx.Tx, want ...outbox.Event) {
	t.Helper()
	Table(outbox.DefaultTable).Expect(t, tx, want...)
}

// ExpectSQL is Expect for a transaction of database/sql.
func ExpectSQL(t testing.TB, tx *sql.Tx, want ...outbox.Event) {
	t.Helper()
	Table(outbox.DefaultTable).ExpectSQL(t, tx, want...)
}

// Emitted returns the events that tx has put into the outbox so far, in their order.
func Emitted(t testing.TB, tx pgx.Tx) []Event {
	t.Helper()
	return Table(outbox.DefaultTable).Emitted(t, tx)
}

// EmittedSQL is Emitted for a transaction of database/sql.
func EmittedSQL(t testing.TB, tx *sql.Tx) []Event {
	t.Helper()
	return Table(outbox.DefaultTable).EmittedSQL(t, tx)
}

// Expect is the function Expect for this table.
func (table Table) Expect(t testing.TB, tx pgx.Tx, want ...outbox.Event) {
	t.Helper()
	compare(t, want, table.Emitted(t, tx))
}

// ExpectSQL is the function ExpectSQL for this table.
func (table Table) ExpectSQL(t testing.TB, tx *sql.Tx, want ...outbox.Event) {
	t.Helper()
	compare(t, want, table.EmittedSQL(t, tx))
}

// Emitted is the function Emitted for this table.
func (table Table) Emitted(t testing.TB, tx pgx.Tx) []Event {
	t.Helper()
	rows, err := tx.Query(t.Context(), table.query())
	if err != nil {
		t.Fatalf("read the outbox: %v", err)
	}
	defer rows.Close()
	return scan(t, rows)
}

// EmittedSQL is the function EmittedSQL for this table.
func (table Table) EmittedSQL(t testing.TB, tx *sql.Tx) []Event {
	t.Helper()
	rows, err := tx.QueryContext(t.Context(), table.query()) //nolint:rowserrcheck // scan checks it
	if err != nil {
		t.Fatalf("read the outbox: %v", err)
	}
	defer rows.Close()
	return scan(t, rows)
}

// query finds the rows of the current transaction in the order they were written: by
// command, then by place, since nothing is ever deleted to make room in front.
func (table Table) query() string {
	return fmt.Sprintf(`
		SELECT e.id::text, e.aggregate_type, e.aggregate_id, e.event_type, e.payload::text, e.payload_avro,
		       s.schema, e.headers::text, e.topic, e.expires_at
		  FROM %s e LEFT JOIN %s_schema s ON s.fingerprint = e.schema_fingerprint
		 WHERE e.tx_id = pg_current_xact_id_if_assigned()
		 ORDER BY e.cmin::text::bigint, e.ctid`, string(table), string(table))
}

// rows is what pgx.Rows and *sql.Rows have in common.
type rows interface {
	Next() bool
	Scan(dest ...any) error
	Err() error
}

func scan(t testing.TB, rows rows) []Event {
	t.Helper()
	var events []Event
	for rows.Next() {
		var e Event
		var payload, schema, headers, topic *string
		var encoded []byte
		var expiresAt *time.Time
		err := rows.Scan(&e.ID, &e.AggregateType, &e.AggregateID, &e.Type, &payload, &encoded, &schema, &headers, &topic, &expiresAt)
		if err == nil && headers != nil {
			err = json.Unmarshal([]byte(*headers), &e.Headers)
		}
		switch {
		case err != nil:
		case payload != nil:
			e.Payload, err = decodeJSON([]byte(*payload))
		case encoded != nil && schema == nil:
			err = fmt.Errorf("the schema of %s is not registered", e.Type)
		case encoded != nil:
			e.Payload, err = decodeAvro(*schema, encoded)
		}
		if err != nil {
			t.Fatalf("read the outbox: %v", err)
		}
		if topic != nil {
			e.Topic = *topic
		}
		if expiresAt != nil {
			e.ExpiresAt = expiresAt.UTC()
		}
		events = append(events, e)
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("read the outbox: %v", err)
	}
	return events
}

func decodeJSON(text []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber() // a long does not fit a float64
	err = d.Decode(&v)
	return v, err
}

// avroAPI puts no bound on the size of a string: the bytes are the test's own.
var avroAPI = avro.Config{MaxByteSliceSize: -1}.Freeze()

func decodeAvro(text string, encoded []byte) (v any, err error) {
	schema, err := avro.ParseBytesWithCache([]byte(text), "", &avro.SchemaCache{})
	if err != nil {
		return nil, err
	}
	err = avroAPI.Unmarshal(schema, encoded, &v)
	return v, err
}

func compare(t testing.TB, want []outbox.Event, got []Event) {
	t.Helper()
	expected := make([]Event, len(want))
	for i, w := range want {
		e, err := expect(w)
		if err != nil {
			t.Fatalf("wanted event %d cannot be: %v", i, err)
		}
		expected[i] = e
	}
	// What is not asked for is not compared.
	relevant := append([]Event{}, got...)
	for i := range min(len(expected), len(relevant)) {
		e, g := &expected[i], &relevant[i]
		if e.ID == "" {
			g.ID = ""
		}
		if e.ExpiresAt.IsZero() {
			g.ExpiresAt = time.Time{}
		}
		g.Headers = maps.Clone(g.Headers)
		maps.DeleteFunc(g.Headers, func(key, _ string) bool { _, asked := e.Headers[key]; return !asked })
	}
	if diff := cmp.Diff(expected, relevant, cmpopts.EquateEmpty(), cmpopts.EquateNaNs(), equalRats); diff != "" {
		t.Errorf("events of the transaction differ (-want +got):\n%s", diff)
	}
}

func expect(w outbox.Event) (Event, error) {
	e := Event{
		AggregateType: w.AggregateType,
		AggregateID:   w.AggregateID,
		Type:          w.Type,
		Headers:       w.Headers,
		Topic:         w.Topic,
	}
	if w.ID != ([16]byte{}) {
		e.ID = fmt.Sprintf("%x-%x-%x-%x-%x", w.ID[:4], w.ID[4:6], w.ID[6:8], w.ID[8:10], w.ID[10:])
	}
	if !w.ExpiresAt.IsZero() {
		e.ExpiresAt = w.ExpiresAt.UTC().Truncate(time.Microsecond) // as Insert does
	}
	if e.Type == "" && w.Schema != nil {
		e.Type = w.Schema.Name()
	}
	switch {
	case w.Tombstone:
		return e, nil
	case w.Schema != nil:
		encoded, err := w.Schema.Encode(w.Payload)
		if err != nil {
			return e, fmt.Errorf("payload: %w", err)
		}
		e.Payload, err = decodeAvro(w.Schema.Text(), encoded)
		return e, err
	default:
		text, err := json.Marshal(w.Payload)
		if err != nil {
			return e, fmt.Errorf("payload: %w", err)
		}
		e.Payload, err = decodeJSON(text)
		return e, err
	}
}

// equalRats compares decimals by value: a big.Rat has no exported fields for cmp to see.
var equalRats = cmp.Comparer(func(a, b *big.Rat) bool {
	return a == b || a != nil && b != nil && a.Cmp(b) == 0
})
