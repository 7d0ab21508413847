package relay

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// sampleRows is how many rows are read for the topics and subjects they name.
const sampleRows = 10000

// checkTable looks at the columns, and at some rows for the topics and subjects they name.
func (d *doctor) checkTable(ctx context.Context, conn *pgx.Conn, facts *catalog) error {
	if facts.TableOID == 0 {
		return nil
	}
	// The last column says whether the slot may not have passed the row.
	query := "SELECT *, age(xmin) <= coalesce((SELECT age(catalog_xmin) FROM pg_replication_slots WHERE slot_name = $1), $2) FROM " +
		quoteTable(d.cfg.Outbox.Table)
	withoutSlot := "-1"
	if d.cfg.Postgres.Snapshot == snapshotInitial {
		withoutSlot = "2147483647"
	}
	if c := d.cfg.Outbox.Columns.CreatedAt; c != "-" {
		query += " WHERE " + pgx.Identifier{c}.Sanitize() + " > now() - interval '1 day'"
	}
	result := conn.PgConn().ExecParams(ctx, fmt.Sprintf("%s LIMIT %d", query, sampleRows),
		[][]byte{[]byte(d.cfg.Postgres.Slot), []byte(withoutSlot)}, nil, nil, nil)
	schema, table := splitTable(d.cfg.Outbox.Table)
	relation := &Relation{OID: facts.TableOID, Namespace: schema, Name: table}
	fields := result.FieldDescriptions()
	for _, f := range fields[:max(len(fields)-1, 0)] {
		relation.Columns = append(relation.Columns, Column{Name: f.Name, TypeOID: f.DataTypeOID})
	}
	router := NewRouter(d.cfg, func(*Relation, ChangeKind) {})
	related := router.Relate(relation)
	rows, poisoned := 0, 0
	change := Change{Kind: ChangeInsert, Relation: relation, New: make([]Value, len(relation.Columns))}
	for result.NextRow() && related == nil {
		values := result.Values()
		last := len(values) - 1
		for i, v := range values[:last] {
			change.New[i] = Value{Kind: ValueText, Data: v}
			if v == nil {
				change.New[i] = Value{Kind: ValueNull}
			}
		}
		rows++
		if !d.sample(router, &change, string(values[last]) == "t") {
			poisoned++
		}
	}
	if _, err := result.Close(); err != nil {
		return postgresError(err)
	}
	if related != nil && len(relation.Columns) > 0 {
		return related
	}
	if poisoned > 0 {
		d.warn("table", "see what the relay says of them, and on_poison", "%d of %d recent rows name no valid topic or subject", poisoned, rows)
		return nil
	}
	d.ok("table", "%s has the columns; %d recent rows name %d topics and %d subjects", d.cfg.Outbox.Table, rows, len(d.topics), len(d.subjects))
	return nil
}

// sample notes the topic and the subject of a row, and reports whether it has both. The
// slot may not have passed the row if it is pending.
func (d *doctor) sample(router *Router, change *Change, pending bool) bool {
	var e Event
	if _, err := router.Route(change, &e); err != nil {
		return false
	}
	topics, err := parseTemplate(d.cfg.Outbox.Topic)
	if err != nil {
		return false
	}
	subjects, err := parseTemplate(d.cfg.Outbox.Subject)
	if err != nil {
		return false
	}
	topic := e.Topic
	if len(topic) == 0 {
		if topic, err = topics.appendTo(nil, &e); err != nil {
			return false
		}
	}
	if !validTopic(topic) {
		return false
	}
	d.topics[string(topic)] = struct{}{}
	if e.Payload == nil && e.PayloadAvro == nil {
		return true // a tombstone needs no schema
	}
	subject, err := subjects.appendTo(nil, &e)
	if err != nil {
		return false
	}
	use := d.subjects[string(subject)]
	if use == nil {
		use = new(subjectUse)
		d.subjects[string(subject)] = use
	}
	use.json = use.json || e.Payload != nil
	use.pending = use.pending || pending
	if !slices.Contains(use.types, string(e.Type)) {
		use.types = append(use.types, string(e.Type))
	}
	return true
}
