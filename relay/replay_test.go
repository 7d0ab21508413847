package relay_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
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

func TestHaltKey_RestartAndStandbyKnowWhatIsParked(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.haltKey()
	active := f.start()
	active.untilStreaming()
	f.emit("a", 1, 1)
	f.poison("a", 2)
	untilParked(active, 1, 1)
	active.halt()

	f.emit("a", 3, 1)
	f.emit("b", 1, 1)
	active = f.start()
	untilParked(active, 1, 2)
	standby := f.start()
	standby.until("standby", func(s relay.StatusReport) bool { return s.Phase == relay.PhaseStandby })
	if s := standby.Status(); s.Parked.Keys != 0 {
		t.Errorf("a relay that stands by says that %d keys are parked", s.Parked.Keys)
	}
	active.halt()
	standby.untilStreaming()
	f.emit("a", 4, 1)
	f.emit("b", 2, 1)
	untilParked(standby, 1, 3)
	want(t, "published", f.byKey(f.topic, 3), map[string]string{"a": "1 ", "b": "1 2 "})

	f.mend()
	want(t, "outcome", f.release("a"), relay.ReplayOutcome{Topic: f.topic, Key: "a", Released: 3})
	standby.halt()
	r := f.start()
	f.emit("a", 5, 1)
	want(t, "published", f.byKey(f.topic, 7), map[string]string{"a": "1 2 3 4 5 ", "b": "1 2 "})
	untilParked(r, 0, 0)
	want(t, "duplicates skipped", r.Status().Skipped, 0)
}

// alterTopic sets configuration of a topic.
func (f *fixture) alterTopic(topic, key, value string) {
	f.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(f.cfg.Kafka.Brokers...))
	if err != nil {
		f.t.Fatal(err)
	}
	defer client.Close()
	answers, err := kadm.NewClient(client).AlterTopicConfigs(context.Background(),
		[]kadm.AlterConfig{{Op: kadm.SetConfig, Name: key, Value: &value}}, topic)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := answers[0].Err; err != nil {
		f.t.Fatal(err)
	}
}

// A release whose record the dead-letter topic does not take is not confirmed: the next
// session, or the next relay, meets the request again and appends only what is missing.
func TestHaltKey_ReleaseThatWasNotAcknowledgedIsCarriedOutAgain(t *testing.T) {
	t.Parallel()
	for name, interrupt := range map[string]func(*fixture, *running) *running{
		"by the same relay": func(f *fixture, r *running) *running {
			sessions := r.Status().Sessions
			r.until("another session", func(s relay.StatusReport) bool { return s.Sessions > sessions+1 })
			return r
		},
		"by another relay": func(f *fixture, r *running) *running {
			r.halt()
			return f.start()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.cfg.ShutdownTimeout = time.Second
			dead := f.haltKey()
			r := f.start()
			r.untilStreaming()
			f.emit("a", 1, 1)
			f.poison("a", 2)
			f.emit("a", 3, 1)
			untilParked(r, 1, 2)
			f.consume(dead, 2)
			f.mend()
			f.alterTopic(dead, "max.message.bytes", "100")
			f.exec(`SELECT pg_logical_emit_message(true, $1, $2::text)`, "postrider/"+f.cfg.Name, `{"replay":{"key":"a"}}`)
			f.emit("a", 4, 1)
			wantSeqs(t, seqs(t, f, f.topic, 4), 1, 2, 3, 4)
			r.untilHalted(relay.RecordTooLarge)
			f.exec(`INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload) VALUES ('order', 'a', 'order.created', '{"seq": 5, "shape": ""}')`)
			end := f.lsn("pg_current_wal_insert_lsn()")
			r = interrupt(f, r)
			f.alterTopic(dead, "max.message.bytes", "100000")
			untilParked(r, 1, 1)
			f.eventually("all is confirmed", func() bool { return f.confirmed() >= end })
			f.exec(`UPDATE outbox SET payload = '{"seq": 5}' WHERE payload->>'seq' = '5'`)
			want(t, "outcome", f.release("a"), relay.ReplayOutcome{Topic: f.topic, Key: "a", Released: 1})
			f.emit("a", 6, 1)
			wantSeqs(t, seqs(t, f, f.topic, 6), 1, 2, 3, 4, 5, 6)
			untilParked(r, 0, 0)
		})
	}
}

