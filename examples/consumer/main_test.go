package main

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/postrider/postrider/internal/testserver"
	"github.com/postrider/postrider/outbox"
	"github.com/postrider/postrider/outbox/inbox"
	"github.com/postrider/postrider/relay"
	schemaregistry "github.com/postrider/postrider/schema-registry"
)

// asConsumer makes the test binary the consumer, so that it can be a process to be stopped.
const asConsumer = "POSTRIDER_TEST_AS_CONSUMER"

func TestMain(m *testing.M) {
	if os.Getenv(asConsumer) != "" {
		main()
		return
	}
	// One goroutine of a process that has ever made a meter; sarama makes meters.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

var (
	//go:embed order.created.avsc
	createdText string
	created     = outbox.MustParseSchema(createdText)

	//go:embed event_counts.sql
	eventCounts string
)

// orderCreated is what avrogen would make of order.created.avsc.
type orderCreated struct {
	OrderID    string `avro:"order_id" json:"order_id"`
	Customer   string `avro:"customer" json:"customer"`
	TotalCents int64  `avro:"total_cents" json:"total_cents"`
}

// fixture is a database with outbox and inbox, a topic, a registry, and a relay between them.
type fixture struct {
	t        *testing.T
	url      string
	db       *pgxpool.Pool
	brokers  []string
	topic    string
	registry string
	kafka    *kgo.Client
	admin    *kadm.Client
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, url: testserver.Postgres(t), brokers: testserver.Kafka(t), topic: testserver.Topic(t, 3)}
	var err error
	if f.db, err = pgxpool.New(t.Context(), f.url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.db.Close)
	for _, table := range []func(string) (outbox.DDL, error){outbox.TableDDL, inbox.TableDDL} {
		ddl, err := table("")
		if err != nil {
			t.Fatal(err)
		}
		f.exec(ddl.Up)
	}
	f.exec(eventCounts)
	if err := outbox.RegisterSchemas(t.Context(), f.db, created); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(schemaregistry.NewHandler(schemaregistry.New(schemaregistry.NewMemoryStore()), schemaregistry.HandlerConfig{}))
	t.Cleanup(server.Close)
	f.registry = server.URL
	f.kafka, err = kgo.NewClient(kgo.SeedBrokers(f.brokers...), kgo.ConsumeTopics(f.topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.Lz4Compression()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.kafka.Close)
	f.admin = kadm.NewClient(f.kafka)
	f.startRelay()
	return f
}

func (f *fixture) startRelay() {
	f.t.Helper()
	r, err := relay.New(relay.Config{
		Name:     testserver.UniqueName(f.t),
		Postgres: relay.PostgresConfig{URL: relay.SecretURL(f.url)},
		Outbox:   relay.OutboxConfig{Topic: f.topic, Source: "/orders"},
		Kafka:    relay.KafkaConfig{Brokers: f.brokers},
		Registry: relay.RegistryConfig{URL: relay.SecretURL(f.registry)},
		HTTP:     relay.HTTPConfig{Listen: "-"},
	}, relay.Options{})
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	f.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			f.t.Errorf("relay: %v", err)
		}
	})
}

func (f *fixture) exec(query string) {
	f.t.Helper()
	if _, err := f.db.Exec(f.t.Context(), query, pgx.QueryExecModeSimpleProtocol); err != nil {
		f.t.Fatalf("%.80s: %v", query, err)
	}
}

// emit commits events, and returns the lines that a consumer prints of them, by the event's id.
// The last one is a tombstone.
func (f *fixture) emit(keys, each int) (lines map[string]string) {
	f.t.Helper()
	var events []outbox.Event
	for i := range keys * each {
		order := orderCreated{fmt.Sprintf("order-%d", i%keys), "ada", int64(1<<40 + i)}
		events = append(events, outbox.Event{
			AggregateType: "order", AggregateID: order.OrderID, Type: "order.created", Schema: created, Payload: order,
		})
	}
	last := &events[len(events)-1]
	last.Schema, last.Payload, last.Tombstone = nil, nil, true
	lines = make(map[string]string)
	err := pgx.BeginFunc(f.t.Context(), f.db, func(tx pgx.Tx) error {
		if err := outbox.Insert(f.t.Context(), tx, events...); err != nil {
			return err
		}
		rows, err := tx.Query(f.t.Context(), "SELECT id::text, aggregate_id, created_at FROM outbox ORDER BY id")
		if err != nil {
			return err
		}
		var id, key string
		var at time.Time
		_, err = pgx.ForEachRow(rows, []any{&id, &key, &at}, func() error {
			data, err := json.Marshal(events[len(lines)].Payload)
			lines[id] = fmt.Sprintf("order.created id=%s source=/orders subject=%s time=%s %s", id, key, at.UTC().Format(time.RFC3339Nano), data)
			return err
		})
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return lines
}

// poll reads records of the topic until there are n.
func (f *fixture) poll(n int) []*kgo.Record {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), time.Minute)
	defer cancel()
	var records []*kgo.Record
	for len(records) < n {
		fetches := f.kafka.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			f.t.Fatalf("after %d of %d records: %v", len(records), n, err)
		}
		records = append(records, fetches.Records()...)
	}
	return records
}

