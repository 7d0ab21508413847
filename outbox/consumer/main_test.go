package consumer_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"log"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/postrider/postrider/internal/testserver"
	"github.com/postrider/postrider/outbox"
	"github.com/postrider/postrider/outbox/consumer"
	"github.com/postrider/postrider/outbox/inbox"
	schemaregistry "github.com/postrider/postrider/schema-registry"
	"github.com/postrider/postrider/testdata/schemas"
)

func TestMain(m *testing.M) {
	if os.Getenv(childDatabase) != "" {
		if err := runChild(); err != nil {
			log.Fatal(err)
		}
		return
	}
	// One goroutine of a process that has ever made a meter; sarama makes meters.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

var created = outbox.MustParseSchema(schemas.OrderCreatedText)

// fixture is a database with inbox, outbox and the table effect, a topic and its dead-letter
// topic.
type fixture struct {
	t       testing.TB
	url     string
	pool    *pgxpool.Pool
	brokers []string
	topic   string
	dead    string
	kafka   *kgo.Client
}

func newFixture(t testing.TB, partitions int) *fixture {
	t.Helper()
	return newFixtureOn(t, testserver.Postgres(t), partitions)
}

func newFixtureOn(t testing.TB, url string, partitions int) *fixture {
	t.Helper()
	f := &fixture{t: t, url: url, brokers: testserver.Kafka(t), topic: testserver.Topic(t, partitions), dead: testserver.Topic(t, 1)}
	var err error
	if f.pool, err = pgxpool.New(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.pool.Close)
	ddl, err := inbox.TableDDL("")
	if err != nil {
		t.Fatal(err)
	}
	f.exec(ddl.Up)
	if ddl, err = outbox.TableDDL(""); err != nil {
		t.Fatal(err)
	}
	f.exec(ddl.Up)
	f.exec("CREATE TABLE effect (place bigserial, key text NOT NULL, id text NOT NULL, member text NOT NULL DEFAULT '')")
	f.kafka, err = kgo.NewClient(kgo.SeedBrokers(f.brokers...), kgo.ConsumeTopics(f.dead), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.kafka.Close)
	return f
}

func (f *fixture) exec(query string) {
	f.t.Helper()
	if _, err := f.pool.Exec(f.t.Context(), query, pgx.QueryExecModeSimpleProtocol); err != nil {
		f.t.Fatalf("%.80s: %v", query, err)
	}
}

func column[T any](f *fixture, query string, args ...any) []T {
	f.t.Helper()
	rows, err := f.pool.Query(f.t.Context(), query, args...)
	if err != nil {
		f.t.Fatal(err)
	}
	values, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		f.t.Fatal(err)
	}
	return values
}

// handled are the ids of the events that had an effect, in the order of the effects.
func (f *fixture) handled() []string {
	f.t.Helper()
	return column[string](f, "SELECT id FROM effect ORDER BY place")
}

// record is an event as the relay would publish it; headers come in pairs.
func (f *fixture) record(key, id string, value []byte, headers ...string) *kgo.Record {
	r := &kgo.Record{Topic: f.topic, Key: []byte(key), Value: value}
	for i := 0; i < len(headers); i += 2 {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: headers[i], Value: []byte(headers[i+1])})
	}
	if id != "" {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: "ce_id", Value: []byte(id)})
	}
	return r
}

func (f *fixture) produce(records ...*kgo.Record) {
	f.t.Helper()
	if err := f.kafka.ProduceSync(f.t.Context(), records...).FirstErr(); err != nil {
		f.t.Fatal(err)
	}
}

// deadLetters waits for that many.
func (f *fixture) deadLetters(n int) []*kgo.Record {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), time.Minute)
	defer cancel()
	var letters []*kgo.Record
	for len(letters) < n {
		fetches := f.kafka.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			f.t.Fatalf("after %d of %d dead letters: %v", len(letters), n, err)
		}
		letters = append(letters, fetches.Records()...)
	}
	return letters
}