func TestHaltKey_RecordTooLargeIsReleasedWhenTheTopicTakesIt(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.cfg.Kafka.DeadLetterTopic = f.haltKey()
	small := f.createTopic(map[string]string{"max.message.bytes": "2000"})
	f.cfg.Outbox.Topic, f.cfg.Kafka.Compression = small, "none"
	r := f.start()
	r.untilStreaming()
	f.emitOneTooLarge()
	untilParked(r, 1, 51)
	wantSeqs(t, seqs(t, f, small, 49)[40:], 41, 42, 43, 44, 45, 46, 47, 48, 49)
	got := f.release("a")
	want(t, "code and counts", []any{got.Code, got.Released, got.Parked}, []any{relay.RecordTooLarge, 0, 51})
	f.alterTopic(small, "max.message.bytes", "100000")
	want(t, "outcome", f.release("a"), relay.ReplayOutcome{Topic: small, Key: "a", Released: 51})
	for i, seq := range seqs(t, f, small, 100) {
		if seq != int64(i+1) {
			t.Fatalf("record %d is event %d", i, seq)
		}
	}
}

func TestHaltKey_EventWhoseTopicCannotBeToldParksItsKeyForEveryTopic(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.haltKey()
	other := f.createTopic(nil)
	r := f.start()
	r.untilStreaming()
	emit := func(seq int, topic *string) {
		f.exec(`INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload, topic)
			VALUES ('order', 'a', 'order.created', json_build_object('seq', $1::int), $2)`, seq, topic)
	}
	bad := "no topic!"
	f.poison("a", 1)
	emit(2, &bad)
	emit(3, nil)
	emit(4, &other)
	f.emit("b", 1, 1)
	untilParked(r, 2, 4)
	want(t, "published", f.byKey(f.topic, 1), map[string]string{"b": "1 "})

	f.exec(`UPDATE outbox SET topic = NULL WHERE topic = $1`, bad)
	unknown := ""
	outcomes, err := relay.RequestReplay(t.Context(), f.cfg, relay.ReplayRequest{All: true, Topic: &unknown}, nil)
	if err != nil || len(outcomes) != 1 || outcomes[0].Released != 0 || !strings.Contains(outcomes[0].Reason, f.topic) {
		t.Errorf("released before the events in front of it: %+v, %v", outcomes, err)
	}
	f.mend()
	var progress []string
	outcomes, err = relay.RequestReplay(t.Context(), f.cfg, relay.ReplayRequest{All: true},
		func(answered, of int) { progress = append(progress, fmt.Sprintf("%d/%d", answered, of)) })
	if err != nil || len(outcomes) != 2 {
		t.Fatalf("outcomes %+v, %v", outcomes, err)
	}
	want(t, "progress", progress, []string{"1/2", "2/2"})
	want(t, "published", f.byKey(f.topic, 4), map[string]string{"a": "1 2 3 ", "b": "1 "})
	want(t, "published", f.byKey(other, 1), map[string]string{"a": "4 "})
	untilParked(r, 0, 0)
}

