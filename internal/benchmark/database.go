package benchmark

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postrider/postrider/outbox"
	"github.com/postrider/postrider/relay"
)

// database is the schema of the benchmark, with an outbox and a publication of it.
type database struct {
	cfg     relay.PostgresConfig
	name    string // of schema and publication; slots are named after it
	conn    *pgx.Conn
	version string
	note    int // bytes of padding that make a payload as large as was asked for
}

// openDatabase connects and asks whether everything will be allowed. It changes nothing.
func openDatabase(ctx context.Context, cfg relay.PostgresConfig, name string) (*database, error) {
	cfg.Publication = name
	d := &database{cfg: cfg, name: name}
	var err error
	if d.conn, err = cfg.Connect(ctx); err != nil {
		return nil, connectError("Postgres", err)
	}
	if err := d.checkRights(ctx); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *database) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = d.conn.Close(ctx)
}

// checkRights returns everything that is missing at once.
func (d *database) checkRights(ctx context.Context) error {
	var (
		user, database, walLevel         string
		standby, replicates, mayCreate   bool
		slots, freeSlots, senders, freed int
	)
	err := d.conn.QueryRow(ctx, `
		SELECT current_user, current_database(), current_setting('server_version'), current_setting('wal_level'),
		       pg_is_in_recovery(), r.rolsuper OR r.rolreplication, has_database_privilege(current_database(), 'CREATE'),
		       s.slots, s.slots - (SELECT count(*) FROM pg_replication_slots),
		       s.senders, s.senders - (SELECT count(*) FROM pg_stat_replication)
		  FROM pg_roles r, (SELECT current_setting('max_replication_slots')::int AS slots, current_setting('max_wal_senders')::int AS senders) s
		 WHERE r.rolname = current_user`).
		Scan(&user, &database, &d.version, &walLevel, &standby, &replicates, &mayCreate, &slots, &freeSlots, &senders, &freed)
	if err != nil {
		return fmt.Errorf("ask Postgres for its settings: %w", err)
	}
	var missing []string
	need := func(ok bool, format string, args ...any) {
		if !ok {
			missing = append(missing, fmt.Sprintf(format, args...))
		}
	}
	role, base := pgx.Identifier{user}.Sanitize(), pgx.Identifier{database}.Sanitize()
	need(!standby, "Postgres is a standby: name the primary")
	need(walLevel == "logical", "wal_level is %s: ALTER SYSTEM SET wal_level = logical, then restart Postgres", walLevel)
	need(replicates, "role %s may not replicate: ALTER ROLE %s REPLICATION", role, role)
	need(mayCreate, "role %s may not make a schema and a publication in database %s: GRANT CREATE ON DATABASE %s TO %s", role, base, base, role)
	need(freeSlots > 0, "all %d replication slots are taken: raise max_replication_slots, or drop one that nobody needs", slots)
	need(freed > 0, "all %d walsenders are taken: raise max_wal_senders", senders)
	if len(missing) > 0 {
		return &RefusedError{Missing: missing}
	}
	return nil
}

// make makes schema, table, publication and the procedure that loads events.
func (d *database) make(ctx context.Context, c *cleanup, payloadBytes int) error {
	ddl, err := outbox.TableDDL(d.name + ".outbox")
	if err != nil {
		return err
	}
	c.add("schema "+d.name, func(ctx context.Context) error {
		return d.afresh(ctx, func(conn *pgx.Conn) error {
			// Whoever still works for us holds locks.
			_, err := conn.Exec(ctx, `SELECT pg_terminate_backend(a.pid, 10000)
				FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
				JOIN pg_stat_activity a ON a.pid = l.pid
				WHERE l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND n.nspname = $1 AND a.pid <> pg_backend_pid()`, d.name)
			return errors.Join(err, execute(ctx, conn, "DROP SCHEMA IF EXISTS "+d.name+" CASCADE"))
		})
	})
	c.add("publication "+d.name, func(ctx context.Context) error {
		return d.afresh(ctx, func(conn *pgx.Conn) error { return execute(ctx, conn, "DROP PUBLICATION IF EXISTS "+d.name) })
	})
	for _, sql := range []string{
		"CREATE SCHEMA " + d.name,
		ddl.Up,
		"SET search_path = " + d.name,
		WorkloadSQL,
		"CREATE PUBLICATION " + d.name + " FOR TABLE outbox WITH (publish = 'insert', publish_via_partition_root = true)",
	} {
		if err := execute(ctx, d.conn, sql); err != nil {
			return err
		}
	}
	var bare int
	if err := d.conn.QueryRow(ctx, "SELECT octet_length(event_payload(100000, 0)::text)").Scan(&bare); err != nil {
		return fmt.Errorf("prepare the events: %w", err)
	}
	d.note = max(payloadBytes-bare, 0)
	return nil
}

