package relay_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/testserver"
	"github.com/postrider/postrider/relay"
)

// diagnose returns the checks, one a line: result, area, name, message, hint.
func (f *fixture) diagnose(change ...func(*relay.Config)) (relay.Diagnosis, string) {
	f.t.Helper()
	cfg := f.cfg
	for _, c := range change {
		c(&cfg)
	}
	d, err := relay.Diagnose(f.t.Context(), cfg, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	var b strings.Builder
	for _, c := range d.Checks {
		fmt.Fprintf(&b, "%s %s %s: %s → %s\n", c.Result, c.Area, c.Name, c.Message, c.Hint)
		if (c.Result == relay.CheckOK) != (c.Hint == "") {
			f.t.Errorf("%s: a hint belongs to what is not ok, and only to that: %q", c.Name, c.Hint)
		}
	}
	return d, b.String()
}

func wantLines(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(text, line) {
			t.Errorf("the diagnosis lacks %q:\n%s", line, text)
		}
	}
}

func TestDoctor_FindsNothingBesideARunningRelayAndChangesNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.cfg.Kafka.DeadLetterTopic = testserver.Topic(t, 1)
	_, connection := f.relayRole("secret-of-the-role")
	f.cfg.Postgres.URL = relay.SecretURL(connection)
	objects := func() string {
		return ask[string](f, `SELECT concat_ws(' ', (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_publication),
			(SELECT count(*) FROM pg_replication_slots WHERE database = current_database()), (SELECT count(*) FROM outbox))`)
	}
	f.emit("a", 1, 1)
	before := objects()
	d, text := f.diagnose()
	if d.Failed || d.Unreachable || strings.Contains(text, "secret-of-the-role") {
		t.Errorf("before the first start:\n%s", text)
	}
	wantLines(t, text, "is made at the relay's start", "warn kafka topic "+f.topic, `ok registry subject: "order.created", version 1`,
		"ok postgres partitions", "it has one replica")
	if after := objects(); after != before {
		t.Errorf("it changed the database: %s → %s", before, after)
	}
	r := f.start()
	r.untilStreaming()
	d, text = f.diagnose()
	if d.Failed || d.Unreachable {
		t.Errorf("beside a running relay:\n%s", text)
	}
	wantLines(t, text, "reads it, ")
	if s := r.Status(); s.Sessions != 1 || !s.Ready {
		t.Errorf("the relay was disturbed: %+v", s)
	}
}

