package relay

import (
	"log/slog"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// recordOf makes records of events, without a stream and a publisher.
func recordOf(t *testing.T, c *cluster) *Encoder {
	t.Helper()
	cfg := minimalConfig()
	cfg.Outbox.Topic = testTopic
	cfg = cfg.withDefaults()
	log := slog.New(slog.DiscardHandler)
	m := newMetrics(nil, cfg.Name)
	e, err := newEncoder(&cfg, log, newStatus(log, m), m)
	if err != nil {
		t.Fatal(err)
	}
	e.cluster, e.checkpoint, e.owed = c, NewCheckpoint(0, nil), new(deadLetters)
	e.ticket = e.checkpoint.Begin(time.Now())
	e.block = new(block)
	e.now = time.Now()
	return e
}

// An event that was delivered in time and is read again, by a relay that came back after its
// deadline, must not turn up in the dead-letter topic too: whoever undoes what it stood for
// would undo what has been done.
func TestEncoder_AnEventThatWasDeliveredInTimeDoesNotExpire(t *testing.T) {
	t.Parallel()
	kafka := startKafka(t, 1, kfake.SeedTopics(1, "postrider_orders_dead_letter"))
	fill(t, kafka, 0, 95)
	deadline := time.Now().Add(-time.Second)
	event := func(id string) *Event {
		return &Event{ID: []byte(id), AggregateType: []byte("order"), AggregateID: []byte("1"), Type: []byte("order.created"), ExpiresAt: deadline}
	}

	for _, tc := range []struct {
		name  string
		known map[string][]Position // what an earlier session of the process appended
		id    string
		at    LSN
		owed  bool // its dead letter was on its way then
		dead  bool
	}{
		{name: "in the topic's tail", id: "e95", at: 95},
		{name: "behind the tail", id: "e96", at: 96, dead: true},
		{name: "appended by an earlier session", known: map[string][]Position{testTopic: {{LSN: 200}}}, id: "e150", at: 150},
		{name: "not appended by an earlier session", known: map[string][]Position{testTopic: {{LSN: 200}}}, id: "e250", at: 250, dead: true},
		{name: "owed by an earlier session", known: map[string][]Position{testTopic: {{LSN: 200}}}, id: "e150", at: 150, owed: true, dead: true},
	} {
		c := openTestCluster(t, kafka, 90)
		c.known = tc.known
		e := recordOf(t, c)
		if tc.owed {
			e.owed.add([]byte(tc.id))
		}
		if err := e.record(t.Context(), event(tc.id), Position{LSN: tc.at}); err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		dead := len(e.block.records) == 1 && e.block.records[0].dead == reasonExpired
		if dead != tc.dead || len(e.block.records) > 1 {
			t.Errorf("%s: a dead letter is made: %v, want %v", tc.name, dead, tc.dead)
		}
	}
}

func TestEncoder_AnExpiredEventNeedsNoTopic(t *testing.T) {
	t.Parallel()
	kafka := startKafka(t, 1, kfake.SeedTopics(1, "postrider_orders_dead_letter"))
	e := recordOf(t, openTestCluster(t, kafka, 90))
	event := &Event{
		ID: []byte("e1"), AggregateType: []byte("order"), AggregateID: []byte("1"), Type: []byte("order.created"),
		Topic: []byte("missing"), ExpiresAt: time.Now().Add(-time.Second),
	}
	if err := e.record(t.Context(), event, Position{LSN: 95}); err != nil {
		t.Fatal(err)
	}
	if len(e.block.records) != 1 || e.block.records[0].dead != reasonExpired {
		t.Error("no dead letter is made")
	}
}
