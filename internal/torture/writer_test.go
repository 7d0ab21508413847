package torture

import (
	mathrand "math/rand/v2"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/testserver"
)

// databaseArena returns an arena that has a database, a way to it through a proxy, and
// nothing to carry events.
func databaseArena(t *testing.T) *Arena {
	t.Helper()
	if servers == nil {
		testserver.Absent(t, "POSTGRES_URL or KAFKA_BROKERS is not set; `make test` starts the servers and sets both")
	}
	a := &Arena{
		cfg: Config{Large: 100, needs: PostgresProxy}.withDefaults(), servers: servers, name: testserver.UniqueName(t),
		rng: mathrand.New(mathrand.NewPCG(seed, 1)), ledger: newLedger(), topics: []string{"a", "b"},
	}
	a.log = a.cfg.Logger
	t.Cleanup(func() { a.close(false) })
	if err := a.makeDatabase(t.Context()); err != nil {
		t.Fatal(err)
	}
	var err error
	if a.proxies, err = startProxies(a); err != nil {
		t.Fatal(err)
	}
	a.writer, a.beside = newWriter(a, 0), newWriter(a, 1)
	return a
}

// connected returns a connection of the test's own to the arena's database.
func connected(t *testing.T, a *Arena) *pgx.Conn {
	t.Helper()
	conn, err := a.connect(t.Context(), "postrider torture test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeConn(conn) })
	return conn
}

func execute(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// await returns when a query says true.
func await(t *testing.T, conn *pgx.Conn, query string) {
	t.Helper()
	for done := false; !done; {
		if err := conn.QueryRow(t.Context(), query).Scan(&done); err != nil {
			t.Fatal(err)
		}
	}
}

// endWriters ends the writers' connections as a restart of the server does.
const endWriters = `SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
	WHERE application_name = '` + writerName + `' AND datname = current_database()`

func TestWriter_OutlivesItsConnection(t *testing.T) {
	t.Parallel()
	a := databaseArena(t)
	conn := connected(t, a)
	for range 3 {
		if err := a.emit(a.single("outlives")); err != nil {
			t.Errorf("after its connection was ended: %v", err)
		}
		execute(t, conn, endWriters)
	}
	if committed, _ := a.ledger.counts(); committed != 3 || len(a.ledger.ambiguous) > 0 {
		t.Errorf("%d events are in the ledger, and %d transactions are unknown, want 3 and none", committed, len(a.ledger.ambiguous))
	}
	var rows int
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM outbox`).Scan(&rows); err != nil || rows != 3 {
		t.Errorf("%d rows are in the table (%v), want 3", rows, err)
	}
}

// What is cut is never written a second time, and the ledger says of it what the database says.
func TestWriter_KnowsWhatBecameOfATransactionThatWasCut(t *testing.T) {
	t.Parallel()
	lose := func(t *testing.T, a *Arena, conn *pgx.Conn) {
		t.Helper()
		if err := (toxic{"timeout", map[string]int{"timeout": 0}, false}).add(a.proxies.postgres); err != nil {
			t.Fatal(err)
		}
		execute(t, conn, `SELECT pg_advisory_unlock(1)`)
		await(t, conn, `SELECT EXISTS (SELECT FROM outbox)`)
		a.proxies.close()
	}
	end := func(t *testing.T, _ *Arena, conn *pgx.Conn) {
		t.Helper()
		execute(t, conn, endWriters)
	}
	for _, c := range []struct {
		name      string
		at        string // when the transaction waits, for cut
		cut       func(*testing.T, *Arena, *pgx.Conn)
		unknown   int // transactions, at first
		committed int // events, in the end
	}{
		{"before its commit", "IMMEDIATE", end, 0, 0},
		{"in its commit, which is undone", "DEFERRED", end, 1, 0},
		{"after its commit, whose answer is lost", "DEFERRED", lose, 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := databaseArena(t)
			conn := connected(t, a)
			execute(t, conn, `CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END';
				CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON torture_business DEFERRABLE INITIALLY `+c.at+`
				FOR EACH ROW EXECUTE FUNCTION wait(); SELECT pg_advisory_lock(1)`)
			direct := a.url
			a.url = a.relayURL()
			done := make(chan error)
			go func() { done <- a.emit(a.single("cut")) }()
			await(t, conn, `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
				AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`)
			c.cut(t, a, conn)
			if err := <-done; err == nil {
				t.Error("the writer says that all is well")
			}
			execute(t, conn, `DROP FUNCTION wait CASCADE; SELECT pg_advisory_unlock_all()`)
			a.url = direct
			if committed, _ := a.ledger.counts(); committed != 0 || len(a.ledger.ambiguous) != c.unknown {
				t.Errorf("%d events are in the ledger, and %d transactions are unknown, want none and %d", committed, len(a.ledger.ambiguous), c.unknown)
			}
			if err := a.resolve(t.Context()); err != nil {
				t.Fatal(err)
			}
			var rows int
			if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM outbox`).Scan(&rows); err != nil {
				t.Fatal(err)
			}
			if committed, _ := a.ledger.counts(); committed != c.committed || rows != c.committed || len(a.ledger.ambiguous) > 0 {
				t.Errorf("in the end the ledger has %d events, the table %d, want %d", committed, rows, c.committed)
			}
		})
	}
}

func TestInterleaved_CanBeRepeated(t *testing.T) {
	t.Parallel()
	a := databaseArena(t)
	const repeats = 6
	for range repeats {
		if err := FaultNamed("interleaved").Run(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	if committed, _ := a.ledger.counts(); committed+a.ledger.rolledBack != 2*repeats*a.cfg.Large || a.ledger.rolledBack == 0 {
		t.Errorf("%d events were committed and %d rolled back, want %d together and some rolled back", committed, a.ledger.rolledBack, 2*repeats*a.cfg.Large)
	}
	if len(a.ledger.index) != len(a.ledger.events) {
		t.Errorf("%d events have %d ids", len(a.ledger.events), len(a.ledger.index))
	}
}
