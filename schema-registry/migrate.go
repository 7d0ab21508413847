package schemaregistry

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"slices"

	"github.com/jackc/pgx/v5"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// postgresSchema is where the tables are, so that the registry can live in a database
// beside others.
const postgresSchema = "postrider_registry"

// migrationLock is the key of the advisory lock under which replicas that start together
// bring the tables up to date one after the other.
const migrationLock = 0x706f7374726964 // "postrid"

// migrate applies the migrations that the database does not have yet, in one transaction.
func migrate(ctx context.Context, conn *pgx.Conn) error {
	names, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		return err
	}
	slices.Sort(names)
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", migrationLock); err != nil {
			return err
		}
		// Only then, for two at once make CREATE … IF NOT EXISTS fail. And not at all where
		// the schema exists, for then the role needs no right to create one.
		var exists bool
		if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", postgresSchema).Scan(&exists); err != nil {
			return err
		}
		if !exists {
			if _, err := tx.Exec(ctx, "CREATE SCHEMA "+postgresSchema); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, "SET LOCAL search_path = "+postgresSchema); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "CREATE TABLE IF NOT EXISTS migrations (version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"); err != nil {
			return err
		}
		var applied int
		if err := tx.QueryRow(ctx, "SELECT coalesce(max(version), 0) FROM migrations").Scan(&applied); err != nil {
			return err
		}
		if applied > len(names) {
			return fmt.Errorf("the tables are of a newer postrider (migration %d, this one knows %d): use that one", applied, len(names))
		}
		for i, name := range names[applied:] {
			text, err := migrationFiles.ReadFile(name)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, string(text)); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if _, err := tx.Exec(ctx, "INSERT INTO migrations (version) VALUES ($1)", applied+i+1); err != nil {
				return err
			}
		}
		return nil
	})
}
