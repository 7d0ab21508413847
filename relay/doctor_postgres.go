package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	oldestVersion = 150000
	// longTransaction is from when on a transaction is said to be in the way.
	longTransaction = 10 * time.Minute
)

func (d *doctor) checkPostgres(ctx context.Context) {
	d.area = "postgres"
	const hint = "is it running, and is postgres.url right?"
	conn, err := d.cfg.Postgres.connect(ctx)
	if err != nil {
		d.failed("reachable", hint, err)
		return
	}
	defer closeConn(conn)
	if err := limitStatements(ctx, conn, diagnosisTimeout/4); err != nil {
		d.failed("reachable", hint, err)
		return
	}
	facts, err := readCatalog(ctx, conn, d.cfg)
	if err != nil {
		d.failed("reachable", hint, err)
		return
	}
	if facts.ServerVersion < oldestVersion {
		d.fail("version", "upgrade Postgres to 15 or later", "the server is %d", facts.ServerVersion)
		return
	}
	d.ok("reachable", "database %q, server version %d", conn.Config().Database, facts.ServerVersion)
	for _, check := range []struct {
		name string
		run  func(context.Context, *pgx.Conn, *catalog) error
	}{
		{"state", d.checkFacts}, {"capacity", d.checkCapacity}, {"role", d.checkRole}, {"table", d.checkTable},
		{"slot", d.checkSlot}, {"partitions", d.checkPartitions}, {"transactions", d.checkTransactions}, {"failover", d.checkServers},
	} {
		if err := check.run(ctx, conn, &facts); err != nil {
			d.failed(check.name, hint, err)
			if conn.IsClosed() {
				return
			}
		}
	}
}

// checkFacts is what the relay itself does at its start.
func (d *doctor) checkFacts(ctx context.Context, conn *pgx.Conn, facts *catalog) error {
	if facts.InRecovery {
		d.fail("state", "give the primary in postgres.url, or add target_session_attrs=primary", "the server is a standby")
		return nil
	}
	compared, err := d.compare(ctx, conn, facts)
	if asHalt(err) != nil { // a relay may have begun while we looked
		if *facts, err = readCatalog(ctx, conn, d.cfg); err != nil {
			return err
		}
		compared, err = d.compare(ctx, conn, facts)
	}
	switch {
	case asHalt(err) != nil:
		d.halted = true
		return err
	case err != nil:
		d.warn("state", "mend that, and ask again", "it could not be compared with what the relay read last: %v", err)
	case compared:
		d.ok("state", "wal_level logical; server, table, publication and slot are those that the relay read last")
	default:
		d.ok("state", "wal_level logical; table, publication and slot are there as they should be, or may be made")
	}
	return nil
}

// compare judges the facts as the relay does, also by what it remembers, and reports
// whether it remembers anything.
func (d *doctor) compare(ctx context.Context, conn *pgx.Conn, facts *catalog) (compared bool, err error) {
	if err := facts.check(d.cfg, conn.Config().Database); err != nil {
		return false, err
	}
	before, err := d.recall()
	if before == nil {
		if asHalt(err) != nil {
			return false, errors.New("the group in Kafka cannot be read, as is said below")
		}
		return false, err
	}
	source, err := openSource(ctx, d.cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return false, err
	}
	defer source.close()
	system, err := pglogrepl.IdentifySystem(ctx, source.conn)
	if err != nil {
		return false, fmt.Errorf("identify system: %w", err)
	}
	return true, before.check(ctx, source.conn, system, facts, d.cfg)
}

func (d *doctor) checkCapacity(ctx context.Context, conn *pgx.Conn, facts *catalog) error {
	var senders, maxSenders, slots, maxSlots int
	err := conn.QueryRow(ctx, `SELECT (SELECT count(*) FROM pg_stat_replication), current_setting('max_wal_senders')::int,
		(SELECT count(*) FROM pg_replication_slots), current_setting('max_replication_slots')::int`).
		Scan(&senders, &maxSenders, &slots, &maxSlots)
	if err != nil {
		return err
	}
	needSenders, needSlots := 1, 2 // one for the snapshot
	if facts.Slot.ActivePID != 0 {
		needSenders = 0
	}
	if facts.Slot.Exists {
		needSlots = 0
	}
	for _, c := range []struct {
		name           string
		used, most, by int
	}{{"max_wal_senders", senders, maxSenders, needSenders}, {"max_replication_slots", slots, maxSlots, needSlots}} {
		if c.used+c.by > c.most {
			d.fail(c.name, "raise it and restart Postgres", "%d of %d in use, and the relay needs %d more", c.used, c.most, c.by)
		} else {
			d.ok(c.name, "%d of %d in use", c.used, c.most)
		}
	}
	return nil
}