func TestDoctor_SaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(f *fixture, c *relay.Config)
		want   []string
	}{
		"no table": {func(f *fixture, _ *relay.Config) { f.exec(`DROP TABLE outbox`) }, []string{"FAIL postgres state: TABLE_MISMATCH"}},
		"column": {func(f *fixture, _ *relay.Config) { f.exec(`ALTER TABLE outbox RENAME COLUMN headers TO h`) },
			[]string{"FAIL postgres table: TABLE_MISMATCH: table public.outbox has no column headers"}},
		"publication": {func(f *fixture, _ *relay.Config) {
			f.exec(`CREATE PUBLICATION ` + f.slot() + ` FOR TABLE outbox WHERE (aggregate_type = 'x') WITH (publish_via_partition_root = true)`)
		}, []string{"FAIL postgres state: PUBLICATION_DRIFT"}},
		"slot older than publication": {func(f *fixture, _ *relay.Config) {
			f.exec(`SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, f.slot())
		}, []string{"FAIL postgres state: PUBLICATION_MISSING"}},
		"rights": {func(f *fixture, c *relay.Config) {
			role, connection := f.relayRole("x")
			f.exec(`DROP PUBLICATION ` + f.slot() + `; REVOKE ALL ON outbox_schema FROM ` + role + `; ALTER ROLE ` + role + ` NOREPLICATION;
				REVOKE EXECUTE ON FUNCTION outbox_drop_partitions FROM ` + role)
			c.Postgres.URL = relay.SecretURL(connection)
		}, []string{"may not replicate", "may not read table public.outbox_schema", "is missing, and role", `warn postgres partitions: function "public"."outbox_drop_partitions" is missing, or`}},
		"partitions": {func(f *fixture, _ *relay.Config) {
			f.exec(`DO $$ BEGIN EXECUTE format('DROP TABLE outbox_p%s', to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')); END $$`)
			f.emit("a", 1, 1)
		}, []string{"warn postgres partitions: today or tomorrow has no partition", "warn postgres partitions: the default partition has rows, in 8192 bytes"}},
		"topic": {func(_ *fixture, c *relay.Config) { c.Outbox.Topic = "nobody-made-this" },
			[]string{"FAIL kafka topic nobody-made-this: TOPIC_MISSING"}},
		"poisoned rows": {func(_ *fixture, c *relay.Config) { c.Outbox.Topic = "{header:none}" },
			[]string{"warn postgres table: 1 of 1 recent rows name no valid topic"}},
		"dead-letter topic": {func(_ *fixture, c *relay.Config) { c.OnPoison = "dead-letter" },
			[]string{"FAIL kafka dead-letter topic postrider_"}},
		"subject": {func(_ *fixture, c *relay.Config) { c.Outbox.Subject = "unknown" },
			[]string{"FAIL registry subject: SCHEMA_MISSING"}},
		"old server": {func(_ *fixture, c *relay.Config) { c.Postgres.Failover = new(true) },
			[]string{"ostgres 17"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			if name == "old server" && ask[int](f, `SELECT current_setting('server_version_num')::int`) >= 170000 {
				tc.want = []string{"warn postgres failover on the primary: synchronized_standby_slots is empty", "no standby is named in postgres.url"}
			}
			f.emit("a", 1, 1)
			_, text := f.diagnose(func(c *relay.Config) { tc.change(f, c) })
			wantLines(t, text, tc.want...)
		})
	}
}

// What the relay halts for only because of what it remembers, the doctor says too: before
// the relay comes back, and while it stands there.
func TestDoctor_FailsWithTheHaltThatTheRelayStandsIn(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		code   relay.HaltCode
		change func(f *fixture)
	}{
		"slot dropped": {relay.SlotMissing, func(f *fixture) { f.exec(`SELECT pg_drop_replication_slot($1)`, f.slot()) }},
		"slot advanced": {relay.SlotAhead, func(f *fixture) {
			f.emit("a", 2, 1)
			f.exec(`SELECT pg_replication_slot_advance($1, pg_current_wal_lsn())`, f.slot())
		}},
		"publication altered and altered back": {relay.PublicationDrift, func(f *fixture) {
			f.exec(`ALTER PUBLICATION ` + f.slot() + ` SET (publish = 'update')`)
			f.exec(`ALTER PUBLICATION ` + f.slot() + ` SET (publish = 'insert')`)
		}},
		"another server": {relay.SystemChanged, func(f *fixture) {
			f.cfg.Postgres.URL = newFixtureOn(f.t, testserver.NewPostgresCluster(f.t).URL()).cfg.Postgres.URL
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
			_, text := f.diagnose()
			wantLines(t, text, "ok postgres state: wal_level logical; server, table, publication and slot are those that the relay read last")
			tc.change(f)
			_, before := f.diagnose()
			r = f.start()
			trouble := r.untilHalted(tc.code).Troubles[0]
			d, text := f.diagnose()
			if !d.Failed || d.Unreachable {
				t.Errorf("failed %v, unreachable %v", d.Failed, d.Unreachable)
			}
			for _, text := range []string{before, text} {
				wantLines(t, text, fmt.Sprintf("FAIL postgres state: %s: %s → %s\n", tc.code, trouble.Message, trouble.Hint))
				if strings.Contains(text, "is made at the relay's start") {
					t.Errorf("it promises a slot:\n%s", text)
				}
			}
		})
	}
}

func TestDoctor_OnlyWarnsOfDeadLettersOfTheTable(t *testing.T) {
	t.Parallel()
	for onPoison, want := range map[string]string{"dead-letter": "become dead letters", "halt-key": "park their keys"} {
		t.Run(onPoison, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.cfg.OnPoison, f.cfg.Kafka.DeadLetterTopic = onPoison, testserver.Topic(t, 1)
			r := f.start()
			r.untilStreaming()
			f.exec(`INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload) VALUES ('order', 'a', 'order.lost', '{}')`)
			f.consume(f.cfg.Kafka.DeadLetterTopic, 1)
			d, text := f.diagnose()
			if d.Failed {
				t.Error("failed")
			}
			wantLines(t, text, "warn registry subject: SCHEMA_MISSING: ", "events order.lost "+want)
		})
	}
}

