package schemaregistry

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// PostgresStore keeps all in a Postgres database, in the schema postrider_registry. Several
// registries may use one database at the same time.
type PostgresStore struct {
	pool *pgxpool.Pool
}

// OpenPostgres connects to a database and brings its tables up to date, which takes the right
// to create a schema in it, or one named postrider_registry that belongs to the role. Close
// it after use.
func OpenPostgres(ctx context.Context, url string) (*PostgresStore, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("registry store: %w", err) // pgx masks the password
	}
	cfg.ConnConfig.RuntimeParams["application_name"] = "postrider registry"
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("registry store: %w", err)
	}
	err = pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error { return migrate(ctx, conn.Conn()) })
	if err != nil {
		pool.Close()
		return nil, fmt.Errorf("registry store: prepare tables: %w", err)
	}
	return &PostgresStore{pool}, nil
}

// Close closes the connections.
func (s *PostgresStore) Close() { s.pool.Close() }

// Subjects implements Store, without the texts.
func (s *PostgresStore) Subjects(ctx context.Context) (map[string][]Version, error) {
	rows, err := s.pool.Query(ctx, "SELECT subject, version, schema_id, deleted FROM postrider_registry.versions ORDER BY subject, version")
	if err != nil {
		return nil, err
	}
	subjects := make(map[string][]Version)
	var subject string
	var v Version
	_, err = pgx.ForEachRow(rows, []any{&subject, &v.Version, &v.ID, &v.Deleted}, func() error {
		subjects[subject] = append(subjects[subject], v)
		return nil
	})
	return subjects, err
}

// Versions implements Store.
func (s *PostgresStore) Versions(ctx context.Context, subject string) ([]Version, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT version, id, schema, deleted
		FROM postrider_registry.versions JOIN postrider_registry.schemas ON id = schema_id
		WHERE subject = $1 ORDER BY version`, subject)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Version])
}

// SchemaByID implements Store.
func (s *PostgresStore) SchemaByID(ctx context.Context, id int) (string, error) {
	var schema string
	err := s.pool.QueryRow(ctx, "SELECT schema FROM postrider_registry.schemas WHERE id = $1", id).Scan(&schema)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", errNoSchema
	}
	return schema, err
}

// AddVersion implements Store.
func (s *PostgresStore) AddVersion(ctx context.Context, subject, schema string, after int) (Version, error) {
	v := Version{Version: after + 1, Schema: schema}
	err := s.change(ctx, func(tx pgx.Tx) error {
		var highest int
		if err := tx.QueryRow(ctx, "SELECT coalesce(max(version), 0) FROM postrider_registry.versions WHERE subject = $1", subject).Scan(&highest); err != nil {
			return err
		}
		if highest != after {
			return errConflict
		}
		hash := sha256.Sum256([]byte(schema))
		err := tx.QueryRow(ctx, "SELECT id FROM postrider_registry.schemas WHERE sha256 = $1", hash[:]).Scan(&v.ID)
		if errors.Is(err, pgx.ErrNoRows) {
			err = tx.QueryRow(ctx, `
				WITH next AS (UPDATE postrider_registry.state SET last_id = last_id + 1 RETURNING last_id)
				INSERT INTO postrider_registry.schemas (id, sha256, schema) SELECT last_id, $1, $2 FROM next RETURNING id`, hash[:], schema).Scan(&v.ID)
		}
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "INSERT INTO postrider_registry.versions (subject, version, schema_id) VALUES ($1, $2, $3)", subject, v.Version, v.ID)
		return err
	})
	if err != nil {
		return Version{}, err
	}
	return v, nil
}

// DeleteVersions implements Store.
func (s *PostgresStore) DeleteVersions(ctx context.Context, subject string, versions []int, permanent bool) error {
	if !permanent {
		_, err := s.pool.Exec(ctx, "UPDATE postrider_registry.versions SET deleted = true WHERE subject = $1 AND version = ANY ($2)", subject, versions)
		return err
	}
	return s.change(ctx, func(tx pgx.Tx) error {
		for _, sql := range []string{
			"DELETE FROM postrider_registry.versions WHERE subject = $1 AND version = ANY ($2)",
			"DELETE FROM postrider_registry.levels WHERE subject = $1 AND $2::integer[] IS NOT NULL AND NOT EXISTS (SELECT FROM postrider_registry.versions WHERE subject = $1)",
		} {
			if _, err := tx.Exec(ctx, sql, subject, versions); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, "DELETE FROM postrider_registry.schemas WHERE NOT EXISTS (SELECT FROM postrider_registry.versions WHERE schema_id = id)")
		return err
	})
}

// change runs a transaction that no other change of versions runs beside: the lock of the
// one row of state comes first, so each later statement sees all that was committed.
func (s *PostgresStore) change(ctx context.Context, do func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT FROM postrider_registry.state FOR UPDATE"); err != nil {
			return err
		}
		return do(tx)
	})
}

// Level implements Store.
func (s *PostgresStore) Level(ctx context.Context, subject string) (Level, error) {
	var level Level
	err := s.pool.QueryRow(ctx, "SELECT level FROM postrider_registry.levels WHERE subject = $1", subject).Scan(&level)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	return level, err
}

// SetLevel implements Store.
func (s *PostgresStore) SetLevel(ctx context.Context, subject string, level Level) error {
	if level == "" {
		_, err := s.pool.Exec(ctx, "DELETE FROM postrider_registry.levels WHERE subject = $1", subject)
		return err
	}
	_, err := s.pool.Exec(ctx, "INSERT INTO postrider_registry.levels VALUES ($1, $2) ON CONFLICT (subject) DO UPDATE SET level = excluded.level", subject, level)
	return err
}

// Ping implements Store.
func (s *PostgresStore) Ping(ctx context.Context) error { return s.pool.Ping(ctx) }
