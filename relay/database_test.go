package relay_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/testserver"
	"github.com/postrider/postrider/outbox"
	"github.com/postrider/postrider/relay"
)

func TestHalt_TableMissingThenMade(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec(`ALTER TABLE outbox RENAME TO elsewhere`)
	r := f.start()
	r.untilHalted(relay.TableMismatch)
	f.exec(`ALTER TABLE elsewhere RENAME TO outbox`)
	r.untilStreaming()
}

func TestHalt_TableMismatchNamesTheColumns(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec(`ALTER TABLE outbox RENAME COLUMN headers TO metadata`)
	f.emit("a", 1, 1)
	r := f.start()
	s := r.untilHalted(relay.TableMismatch)
	if m := s.Troubles[0].Message; !strings.Contains(m, "headers") {
		t.Errorf("message %q does not name the column", m)
	}
}

func TestHalt_PublicationMissingBehindAnOldSlot(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.start()
	r.untilStreaming()
	r.halt()
	f.exec(`DROP PUBLICATION ` + pgx.Identifier{"postrider_" + f.cfg.Name}.Sanitize())
	f.emit("a", 1, 1)
	before := f.confirmed()
	r = f.start()
	r.untilHalted(relay.PublicationMissing)
	if after := f.confirmed(); after != before {
		t.Errorf("the slot moved: %s → %s", before, after)
	}
}

func TestHalt_PublicationDrift(t *testing.T) {
	t.Parallel()
	publication := func(f *fixture) string { return pgx.Identifier{"postrider_" + f.cfg.Name}.Sanitize() }
	for name, change := range map[string]func(f *fixture){
		"row filter": func(f *fixture) {
			f.exec(`ALTER PUBLICATION ` + publication(f) + ` SET TABLE outbox WHERE (aggregate_type = 'order')`)
		},
		"no inserts": func(f *fixture) { f.exec(`ALTER PUBLICATION ` + publication(f) + ` SET (publish = 'update')`) },
		"other table": func(f *fixture) {
			f.exec(`ALTER TABLE outbox RENAME TO outbox_old; CREATE TABLE outbox (LIKE outbox_old INCLUDING ALL)`)
		},
		"out and back in": func(f *fixture) {
			f.exec(`ALTER PUBLICATION ` + publication(f) + ` DROP TABLE outbox`)
			f.exec(`ALTER PUBLICATION ` + publication(f) + ` ADD TABLE outbox`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			r := f.start()
			r.untilStreaming()
			change(f)
			r.untilHalted(relay.PublicationDrift)
			r.until("another look", func(relay.StatusReport) bool { return r.metric(`postrider_errors_total{class="postgres"`) >= 2 })
			if s := r.Status(); s.Ready || s.Phase == relay.PhaseStreaming {
				t.Errorf("the halt passed by itself: %+v", s)
			}
		})
	}
}

func TestHalt_SlotDroppedWhileTheRelayRuns(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.start()
	r.untilStreaming()
	f.emit("a", 1, 1)
	f.consume(f.topic, 1)
	slot := "postrider_" + f.cfg.Name
	var dropped bool
	for !dropped {
		f.exec(`SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1 AND active_pid IS NOT NULL`, slot)
		_, err := f.db.Exec(context.Background(), `SELECT pg_drop_replication_slot($1)`, slot)
		dropped = err == nil
	}
	r.untilHalted(relay.SlotMissing)
}

func TestRelay_NeverShowsRolledBackWork(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.start().untilStreaming()
	f.exec(`BEGIN; INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload) VALUES ('order', 'a', 'order.created', '{"seq":1}'); ROLLBACK`)
	f.exec(`BEGIN;
		INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload) VALUES ('order', 'a', 'order.created', '{"seq":2}');
		SAVEPOINT s;
		INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload) VALUES ('order', 'a', 'order.created', '{"seq":3}');
		ROLLBACK TO s;
		INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload) VALUES ('order', 'a', 'order.created', '{"seq":4}');
		COMMIT`)
	f.emit("a", 5, 1)
	wantSeqs(t, seqs(t, f, f.topic, 3), 2, 4, 5)
}

func TestRelay_HousekeepingOfTheTableIsNoEvent(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.start().untilStreaming()
	f.emit("a", 1, 2)
	f.exec(`UPDATE outbox SET topic = 'x'`)
	f.exec(`DELETE FROM outbox`)
	f.exec(`TRUNCATE outbox`)
	f.exec(`ALTER TABLE outbox ADD COLUMN tenant text DEFAULT 'x'`)
	f.exec(`SELECT pg_logical_emit_message(true, 'hello', 'world')`)
	f.emit("a", 3, 1)
	wantSeqs(t, seqs(t, f, f.topic, 3), 1, 2, 3)
}

