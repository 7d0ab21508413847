package relay_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/postrider/postrider/relay"
)

// haltKey lets the fixture park keys, and returns the dead-letter topic.
func (f *fixture) haltKey() (dead string) {
	f.t.Helper()
	dead = f.createTopic(map[string]string{"retention.ms": "-1"})
	f.cfg.OnPoison = "halt-key"
	f.cfg.Kafka.DeadLetterTopic = dead
	return dead
}

// poison inserts an event that its schema refuses until it knows colours.
func (f *fixture) poison(key string, seq int) {
	f.t.Helper()
	f.exec(`INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
		VALUES ('order', $1, 'order.created', json_build_object('seq', $2::int, 'colour', 'red'))`, key, seq)
}

// mend registers the schema that takes what poison inserts.
func (f *fixture) mend() {
	f.t.Helper()
	f.registry.register("order.created", strings.Replace(orderCreated, `]}`, `,{"name":"colour","type":"string","default":""}]}`, 1))
}

// release asks for it as `postrider replay` does, and returns the outcome.
func (f *fixture) release(key string) relay.ReplayOutcome {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	outcomes, err := relay.RequestReplay(ctx, f.cfg, relay.ReplayRequest{Key: &key}, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	if len(outcomes) != 1 {
		f.t.Fatalf("outcomes %+v, want one", outcomes)
	}
	return outcomes[0]
}

// byKey returns the seqs of a topic's records by key, after n of them.
func (f *fixture) byKey(topic string, n int) map[string]string {
	f.t.Helper()
	got := make(map[string]string)
	for _, rec := range f.consume(topic, n) {
		_, seq := decodeSeq(f.t, rec.Value)
		got[string(rec.Key)] += fmt.Sprintf("%d ", seq)
	}
	return got
}

func want[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("%s (-want +got):\n%s", what, d)
	}
}

func untilParked(r *running, keys, events int) relay.StatusReport {
	r.t.Helper()
	return r.until(fmt.Sprintf("%d keys with %d events parked", keys, events), func(s relay.StatusReport) bool {
		return s.Parked != nil && s.Parked.Keys == keys && s.Parked.Events == events
	})
}

// positionsRise checks that the positions in a partition's records rise.
func positionsRise(t *testing.T, records []*kgo.Record) {
	t.Helper()
	last := make(map[int32]relay.Position)
	for _, rec := range records {
		at, err := relay.ParsePosition(header(rec, "postrider-position"))
		if err != nil {
			t.Fatal(err)
		}
		if before, ok := last[rec.Partition]; ok && !before.Less(at) {
			t.Errorf("in partition %d, %s stands behind %s", rec.Partition, at, before)
		}
		last[rec.Partition] = at
	}
}

func TestHaltKey_ParksTheLaterEventsOfTheKeyAndOthersFlow(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	dead := f.haltKey()
	r := f.start()
	r.untilStreaming()
	f.emit("a", 1, 1)
	f.poison("a", 2)
	f.emit("b", 1, 2)
	f.exec(`INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload, expires_at) VALUES
		('order', 'a', 'order.created', '{"seq":3}', NULL), ('order', 'a', 'order.created', NULL, NULL),
		('order', 'a', 'order.created', '{"seq":5}', now() - interval '1 second')`)
	f.emit("b", 3, 1)
	want(t, "published", f.byKey(f.topic, 4), map[string]string{"a": "1 ", "b": "1 2 3 "})
	s := untilParked(r, 1, 4)
	if !s.Ready {
		t.Errorf("not ready while a key is parked: %s", s.Reason)
	}
	k := s.Parked.Examples[0]
	if k.Topic != f.topic || k.Key != "a" || k.Events != 4 || k.Code != relay.PoisonEvent || !strings.Contains(k.Reason, "$.colour") {
		t.Errorf("status shows %+v", k)
	}
	if keys, events := r.metric("postrider_parked_keys"), r.metric("postrider_parked_events"); keys != 1 || events != 4 {
		t.Errorf("metrics show %v keys and %v events", keys, events)
	}
	letters := f.consume(dead, 4)
	positionsRise(t, letters)
	var got []string
	for _, l := range letters {
		got = append(got, fmt.Sprintf("%s %s %s %q", l.Key, header(l, "postrider-error-code"), header(l, "postrider-parked"), l.Value))
	}
	want(t, "dead letters", got, []string{
		`a POISON_EVENT ` + f.topic + ` "{\"seq\" : 2, \"colour\" : \"red\"}"`,
		`a KEY_PARKED ` + f.topic + ` "{\"seq\":3}"`,
		`a KEY_PARKED ` + f.topic + ` ""`,
		`a KEY_PARKED ` + f.topic + ` "{\"seq\":5}"`,
	})
	if n := strings.Count(r.logs.String(), "key is parked"); n != 1 {
		t.Errorf("the log says %d times that the key is parked", n)
	}
	r.until("all confirmed", func(s relay.StatusReport) bool { return s.InFlight == 0 })
	end := f.lsn("pg_current_wal_insert_lsn()")
	f.eventually("the slot passes what is parked", func() bool { return f.confirmed() >= end })
}

