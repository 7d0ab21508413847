package relay

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/semaphore"
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

// travelling returns the block's last record as another client reads it, its headers as
// "name: value".
func travelling(t *testing.T, b *block) (r *blockRecord, key, value []byte, headers []string) {
	t.Helper()
	r = &b.records[len(b.records)-1]
	var read kmsg.Record
	if err := read.ReadFrom(appendRecord(nil, 0, b.at(r.body))); err != nil {
		t.Fatal(err)
	}
	for _, h := range read.Headers {
		headers = append(headers, h.Key+": "+string(h.Value))
	}
	return r, read.Key, read.Value, headers
}

// orderEvent is an event that newLine's encoder knows the schema of.
func orderEvent() *Event {
	return &Event{
		ID: []byte("0199aa00-0000-7000-8000-000000000001"), AggregateType: []byte("order"), AggregateID: []byte("order-1"),
		Type: []byte("order.created"), Payload: []byte(linePayload), CreatedAt: []byte("2026-11-21 05:00:00.123456+00"),
		Headers: []Header{{[]byte("trace"), []byte("t1")}, {[]byte(headerSchemaVersion + "x"), nil}},
	}
}

func TestEncoder_ARecordIsReadAsItWasMade(t *testing.T) {
	t.Parallel()
	cloud := []string{
		"ce_specversion: 1.0", "ce_source: /orders", "ce_type: order.created", "ce_subject: order-1",
		"ce_id: 0199aa00-0000-7000-8000-000000000001", "ce_time: 2026-11-21T05:00:00.123456Z",
	}
	row := []string{"trace: t1", headerSchemaVersion + "x: "}
	position := []string{"postrider-position: 1/2/3"}
	many, manyHeaders := make([]string, 100), make([]Header, 100)
	for i := range many {
		name, value := fmt.Sprint("h", i), fmt.Sprint(i)
		many[i], manyHeaders[i] = name+": "+value, Header{[]byte(name), []byte(value)}
	}
	for _, tc := range []struct {
		name   string
		change func(*Encoder, *Event)
		dead   *letter
		null   bool
		want   [][]string
	}{
		{name: "JSON", want: [][]string{cloud, {"content-type: application/avro"}, row, position}},
		{name: "tombstone", change: func(_ *Encoder, ev *Event) { ev.Payload = nil }, null: true, want: [][]string{cloud, row, position}},
		{name: "no CloudEvents", change: func(e *Encoder, _ *Event) { e.cfg.Outbox.Headers = "none" }, want: [][]string{row, position}},
		{name: "many headers", change: func(_ *Encoder, ev *Event) { ev.Headers = manyHeaders },
			want: [][]string{cloud, {"content-type: application/avro"}, many, position}},
		{name: "many headers, no CloudEvents", change: func(e *Encoder, ev *Event) {
			e.cfg.Outbox.Headers = "none"
			ev.Headers = manyHeaders
		}, want: [][]string{many, position}},
		{name: "released", change: func(e *Encoder, _ *Event) { e.replaying = &Position{LSN: 0x1_0000_0001} },
			want: [][]string{cloud, {"content-type: application/avro"}, row, position, {headerReplayed + ": 1/1/0"}}},
		{name: "repair", change: func(e *Encoder, _ *Event) { e.repair = &repairing{reason: "missing"} },
			want: [][]string{cloud, {"content-type: application/avro"}, row, position, {headerRepair + ": missing"}}},
		{name: "dead letter", dead: &letter{code: "POISON_EVENT", cause: errHeaders}, want: [][]string{
			cloud, {"content-type: application/json"}, row, {
				headerErrorCode + ": POISON_EVENT", headerError + ": " + errHeaders.Error(), "postrider-aggregate-type: order",
				"postrider-topic: order", "postrider-xid: 7", "postrider-lsn: 1/2",
			}, position,
		}},
		{name: "dead letter of a tombstone", null: true, change: func(_ *Encoder, ev *Event) { ev.Payload = nil },
			dead: &letter{code: "POISON_EVENT", cause: errHeaders}, want: [][]string{
				cloud, row, {
					headerErrorCode + ": POISON_EVENT", headerError + ": " + errHeaders.Error(), "postrider-aggregate-type: order",
					"postrider-topic: order", "postrider-xid: 7", "postrider-lsn: 1/2",
				}, position,
			}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			l, ev, at := newLine(t), orderEvent(), Position{LSN: 0x1_0000_0002, Index: 3}
			l.message(l.begin)
			letters := l.Encoder.cfg.Kafka.DeadLetterTopic
			l.cluster.topics[letters] = &topic{name: letters, murmur2: l.topic.murmur2, partitions: []*partition{{topic: letters}}}
			if tc.change != nil {
				tc.change(l.Encoder, ev)
			}
			var err error
			if tc.dead != nil {
				err = l.deadLetter(ev, at, *tc.dead)
			} else {
				err = l.record(t.Context(), ev, at)
			}
			if err != nil {
				t.Fatal(err)
			}
			r, key, value, headers := travelling(t, l.block)
			if diff := cmp.Diff(slices.Concat(tc.want...), headers); diff != "" {
				t.Errorf("headers (-want +read):\n%s", diff)
			}
			if string(key) != "order-1" || string(l.block.at(r.key)) != "order-1" || string(l.block.at(r.id)) != string(ev.ID) {
				t.Errorf("key %q, known as %q, id %q", key, l.block.at(r.key), l.block.at(r.id))
			}
			if (value == nil) != tc.null || string(value) != string(l.block.at(r.value)) {
				t.Errorf("the value has %d bytes, known are %d", len(value), r.value.len())
			}
			switch {
			case tc.null:
			case tc.dead != nil:
				if string(value) != linePayload {
					t.Errorf("the value is %q", value)
				}
			case value[0] != 0 || value[4] != 1 || !strings.Contains(string(value), "customer-3456"):
				t.Errorf("the value is %q", value)
			}
		})
	}
}

