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