// produceAgain appends copies of records, as a relay may after a fault.
func (f *fixture) produceAgain(records []*kgo.Record) {
	f.t.Helper()
	var copies []*kgo.Record
	for _, r := range records {
		copies = append(copies, &kgo.Record{Topic: r.Topic, Partition: r.Partition, Key: r.Key, Value: r.Value, Headers: r.Headers})
	}
	if err := f.kafka.ProduceSync(f.t.Context(), copies...).FirstErr(); err != nil {
		f.t.Fatal(err)
	}
}

// one returns the number that a query asks for.
func (f *fixture) one(t *testing.T, query string, args ...any) (n int) {
	t.Helper()
	if err := f.db.QueryRow(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// createDeadLetterTopic makes the topic that package consumer asks for. It is deleted when the test ends.
func (f *fixture) createDeadLetterTopic(t *testing.T, group string) {
	t.Helper()
	topic := group + "_dead_letter"
	if _, err := f.admin.CreateTopic(t.Context(), 1, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := f.admin.DeleteTopic(context.WithoutCancel(t.Context()), topic); err != nil {
			t.Error(err)
		}
	})
}

// committed is how many records the offsets of a group stand behind.
func (f *fixture) committed(t *testing.T, group string) (n int) {
	t.Helper()
	offsets, err := f.admin.FetchOffsetsForTopics(t.Context(), group, f.topic)
	if err != nil {
		t.Fatal(err)
	}
	offsets.Each(func(o kadm.OffsetResponse) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		n += max(0, int(o.At))
	})
	return n
}

// rewind sets the offsets of a group back to the beginning.
func (f *fixture) rewind(t *testing.T, group string) {
	t.Helper()
	start, err := f.admin.ListStartOffsets(t.Context(), f.topic)
	if err == nil {
		err = f.admin.CommitAllOffsets(t.Context(), group, start.Offsets())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// process is a consumer at work.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	output chan output

	events     []string // lines of standard output
	skipped    int      // lines of standard error that tell of a duplicate
	complaints []string // all others
}

type output struct {
	line     string
	standard bool
}

// start runs a consumer as a process of its own. It is gone when the test ends.
func (f *fixture) start(t *testing.T, group string, command ...string) *process {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), asConsumer+"=1",
		"DATABASE_URL="+f.url, "KAFKA_BROKERS="+strings.Join(f.brokers, ","), "REGISTRY_URL="+f.registry, "TOPIC="+f.topic, "GROUP="+group)
	p := &process{t: t, cmd: cmd, output: make(chan output)}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var both sync.WaitGroup
	read := func(r io.Reader, standard bool) {
		for lines := bufio.NewScanner(r); lines.Scan(); {
			p.output <- output{lines.Text(), standard}
		}
	}
	both.Go(func() { read(stdout, true) })
	both.Go(func() { read(stderr, false) })
	go func() { // ends with the process
		both.Wait()
		close(p.output)
	}()
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil { // a failed test has left it running
			_ = cmd.Process.Kill()
			_ = p.wait()
		}
	})
	return p
}

// await reads the output until it has that many events and duplicates, as long as more comes.
func (p *process) await(events, skipped int) {
	p.t.Helper()
	patience := 5 * time.Minute // the clients may have to be installed first
	for len(p.events) < events || p.skipped < skipped {
		select {
		case out, ok := <-p.output:
			if !ok {
				p.ended()
			}
			p.note(out)
			if len(p.events)+p.skipped > 0 {
				patience = 30 * time.Second
			}
		case <-time.After(patience):
			p.t.Fatalf("no more than %d of %d events and %d of %d duplicates\n%s", len(p.events), events, p.skipped, skipped, strings.Join(p.complaints, "\n"))
		}
	}
}

func (p *process) note(out output) {
	switch {
	case out.standard:
		p.events = append(p.events, out.line)
	case strings.Contains(out.line, "skipped a duplicate"):
		p.skipped++
	default:
		p.complaints = append(p.complaints, out.line)
	}
}

// ended deals with a process that has ended before it was told to.
func (p *process) ended() {
	p.t.Helper()
	err := p.cmd.Wait()
	complaints := strings.Join(p.complaints, "\n")
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 3 { // Python or Node is missing
		testserver.Absent(p.t, complaints)
	}
	p.t.Fatalf("the consumer has ended: %v\n%s", err, complaints)
}

// stop tells the process to end, and wants it to do so with success.
func (p *process) stop() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	if err := p.wait(); err != nil {
		p.t.Errorf("after SIGTERM: %v\n%s", err, strings.Join(p.complaints, "\n"))
	}
}

func (p *process) wait() error {
	for out := range p.output {
		p.note(out)
	}
	return p.cmd.Wait()
}
