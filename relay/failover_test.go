package relay_test

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/ledger"
	"github.com/postrider/postrider/internal/testserver"
	"github.com/postrider/postrider/relay"
)

func failover(c *relay.Config) { c.Postgres.Failover = new(true) }

// newPrimary returns a private Postgres that has failover slots, or skips the test.
func newPrimary(t *testing.T) (*testserver.PostgresCluster, *fixture) {
	t.Helper()
	postgres := testserver.NewPostgresCluster(t)
	f := newFixtureOn(t, postgres.URL())
	if version := ask[string](f, `SHOW server_version`); version < "17" {
		t.Skipf("failover slots need Postgres 17 or later, and this is %s: put the binaries of another on PATH, or set PGVERSION", version)
	}
	return postgres, f
}

func TestFailover_RelayGoesOnFromThePromotedStandby(t *testing.T) {
	t.Parallel()
	primary, f := newPrimary(t)
	f.exec(`SELECT pg_create_physical_replication_slot('standby', true)`)
	standby := primary.NewStandby()
	var err error
	if f.db, err = pgx.Connect(t.Context(), f.url); err != nil { // it was restarted
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.db.Close(context.Background()) })
	f.exec(`ALTER SYSTEM SET synchronized_standby_slots = 'standby'`)
	f.exec(`SELECT pg_reload_conf()`)

	// Both hosts, the standby first: the relay finds the primary by itself.
	one, err := url.Parse(primary.URL())
	if err != nil {
		t.Fatal(err)
	}
	two, err := url.Parse(standby.URL())
	if err != nil {
		t.Fatal(err)
	}
	both := *one
	both.Host = two.Host + "," + one.Host
	both.RawQuery += "&target_session_attrs=primary"
	f.cfg.Postgres.URL = relay.SecretURL(both.String())
	f.emit("before", 1, 3)
	r := f.start(failover)
	r.untilStreaming()
	if !ask[bool](f, `SELECT failover FROM pg_replication_slots WHERE slot_name = $1`, f.slot()) {
		t.Fatal("the slot is no failover slot")
	}
	w := ledger.Write(t, both.String()) // it moves with the primary
	w.AwaitMore(500)
	onStandby, err := pgx.Connect(t.Context(), standby.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = onStandby.Close(context.Background()) })
	f.eventually("the slot is on the standby, for good", func() bool {
		var synced bool
		err := onStandby.QueryRow(t.Context(), `SELECT synced AND NOT temporary FROM pg_replication_slots WHERE slot_name = $1`, f.slot()).Scan(&synced)
		return err == nil && synced
	})
	w.AwaitMore(500)
	// What the standby lacks at this moment is lost, and must not have been published.
	primary.Crash()
	standby.Promote()
	r.until("it streams from the other server", func(s relay.StatusReport) bool { return s.Ready && s.Sessions > 1 })
	if log := r.logs.String(); !strings.Contains(log, "the server was promoted") {
		t.Error("the log does not say that the server is another")
	}

	f.url = standby.URL()
	if f.db, err = pgx.Connect(t.Context(), f.url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.db.Close(context.Background()) })
	w.AwaitMore(500)
	f.settleRoughly(w, r)
}

func TestFailover_ExistingSlotIsAlteredAndTheMissingSettingSaidOnce(t *testing.T) {
	t.Parallel()
	_, f := newPrimary(t)
	isFailover := func() bool {
		return ask[bool](f, `SELECT failover FROM pg_replication_slots WHERE slot_name = $1`, f.slot())
	}
	const missing = "synchronized_standby_slots is empty"
	r := f.start()
	r.untilStreaming()
	r.halt()
	if isFailover() || strings.Contains(r.logs.String(), missing) {
		t.Error("nobody has asked for failover")
	}
	r = f.start(failover)
	r.untilStreaming()
	f.exec(`SELECT pg_terminate_backend($1)`, f.walsender())
	r.until("the next session", func(s relay.StatusReport) bool { return s.Sessions > 1 && s.Phase == relay.PhaseStreaming })
	r.halt()
	if !isFailover() {
		t.Error("the slot was not altered")
	}
	if n := strings.Count(r.logs.String(), missing); n != 1 {
		t.Errorf("said %d times that %s", n, missing)
	}
	r = f.start()
	r.untilStreaming()
	r.halt()
	if !isFailover() {
		t.Error("a configuration that does not ask altered the slot back")
	}
	r = f.start(func(c *relay.Config) { c.Postgres.Failover = new(false) })
	r.untilStreaming()
	r.halt()
	if isFailover() {
		t.Error("the slot was not altered back")
	}
}

// While the standby that the stream waits for is away the relay waits too: that is no halt.
func TestFailover_AbsentStandbyIsWaitedFor(t *testing.T) {
	t.Parallel()
	_, f := newPrimary(t)
	r := f.start(failover)
	r.untilStreaming()
	f.exec(`ALTER SYSTEM SET synchronized_standby_slots = 'standby'`)
	f.exec(`SELECT pg_reload_conf()`)
	f.eventually("the setting is in force", func() bool { return ask[string](f, `SHOW synchronized_standby_slots`) == "standby" })
	f.emit("a", 1, 1)
	f.eventually("the log says what is waited for", func() bool {
		return strings.Contains(r.logs.String(), "holds the stream back")
	})
	if s := r.Status(); s.Published != 0 || s.Phase != relay.PhaseStreaming || len(s.Troubles) != 0 {
		t.Errorf("status %+v", s)
	}
	f.exec(`ALTER SYSTEM RESET synchronized_standby_slots`)
	f.exec(`SELECT pg_reload_conf()`)
	wantSeqs(t, seqs(t, f, f.topic, 1), 1)
	if n := strings.Count(r.logs.String(), "holds the stream back"); n > 3 {
		t.Errorf("said %d times", n)
	}
}

func TestFailover_OldServerIsNamed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if ask[int](f, `SELECT current_setting('server_version_num')::int`) >= 170000 {
		f.start(failover).untilStreaming()
		return
	}
	s := f.start(failover).untilHalted(relay.SlotMissing)
	if m := s.Troubles[0].Message; !strings.Contains(m, "postgres.failover needs Postgres 17, and the server is 1") {
		t.Errorf("message %q", m)
	}
}