// What could not be made must leave nothing behind: the next record would begin with it.
func TestEncoder_AnEventThatIsRefusedLeavesTheBlockAsItWas(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{headersCloudEvents, "none"} {
		l := newLine(t)
		registry := newRenewalRig(t).client
		if id, err := registry.Register(t.Context(), "order.created", lineSchema); err != nil || id != 1 {
			t.Fatalf("registered as %d: %v", id, err)
		}
		l.schemas.registry = registry
		l.Encoder.cfg.Outbox.Headers = mode
		l.message(l.begin)
		if err := l.record(t.Context(), orderEvent(), Position{LSN: 1}); err != nil {
			t.Fatal(err)
		}
		before := string(l.block.bytes)
		for name, change := range map[string]func(*Event){
			"a value without end":     func(ev *Event) { ev.Payload = []byte(linePayload[:len(linePayload)-1]) },
			"a header of the relay's": func(ev *Event) { ev.Headers = []Header{{[]byte("a"), []byte("b")}, {[]byte(headerPosition), nil}} },
		} {
			ev := orderEvent()
			change(ev)
			if err := l.record(t.Context(), ev, Position{LSN: 2}); err == nil {
				t.Fatalf("%s is taken", name)
			}
			if string(l.block.bytes) != before || len(l.block.records) != 1 {
				t.Errorf("headers %s: %s leaves %d bytes behind", mode, name, len(l.block.bytes)-len(before))
			}
		}
		// The next one fits only the version that is registered now: it is made twice.
		newer := strings.Replace(lineSchema, `"fields":[`, `"fields":[{"name":"vat","type":"double","default":0},`, 1)
		if _, err := registry.Register(t.Context(), "order.created", newer); err != nil {
			t.Fatal(err)
		}
		ev := orderEvent()
		ev.Payload = []byte(strings.Replace(linePayload, "{", `{"vat": 0.5, `, 1))
		if err := l.record(t.Context(), ev, Position{LSN: 2}); err != nil {
			t.Fatal(err)
		}
		first, second := l.block.records[0].value, l.block.records[1].value
		if second.len() != first.len()+8 {
			t.Errorf("a value of %d bytes and a double have %d bytes", first.len(), second.len())
		}
		if _, key, _, _ := travelling(t, l.block); string(key) != "order-1" {
			t.Errorf("the record behind those has the key %q", key)
		}
	}
}

func TestEncoder_SaysHowLateABlockIs(t *testing.T) {
	t.Parallel()
	e := recordOf(t, openTestCluster(t, startKafka(t, 1), 90))
	e.publisher = &Publisher{in: make(chan *block, 1), limit: 1 << 20, budget: semaphore.NewWeighted(1 << 20)}
	e.now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) // whatever our own clock says
	e.commit = e.now.Add(-3 * time.Second)
	ev := &Event{ID: []byte("e1"), AggregateType: []byte("order"), AggregateID: []byte("1"), Type: []byte("order.created")}
	if err := e.record(t.Context(), ev, Position{LSN: 100}); err != nil {
		t.Fatal(err)
	}
	if err := e.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b := <-e.publisher.in; b.late != 3*time.Second {
		t.Errorf("the block is %v late, want 3s", b.late)
	}
}