func TestDoctor_FailsForAMissingSchemaOnlyWhileTheSlotHasNotPassedItsEvents(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.start()
	r.untilStreaming()
	f.emit("a", 1, 1)
	f.consume(f.topic, 1)
	f.eventually("the slot knows that the row is published", func() bool {
		f.exec(`CHECKPOINT`)
		return ask[bool](f, `SELECT age(xmin) > (SELECT age(catalog_xmin) FROM pg_replication_slots WHERE slot_name = $1) FROM outbox`, f.slot())
	})
	without := func(c *relay.Config) { c.Outbox.Subject = "unknown" }
	_, text := f.diagnose(without)
	wantLines(t, text, "warn registry subject: SCHEMA_MISSING: ", "the next of the events order.created would halt the relay")
	r.halt()
	f.emit("a", 2, 1)
	_, text = f.diagnose(without)
	wantLines(t, text, "FAIL registry subject: SCHEMA_MISSING: ", "the relay halts at events order.created, some of which the slot has not passed")
}

func TestDoctor_TellsUnreachableFromRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	d, text := f.diagnose(func(c *relay.Config) {
		c.Postgres.URL = "postgres://nobody:hidden@127.0.0.1:1/x"
		c.Kafka.Brokers = []string{"127.0.0.1:1"}
		c.Registry.URL = "http://127.0.0.1:1"
	})
	if !d.Unreachable || !d.Failed || len(d.Checks) != 3 || strings.Contains(text, "hidden") {
		t.Errorf("nothing is there:\n%s", text)
	}
	wantLines(t, text, "FAIL postgres reachable", "FAIL kafka reachable", "FAIL registry reachable")
	f.registry.status.Store(401)
	d, text = f.diagnose()
	if d.Unreachable || !d.Failed {
		t.Errorf("the registry refuses:\n%s", text)
	}
	wantLines(t, text, "FAIL registry reachable: AUTH_REGISTRY")
}

func TestDoctor_LooksAtTheStandbyToo(t *testing.T) {
	t.Parallel()
	primary, f := newPrimary(t)
	f.exec(`SELECT pg_create_physical_replication_slot('standby', true)`)
	standby := primary.NewStandby()
	var err error
	if f.db, err = pgx.Connect(t.Context(), f.url); err != nil { // it was restarted
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.db.Close(context.Background()) })
	both := func(c *relay.Config) {
		c.Postgres.Failover = new(true)
		c.Postgres.URL = relay.SecretURL(strings.Replace(f.url, "@", "@"+hostOf(t, standby.URL())+",", 1) + "&target_session_attrs=primary")
	}
	_, text := f.diagnose(both)
	wantLines(t, text, "warn postgres failover on the primary: synchronized_standby_slots is empty",
		"is not there yet → when the settings are right")
	f.exec(`ALTER SYSTEM SET synchronized_standby_slots = 'standby, other'`)
	f.exec(`SELECT pg_reload_conf()`)
	f.eventually("the setting is in force", func() bool { return ask[string](f, `SHOW synchronized_standby_slots`) != "" })
	on, err := pgx.Connect(t.Context(), standby.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer on.Close(context.Background())
	for _, sql := range []string{`ALTER SYSTEM SET hot_standby_feedback = off`, `ALTER SYSTEM SET sync_replication_slots = off`,
		`ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port=1 user=postgres'`, `SELECT pg_reload_conf()`} {
		if _, err := on.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	f.eventually("the standby's settings are in force", func() bool {
		var setting string
		return on.QueryRow(t.Context(), `SHOW sync_replication_slots`).Scan(&setting) == nil && setting == "off"
	})
	_, text = f.diagnose(both)
	wantLines(t, text, `names slot "other", but there is no such slot`, "hot_standby_feedback is off", "sync_replication_slots is off", "primary_conninfo names no dbname")
}

func hostOf(t *testing.T, url string) string {
	t.Helper()
	conf, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s:%d", conf.Host, conf.Port)
}
