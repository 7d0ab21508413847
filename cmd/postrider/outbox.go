package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/oneline"
	"github.com/postrider/postrider/outbox"
)

func newOutboxCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "outbox",
		Short: "Print or apply the outbox table's DDL",
		Args:  usageNoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError(errors.New("outbox: say sql or init (postrider outbox --help)"))
		},
	}
	cmd.AddCommand(newOutboxSQLCommand(), newOutboxInitCommand())
	return cmd
}

// defaultRelayName is the name that the documentation's configuration has.
const defaultRelayName = "orders"

func newOutboxInitCommand() *cobra.Command {
	var setup outboxSetup
	var url string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Create the outbox table and its publication where they are missing",
		Long: `Create the outbox table and the relay's publication where they are missing, and
check them where they are there. The replication slot is left to the relay,
which makes it at its first start: a slot must never be older than its
publication.

For a production database, put the output of "postrider outbox sql" into your
migrations instead.`,
		Example: `  postrider outbox init --name orders \
      --postgres-url postgres://postgres@127.0.0.1:5432/shop
  postrider outbox init --postgres-url "$ADMIN_URL" --dry-run --json`,
		Args: usageNoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if url == "" {
				url = os.Getenv("POSTRIDER_POSTGRES_URL")
			}
			if url == "" {
				return usageError(errors.New("outbox init: give --postgres-url or set POSTRIDER_POSTGRES_URL"))
			}
			report, err := setup.run(cmd.Context(), url)
			if err != nil {
				return fmt.Errorf("outbox init: %w", err)
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(report)
			}
			return report.print(cmd.OutOrStdout())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&url, "postgres-url", "", "database to set up (default $POSTRIDER_POSTGRES_URL)")
	flags.StringVar(&setup.name, "name", defaultRelayName, "name of the relay, as in its configuration")
	flags.StringVar(&setup.table, "table", outbox.DefaultTable, "outbox table, with its schema")
	flags.BoolVar(&setup.dryRun, "dry-run", false, "say what would be done, change nothing")
	flags.BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

// outboxSetup brings one database to the point where a relay can start.
type outboxSetup struct {
	table, name string
	dryRun      bool
}

// outboxReport says what a setup did. A state is created, present or, in a dry run, missing.
type outboxReport struct {
	Table       outboxObject `json:"table"`
	Publication outboxObject `json:"publication"`
	WALLevel    string       `json:"wal_level"`
	DryRun      bool         `json:"dry_run"`
	Next        []string     `json:"next"`
}

type outboxObject struct {
	Name  string `json:"name"`
	State string `json:"state"`
}

func (r *outboxReport) print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "table        %-24s %s\n", r.Table.Name, r.Table.State)
	fmt.Fprintf(&b, "publication  %-24s %s\n", r.Publication.Name, r.Publication.State)
	b.WriteString("next:\n")
	for _, step := range r.Next {
		fmt.Fprintf(&b, "  - %s\n", step)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (s *outboxSetup) run(ctx context.Context, url string) (*outboxReport, error) {
	ddl, err := outbox.TableDDL(s.table)
	if err != nil {
		return nil, usageError(err)
	}
	if _, err := outbox.RelayDDL(s.table, s.name); err != nil {
		return nil, usageError(err)
	}
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, usageError(err)
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, postgresTrouble(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))

	report := &outboxReport{DryRun: s.dryRun}
	// Two transactions: who may not create a publication has the table at least.
	report.Table, err = s.step(ctx, conn, s.table, "application", s.checkTable, ddl.Up)
	if err != nil {
		return nil, fmt.Errorf("table %s: %w", s.table, err)
	}
	publication := "postrider_" + s.name
	create := fmt.Sprintf("CREATE PUBLICATION %s FOR TABLE %s WITH (publish = 'insert', publish_via_partition_root = true)",
		publication, s.quotedTable())
	report.Publication, err = s.step(ctx, conn, publication, "dba", s.checkPublication, create)
	if err != nil {
		return nil, fmt.Errorf("publication %s: %w", publication, err)
	}
	if err := conn.QueryRow(ctx, "SHOW wal_level").Scan(&report.WALLevel); err != nil {
		return nil, err
	}
	report.Next = s.next(report)
	return report, nil
}

// postgresTrouble says what to look at when there is no connection.
func postgresTrouble(err error) error {
	hint := "is the server up, and is the URL right?"
	var answer *pgconn.PgError
	if errors.As(err, &answer) {
		switch answer.Code {
		case "28P01", "28000": // invalid password, invalid authorization
			hint = "check user and password in the URL, and the server's pg_hba.conf"
		case "3D000": // invalid catalog name
			hint = "create the database, or mend its name in the URL"
		}
	}
	return unreachable(fmt.Errorf("%w (%s)", oneline.Error(err), hint))
}