func (d *doctor) checkRole(ctx context.Context, conn *pgx.Conn, facts *catalog) error {
	const grants = "grant the role what `postrider outbox sql --part dba` prints"
	var role string
	var replication, owner, create, reads, readsSchemas bool
	schemas := quoteTable(d.cfg.Outbox.SchemaTable)
	if d.cfg.Outbox.Columns.PayloadAvro == "-" {
		schemas = quoteTable(d.cfg.Outbox.Table) // there are none to read
	}
	err := conn.QueryRow(ctx, `
		SELECT current_user,
		       (SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user)
		         OR EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_replication' AND pg_has_role(oid, 'MEMBER')),
		       coalesce((SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = $1), false),
		       has_database_privilege(current_database(), 'CREATE'),
		       coalesce(has_table_privilege($1, 'SELECT'), false),
		       coalesce(has_table_privilege(to_regclass($2)::oid, 'SELECT'), false)`, facts.TableOID, schemas).
		Scan(&role, &replication, &owner, &create, &reads, &readsSchemas)
	if err != nil {
		return err
	}
	if !replication {
		d.fail("role", "ALTER ROLE … REPLICATION, by a superuser", "role %q may not replicate", role)
	}
	if facts.TableOID == 0 {
		reads, readsSchemas, owner = true, true, true // there is nothing yet to have rights on, as was said
	}
	if !reads {
		d.fail("role", grants, "role %q may not read table %s", role, d.cfg.Outbox.Table)
	}
	if !readsSchemas {
		d.fail("role", grants, "role %q may not read table %s, or it does not exist", role, d.cfg.Outbox.SchemaTable)
	}
	if facts.Publication.OID == 0 && *d.cfg.Postgres.CreatePublication && !(owner && create) {
		d.fail("role", "let a DBA make it: postrider outbox sql --part dba", "publication %q is missing, and role %q may not make it", d.cfg.Postgres.Publication, role)
	}
	if replication && readsSchemas && reads {
		d.ok("role", "%q may replicate and read", role)
	}
	return nil
}

func (d *doctor) checkSlot(ctx context.Context, conn *pgx.Conn, facts *catalog) error {
	var limit string
	if err := conn.QueryRow(ctx, `SHOW max_slot_wal_keep_size`).Scan(&limit); err != nil {
		return err
	}
	if limit == "-1" {
		d.warn("max_slot_wal_keep_size", "set it: then a slot that nobody reads is lost instead of the disk", "there is no limit to the WAL that a slot keeps")
	} else {
		d.ok("max_slot_wal_keep_size", "%s", limit)
	}
	name := d.cfg.Postgres.Slot
	if !facts.Slot.Exists {
		if *d.cfg.Postgres.CreateSlot && !d.halted {
			d.ok("slot", "%q is made at the relay's start (snapshot: %s)", name, d.cfg.Postgres.Snapshot)
		}
		return nil
	}
	lag, _, err := readLag(ctx, conn, name, new(walRate))
	if err != nil {
		return err
	}
	by := "nobody reads it"
	if facts.Slot.ActivePID != 0 {
		by = fmt.Sprintf("process %d reads it", facts.Slot.ActivePID)
	}
	switch facts.Slot.WALStatus {
	case "lost": // said above
	case "unreserved":
		d.warn("slot", "start the relay, or raise max_slot_wal_keep_size at once", "%q is about to be lost at the next checkpoint; %s", name, by)
	default:
		d.ok("slot", "%q: %s, %d bytes behind, %d bytes of WAL kept", name, by, lag.Bytes, lag.RetainedBytes)
	}
	return nil
}

func (d *doctor) checkPartitions(ctx context.Context, conn *pgx.Conn, facts *catalog) error {
	if facts.TableOID == 0 {
		return nil
	}
	t, err := readPartitions(ctx, conn, d.cfg)
	if err != nil {
		return err
	}
	if !t.partitioned {
		d.ok("partitions", "the table is not partitioned: the relay drops no rows of it")
		return nil
	}
	var findings []finding
	if t.missing > 0 {
		findings = append(findings, finding{"today or tomorrow has no partition of its own",
			fmt.Sprintf("SELECT * FROM %s(7); rows of such a day go to the default partition", t.function("_create_partitions"))})
	}
	if t.defaultBytes > 0 {
		findings = append(findings, finding{fmt.Sprintf("the default partition has rows, in %d bytes", t.defaultBytes),
			"its rows are deleted in batches past their retention; see which days have no partition of their own"})
	}
	for function, state := range map[string]functionState{"_create_partitions": t.mayCreate, "_drop_partitions": t.mayDrop, "_trim_default": t.mayTrim} {
		if state != functionThere {
			findings = append(findings, finding{fmt.Sprintf("function %s is missing, or the role may not call it", t.function(function)),
				"apply what `postrider outbox sql` prints of it, and grant EXECUTE"})
		}
	}
	d.found("partitions", findings, "today and tomorrow have one, and the relay may make and drop them")
	return nil
}

