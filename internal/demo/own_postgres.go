package demo

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postrider/postrider/relay"
)

const (
	// ownName begins the name of everything that is made on servers of the user's, and is that of
	// database, slot, publication and of the group in which the relay keeps its place.
	ownName = "postrider_demo"
	// ownComment marks the database, with the id of the run that made it behind it.
	ownComment = "postrider demo "

	serverTimeout = 15 * time.Second
)

// ownPostgres is a server of the user's. The demo has a database of its own on it.
type ownPostgres struct {
	cfg     relay.PostgresConfig // as the user gave it
	comment string
	found   bool // the database is there, and ours
	replace bool // it is there, and another demo's that is to be removed
}

// checkPostgres connects and asks whether everything will be allowed. It changes nothing.
func checkPostgres(ctx context.Context, cfg Config, p *place) (*ownPostgres, error) {
	ctx, cancel := context.WithTimeout(ctx, serverTimeout)
	defer cancel()
	o := &ownPostgres{cfg: relay.PostgresConfig{URL: relay.SecretURL(cfg.PostgresURL)}, comment: ownComment + p.memory.ID}
	conn, err := o.cfg.Connect(ctx)
	if err != nil {
		return nil, connectError("--postgres-url", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := checkRights(ctx, conn); err != nil {
		return nil, err
	}
	return o, o.checkLeft(ctx, conn, cfg.Replace, p)
}

// connectError tells a server that says no from one that does not answer.
func connectError(server string, err error) error {
	var halt *relay.HaltError
	if errors.As(err, &halt) {
		return &RefusedError{Missing: []string{fmt.Sprintf("%s: %v; %s", server, halt.Err, halt.Hint)}}
	}
	return &UnreachableError{fmt.Errorf("%s: %w; check host and port, and that the server runs", server, err)}
}

// checkRights returns everything that is missing at once.
func checkRights(ctx context.Context, conn *pgx.Conn) error {
	var (
		user, walLevel                   string
		standby, replicates, mayCreate   bool
		slots, freeSlots, senders, freed int
	)
	err := conn.QueryRow(ctx, `
		SELECT current_user, current_setting('wal_level'), pg_is_in_recovery(),
		       r.rolsuper OR r.rolreplication, r.rolsuper OR r.rolcreatedb,
		       s.slots, s.slots - (SELECT count(*) FROM pg_replication_slots),
		       s.senders, s.senders - (SELECT count(*) FROM pg_stat_replication)
		  FROM pg_roles r, (SELECT current_setting('max_replication_slots')::int AS slots, current_setting('max_wal_senders')::int AS senders) s
		 WHERE r.rolname = current_user`).
		Scan(&user, &walLevel, &standby, &replicates, &mayCreate, &slots, &freeSlots, &senders, &freed)
	if err != nil {
		return fmt.Errorf("ask Postgres for its settings: %w", err)
	}
	var missing []string
	need := func(ok bool, format string, args ...any) {
		if !ok {
			missing = append(missing, fmt.Sprintf("Postgres: "+format, args...))
		}
	}
	role := pgx.Identifier{user}.Sanitize()
	need(!standby, "it is a standby: name the primary")
	need(walLevel == "logical", "wal_level is %s: ALTER SYSTEM SET wal_level = logical, then restart it", walLevel)
	need(replicates, "role %s may not replicate: ALTER ROLE %s REPLICATION", role, role)
	need(mayCreate, "role %s may not make a database: ALTER ROLE %s CREATEDB", role, role)
	need(freeSlots > 0, "all %d replication slots are taken: raise max_replication_slots, or drop one that nobody needs", slots)
	need(freed > 0, "all %d walsenders are taken: raise max_wal_senders", senders)
	if len(missing) > 0 {
		return &RefusedError{Missing: missing}
	}
	return nil
}

// checkLeft looks for what another run has left. What the directory of --keep belongs to is
// used again.
func (o *ownPostgres) checkLeft(ctx context.Context, conn *pgx.Conn, replace bool, p *place) error {
	var (
		comment, slotOf *string
		sessions        int
	)
	err := conn.QueryRow(ctx, `
		SELECT (SELECT coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database WHERE datname = $1),
		       (SELECT coalesce(database, 'none') FROM pg_replication_slots WHERE slot_name = $1 AND database IS DISTINCT FROM $1),
		       (SELECT count(*) FROM pg_stat_activity WHERE datname = $1)`, ownName).Scan(&comment, &slotOf, &sessions)
	if err != nil {
		return fmt.Errorf("look for database %s: %w", ownName, err)
	}
	refuse := func(format string, args ...any) error {
		return &RefusedError{Missing: []string{fmt.Sprintf("Postgres: "+format, args...)}}
	}
	switch {
	case slotOf != nil:
		return refuse("replication slot %s is there already and belongs to database %s, not to a demo: drop it if nobody needs it", ownName, *slotOf)
	case comment == nil && p.memory.Made:
		return refuse("the database %s that belongs to this --keep directory is gone: name a new directory", ownName)
	case comment == nil:
		return nil
	case sessions > 0:
		return refuse("database %s is in use by %d sessions: end the other demo, or whoever is connected to it", ownName, sessions)
	case *comment == o.comment:
		o.found = true
		return nil
	case !strings.HasPrefix(*comment, ownComment):
		return refuse("there is a database %s that no demo has made: rename it", ownName)
	case !replace:
		return refuse("database %s is there from another demo, which was killed or ran with --keep: name its directory by --keep, or remove what it left by --replace", ownName)
	}
	o.replace = true
	return nil
}

// make makes the database, unless it is there, and returns its URL.
func (o *ownPostgres) make(ctx context.Context, c *cleanup, keep bool) (string, error) {
	database, err := withDatabase(string(o.cfg.URL), ownName)
	if err != nil {
		return "", err
	}
	if o.replace {
		if err := o.drop(ctx); err != nil {
			return "", fmt.Errorf("--replace: drop database %s: %w", ownName, err)
		}
	}
	if !keep {
		c.add("database "+ownName, o.drop)
	}
	if o.found {
		return database, nil
	}
	conn, err := o.cfg.Connect(ctx)
	if err != nil {
		return "", connectError("--postgres-url", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, sql := range []string{
		"CREATE DATABASE " + ownName,
		"COMMENT ON DATABASE " + ownName + " IS '" + o.comment + "'",
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return "", fmt.Errorf("make database %s: %w", ownName, err)
		}
	}
	return database, nil
}

// drop removes the database with its slot and everybody in it.
func (o *ownPostgres) drop(ctx context.Context) error {
	conn, err := o.cfg.Connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for {
		// Only a slot that nobody reads goes with its database.
		_, err = conn.Exec(ctx, "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1", ownName)
		if err == nil {
			_, err = conn.Exec(ctx, "DROP DATABASE IF EXISTS "+ownName+" WITH (FORCE)")
		}
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || pg.Code != "55006" { // in use, again
			return err
		}
		if !sleep(ctx, pollInterval) {
			return err
		}
	}
}

// withDatabase is the URL of another database on the same server.
func withDatabase(server, name string) (string, error) {
	u, err := url.Parse(server)
	if err != nil {
		return "", errors.New("--postgres-url cannot be parsed")
	}
	u.Path = "/" + name
	query := u.Query()
	query.Del("dbname")
	query.Del("database")
	u.RawQuery = query.Encode()
	return u.String(), nil
}
