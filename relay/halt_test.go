package relay_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/postrider/postrider/internal/testserver"
	"github.com/postrider/postrider/relay"
)

// confirmed returns where the slot stands.
func (f *fixture) confirmed() relay.LSN {
	f.t.Helper()
	return f.lsn(`(SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 'postrider_` + f.cfg.Name + `')`)
}

// lsn evaluates an SQL expression.
func (f *fixture) lsn(expression string) relay.LSN {
	f.t.Helper()
	var text string
	if err := f.db.QueryRow(context.Background(), "SELECT ("+expression+")::text").Scan(&text); err != nil {
		f.t.Fatal(err)
	}
	lsn, err := pglogrepl.ParseLSN(text)
	if err != nil {
		f.t.Fatal(err)
	}
	return lsn
}

// seqs decodes the events of records.
func seqs(t *testing.T, f *fixture, topic string, n int) []int64 {
	t.Helper()
	var out []int64
	for _, rec := range f.consume(topic, n) {
		_, seq := decodeSeq(t, rec.Value)
		out = append(out, seq)
	}
	return out
}

func wantSeqs(t *testing.T, got []int64, want ...int64) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("events %v, want %v", got, want)
	}
}

func deadLetterTopic(c *relay.Config, topic string) {
	c.OnPoison = "dead-letter"
	c.Kafka.DeadLetterTopic = topic
}

func TestHalt_PoisonEventStandsUntilItsSchemaTakesIt(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.start()
	r.untilStreaming()
	f.emit("a", 1, 1)
	f.exec(`INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
		VALUES ('order', 'a', 'order.created', '{"seq": 2, "colour": "red"}')`)
	poisoned := f.lsn("pg_current_wal_insert_lsn()")
	f.emit("a", 3, 1)
	s := r.untilHalted(relay.PoisonEvent)
	if s.Ready {
		t.Error("a halted relay says it is ready")
	}
	if m := s.Troubles[0].Message; !strings.Contains(m, "$.colour") || !strings.Contains(m, "order.created") {
		t.Errorf("message %q names neither path nor subject", m)
	}
	wantSeqs(t, seqs(t, f, f.topic, 1), 1)
	r.until("a second attempt", func(relay.StatusReport) bool { return r.metric(`postrider_errors_total{class="event"`) >= 2 })
	if confirmed := f.confirmed(); confirmed >= poisoned {
		t.Errorf("the slot stands at %s, past the poison event before %s", confirmed, poisoned)
	}
	f.registry.register("order.created", strings.Replace(orderCreated, `]}`, `,{"name":"colour","type":"string","default":""}]}`, 1))
	if got := f.consume(f.topic, 3); len(got) != 3 {
		t.Fatalf("%d records", len(got))
	}
	r.until("ready again", func(s relay.StatusReport) bool { return s.Ready })
}

