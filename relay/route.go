package relay

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// Event is what becomes a record: the meaning of one change, before it is encoded. Its
// slices alias the change and the Event's own scratch space, and hold until the next route.
type Event struct {
	ID            []byte
	AggregateType []byte
	AggregateID   []byte
	Type          []byte

	// Payload is JSON; PayloadAvro is already Avro, written by the schema with the SHA-256
	// Fingerprint. Both nil is a tombstone.
	Payload     []byte
	PayloadAvro []byte
	Fingerprint []byte

	Topic     []byte // the row's own topic; empty for the template's
	Headers   []Header
	CreatedAt []byte // as Postgres prints it, in UTC; empty where there is none
	ExpiresAt time.Time

	scratch []byte
	second  *printedSecond
}

// Header is a name and a value.
type Header struct{ Name, Value []byte }

func (e *Event) tombstone() bool { return e.Payload == nil && e.PayloadAvro == nil }

func (e *Event) header(name string) ([]byte, bool) {
	for _, h := range e.Headers {
		if string(h.Name) == name {
			return h.Value, true
		}
	}
	return nil, false
}

// Router turns changes into events: it knows which tables carry events and what their
// columns mean. Tables without a route are passed over and counted.
type Router struct {
	outbox outboxRoute
	routes map[uint32]*outboxRoute // by relation OID; nil for relations without a route
	onSkip func(rel *Relation, kind ChangeKind)
}

// NewRouter returns the router of cfg. onSkip hears of each change that has no route.
func NewRouter(cfg *Config, onSkip func(rel *Relation, kind ChangeKind)) *Router {
	schema, table := splitTable(cfg.Outbox.Table)
	return &Router{
		outbox: outboxRoute{schema: schema, table: table, columns: cfg.Outbox.Columns},
		routes: make(map[uint32]*outboxRoute),
		onSkip: onSkip,
	}
}

// Relate learns a relation before its first change. A table that lacks a column the route
// needs is the halt TABLE_MISMATCH.
func (r *Router) Relate(rel *Relation) error {
	delete(r.routes, rel.OID)
	if rel.Namespace != r.outbox.schema || rel.Name != r.outbox.table {
		r.routes[rel.OID] = nil
		return nil
	}
	route := r.outbox
	if err := route.bind(rel); err != nil {
		return err
	}
	r.routes[rel.OID] = &route
	return nil
}

// Route fills e from c and reports whether c is an event at all. Updates, deletes and
// truncates of an outbox table are housekeeping, not events. A row that can be no event is
// the halt POISON_EVENT.
func (r *Router) Route(c *Change, e *Event) (bool, error) {
	if c.Kind != ChangeInsert {
		r.onSkip(c.Relation, c.Kind)
		return false, nil
	}
	route := r.routes[c.Relation.OID]
	if route == nil {
		r.onSkip(c.Relation, c.Kind)
		return false, nil
	}
	return true, route.fill(c.New, e)
}

// outboxRoute reads a row of an outbox table.
type outboxRoute struct {
	schema, table string
	columns       ColumnsConfig

	id, aggregateType, aggregateID, eventType routeColumn
	payload, payloadAvro, fingerprint         routeColumn
	headers, topic, expiresAt, createdAt      routeColumn
}

// bind finds the columns of rel.
func (o *outboxRoute) bind(rel *Relation) error {
	var missing, wrong []string
	find := func(column string, types ...uint32) routeColumn {
		if column == "-" {
			return routeColumn{at: -1}
		}
		i := slices.IndexFunc(rel.Columns, func(c Column) bool { return c.Name == column })
		if i < 0 {
			missing = append(missing, column)
		} else if len(types) > 0 && !slices.Contains(types, rel.Columns[i].TypeOID) {
			wrong = append(wrong, column)
		}
		c := routeColumn{at: i, name: column}
		if i >= 0 {
			c.form = binaryForms[rel.Columns[i].TypeOID]
		}
		return c
	}
	text := []uint32{pgtype.TextOID, pgtype.VarcharOID, pgtype.BPCharOID, pgtype.NameOID}
	document := append([]uint32{pgtype.JSONOID, pgtype.JSONBOID}, text...)
	o.id = find(o.columns.ID)
	o.aggregateType = find(o.columns.AggregateType, text...)
	o.aggregateID = find(o.columns.AggregateID)
	o.eventType = find(o.columns.EventType, text...)
	o.payload = find(o.columns.Payload, document...)
	o.payloadAvro = find(o.columns.PayloadAvro, pgtype.ByteaOID)
	o.fingerprint = find(o.columns.SchemaFingerprint, pgtype.ByteaOID)
	o.headers = find(o.columns.Headers, document...)
	o.topic = find(o.columns.Topic, text...)
	o.expiresAt = find(o.columns.ExpiresAt, pgtype.TimestamptzOID)
	o.createdAt = find(o.columns.CreatedAt, pgtype.TimestamptzOID)

	const hint = "name the columns in outbox.columns (\"-\" for one the table does not have) or apply the migration: postrider outbox init"
	switch {
	case len(missing) > 0:
		return halt(TableMismatch, hint, "table %s has no column %s", rel, strings.Join(missing, ", "))
	case len(wrong) > 0:
		return halt(TableMismatch, hint, "table %s has a column of the wrong type: %s", rel, strings.Join(wrong, ", "))
	}
	return nil
}

