package relay_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/testserver"
	"github.com/postrider/postrider/relay"
)

// What a relay finds when it comes back, and could not know without what the one before
// left in Kafka.

func TestRestart_ChangesWhileNoRelayRanAreNoticed(t *testing.T) {
	t.Parallel()
	publication := func(f *fixture) string { return pgx.Identifier{f.slot()}.Sanitize() }
	for name, tc := range map[string]struct {
		code   relay.HaltCode
		change func(f *fixture)
	}{
		"table out of the publication and back in": {relay.PublicationDrift, func(f *fixture) {
			f.exec(`ALTER PUBLICATION ` + publication(f) + ` DROP TABLE outbox`)
			f.emit("a", 2, 1)
			f.exec(`ALTER PUBLICATION ` + publication(f) + ` ADD TABLE outbox`)
		}},
		"table renamed and made anew": {relay.PublicationDrift, func(f *fixture) {
			f.exec(`ALTER TABLE outbox RENAME TO outbox_old; CREATE TABLE outbox (LIKE outbox_old INCLUDING ALL);
				ALTER PUBLICATION ` + publication(f) + ` SET TABLE outbox`)
		}},
		"publication dropped and made anew": {relay.PublicationDrift, func(f *fixture) {
			f.exec(`DROP PUBLICATION ` + publication(f))
			f.exec(`CREATE PUBLICATION ` + publication(f) + ` FOR TABLE outbox WITH (publish = 'insert', publish_via_partition_root = true)`)
		}},
		"publication altered and altered back": {relay.PublicationDrift, func(f *fixture) {
			f.exec(`ALTER PUBLICATION ` + publication(f) + ` SET (publish = 'update')`)
			f.emit("a", 2, 1)
			f.exec(`ALTER PUBLICATION ` + publication(f) + ` SET (publish = 'insert')`)
		}},
		"slot dropped": {relay.SlotMissing, func(f *fixture) {
			f.exec(`SELECT pg_drop_replication_slot($1)`, f.slot())
		}},
		"slot dropped and made anew further on": {relay.SlotAhead, func(f *fixture) {
			f.exec(`SELECT pg_drop_replication_slot($1)`, f.slot())
			f.emit("a", 2, 1)
			f.exec(`SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, f.slot())
		}},
		"slot advanced by hand": {relay.SlotAhead, func(f *fixture) {
			f.emit("a", 2, 1)
			f.exec(`SELECT pg_replication_slot_advance($1, pg_current_wal_lsn())`, f.slot())
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			r := f.start()
			r.untilStreaming()
			f.emit("a", 1, 1)
			f.consume(f.topic, 1)
			r.halt()
			tc.change(f)
			before := ask[string](f, `SELECT coalesce(max(confirmed_flush_lsn::text), '') FROM pg_replication_slots WHERE slot_name = $1`, f.slot())
			r = f.start()
			s := r.untilHalted(tc.code)
			if hint := s.Troubles[0].Hint; !strings.Contains(hint, "postrider repair") {
				t.Errorf("hint %q does not name the repair", hint)
			}
			after := ask[string](f, `SELECT coalesce(max(confirmed_flush_lsn::text), '') FROM pg_replication_slots WHERE slot_name = $1`, f.slot())
			if after != before {
				t.Errorf("the slot moved in a halt: %s → %s", before, after)
			}
		})
	}
}

func TestRestart_ARelayThatStoppedInPeaceLeavesNothingToReadAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for i := range 3 {
		r := f.start()
		r.untilStreaming()
		f.emit("a", i, 1)
		f.consume(f.topic, i+1)
		r.until("streaming", func(s relay.StatusReport) bool { return s.Ready })
		if s := r.Status(); s.Skipped > 0 {
			t.Errorf("start %d read %d events again", i, s.Skipped)
		}
		r.halt()
	}
}

func TestRestart_AnotherDatabaseUnderTheSameNameIsNoticed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.start()
	r.untilStreaming()
	f.emit("a", 1, 1)
	f.consume(f.topic, 1)
	r.halt()

	other := newFixtureOn(t, testserver.NewPostgresCluster(t).URL())
	other.topic = f.topic
	other.cfg.Name, other.cfg.Outbox.Topic = f.cfg.Name, f.topic
	r = other.start()
	s := r.untilHalted(relay.SystemChanged)
	if hint := s.Troubles[0].Hint; !strings.Contains(hint, "postgres.url") || !strings.Contains(hint, "postrider repair") {
		t.Errorf("hint %q", hint)
	}
	// Where it is the right one after all, say after a restore, the repair begins there.
	other.emit("b", 2, 1)
	if result := other.repair(); result.Reason != relay.SystemChanged || result.Published != 1 {
		t.Errorf("repair: %+v", result)
	}
	other.emit("b", 3, 1)
	wantSeqs(t, seqs(t, other, f.topic, 3), 1, 2, 3)
	r.until("ready", func(s relay.StatusReport) bool { return s.Ready })
}

// A database that was restored without a new timeline uses LSNs a second time.
func TestRestart_ADatabaseRestoredToAnEarlierPointIsNoticed(t *testing.T) {
	t.Parallel()
	cluster := testserver.NewPostgresCluster(t)
	f := newFixtureOn(t, cluster.URL())
	r := f.start()
	r.untilStreaming()
	f.emit("a", 1, 1)
	f.consume(f.topic, 1)
	r.halt()
	cluster.Stop()
	backup := cluster.Copy()
	cluster.Start()
	f.reconnect()
	r = f.start()
	r.untilStreaming()
	f.emit("a", 2, 100)
	f.consume(f.topic, 101)
	r.halt()
	cluster.Crash()
	cluster.Restore(backup)
	cluster.Start()
	f.reconnect()
	f.emit("a", 1000, 1)
	r = f.start()
	r.untilHalted(relay.SystemChanged)
	if result := f.repair(); result.Missing != 1 {
		t.Errorf("repair: %+v", result)
	}
	f.consume(f.topic, 102)
	r.until("ready", func(s relay.StatusReport) bool { return s.Ready })
}

func TestRestart_ASlotMadeWithoutASnapshotIsNotTakenForAMovedOne(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.start(func(c *relay.Config) { c.Postgres.Snapshot = "never" })
	r.untilStreaming()
	f.eventually("the walsender ends", func() bool {
		return ask[bool](f, `SELECT coalesce(bool_or(pg_terminate_backend(active_pid)), false) FROM pg_replication_slots WHERE slot_name = $1 AND active_pid IS NOT NULL`, f.slot())
	})
	r.until("a second session", func(s relay.StatusReport) bool { return s.Sessions >= 2 && s.Phase == relay.PhaseStreaming })
	if logs := r.logs.String(); strings.Contains(logs, "relay halts") {
		t.Errorf("halted:\n%s", logs)
	}
}

func TestHalt_WhatCannotBeInspectedIsTold(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, url := f.relayRole("secret")
	r := f.start(func(c *relay.Config) { c.Postgres.URL = relay.SecretURL(url) })
	r.untilStreaming()
	f.emit("a", 1, 1)
	f.consume(f.topic, 1)
	// Who streams may go on, but nobody else gets in.
	f.exec(`ALTER ROLE ` + f.slot() + ` CONNECTION LIMIT 0`)
	f.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1 AND backend_type = 'client backend'`, f.slot())
	f.emit("a", 2, 1)
	r.until("it is told", func(s relay.StatusReport) bool {
		return !s.Ready && len(s.Troubles) == 1 && s.Troubles[0].Component == "postgres-catalog"
	})
	f.exec(`ALTER ROLE ` + f.slot() + ` CONNECTION LIMIT -1`)
	r.until("ready", func(s relay.StatusReport) bool { return s.Ready })
}