func TestPoison_GoesToTheDeadLetterTopicWithTheRowsBytes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	dead := testserver.Topic(t, 1)
	r := f.start(func(c *relay.Config) { deadLetterTopic(c, dead) })
	r.untilStreaming()
	const payload = `{"seq": "two"}`
	f.emit("a", 1, 1)
	f.exec(`INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload, headers)
		VALUES ('order', 'a', 'order.created', $1, '{"traceparent": "00-1-2-03"}')`, payload)
	f.emit("a", 3, 1)
	wantSeqs(t, seqs(t, f, f.topic, 2), 1, 3)
	letter := f.consume(dead, 1)[0]
	if string(letter.Value) != payload || string(letter.Key) != "a" {
		t.Errorf("dead letter %s: %s", letter.Key, letter.Value)
	}
	for name, want := range map[string]string{
		"postrider-error-code": "POISON_EVENT", "postrider-topic": f.topic, "postrider-aggregate-type": "order",
		"ce_type": "order.created", "traceparent": "00-1-2-03", "content-type": "application/json",
	} {
		if got := header(letter, name); got != want {
			t.Errorf("header %s = %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"postrider-error", "postrider-xid", "postrider-lsn", "postrider-position", "ce_id"} {
		if header(letter, name) == "" {
			t.Errorf("header %s is missing", name)
		}
	}
	r.until("counted", func(s relay.StatusReport) bool { return s.DeadLettered == 1 && s.Published == 2 })
}

func TestExpiredEventGoesToTheDeadLetterTopic(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	dead := testserver.Topic(t, 1)
	r := f.start(func(c *relay.Config) { c.Kafka.DeadLetterTopic = dead })
	r.untilStreaming()
	f.exec(`INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload, expires_at) VALUES
		('order', 'a', 'order.created', '{"seq":1}', now() - interval '1 second'),
		('order', 'a', 'order.created', '{"seq":2}', now() + interval '1 hour'),
		('order', 'a', 'order.created', '{"seq":3}', 'infinity')`)
	wantSeqs(t, seqs(t, f, f.topic, 2), 2, 3)
	if got := header(f.consume(dead, 1)[0], "postrider-error-code"); got != "EXPIRED" {
		t.Errorf("error code %q", got)
	}
	r.until("counted", func(s relay.StatusReport) bool { return s.Expired == 1 })
}

func TestHalt_SchemaMissingStandsUntilItIsRegistered(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.start()
	r.untilStreaming()
	f.exec(`INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload) VALUES ('order', 'a', 'order.paid', '{"seq":1}')`)
	r.untilHalted(relay.SchemaMissing)
	f.registry.register("order.paid", strings.Replace(orderCreated, "created", "paid", 1))
	f.consume(f.topic, 1)
}

func TestRegistryOutage_KnownSchemasGoOnAndUnknownOnesWait(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.registry.register("order.paid", strings.Replace(orderCreated, "created", "paid", 1))
	r := f.start()
	r.untilStreaming()
	f.emit("a", 1, 1)
	f.consume(f.topic, 1)
	f.registry.status.Store(http.StatusServiceUnavailable)
	<-time.After(f.cfg.Registry.LatestTTL) // the known schema is now due for a look at the registry
	f.emit("a", 2, 1)
	wantSeqs(t, seqs(t, f, f.topic, 2), 1, 2)
	f.exec(`INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload) VALUES ('order', 'a', 'order.paid', '{"seq":3}')`)
	r.until("waiting for the registry", func(s relay.StatusReport) bool {
		return len(s.Troubles) == 1 && s.Troubles[0].Code == "" && s.Troubles[0].WaitsFor == "registry" && !s.Ready
	})
	const waiting = `postrider_waiting{component="registry"`
	if r.metric(waiting) != 1 {
		t.Error("no metric shows that the registry is awaited")
	}
	f.registry.status.Store(0)
	f.consume(f.topic, 3)
	if r.metric(waiting) != 0 {
		t.Error("the metric still waits for the registry")
	}
}

func TestHalt_TopicMissingStandsUntilItIsMade(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	topic := testserver.UniqueName(t)
	r := f.start(func(c *relay.Config) { c.Outbox.Topic = topic })
	r.untilStreaming()
	f.emit("a", 1, 1)
	r.untilHalted(relay.TopicMissing)
	client, err := kgo.NewClient(kgo.SeedBrokers(f.cfg.Kafka.Brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	if _, err := admin.CreateTopic(t.Context(), 1, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.deleteTopic(topic) })
	wantSeqs(t, seqs(t, f, topic, 1), 1)
}

func (f *fixture) deleteTopic(name string) {
	client, err := kgo.NewClient(kgo.SeedBrokers(f.cfg.Kafka.Brokers...))
	if err != nil {
		f.t.Fatal(err)
	}
	defer client.Close()
	if _, err := kadm.NewClient(client).DeleteTopic(context.Background(), name); err != nil {
		f.t.Errorf("delete topic %s: %v", name, err)
	}
	f.eventually("the brokers know that "+name+" is gone", func() bool {
		topics, err := kadm.NewClient(client).ListTopics(context.Background(), name)
		return err == nil && topics[name].Err != nil
	})
}

func TestRelay_CreatesTopicsWhenToldTo(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	topic := testserver.UniqueName(t)
	r := f.start(func(c *relay.Config) {
		c.Outbox.Topic = topic + "-{event_type}"
		c.Kafka.CreateTopics = relay.CreateTopicsConfig{Partitions: 3}
	})
	r.untilStreaming()
	f.emit("a", 1, 1)
	wantSeqs(t, seqs(t, f, topic+"-order.created", 1), 1)
	f.deleteTopic(topic + "-order.created")
}

func TestHalt_RecordTooLargeIsNamedAndTheDeadLetterPolicyPassesIt(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"halt", "dead-letter"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			dead := f.createTopic(map[string]string{"max.message.bytes": "8000000"})
			small := f.createTopic(map[string]string{"max.message.bytes": "2000"})
			r := f.start(func(c *relay.Config) {
				deadLetterTopic(c, dead)
				c.OnPoison = policy
				c.Outbox.Topic = small
				c.Kafka.Compression = "none"
			})
			r.untilStreaming()
			f.emitOneTooLarge()
			if policy == "halt" {
				s := r.untilHalted(relay.RecordTooLarge)
				if s.Ready {
					t.Error("a halted relay says it is ready")
				}
				f.consume(small, 49)
				return
			}
			seen := make(map[int64]bool)
			for _, seq := range seqs(t, f, small, 99) {
				seen[seq] = true
			}
			if len(seen) != 99 || seen[50] {
				t.Errorf("%d different events, too large one among them: %v", len(seen), seen[50])
			}
			if got := header(f.consume(dead, 1)[0], "postrider-error-code"); got != "RECORD_TOO_LARGE" {
				t.Errorf("error code %q", got)
			}
		})
	}
}

// emitOneTooLarge inserts a hundred events in one transaction, of which only number 50 is
// larger than the topics of these tests take.
func (f *fixture) emitOneTooLarge() {
	f.t.Helper()
	f.exec(`INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
		SELECT 'order', 'a', 'order.created', json_build_object('seq', s, 'note', repeat('x', CASE s WHEN 50 THEN 5000 ELSE 100 END))
		FROM generate_series(1, 100) s`)
}

