package relay_test

import (
	"testing"
	"time"

	"github.com/postrider/postrider/relay"
)

// With no more rights than the DBA's part of the DDL gives, the active relay looks after the
// partitions; what stands behind an event that cannot be published is not dropped.
func TestJanitor_DropsBehindTheRelayAndNotBeforeIt(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, connection := f.relayRole("secret-of-the-role")
	f.cfg.Postgres.URL = relay.SecretURL(connection)
	for _, day := range []string{"01", "02"} {
		f.exec(`CREATE TABLE outbox_p202609` + day + ` PARTITION OF outbox FOR VALUES
			FROM ('2026-09-` + day + ` 00:00:00+00') TO ('2026-09-` + day + ` 24:00:00+00')`)
	}
	emitOn := func(day, key string, seq string) {
		f.exec(`INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload, created_at)
			VALUES ('order', $2, 'order.created', json_build_object('seq', $3::json), $1::timestamptz)`, day, key, seq)
	}
	r := f.start(func(c *relay.Config) { c.Outbox.Retention = new(time.Duration(0)) }) // else it may drop what is still empty
	r.untilStreaming()
	emitOn("2026-09-01", "a", "1")
	wantSeqs(t, seqs(t, f, f.topic, 1), 1)
	mark := ask[string](f, `SELECT xmin::text FROM outbox_p20260901`)
	f.eventually("the slot knows the first transaction to be over", func() bool {
		f.exec(`CHECKPOINT`)
		return ask[bool](f, `SELECT outbox_confirmed_xid()::text::bigint > $1::text::bigint`, mark)
	})
	emitOn("2026-09-02", "a", `"poison"`)
	r.untilHalted(relay.PoisonEvent)
	r.halt()

	r = f.start()
	r.until("the partition that is past its retention and confirmed is dropped", func(relay.StatusReport) bool {
		return r.metric(`postrider_partitions_dropped_total{`) == 1
	})
	r.untilHalted(relay.PoisonEvent)
	if n := ask[int](f, `SELECT count(*) FROM outbox_p20260902`); n != 1 {
		t.Error("the event that the relay stands at was dropped")
	}
	if n := ask[int](f, `SELECT count(*) FROM pg_stat_activity WHERE application_name = 'postrider' AND state = 'idle in transaction' AND datname = current_database()`); n != 0 {
		t.Errorf("%d transactions left open", n)
	}
	f.registry.register("order.created", `{"type":"record","name":"created","namespace":"order","fields":[
		{"name":"seq","type":["long","string"]},{"name":"note","type":["null","string"],"default":null}]}`)
	r.until("the event is published", func(s relay.StatusReport) bool { return s.Ready && s.Published >= 1 && s.InFlight == 0 })
	if created := time.Now().UTC().AddDate(0, 0, 7).Format("outbox_p20060102"); !ask[bool](f, `SELECT to_regclass($1) IS NOT NULL`, created) {
		t.Errorf("%s does not exist", created)
	}
}
