package relay_test

import (
	"bytes"
	"context"
	"fmt"
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

func TestRelay_ReadsAsTextWhatItCannotReadInBinary(t *testing.T) {
	t.Parallel()
	const (
		numericKeys = `ALTER TABLE outbox ALTER COLUMN aggregate_id TYPE numeric USING aggregate_id::numeric`
		// There is no binary form of an aclitem, and Postgres learns that from the first of them.
		acls      = `ALTER TABLE outbox ADD COLUMN acl aclitem[]`
		aclOfLast = `UPDATE next SET acl = '{=r/postgres}' WHERE (payload ->> 'seq') = '5'`
		beside    = `CREATE TABLE beside (acl aclitem[])`
	)
	policies := map[string]func(*relay.Config){
		"dead-letter": func(*relay.Config) {},
		"halt-key":    func(c *relay.Config) { c.OnPoison = "halt-key" },
	}
	for name, tc := range map[string]struct {
		before, later string // what happens to the table before the stream begins, and in it
		change        string // to the rows of the second transaction
		binary, text  bool   // how the stream begins, and whether it goes on as text
	}{
		"a key of a type it does not know":        {before: numericKeys},
		"a key that becomes so in the stream":     {later: numericKeys, binary: true, text: true},
		"a column that cannot be sent":            {before: acls, change: aclOfLast},
		"a column that comes in the stream":       {later: acls, change: aclOfLast, binary: true, text: true},
		"a column that stays null":                {later: acls, binary: true},
		"a table beside it that cannot be sent":   {before: beside, later: `INSERT INTO beside VALUES ('{=r/postgres}')`, binary: true, text: true},
		"types whose binary form nobody looks at": {before: `ALTER TABLE outbox ADD COLUMN n numeric DEFAULT 7, ADD COLUMN at time DEFAULT '12:00'`, binary: true},
	} {
		for policy, with := range policies {
			t.Run(name+"/"+policy, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t)
				if tc.before != "" {
					f.exec(tc.before)
				}
				f.exec(`CREATE PUBLICATION ` + pgx.Identifier{"postrider_" + f.cfg.Name}.Sanitize() + ` FOR ALL TABLES WITH (publish_via_partition_root = true)`)
				r := f.start(func(c *relay.Config) { deadLetterTopic(c, testserver.Topic(t, 1)) }, with)
				r.untilStreaming()
				if want := fmt.Sprintf("binary=%t", tc.binary); !strings.Contains(r.logs.String(), want) {
					t.Errorf("the stream did not begin with %s", want)
				}
				emit := func(from, to int, change string) {
					f.exec(`CREATE TEMP TABLE next (LIKE outbox INCLUDING DEFAULTS)`)
					f.exec(fmt.Sprintf(`INSERT INTO next (aggregate_type, aggregate_id, event_type, payload, headers)
						SELECT 'order', 42, 'order.created', json_build_object('seq', s), '{"tenant": "acme"}' FROM generate_series(%d, %d) s`, from, to))
					if change != "" {
						f.exec(change)
					}
					f.exec(`INSERT INTO outbox SELECT * FROM next ORDER BY payload ->> 'seq'`)
					f.exec(`DROP TABLE next`)
				}
				emit(1, 3, "")
				if tc.later != "" {
					f.exec(tc.later)
				}
				emit(4, 6, tc.change)
				emit(7, 7, "")
				for i, record := range f.consume(f.topic, 7) {
					if _, seq := decodeSeq(t, record.Value); seq != int64(i+1) || string(record.Key) != "42" || header(record, "tenant") != "acme" {
						t.Errorf("record %d is event %d of %s with %+v", i, seq, record.Key, record.Headers)
					}
				}
				s := r.until("all acknowledged", func(s relay.StatusReport) bool { return s.Published >= 7 })
				if s.Published != 7 || s.DeadLettered != 0 || len(s.Troubles) > 0 {
					t.Errorf("%d records and %d dead letters for 7 events, troubles %+v", s.Published, s.DeadLettered, s.Troubles)
				}
				if switched := strings.Contains(r.logs.String(), "goes on as text"); switched != tc.text {
					t.Errorf("went on as text: %t, want %t", switched, tc.text)
				}
			})
		}
	}
}

// The catalog says what the types are now, the stream what they were.
func TestRelay_ReadsAsTextWhatCouldNotBeReadInBinaryForAWhile(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.start()
	r.untilStreaming()
	f.emit("7", 1, 1)
	r.halt()
	f.exec(`ALTER TABLE outbox ALTER COLUMN aggregate_id TYPE numeric USING aggregate_id::numeric`)
	f.exec(`INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload) VALUES ('order', 7, 'order.created', '{"seq": 2}')`)
	f.exec(`ALTER TABLE outbox ALTER COLUMN aggregate_id TYPE text USING aggregate_id::text`)
	f.emit("7", 3, 1)
	r = f.start()
	wantSeqs(t, seqs(t, f, f.topic, 3), 1, 2, 3)
	if !strings.Contains(r.logs.String(), "goes on as text") {
		t.Error("the stream was never read in binary")
	}
}

func TestRelay_RowsOfTheSnapshotAndOfTheStreamBecomeTheSameRecord(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	insert := func() {
		f.exec(`INSERT INTO outbox (id, aggregate_type, aggregate_id, event_type, payload, headers, created_at)
			SELECT '0199aa00-0000-7000-8000-00000000000a', 'order', 'a', 'order.created', '{"seq": 1}', '{"tenant": "ü"}',
			       '2026-11-22 05:06:07+00'::timestamptz + us * interval '1 us' FROM unnest('{0,1,120000,123456}'::int[]) us`)
	}
	insert()
	r := f.start()
	r.untilStreaming()
	if !strings.Contains(r.logs.String(), "binary=true") {
		t.Error("the stream is not binary")
	}
	f.exec(`DELETE FROM outbox`)
	insert()
	records := f.consume(f.topic, 8)
	for i, record := range records[4:] {
		for _, h := range record.Headers {
			if want := header(records[i], h.Key); string(h.Value) != want && h.Key != "postrider-position" {
				t.Errorf("event %d: header %s is %q in the stream and was %q in the snapshot", i, h.Key, h.Value, want)
			}
		}
		if !bytes.Equal(record.Key, records[i].Key) || !bytes.Equal(record.Value, records[i].Value) || len(record.Headers) != len(records[i].Headers) {
			t.Errorf("event %d differs", i)
		}
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
