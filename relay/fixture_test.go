package relay_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/postrider/postrider/internal/testserver"
	"github.com/postrider/postrider/outbox"
	"github.com/postrider/postrider/relay"
	schemaregistry "github.com/postrider/postrider/schema-registry"
)

// patience is how long a test waits for what must happen. It is only reached by failures.
const patience = 60 * time.Second

// fixture is a database with the outbox, a topic, a registry and a configuration for them.
type fixture struct {
	t        *testing.T
	url      string
	db       *pgx.Conn
	topic    string
	registry *testRegistry
	cfg      relay.Config
}

const orderCreated = `{"type":"record","name":"created","namespace":"order","fields":[
	{"name":"seq","type":"long"},{"name":"note","type":["null","string"],"default":null}]}`

func newFixture(t *testing.T) *fixture {
	t.Helper()
	return newFixtureOn(t, testserver.Postgres(t))
}

func newFixtureOn(t *testing.T, url string) *fixture {
	t.Helper()
	f := &fixture{t: t, url: url, topic: testserver.Topic(t, 4), registry: newTestRegistry(t)}
	f.registry.register("order.created", orderCreated)
	var err error
	if f.db, err = pgx.Connect(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.db.Close(context.Background()) })
	ddl, err := outbox.TableDDL(relay.DefaultTable)
	if err != nil {
		t.Fatal(err)
	}
	f.exec(ddl.Up)
	name := testserver.UniqueName(t)
	if len(name) > 40 {
		name = name[len(name)-40:]
	}
	f.cfg = relay.Config{
		Name:     strings.ToLower(strings.NewReplacer("-", "_", ".", "_", "/", "_").Replace(name)),
		Postgres: relay.PostgresConfig{URL: relay.SecretURL(url)},
		Outbox:   relay.OutboxConfig{Topic: f.topic},
		Kafka:    relay.KafkaConfig{Brokers: testserver.Kafka(t)},
		Registry: relay.RegistryConfig{URL: relay.SecretURL(f.registry.server.URL), LatestTTL: time.Second},
		HTTP:     relay.HTTPConfig{Listen: "-"},
	}
	return f
}

// reconnect connects to a database that was restarted.
func (f *fixture) reconnect() {
	f.t.Helper()
	_ = f.db.Close(context.Background())
	var err error
	if f.db, err = pgx.Connect(context.Background(), f.url); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) exec(sql string, args ...any) {
	f.t.Helper()
	if _, err := f.db.Exec(context.Background(), sql, args...); err != nil {
		f.t.Fatalf("%s: %v", sql, err)
	}
}

// emit inserts n events of one transaction for key, numbered from seq on.
func (f *fixture) emit(key string, seq, n int) {
	f.t.Helper()
	f.exec(`INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
		SELECT 'order', $1, 'order.created', json_build_object('seq', s) FROM generate_series($2::int, $3::int) s`, key, seq, seq+n-1)
}

// running is a relay at work.
type running struct {
	*relay.Relay
	t    *testing.T
	stop context.CancelFunc
	done chan error
	logs *logLines
}

// start runs a relay until the test ends or stop is called.
func (f *fixture) start(change ...func(*relay.Config)) *running {
	f.t.Helper()
	cfg := f.cfg
	for _, c := range change {
		c(&cfg)
	}
	logs := &logLines{t: f.t}
	r, err := relay.New(cfg, relay.Options{
		Logger: slog.New(slog.NewTextHandler(logs, nil)),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	run := &running{Relay: r, t: f.t, stop: stop, done: make(chan error, 1), logs: logs}
	go func() { run.done <- r.Run(ctx) }()
	f.t.Cleanup(func() { run.halt() })
	return run
}

// halt stops the relay and waits for its end.
func (r *running) halt() {
	r.t.Helper()
	if r.stop == nil {
		return
	}
	r.stop()
	r.stop = nil
	select {
	case err := <-r.done:
		if err != nil {
			r.t.Errorf("relay ended with %v", err)
		}
	case <-time.After(patience):
		r.t.Error("relay does not stop")
	}
}

// until polls the status until ok is satisfied with it.
func (r *running) until(what string, ok func(relay.StatusReport) bool) relay.StatusReport {
	r.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for {
		s := r.Status()
		if ok(s) {
			return s
		}
		select {
		case <-tick.C:
		case <-deadline:
			r.t.Fatalf("not within %v: %s; status %+v", patience, what, s)
		}
	}
}

func (r *running) untilStreaming() {
	r.t.Helper()
	r.until("streaming", func(s relay.StatusReport) bool { return s.Phase == relay.PhaseStreaming })
}

func (r *running) untilHalted(code relay.HaltCode) relay.StatusReport {
	r.t.Helper()
	return r.until("halt "+string(code), func(s relay.StatusReport) bool {
		for _, trouble := range s.Troubles {
			if trouble.Code == code {
				return true
			}
		}
		return false
	})
}

// metrics returns what /metrics says.
func (r *running) metrics() string {
	rec := httptest.NewRecorder()
	r.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return rec.Body.String()
}

// metric returns the value of the first series whose text begins with prefix, or 0.
func (r *running) metric(prefix string) float64 {
	r.t.Helper()
	for line := range strings.Lines(r.metrics()) {
		if strings.HasPrefix(line, prefix) {
			v, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' '):]), 64)
			if err != nil {
				r.t.Fatal(err)
			}
			return v
		}
	}
	return 0
}

// consume reads n records of a topic from its beginning, with a client that shares no code
// with the relay's.
func (f *fixture) consume(topic string, n int) []*kgo.Record {
	f.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(f.cfg.Kafka.Brokers...), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		f.t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var records []*kgo.Record
	for len(records) < n {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			f.t.Fatalf("topic %s has %d records after %v, want %d", topic, len(records), patience, n)
		}
		fetches.EachRecord(func(r *kgo.Record) { records = append(records, r) })
	}
	return records
}

func header(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// testRegistry is a real registry that can be made to fail.
type testRegistry struct {
	t      *testing.T
	client *schemaregistry.Client
	server *httptest.Server
	status atomic.Int32 // to answer everything with; 0 for none
}

func newTestRegistry(t *testing.T) *testRegistry {
	t.Helper()
	r := &testRegistry{t: t}
	handler := schemaregistry.NewHandler(schemaregistry.New(schemaregistry.NewMemoryStore()), schemaregistry.HandlerConfig{})
	r.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if status := r.status.Load(); status != 0 {
			http.Error(w, "out of order", int(status))
			return
		}
		handler.ServeHTTP(w, req)
	}))
	t.Cleanup(r.server.Close)
	var err error
	if r.client, err = schemaregistry.NewClient(schemaregistry.ClientConfig{URL: r.server.URL}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.client.Close)
	return r
}

// register puts a schema in and returns its id.
func (r *testRegistry) register(subject, schema string) int {
	r.t.Helper()
	id, err := r.client.Register(context.Background(), subject, schema)
	if err != nil {
		r.t.Fatal(err)
	}
	return id
}

// logLines passes the relay's log to the test's.
type logLines struct {
	mu sync.Mutex
	t  *testing.T
	b  strings.Builder
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Write(p)
	l.t.Logf("%s", strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
