package relay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
)

const (
	hintRepair          = "postrider repair -c FILE compares the kept rows with Kafka and publishes what is missing"
	hintPublicationLost = "rows may have passed the slot unseen: " + hintRepair
	hintSlotMissing     = "set postgres.create_slot: true, or make it: SELECT pg_create_logical_replication_slot('<slot>', 'pgoutput')"
	hintSlotLost        = "the server removed WAL that the slot needed (max_slot_wal_keep_size): " + hintRepair
)

// catalog is what the database says about the objects the relay depends on.
type catalog struct {
	ServerVersion    int // as server_version_num
	WALLevel         string
	WALSenderTimeout time.Duration
	InRecovery       bool // it is a standby

	TableOID uint32

	Publication publicationFacts
	Slot        slotFacts
}

type publicationFacts struct {
	OID         uint32 // 0 where it does not exist
	Inserts     bool
	ViaRoot     bool
	HasTable    bool
	RelationOID uint32 // the row in pg_publication_rel; 0 for ALL TABLES
	Version     uint32 // the transaction that altered the publication last
	RelVersion  uint32 // the same of the row in pg_publication_rel
	Filter      string
}

type slotFacts struct {
	Exists    bool
	Plugin    string
	Database  string
	ActivePID int32
	Confirmed LSN
	WALStatus string
	Failover  bool // Postgres copies it to standbys
}

// readCatalog reads the facts. It changes nothing.
func readCatalog(ctx context.Context, conn *pgx.Conn, cfg *Config) (catalog, error) {
	var c catalog
	var version, timeout string
	err := conn.QueryRow(ctx, `SELECT current_setting('server_version_num'), current_setting('wal_level'),
		(SELECT setting FROM pg_settings WHERE name = 'wal_sender_timeout'), pg_is_in_recovery()`).
		Scan(&version, &c.WALLevel, &timeout, &c.InRecovery)
	if err != nil {
		return c, fmt.Errorf("read server settings: %w", postgresError(err))
	}
	c.ServerVersion, _ = strconv.Atoi(version)
	ms, _ := strconv.Atoi(timeout)
	c.WALSenderTimeout = time.Duration(ms) * time.Millisecond

	err = conn.QueryRow(ctx, `SELECT coalesce(to_regclass($1)::oid, 0)`, quoteTable(cfg.Outbox.Table)).Scan(&c.TableOID)
	if err != nil {
		return c, fmt.Errorf("look up table %s: %w", cfg.Outbox.Table, postgresError(err))
	}
	if c.Publication, err = readPublication(ctx, conn, cfg.Postgres.Publication, c.TableOID); err != nil {
		return c, err
	}
	c.Slot, err = readSlot(ctx, conn, cfg.Postgres.Slot)
	return c, err
}

func readPublication(ctx context.Context, conn *pgx.Conn, name string, table uint32) (publicationFacts, error) {
	var p publicationFacts
	err := conn.QueryRow(ctx, `
		SELECT p.oid, p.pubinsert, p.pubviaroot,
		       p.puballtables OR r.oid IS NOT NULL
		         OR EXISTS (SELECT FROM pg_publication_namespace n JOIN pg_class c ON c.relnamespace = n.pnnspid
		                    WHERE n.pnpubid = p.oid AND c.oid = $2),
		       coalesce(r.oid, 0), coalesce(pg_get_expr(r.prqual, r.prrelid), ''),
		       p.xmin::text::bigint, coalesce(r.xmin::text::bigint, 0)
		FROM pg_publication p LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = $2
		WHERE p.pubname = $1`, name, table).
		Scan(&p.OID, &p.Inserts, &p.ViaRoot, &p.HasTable, &p.RelationOID, &p.Filter, &p.Version, &p.RelVersion)
	if errors.Is(err, pgx.ErrNoRows) {
		return publicationFacts{}, nil
	}
	if err != nil {
		return p, fmt.Errorf("look up publication %q: %w", name, postgresError(err))
	}
	return p, nil
}

func readSlot(ctx context.Context, conn *pgx.Conn, name string) (slotFacts, error) {
	var s slotFacts
	var confirmed string
	err := conn.QueryRow(ctx, `
		SELECT coalesce(plugin, ''), coalesce(database, ''), coalesce(active_pid, 0),
		       coalesce(confirmed_flush_lsn, '0/0')::text, coalesce(wal_status, ''),
		       coalesce((to_jsonb(s) ->> 'failover')::boolean, false) -- from Postgres 17 on
		FROM pg_replication_slots s WHERE slot_name = $1`, name).
		Scan(&s.Plugin, &s.Database, &s.ActivePID, &confirmed, &s.WALStatus, &s.Failover)
	if errors.Is(err, pgx.ErrNoRows) {
		return slotFacts{}, nil
	}
	if err != nil {
		return s, fmt.Errorf("look up slot %q: %w", name, postgresError(err))
	}
	s.Exists = true
	s.Confirmed, err = pglogrepl.ParseLSN(confirmed)
	return s, err
}