// makeSlot makes a slot at the end of the WAL. Postgres waits for every transaction that is
// open in any database of the server.
func (d *database) makeSlot(ctx context.Context, c *cleanup, slot string) error {
	c.add("slot "+slot, func(ctx context.Context) error { return d.dropSlot(ctx, slot) })
	return execute(ctx, d.conn, "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", slot)
}

// dropSlot drops a slot, whoever still reads it.
func (d *database) dropSlot(ctx context.Context, slot string) error {
	return d.afresh(ctx, func(conn *pgx.Conn) error {
		for {
			_, err := conn.Exec(ctx, `SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots WHERE slot_name = $1 AND active`, slot)
			if err == nil {
				_, err = conn.Exec(ctx, `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1`, slot)
			}
			var pg *pgconn.PgError
			if !errors.As(err, &pg) || pg.Code != "55006" { // in use, again
				return err
			}
			if err := wait(ctx, 100*time.Millisecond); err != nil {
				return err
			}
		}
	})
}

// load commits the events, so many in each transaction, and returns when all of them can be
// read from the WAL.
func (d *database) load(ctx context.Context, events, perTransaction int, progress func(done int)) error {
	// It is not the loading that is measured: let it be fast.
	for _, sql := range []string{"TRUNCATE outbox", "SET synchronous_commit = off", "SET plan_cache_mode = force_generic_plan"} {
		if err := execute(ctx, d.conn, sql); err != nil {
			return err
		}
	}
	step := max(events/50/perTransaction, 1) * perTransaction
	for first := 0; first < events; first += step {
		last := min(first+step, events)
		if err := execute(ctx, d.conn, "CALL load_events($1, $2, $3, $4)", first, last, perTransaction, d.note); err != nil {
			return err
		}
		progress(last)
	}
	// A walsender sends what is on the disk: so what was committed without waiting must get there.
	for _, sql := range []string{"SET synchronous_commit = on", "INSERT INTO loaded DEFAULT VALUES"} {
		if err := execute(ctx, d.conn, sql); err != nil {
			return err
		}
	}
	return nil
}

// roundTrip returns the shortest of some times that Postgres took to answer.
func (d *database) roundTrip(ctx context.Context) (time.Duration, error) {
	return shortest(func() error { return d.conn.Ping(ctx) })
}

// walsender returns the process that serves slot, 0 while none does.
func (d *database) walsender(ctx context.Context, slot string) (pid int, err error) {
	err = d.conn.QueryRow(ctx, "SELECT coalesce(max(active_pid), 0) FROM pg_replication_slots WHERE slot_name = $1", slot).Scan(&pid)
	if err != nil {
		return 0, fmt.Errorf("look for the walsender: %w", err)
	}
	return pid, nil
}

// afresh runs do on a connection of its own: the one that was used may be broken, or in the
// middle of a statement.
func (d *database) afresh(ctx context.Context, do func(*pgx.Conn) error) error {
	conn, err := d.cfg.Connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return do(conn)
}

func execute(ctx context.Context, conn *pgx.Conn, sql string, args ...any) error {
	if _, err := conn.Exec(ctx, sql, args...); err != nil {
		return fmt.Errorf("%.60s: %w", sql, err)
	}
	return nil
}

// wait returns after d, or with its cause when ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// shortest returns the shortest of some times that ask took.
func shortest(ask func() error) (time.Duration, error) {
	var best time.Duration
	for i := range 10 {
		started := time.Now()
		if err := ask(); err != nil {
			return 0, err
		}
		if took := time.Since(started); i == 0 || took < best {
			best = took
		}
	}
	return best, nil
}