func header(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// config is a consumer that notes the effect of each event.
func (f *fixture) config() consumer.Config {
	return consumer.Config{
		Brokers: f.brokers, Group: f.topic, Topics: []string{f.topic}, DeadLetterTopic: f.dead,
		MinBackoff: time.Millisecond, MaxBackoff: 20 * time.Millisecond,
		Kafka: quick(), Handler: consumer.Pgx(f.pool, note("")),
	}
}

// quick is a configuration in which a group notices changes soon.
func quick() *sarama.Config {
	conf := sarama.NewConfig()
	conf.Consumer.Offsets.Initial = sarama.OffsetOldest
	conf.Consumer.Group.Heartbeat.Interval = 100 * time.Millisecond
	conf.Consumer.Group.Session.Timeout = 6 * time.Second
	conf.Consumer.Offsets.AutoCommit.Interval = 100 * time.Millisecond
	conf.Consumer.MaxWaitTime = 50 * time.Millisecond
	return conf
}

func note(member string) func(context.Context, pgx.Tx, *consumer.Record) error {
	return func(ctx context.Context, tx pgx.Tx, r *consumer.Record) error {
		_, err := tx.Exec(ctx, "INSERT INTO effect (key, id, member) VALUES ($1, $2, $3)", r.Key(), r.ID, member)
		return err
	}
}

// running is a call of Run.
type running struct {
	t      testing.TB
	cancel context.CancelFunc
	result chan error
	once   sync.Once
	counts counts
}

func start(t testing.TB, cfg consumer.Config) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{t: t, cancel: cancel, result: make(chan error, 1)}
	cfg.Count = r.counts.add
	go func() { r.result <- consumer.Run(ctx, cfg) }()
	t.Cleanup(r.stop)
	return r
}

// stop ends the consumer and waits until it has.
func (r *running) stop() {
	r.t.Helper()
	r.once.Do(func() {
		r.cancel()
		select {
		case err := <-r.result:
			if err != nil {
				r.t.Errorf("Run: %v", err)
			}
		case <-time.After(30 * time.Second):
			r.t.Error("Run does not return")
		}
	})
}

// counts are how often each outcome was counted.
type counts struct {
	mu sync.Mutex
	n  map[consumer.Outcome]int
}

func (c *counts) add(_ string, outcome consumer.Outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[consumer.Outcome]int{}
	}
	c.n[outcome]++
}

func (c *counts) of(outcome consumer.Outcome) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[outcome]
}

// settled is how many records have their outcome.
func (c *counts) settled() int {
	return c.of(consumer.Handled) + c.of(consumer.Duplicate) + c.of(consumer.DeadLettered)
}

// eventually asks again and again, with a query or the like in condition to take its time.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(90 * time.Second); !condition(); <-ticker.C {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// newRegistry returns a registry's client with the schema of order.created, and its ID.
func newRegistry(t testing.TB) (client *schemaregistry.Client, id int) {
	t.Helper()
	server := httptest.NewServer(schemaregistry.NewHandler(schemaregistry.New(schemaregistry.NewMemoryStore()), schemaregistry.HandlerConfig{}))
	t.Cleanup(server.Close)
	client, err := schemaregistry.NewClient(schemaregistry.ClientConfig{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	if id, err = client.Register(t.Context(), created.Name(), created.Text()); err != nil {
		t.Fatal(err)
	}
	return client, id
}

// wire is Confluent's wire format.
func wire(id int, encoded []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(id)), encoded...)
}

func numbered(prefix string, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("%s%03d", prefix, i)
	}
	return ids
}

// checkLoad wants one effect of each event that load produced, in the order of each key.
func (f *fixture) checkLoad(keys, each int) {
	f.t.Helper()
	got := map[string][]string{}
	for _, pair := range column[[]string](f, "SELECT ARRAY[key, string_agg(id, ' ' ORDER BY place)] FROM effect GROUP BY key") {
		got[pair[0]] = strings.Fields(pair[1])
	}
	if len(got) != keys {
		f.t.Errorf("%d of %d keys had effects", len(got), keys)
	}
	for key, ids := range got {
		if want := strings.Join(numbered(key+"-", each), " "); strings.Join(ids, " ") != want {
			f.t.Errorf("effects of key %s:\n%s", key, strings.Join(ids, " "))
		}
	}
}

// load produces the events from to until of several keys, each in order.
func (f *fixture) load(keys, from, until int) {
	f.t.Helper()
	var records []*kgo.Record
	for i := from; i < until; i++ {
		for k := range keys {
			key := fmt.Sprintf("k%02d", k)
			records = append(records, f.record(key, fmt.Sprintf("%s-%03d", key, i), []byte("{}")))
		}
	}
	f.produce(records...)
}