const hintPoison = "mend the cause (schema, topic), or set on_poison (halt-key, dead-letter) and restart the relay"

func poison(format string, args ...any) *HaltError {
	return halt(PoisonEvent, hintPoison, format, args...)
}

// fill reads a row. What stands in it is in e also where other things in it are wrong.
func (o *outboxRoute) fill(row []Value, e *Event) error {
	if e.second == nil {
		e.second = new(printedSecond)
	}
	r := rowReader{row: row, scratch: scratch(e.scratch), second: e.second}
	clear(e.Headers) // they hold on to the row before
	*e = Event{
		ID:            r.text(o.id),
		AggregateType: r.text(o.aggregateType),
		AggregateID:   r.text(o.aggregateID),
		Type:          r.text(o.eventType),
		Payload:       r.text(o.payload),
		Topic:         r.text(o.topic),
		CreatedAt:     r.text(o.createdAt),
		Headers:       e.Headers[:0],
		second:        e.second,
	}
	if e.PayloadAvro = r.bytea(o.payloadAvro); e.PayloadAvro != nil {
		e.Fingerprint = r.bytea(o.fingerprint)
	}
	headers, expires := r.text(o.headers), r.text(o.expiresAt)
	e.scratch = r.scratch
	switch {
	case errors.Is(r.err, errNeedsText):
		return r.err
	case r.err != nil:
		return poison("event %s: %w", e.ID, r.err)
	}
	var err error
	if headers != nil {
		if e.Headers, err = appendHeaders(e.Headers, headers); err != nil {
			return poison("event %s: column %s: %w", e.ID, o.columns.Headers, err)
		}
	}
	if expires != nil {
		if e.ExpiresAt, err = parseTimestamp(expires); err != nil {
			return poison("event %s: column %s: %w", e.ID, o.columns.ExpiresAt, err)
		}
	}
	return o.complain(e)
}

// complain refuses a row that lacks what every event has.
func (o *outboxRoute) complain(e *Event) error {
	switch {
	case e.ID == nil:
		return poison("an event without %s", o.columns.ID)
	case e.AggregateID == nil:
		return poison("event %s: column %s is null", e.ID, o.columns.AggregateID)
	case len(e.AggregateType) == 0:
		return poison("event %s: column %s is empty", e.ID, o.columns.AggregateType)
	case len(e.Type) == 0:
		return poison("event %s: column %s is empty", e.ID, o.columns.EventType)
	case e.PayloadAvro != nil && e.Payload != nil:
		return poison("event %s has both %s and %s", e.ID, o.columns.Payload, o.columns.PayloadAvro)
	case e.PayloadAvro != nil && len(e.Fingerprint) != 32:
		return poison("event %s: column %s has %d bytes instead of the 32 of a SHA-256", e.ID, o.columns.SchemaFingerprint, len(e.Fingerprint))
	}
	return nil
}

// maxScratch is how much of a large row's scratch memory is kept for the next one.
const maxScratch = 1 << 20

// scratch returns b, emptied for the next row, unless only an unusually large one needed it.
func scratch(b []byte) []byte {
	if cap(b) > maxScratch {
		return nil
	}
	return b[:0]
}

// parseTimestamp reads a timestamptz as Postgres prints it under datestyle ISO and
// timezone UTC. Infinity is the zero time: it never comes.
func parseTimestamp(text []byte) (time.Time, error) {
	if string(text) == "infinity" {
		return time.Time{}, nil
	}
	if string(text) == "-infinity" || bytes.HasSuffix(text, []byte(" BC")) {
		return time.Unix(0, 0), nil
	}
	if bytes.IndexByte(text, '-') > len("9999") {
		return time.Time{}, nil // a year that only a database can write
	}
	return time.Parse("2006-01-02 15:04:05.999999-07", string(text))
}