// createTopic makes a topic of one partition with configuration, until the test ends.
func (f *fixture) createTopic(config map[string]string) string {
	f.t.Helper()
	name := f.createTopicOnce(config)
	f.t.Cleanup(func() { f.deleteTopic(name) })
	return name
}

// createTopicOnce makes a topic that the test deletes itself.
func (f *fixture) createTopicOnce(config map[string]string) string {
	f.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(f.cfg.Kafka.Brokers...))
	if err != nil {
		f.t.Fatal(err)
	}
	defer client.Close()
	values := make(map[string]*string)
	for k, v := range config {
		values[k] = &v
	}
	name := testserver.UniqueName(f.t)
	if _, err := kadm.NewClient(client).CreateTopic(context.Background(), 1, 1, values, name); err != nil {
		f.t.Fatal(err)
	}
	return name
}

func TestHalt_RecordTooLargeAmongRowsFromBeforeTheSlot(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"halt", "dead-letter"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			dead := f.createTopic(map[string]string{"max.message.bytes": "8000000"})
			small := f.createTopic(map[string]string{"max.message.bytes": "2000"})
			f.emitOneTooLarge()
			r := f.start(func(c *relay.Config) {
				deadLetterTopic(c, dead)
				c.OnPoison = policy
				c.Outbox.Topic = small
				c.Kafka.Compression = "none"
			})
			if policy == "halt" {
				r.untilHalted(relay.RecordTooLarge)
				sessions := r.Status().Sessions
				r.until("a second attempt", func(relay.StatusReport) bool { return r.metric(`postrider_errors_total{class="event"`) >= 2 })
				if s := r.Status(); s.Ready || s.Sessions > sessions+1 {
					t.Errorf("ready %v after %d sessions, want one that stands at the event", s.Ready, s.Sessions)
				}
				return
			}
			r.untilStreaming()
			if got := header(f.consume(dead, 1)[0], "postrider-error-code"); got != "RECORD_TOO_LARGE" {
				t.Errorf("error code %q", got)
			}
		})
	}
}

func TestHalt_OfOneTopicIsNotHiddenByAnother(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	gone := f.createTopicOnce(nil)
	r := f.start()
	r.untilStreaming()
	emit := func(topic string, seq int) {
		f.exec(`INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload, topic)
			VALUES ('order', 'a', 'order.created', json_build_object('seq', $1::int), $2)`, seq, topic)
	}
	emit(gone, 1)
	f.consume(gone, 1)
	f.deleteTopic(gone)
	emit(gone, 2)
	r.untilHalted(relay.TopicMissing)
	for i := range 20 {
		emit(f.topic, i)
		f.consume(f.topic, i+1)
		if r.Status().Ready {
			t.Fatalf("ready after %d events of another topic", i+1)
		}
	}
}

func TestRegistryOutage_AnEventOfANewerSchemaWaits(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	dead := testserver.Topic(t, 1)
	r := f.start(func(c *relay.Config) { deadLetterTopic(c, dead) })
	r.untilStreaming()
	f.emit("a", 1, 1)
	f.consume(f.topic, 1)
	f.registry.register("order.created", strings.Replace(orderCreated, `]}`, `,{"name":"colour","type":"string","default":""}]}`, 1))
	f.registry.status.Store(http.StatusServiceUnavailable)
	f.exec(`INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
		VALUES ('order', 'a', 'order.created', '{"seq": 2, "colour": "red"}')`)
	r.until("waiting", func(s relay.StatusReport) bool { return len(s.Troubles) == 1 && s.Troubles[0].Code == "" })
	f.registry.status.Store(0)
	f.consume(f.topic, 2)
	if s := r.Status(); s.DeadLettered != 0 {
		t.Errorf("%d dead letters in an outage of the registry", s.DeadLettered)
	}
}

func TestDeadLetter_UnacknowledgedIsNeverTakenForPublished(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	dead := f.createTopicOnce(nil)
	r := f.start(func(c *relay.Config) { deadLetterTopic(c, dead) })
	r.untilStreaming()
	poison := func(seq int) {
		f.exec(`INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
			VALUES ('order', 'a', 'order.created', json_build_object('seq', $1::int, 'colour', 'red'))`, seq)
	}
	poison(1)
	f.consume(dead, 1)
	f.deleteTopic(dead)
	poison(2)
	f.emit("a", 3, 1)
	f.consume(f.topic, 1) // the event behind the dead letter that nobody acknowledged
	f.registry.register("order.created", strings.Replace(orderCreated, `]}`, `,{"name":"colour","type":"string","default":""}]}`, 1))
	sessions := r.Status().Sessions
	f.exec(`SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1`, "postrider_"+f.cfg.Name)
	r.until("another session", func(s relay.StatusReport) bool { return s.Sessions > sessions })
	wantSeqs(t, seqs(t, f, f.topic, 2), 3, 2)
}
