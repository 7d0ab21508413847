package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// outboxRows reads rows of the outbox table by their id, as they stand now, in the order in
// which they are asked for. The zero value is ready; it connects when it has to.
type outboxRows struct {
	conn    *pgx.Conn
	results *pgconn.ResultReader
	route   outboxRoute
	values  []Value
	ids     []string // of the rows that the results are still to bring, as far as they are there
}

func (r *outboxRows) close() {
	if r.conn != nil {
		closeConn(r.conn)
	}
	r.conn, r.results, r.ids = nil, nil, nil
}

// read fills ev from the row of the first of ids; its slices hold until the next call. The
// rest of them are those that will be asked for next, to be fetched together. A row that is
// gone is a halt on the event.
func (r *outboxRows) read(ctx context.Context, cfg *Config, ids []string, ev *Event) error {
	want := ids[0]
	if len(r.ids) == 0 || r.ids[0] != want {
		if err := r.query(ctx, cfg, ids); err != nil {
			return from(componentPostgres, err)
		}
	}
	r.ids = r.ids[1:]
	if !r.results.NextRow() {
		_, err := r.results.Close()
		r.results, r.ids = nil, nil
		if err == nil {
			return gone(want)
		}
		return from(componentPostgres, postgresError(err))
	}
	r.values = r.values[:0]
	for _, v := range r.results.Values() {
		if v == nil {
			r.values = append(r.values, Value{Kind: ValueNull})
		} else {
			r.values = append(r.values, Value{Kind: ValueText, Data: v})
		}
	}
	err := r.route.fill(r.values, ev)
	if string(ev.ID) != want {
		r.ids = nil // the rows come in order, and this is a later one
		return gone(want)
	}
	return err
}

func gone(id string) *HaltError {
	return halt(PoisonEvent, "the dead letter has its payload",
		"event %[1]s: its row is not in the table any more; put it back from the dead letter, or pass over it: --give-up %[1]s", id)
}

// query asks for the rows of ids, up to one that is named twice: a row is found once.
func (r *outboxRows) query(ctx context.Context, cfg *Config, ids []string) error {
	if r.results != nil {
		_, err := r.results.Close()
		r.results = nil
		if err != nil {
			return postgresError(err)
		}
	}
	if r.conn == nil {
		conn, err := cfg.Postgres.connect(ctx)
		if err != nil {
			return err
		}
		r.conn = conn
	}
	for i, id := range ids {
		if slices.Contains(ids[:i], id) {
			ids = ids[:i]
			break
		}
	}
	id := pgx.Identifier{cfg.Outbox.Columns.ID}.Sanitize()
	query := fmt.Sprintf("SELECT * FROM %s WHERE %s = ANY($1) ORDER BY array_position($1, %s)", quoteTable(cfg.Outbox.Table), id, id)
	r.results = r.conn.PgConn().ExecParams(ctx, query, [][]byte{[]byte(arrayLiteral(ids))}, nil, nil, nil)
	schema, table := splitTable(cfg.Outbox.Table)
	rel := &Relation{Namespace: schema, Name: table}
	for _, f := range r.results.FieldDescriptions() {
		rel.Columns = append(rel.Columns, Column{Name: f.Name, TypeOID: f.DataTypeOID, TypeMod: f.TypeModifier})
	}
	if len(rel.Columns) == 0 {
		_, err := r.results.Close()
		r.results = nil
		if err == nil {
			err = errors.New("no columns")
		}
		return fmt.Errorf("read %s: %w", cfg.Outbox.Table, postgresError(err))
	}
	r.route = outboxRoute{schema: schema, table: table, columns: cfg.Outbox.Columns}
	r.ids = ids
	return r.route.bind(rel)
}

// arrayLiteral writes an array as text (PostgreSQL manual, "Array Input and Output Syntax").
func arrayLiteral(elements []string) string {
	var b strings.Builder
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	for i, e := range elements {
		b.WriteByte("{,"[min(i, 1)])
		b.WriteByte('"')
		_, _ = escape.WriteString(&b, e)
		b.WriteByte('"')
	}
	b.WriteByte('}')
	return b.String()
}
