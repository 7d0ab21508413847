package testserver

import (
	"context"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// cleanupTimeout bounds the removal of what a test made.
const cleanupTimeout = 30 * time.Second

// Postgres creates an empty database on the server of POSTGRES_URL and returns its URL.
// The role in it may replicate and create. When the test ends, the database is dropped
// together with all sessions and replication slots in it, active or not.
func Postgres(t testing.TB) string {
	t.Helper()
	server := lookup(t, "POSTGRES_URL")
	name := UniqueName(t)
	database, err := withDatabase(server, name)
	if err != nil {
		t.Fatalf("POSTGRES_URL: %v", err)
	}
	err = onServer(t.Context(), server, func(conn *pgx.Conn) error {
		_, err := conn.Exec(t.Context(), "CREATE DATABASE "+name)
		return err
	})
	if err != nil {
		t.Fatalf("create a database for the test: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
		defer cancel()
		err := onServer(ctx, server, func(conn *pgx.Conn) error { return dropDatabase(ctx, conn, name) })
		if err != nil {
			t.Errorf("drop the database of the test: %v", err)
		}
	})
	return database
}

func withDatabase(server, name string) (string, error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme == "" {
		return "", fmt.Errorf("want a URL such as postgres://user@host:5432/database")
	}
	u.Path = "/" + name
	return u.String(), nil
}

func onServer(ctx context.Context, server string, do func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return do(conn)
}

// dropDatabase removes a database in spite of whoever still uses it. The order matters: a
// relay that is still running reconnects at once, so the door is shut before anybody is
// shown out; and only slots without a walsender go with their database.
func dropDatabase(ctx context.Context, conn *pgx.Conn, name string) error {
	if _, err := conn.Exec(ctx, "ALTER DATABASE "+name+" ALLOW_CONNECTIONS false"); err != nil {
		return err
	}
	const terminate = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = $1"
	if _, err := conn.Exec(ctx, terminate, name); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, "DROP DATABASE "+name)
	return err
}