// check returns the named halt that the facts demand, or nil. A publication or a slot that
// is missing and may be created is no halt.
func (c *catalog) check(cfg *Config, database string) error {
	if c.InRecovery {
		return errInRecovery
	}
	if err := checkFailover(c.ServerVersion, cfg); err != nil {
		return err
	}
	if c.WALLevel != "logical" {
		return halt(SlotMissing, "set wal_level = logical in postgresql.conf and restart Postgres",
			"the server's wal_level is %q", c.WALLevel)
	}
	if c.TableOID == 0 {
		return halt(TableMismatch, "apply the migration: postrider outbox init, or name the table in outbox.table",
			"table %s does not exist in database %q", cfg.Outbox.Table, database)
	}
	if err := c.checkPublication(cfg); err != nil {
		return err
	}
	slot := cfg.Postgres.Slot
	switch {
	case !c.Slot.Exists:
		if !*cfg.Postgres.CreateSlot {
			return halt(SlotMissing, hintSlotMissing, "slot %q does not exist and postgres.create_slot is false", slot)
		}
	case c.Slot.Plugin != "pgoutput":
		return halt(SlotMissing, "name another slot in postgres.slot", "slot %q decodes with %q instead of pgoutput", slot, c.Slot.Plugin)
	case c.Slot.Database != database:
		return halt(SlotMissing, "name another slot in postgres.slot", "slot %q belongs to database %q, not %q", slot, c.Slot.Database, database)
	case c.Slot.WALStatus == "lost":
		return halt(SlotLost, hintSlotLost, "slot %q is invalidated", slot)
	}
	return nil
}

func (c *catalog) checkPublication(cfg *Config) error {
	name := cfg.Postgres.Publication
	p := c.Publication
	switch {
	case p.OID == 0 && c.Slot.Exists:
		// Postgres decodes with the catalog of the past: a publication made after the slot
		// fails on versions 15 to 17 and is silently skipped on 18.
		return halt(PublicationMissing, hintPublicationLost, "publication %q does not exist but slot %q does", name, cfg.Postgres.Slot)
	case p.OID == 0:
		if !*cfg.Postgres.CreatePublication {
			return halt(PublicationMissing, "make it with what `postrider outbox sql --part dba` prints",
				"publication %q does not exist and postgres.create_publication is false", name)
		}
	case !p.HasTable:
		return halt(PublicationDrift, fmt.Sprintf("ALTER PUBLICATION %q ADD TABLE %s; then %s",
			name, cfg.Outbox.Table, hintRepair), "publication %q does not publish table %s", name, cfg.Outbox.Table)
	case !p.Inserts:
		return halt(PublicationDrift, fmt.Sprintf("ALTER PUBLICATION %q SET (publish = 'insert')", name),
			"publication %q does not publish inserts", name)
	case !p.ViaRoot:
		return halt(PublicationDrift, fmt.Sprintf("ALTER PUBLICATION %q SET (publish_via_partition_root = true)", name),
			"publication %q names partitions instead of their root", name)
	case p.Filter != "":
		return halt(PublicationDrift, fmt.Sprintf("ALTER PUBLICATION %q SET TABLE %s", name, cfg.Outbox.Table),
			"publication %q hides rows by the filter %s", name, p.Filter)
	}
	return nil
}

// drift compares the facts with those that the slot was read with before. What it finds
// would lose rows without an error from the server.
func (c *catalog) drift(now *catalog, cfg *Config) error {
	pub := cfg.Postgres.Publication
	switch {
	case now.TableOID != c.TableOID:
		return halt(PublicationDrift, "copy the rows that were not read from the old table into it, if there are any; then "+hintRepair,
			"table %s was replaced by another", cfg.Outbox.Table)
	case now.Publication.OID != c.Publication.OID:
		return halt(PublicationDrift, hintPublicationLost, "publication %q was dropped or made again", pub)
	case now.Publication.RelationOID != c.Publication.RelationOID:
		return halt(PublicationDrift, hintPublicationLost, "table %s left publication %q", cfg.Outbox.Table, pub)
	}
	if err := now.checkPublication(cfg); err != nil {
		return err
	}
	if now.Publication.Version != c.Publication.Version || now.Publication.RelVersion != c.Publication.RelVersion {
		// It is right now, but may have been wrong in between.
		return halt(PublicationDrift, hintPublicationLost, "publication %q was altered", pub)
	}
	return nil
}

// readableInBinary reports whether the columns of events can be read in binary, and the others
// of the table be sent so, as far as is known. It looks at nothing but system catalogs, for it
// must not wait for those who alter a table: what is published beside this one shows in the
// stream. That a type has no binary form is no reason against it; the server sends text then.
func (c *catalog) readableInBinary(ctx context.Context, conn *pgx.Conn, cfg *Config) (bool, error) {
	var readable bool
	err := conn.QueryRow(ctx, `
		SELECT NOT EXISTS (
			SELECT FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
			WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND NOT CASE
				WHEN a.attname = ANY($2) THEN t.oid = ANY($3)
				ELSE t.typtype IN ('b', 'e') AND t.typcategory <> 'A' -- what others are made of may have no binary form
			END)`,
		c.TableOID, cfg.Outbox.Columns.names(), slices.Collect(maps.Keys(binaryForms))).Scan(&readable)
	if err != nil {
		return false, fmt.Errorf("look up the types of table %s: %w", cfg.Outbox.Table, postgresError(err))
	}
	return readable, nil
}

// createPublication makes the publication for the outbox table.
func createPublication(ctx context.Context, conn *pgx.Conn, cfg *Config) error {
	_, err := conn.Exec(ctx, fmt.Sprintf(`CREATE PUBLICATION %s FOR TABLE %s WITH (publish = 'insert', publish_via_partition_root = true)`,
		pgx.Identifier{cfg.Postgres.Publication}.Sanitize(), quoteTable(cfg.Outbox.Table)))
	if err != nil {
		return fmt.Errorf("create publication %q: %w", cfg.Postgres.Publication, postgresError(err))
	}
	return nil
}
