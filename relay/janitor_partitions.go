package relay

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// functionState says whether a function can be called.
type functionState int

const (
	functionMissing functionState = iota
	functionForbidden
	functionThere
)

// partitions is what the database says about the outbox's partitions.
type partitions struct {
	table        string // schema.table
	partitioned  bool
	missing      int      // how many of today and tomorrow (UTC) have no partition of their own
	defaultBytes int64    // the size of the default partition; 0 where it has no rows
	foreign      []string // partitions that are not one day's, or not named so: they are never dropped

	mayCreate, mayDrop, mayTrim functionState
}

// function returns the quoted name of a function of the outbox.
func (t partitions) function(suffix string) string { return quoteTable(t.table + suffix) }

// readPartitions reads the facts. It changes nothing.
func readPartitions(ctx context.Context, conn *pgx.Conn, cfg *Config) (partitions, error) {
	t := partitions{table: cfg.Outbox.Table}
	var gaps string // a condition for the rows that no partition but the default one takes; empty where it cannot be told
	err := conn.QueryRow(ctx, `
		WITH parent AS (
		    SELECT c.oid, c.relname, pg_get_partkeydef(c.oid) AS key, c.relkind = 'p' AS partitioned, coalesce(p.partdefid, 0) AS default_id
		      FROM pg_class c LEFT JOIN pg_partitioned_table p ON p.partrelid = c.oid WHERE c.oid = to_regclass($1)
		), days AS (
		    SELECT (date_trunc('day', now() AT TIME ZONE 'UTC') + n * interval '1 day') AT TIME ZONE 'UTC' AS day FROM generate_series(0, 1) n
		), bounds AS (
		    SELECT c.relname, c.relkind,
		           (CASE bound[1] WHEN 'MINVALUE' THEN '-infinity' ELSE bound[1] END)::timestamptz AS low,
		           (CASE bound[2] WHEN 'MAXVALUE' THEN 'infinity' ELSE bound[2] END)::timestamptz AS high
		      FROM parent JOIN pg_inherits i ON i.inhparent = parent.oid JOIN pg_class c ON c.oid = i.inhrelid
		      LEFT JOIN LATERAL regexp_match(pg_get_expr(c.relpartbound, c.oid), '^FOR VALUES FROM \(''?([^'')]+)''?\) TO \(''?([^'')]+)''?\)') AS bound ON true
		     WHERE c.oid <> parent.default_id
		), key AS (
		    SELECT substring(key FROM '^RANGE \(("[^"]+"|[^",() ]+)\)$') AS name FROM parent
		), gaps AS (
		    SELECT lag(high, 1, '-infinity') OVER (ORDER BY low) AS low, low AS high FROM bounds
		    UNION ALL SELECT coalesce(max(high), '-infinity'), NULL FROM bounds
		)
		SELECT coalesce((SELECT partitioned FROM parent), false),
		       coalesce((SELECT pg_relation_size(default_id) FROM parent WHERE default_id <> 0), 0),
		       (SELECT count(*) FROM days WHERE NOT EXISTS (
		           SELECT FROM bounds WHERE low <= day AND high >= day + interval '1 day')),
		       ARRAY(SELECT bounds.relname::text FROM bounds, parent
		              WHERE NOT coalesce(relkind = 'r' AND high = low + interval '1 day'
		                AND bounds.relname = parent.relname || '_p' || to_char(low AT TIME ZONE 'UTC', 'YYYYMMDD'), false)
		              ORDER BY 1),
		       coalesce((SELECT string_agg(format('%1$s >= %2$L', name, low) || CASE WHEN high IS NULL THEN '' ELSE format(' AND %1$s < %2$L', name, high) END, ' OR ')
		                   FROM gaps, key WHERE low < coalesce(high, 'infinity') AND NOT EXISTS (SELECT FROM bounds WHERE bounds.low IS NULL)), '')`,
		quoteTable(t.table)).Scan(&t.partitioned, &t.defaultBytes, &t.missing, &t.foreign, &gaps)
	if err != nil {
		return t, fmt.Errorf("read the outbox's partitions: %w", err)
	}
	if t.defaultBytes > 0 && gaps != "" {
		// The relay may read the table, but not its partitions by their names. Of this condition the
		// planner knows that only the default partition has such rows.
		var rows bool
		if err := conn.QueryRow(ctx, fmt.Sprintf("SELECT EXISTS (SELECT FROM %s WHERE %s)", quoteTable(t.table), gaps)).Scan(&rows); err != nil {
			return t, fmt.Errorf("read the default partition: %w", err)
		}
		if !rows {
			t.defaultBytes = 0
		}
	}
	for signature, state := range map[string]*functionState{
		t.function("_create_partitions") + "(int, boolean)":              &t.mayCreate,
		t.function("_drop_partitions") + "(interval, uuid[], xid8, int)": &t.mayDrop,
		t.function("_trim_default") + "(interval, uuid[], xid8, int)":    &t.mayTrim,
	} {
		var there, may bool
		err := conn.QueryRow(ctx, `SELECT f IS NOT NULL, coalesce(has_function_privilege(f, 'EXECUTE'), false) FROM to_regprocedure($1) f`, signature).
			Scan(&there, &may)
		switch {
		case err != nil:
			return t, fmt.Errorf("read the outbox's functions: %w", err)
		case may:
			*state = functionThere
		case there:
			*state = functionForbidden
		}
	}
	return t, nil
}

func (m *metrics) setPartitions(t partitions) {
	m.partitionsMissing.Set(-1)
	m.defaultBytes.Set(-1)
	if t.partitioned {
		m.partitionsMissing.Set(float64(t.missing))
		m.defaultBytes.Set(float64(t.defaultBytes))
	}
}