// step creates what check does not find. Part is the part of the DDL that has it too.
func (s *outboxSetup) step(
	ctx context.Context, conn *pgx.Conn, name, part string,
	check func(context.Context, pgx.Tx) (bool, error), create string,
) (outboxObject, error) {
	object := outboxObject{Name: name, State: "present"}
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		// One init at a time, so that the second finds what the first made.
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtext('postrider outbox init'))"); err != nil {
			return err
		}
		present, err := check(ctx, tx)
		if err != nil || present {
			return err
		}
		if s.dryRun {
			object.State = "missing"
			return nil
		}
		object.State = "created"
		_, err = tx.Exec(ctx, create, pgx.QueryExecModeSimpleProtocol)
		return err
	})
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		switch pgErr.Code {
		case "42501": // insufficient_privilege
			err = fmt.Errorf("%w (use a role that may, or hand the DDL to a DBA: postrider outbox sql --part %s --table %s --name %s)", err, part, s.table, s.name)
		case "3F000": // invalid_schema_name
			err = fmt.Errorf("%w (create the schema first)", err)
		}
	}
	return object, err
}

func (s *outboxSetup) quotedTable() string {
	return pgx.Identifier(strings.SplitN(s.table, ".", 2)).Sanitize()
}

// outboxColumns are what the relay reads from the table.
var outboxColumns = [][2]string{
	{"id", "uuid"}, {"aggregate_type", "text"}, {"aggregate_id", "text"}, {"event_type", "text"},
	{"payload", "json"}, {"payload_avro", "bytea"}, {"schema_fingerprint", "bytea"}, {"headers", "jsonb"},
	{"topic", "text"}, {"expires_at", "timestamp with time zone"}, {"created_at", "timestamp with time zone"}, {"tx_id", "xid8"},
}

func (s *outboxSetup) checkTable(ctx context.Context, tx pgx.Tx) (bool, error) {
	var present bool
	if err := tx.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", s.quotedTable()).Scan(&present); err != nil || !present {
		return false, err
	}
	rows, err := tx.Query(ctx, `SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
		WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped`, s.quotedTable())
	if err != nil {
		return false, err
	}
	types := make(map[string]string)
	var column, typ string
	if _, err := pgx.ForEachRow(rows, []any{&column, &typ}, func() error { types[column] = typ; return nil }); err != nil {
		return false, err
	}
	var wrong []string
	for _, want := range outboxColumns {
		if got := types[want[0]]; got != want[1] {
			wrong = append(wrong, fmt.Sprintf("%s is %s, want %s", want[0], orMissing(got), want[1]))
		}
	}
	if len(wrong) > 0 {
		return false, fmt.Errorf("there is a table of this name with other columns (%s): choose another with --table, or map its columns in the relay's configuration", strings.Join(wrong, "; "))
	}
	return true, nil
}

func orMissing(s string) string {
	if s == "" {
		return "missing"
	}
	return s
}

func (s *outboxSetup) checkPublication(ctx context.Context, tx pgx.Tx) (bool, error) {
	name := "postrider_" + s.name
	var insertOnly, viaRoot, published bool
	err := tx.QueryRow(ctx, `
		SELECT pubinsert AND NOT (pubupdate OR pubdelete OR pubtruncate), pubviaroot,
		       EXISTS (SELECT FROM pg_publication_tables t WHERE t.pubname = p.pubname
		                  AND to_regclass(format('%I.%I', t.schemaname, t.tablename)) = to_regclass($2))
		  FROM pg_publication p WHERE pubname = $1`, name, s.quotedTable()).Scan(&insertOnly, &viaRoot, &published)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return false, s.checkNoSlot(ctx, tx, name)
	case err != nil:
		return false, err
	case !published:
		return false, fmt.Errorf("is there, but without %s: choose another --name, or stop the relay, drop its slot and the publication, and run this again", s.table)
	case !insertOnly || !viaRoot:
		return false, fmt.Errorf("is there with other settings: ALTER PUBLICATION %s SET (publish = 'insert', publish_via_partition_root = true)", name)
	}
	return true, nil
}

// checkNoSlot refuses to make a publication that is younger than its slot: the relay could
// not read it.
func (s *outboxSetup) checkNoSlot(ctx context.Context, tx pgx.Tx, slot string) error {
	var present bool
	err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)", slot).Scan(&present)
	if err == nil && present {
		err = fmt.Errorf("is missing, but the slot %s is there already and cannot read a publication younger than itself: drop it with SELECT pg_drop_replication_slot('%s'), then run this again", slot, slot)
	}
	return err
}

func (s *outboxSetup) next(report *outboxReport) []string {
	var next []string
	if s.dryRun && (report.Table.State == "missing" || report.Publication.State == "missing") {
		next = append(next, "run this again without --dry-run")
	}
	if report.WALLevel != "logical" {
		next = append(next, fmt.Sprintf("set wal_level = logical (it is %s) and restart Postgres: ALTER SYSTEM SET wal_level = 'logical'", report.WALLevel))
	}
	return append(next,
		fmt.Sprintf("give the relay a role of its own: postrider outbox sql --part dba --table %s --name %s", s.table, s.name),
		fmt.Sprintf("start the relay with name: %s, which makes its slot: postrider relay -c postrider.yaml", s.name))
}