func (d *doctor) checkTransactions(ctx context.Context, conn *pgx.Conn, _ *catalog) error {
	var age float64
	var prepared int
	err := conn.QueryRow(ctx, `
		SELECT coalesce(extract(epoch FROM now() - min(xact_start)), 0)::float8,
		       (SELECT count(*) FROM pg_prepared_xacts WHERE prepared < now() - $1 * interval '1 second')
		  FROM pg_stat_activity WHERE backend_xid IS NOT NULL`, longTransaction.Seconds()).Scan(&age, &prepared)
	if err != nil {
		return err
	}
	oldest := time.Duration(age * float64(time.Second)).Round(time.Second)
	const hint = "end it: a slot can neither be made nor let go of WAL while it is open (pg_stat_activity, pg_prepared_xacts)"
	switch {
	case oldest > longTransaction:
		d.warn("transactions", hint, "a transaction that has written is open for %v", oldest)
	case prepared > 0:
		d.warn("transactions", hint, "%d prepared transactions are older than %v", prepared, longTransaction)
	default:
		d.ok("transactions", "none is open for longer than %v, as far as the role may see", longTransaction)
	}
	return nil
}

// checkServers looks at what failover needs of the primary, and of each standby among the
// hosts of postgres.url.
func (d *doctor) checkServers(ctx context.Context, conn *pgx.Conn, facts *catalog) error {
	if d.cfg.Postgres.Failover == nil || !*d.cfg.Postgres.Failover || facts.ServerVersion < failoverVersion {
		return nil // an old server was said above
	}
	found, err := readPrimaryFailover(ctx, conn)
	if err != nil {
		return err
	}
	if facts.Slot.Exists && !facts.Slot.Failover {
		found = append(found, finding{fmt.Sprintf("slot %q is not copied to standbys yet", d.cfg.Postgres.Slot), "restart the relay, which alters it"})
	}
	d.found("failover on the primary", found, "the stream waits for the standbys named in "+standbyParameter)
	conf, err := d.cfg.Postgres.connConfig()
	if err != nil {
		return err
	}
	hosts := []*pgconn.FallbackConfig{{Host: conf.Host, Port: conf.Port, TLSConfig: conf.TLSConfig}}
	hosts = append(hosts, conf.Fallbacks...)
	standbys := 0
	for i, host := range hosts {
		if i > 0 && host.Host == hosts[i-1].Host && host.Port == hosts[i-1].Port {
			continue // the same without TLS
		}
		if d.checkHost(ctx, conf, host) {
			standbys++
		}
	}
	if len(hosts) > 1 && !strings.Contains(string(d.cfg.Postgres.URL), "target_session_attrs") {
		d.warn("failover", "add target_session_attrs=primary to postgres.url", "the relay could connect to a standby, and would wait there")
	}
	if standbys == 0 {
		d.warn("failover on the standby", "name its host in postgres.url too, and target_session_attrs=primary",
			"no standby is named in postgres.url: its settings cannot be checked, and the relay would not find it after a promotion")
	}
	return nil
}

// checkHost reports whether the host is a standby, and looks at its settings.
func (d *doctor) checkHost(ctx context.Context, conf *pgx.ConnConfig, host *pgconn.FallbackConfig) bool {
	one := conf.Copy()
	one.Host, one.Port, one.TLSConfig, one.Fallbacks, one.ValidateConnect = host.Host, host.Port, host.TLSConfig, nil, nil
	name := fmt.Sprintf("failover on %s:%d", host.Host, host.Port)
	const hint = "is it running?"
	conn, err := pgx.ConnectConfig(ctx, one)
	if err != nil {
		d.warn(name, hint, "%v", errors.Unwrap(err))
		return false
	}
	defer closeConn(conn)
	var standby bool
	if err := conn.QueryRow(ctx, `SELECT pg_is_in_recovery()`).Scan(&standby); err != nil || !standby {
		return false
	}
	found, err := readStandbyFailover(ctx, conn, d.cfg.Postgres.Slot)
	if err != nil {
		d.warn(name, hint, "%v", err)
		return true
	}
	d.found(name, found, "the standby has the slot, and keeps it up to date")
	return true
}