func TestRelay_PassesOverOtherTablesOfThePublicationAndCountsThem(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec(`CREATE TABLE business (id int primary key); CREATE PUBLICATION ` + pgx.Identifier{"postrider_" + f.cfg.Name}.Sanitize() +
		` FOR TABLE outbox, business WITH (publish_via_partition_root = true)`)
	r := f.start()
	r.untilStreaming()
	f.exec(`INSERT INTO business VALUES (1); UPDATE business SET id = 2; DELETE FROM business; TRUNCATE business, outbox`)
	f.emit("a", 1, 1)
	wantSeqs(t, seqs(t, f, f.topic, 1), 1)
	if got := r.metric(`postrider_changes_ignored_total{kind="insert",relation="public.business"`); got != 1 {
		t.Errorf("%v ignored inserts counted", got)
	}
}

func TestRelay_ReadsATableMadeForDebezium(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec(`CREATE TABLE dbz (id uuid PRIMARY KEY, aggregatetype varchar(255) NOT NULL, aggregateid varchar(255) NOT NULL,
		type varchar(255) NOT NULL, payload jsonb)`)
	f.exec(`INSERT INTO dbz VALUES (gen_random_uuid(), 'order', 'a', 'order.created', '{"seq": 1}')`)
	f.start(func(c *relay.Config) {
		c.Outbox.Table = "public.dbz"
		c.Outbox.Columns.Preset = "debezium"
	}).untilStreaming()
	f.exec(`INSERT INTO dbz VALUES (gen_random_uuid(), 'order', 'a', 'order.created', '{"seq": 2}'), (gen_random_uuid(), 'order', 'a', 'order.created', NULL)`)
	records := f.consume(f.topic, 3)
	for i, want := range []int64{1, 2} {
		if _, seq := decodeSeq(t, records[i].Value); seq != want {
			t.Errorf("record %d is event %d", i, seq)
		}
	}
	if records[2].Value != nil {
		t.Errorf("a null payload gave %x instead of a tombstone", records[2].Value)
	}
}

func TestRelay_PublishesWhatTheOutboxLibraryWrites(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const text = `{"type":"record","name":"shipped","namespace":"order","doc":"kept as written","fields":[{"name":"seq","type":"long"}]}`
	schema := outbox.MustParseSchema(text)
	if err := outbox.RegisterSchemas(t.Context(), f.db, schema); err != nil {
		t.Fatal(err)
	}
	f.start().untilStreaming()
	tx, err := f.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	type shipped struct {
		Seq int64 `avro:"seq"`
	}
	ctx := outbox.WithCorrelationID(t.Context(), "c-1")
	err = outbox.Insert(ctx, tx, outbox.Event{AggregateType: "order", AggregateID: "a", Type: "order.shipped", Schema: schema,
		Payload: shipped{Seq: 7}, Headers: map[string]string{"tenant": "t1"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	rec := f.consume(f.topic, 1)[0]
	id, seq := decodeSeq(t, rec.Value)
	if seq != 7 {
		t.Errorf("event %d", seq)
	}
	if got, err := f.registry.client.SchemaByID(t.Context(), id); err != nil || !strings.Contains(got, "kept as written") {
		t.Errorf("schema %d is %q, %v", id, got, err)
	}
	if header(rec, "correlationid") != "c-1" || header(rec, "tenant") != "t1" || header(rec, "content-type") != "application/avro" {
		t.Errorf("headers %v", rec.Headers)
	}
}

func TestRelay_RowPinsAVersionOfItsSubject(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id1 := f.registry.register("order.created", orderCreated)
	f.registry.register("order.created", strings.Replace(orderCreated, `]}`, `,{"name":"colour","type":"string","default":""}]}`, 1))
	f.start().untilStreaming()
	f.exec(`INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload, headers)
		VALUES ('order', 'a', 'order.created', '{"seq": 1}', '{"postrider-schema-version": "1"}')`)
	rec := f.consume(f.topic, 1)[0]
	if id, _ := decodeSeq(t, rec.Value); id != id1 {
		t.Errorf("schema id %d, want %d", id, id1)
	}
	if header(rec, "postrider-schema-version") != "" {
		t.Error("the pin was passed on")
	}
}

func TestRelay_RowsTopicWinsOverTheTemplate(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	own := testserver.Topic(t, 1)
	f.start().untilStreaming()
	f.exec(`INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload, topic) VALUES ('order', 'a', 'order.created', '{"seq":1}', $1)`, own)
	wantSeqs(t, seqs(t, f, own, 1), 1)
}