func TestHaltKey_RowThatIsGoneStaysParkedAndSaysSo(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	dead := f.haltKey()
	r := f.start()
	r.untilStreaming()
	f.poison("a", 1)
	f.poison("a", 2)
	f.emit("a", 3, 1)
	untilParked(r, 1, 3)
	f.mend()
	f.exec(`DELETE FROM outbox WHERE payload->>'seq' = '2'`)
	got := f.release("a")
	if got.Released != 1 || got.Parked != 2 || !strings.Contains(got.Reason, "not in the table any more") {
		t.Errorf("outcome %+v", got)
	}
	key, gone := "a", header(f.consume(dead, 2)[1], "ce_id")
	outcomes, err := relay.RequestReplay(t.Context(), f.cfg, relay.ReplayRequest{Key: &key, GiveUp: []string{gone}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "outcome", outcomes, []relay.ReplayOutcome{{Topic: f.topic, Key: "a", Released: 1, GivenUp: 1}})
	wantSeqs(t, seqs(t, f, f.topic, 2), 1, 3)
	untilParked(r, 0, 0)
	want(t, "outcome", f.release("nobody"), relay.ReplayOutcome{Key: "nobody"})
}

func TestHaltKey_RequestsThatMakeNoSenseAreCountedAndPassedOver(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.haltKey()
	r := f.start()
	r.untilStreaming()
	f.poison("a", 1)
	untilParked(r, 1, 1)
	f.mend()
	for _, content := range []string{"", "{", "{}", `{"replay":{}}`, `{"replay":{"key":7}}`, `{"replay":{"key":"a","all":true}}`} {
		f.exec(`SELECT pg_logical_emit_message(true, $1, $2::text)`, "postrider/"+f.cfg.Name, content)
	}
	f.exec(`SELECT pg_logical_emit_message(false, $1, $2::text)`, "postrider/"+f.cfg.Name, `{"replay":{"key":"a"}}`)
	for _, prefix := range []string{"postrider/other", "somebody"} {
		f.exec(`SELECT pg_logical_emit_message(true, $1, $2::text)`, prefix, `{"replay":{"key":"a"}}`)
	}
	f.emit("b", 1, 1)
	f.consume(f.topic, 1)
	want(t, "requests passed over", r.metric(`postrider_errors_total{class="replay"`), 7)
	want(t, "messages of others", r.metric(`postrider_changes_ignored_total{kind="message"`), 2)
	untilParked(r, 1, 1)
}

func TestHaltKey_WarnsOfADeadLetterTopicThatForgets(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	dead := f.haltKey()
	f.alterTopic(dead, "retention.ms", "604800000")
	r := f.start()
	r.untilStreaming()
	f.poison("a", 1)
	untilParked(r, 1, 1)
	log := r.logs.String()
	if strings.Count(log, "the dead-letter topic forgets") != 1 || !strings.Contains(log, "retention.ms=604800000") {
		t.Errorf("no warning, or several:\n%s", log)
	}
	r.halt()
	f.alterTopic(dead, "retention.ms", "-1")
	f.alterTopic(dead, "retention.bytes", "-1")
	r = f.start()
	untilParked(r, 1, 1)
	if strings.Contains(r.logs.String(), "forgets") {
		t.Error("a warning without reason")
	}
}

func TestHaltKey_ListParkedNeedsNoRelay(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if _, err := relay.ListParked(t.Context(), f.cfg); !errors.Is(err, relay.ErrNotHaltKey) {
		t.Errorf("%v", err)
	}
	f.haltKey()
	r := f.start()
	r.untilStreaming()
	f.poison("a", 1)
	f.emit("a", 2, 2)
	f.poison("b", 1)
	untilParked(r, 2, 4)
	r.until("all acknowledged", func(s relay.StatusReport) bool { return s.InFlight == 0 })
	shown := r.Status().Parked.Examples
	r.halt()
	keys, err := relay.ListParked(t.Context(), f.cfg)
	if err != nil || len(keys) != 2 {
		t.Fatalf("%+v, %v", keys, err)
	}
	for i, k := range keys {
		if age := time.Since(k.Since); age < 0 || age > patience {
			t.Errorf("parked since %v", k.Since)
		}
		keys[i].Since, shown[i].Since = time.Time{}, time.Time{}
	}
	want(t, "parked keys", keys, shown)
	if first, last := keys[0].First, keys[0].Last; keys[0].Events != 3 || first.Position >= last.Position || first.ID == last.ID {
		t.Errorf("listed %+v", keys[0])
	}
}

func TestHaltKey_KeyThatStaysDoesNotHoldUpAnother(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.haltKey()
	r := f.start()
	r.untilStreaming()
	for _, key := range []string{"a", "b", "c"} {
		f.poison(key, 1)
		f.emit(key, 2, 100)
	}
	untilParked(r, 3, 303)
	f.exec(`UPDATE outbox SET payload = '{"seq": 1}' WHERE payload->>'seq' = '1' AND aggregate_id IN ('b', 'c')`)
	f.exec(`UPDATE outbox SET aggregate_id = 'a' WHERE payload->>'seq' = '50' AND aggregate_id = 'c'`)
	outcomes, err := relay.RequestReplay(t.Context(), f.cfg, relay.ReplayRequest{All: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string][2]int)
	for _, k := range outcomes {
		got[k.Key] = [2]int{k.Released, k.Parked}
	}
	// Event 50 of c has become one of a, which is parked: it must not overtake those.
	want(t, "released and parked", got, map[string][2]int{"a": {0, 101}, "b": {101, 0}, "c": {49, 52}})
	published := make(map[string]int64)
	for _, rec := range f.consume(f.topic, 150) {
		_, seq := decodeSeq(t, rec.Value)
		key := string(rec.Key)
		if published[key]++; published[key] != seq {
			t.Fatalf("event %d of %s comes after %d others", seq, key, published[key]-1)
		}
	}
	untilParked(r, 2, 153)
}