func TestHaltKey_ReleaseAfterTheSchemaIsMendedKeepsTheOrder(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	dead := f.haltKey()
	r := f.start()
	r.untilStreaming()
	f.emit("a", 1, 1)
	f.poison("a", 2)
	f.emit("a", 3, 200)
	untilParked(r, 1, 201)
	f.mend()
	f.emit("a", 203, 1)
	got := f.release("a")
	want(t, "outcome", got, relay.ReplayOutcome{Topic: f.topic, Key: "a", Released: 202})
	f.emit("a", 204, 2)
	records := f.consume(f.topic, 205)
	positionsRise(t, records)
	var seqs []int64
	for i, rec := range records {
		_, seq := decodeSeq(t, rec.Value)
		seqs = append(seqs, seq)
		if original := header(rec, "postrider-replayed"); (original != "") != (i >= 1 && i < 203) {
			t.Errorf("record %d has postrider-replayed %q", i, original)
		}
	}
	for i, seq := range seqs {
		if seq != int64(i+1) {
			t.Fatalf("record %d is event %d", i, seq)
		}
	}
	untilParked(r, 0, 0)
	for i, letter := range f.consume(dead, 203)[:202] {
		if original := header(records[i+1], "postrider-replayed"); original != header(letter, "postrider-position") {
			t.Fatalf("event %d was replayed from %s, its dead letter says %s", i, original, header(letter, "postrider-position"))
		}
	}
	if n := strings.Count(r.logs.String(), "key is released"); n != 1 {
		t.Errorf("the log says %d times that the key is released", n)
	}
}

func TestHaltKey_ReleaseAfterTheRowIsMended(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.haltKey()
	r := f.start()
	r.untilStreaming()
	f.poison("a", 1)
	f.emit("a", 2, 1)
	f.poison("a", 3)
	f.emit("a", 4, 1)
	untilParked(r, 1, 4)
	f.exec(`UPDATE outbox SET payload = '{"seq": 1}' WHERE payload->>'seq' = '1'`)
	got := f.release("a")
	if !strings.Contains(got.Reason, "$.colour") {
		t.Errorf("reason %q", got.Reason)
	}
	got.Reason = ""
	want(t, "outcome", got, relay.ReplayOutcome{Topic: f.topic, Key: "a", Released: 2, Parked: 2, Code: relay.PoisonEvent})
	want(t, "published", f.byKey(f.topic, 2), map[string]string{"a": "1 2 "})
	f.emit("a", 5, 1)
	s := untilParked(r, 1, 3)
	if k := s.Parked.Examples[0]; k.Code != relay.PoisonEvent || k.First.ID != ask[string](f, `SELECT id::text FROM outbox WHERE payload->>'seq' = '3'`) {
		t.Errorf("status shows %+v", k)
	}
	f.exec(`UPDATE outbox SET payload = '{"seq": 3}' WHERE payload->>'seq' = '3'`)
	want(t, "outcome", f.release("a"), relay.ReplayOutcome{Topic: f.topic, Key: "a", Released: 3})
	want(t, "published", f.byKey(f.topic, 5), map[string]string{"a": "1 2 3 4 5 "})
}
