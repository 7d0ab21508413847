package bench_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/postrider/postrider/internal/benchmark"
	"github.com/postrider/postrider/internal/testserver"
	"github.com/postrider/postrider/outbox"
	"github.com/postrider/postrider/relay"
	schemaregistry "github.com/postrider/postrider/schema-registry"
)

const (
	defaultEvents = 1_000_000
	partitions    = 8
	// settle is how long a relay that has just started is left alone.
	settle = 3 * time.Second
	// patience is how long a process may stand still. Postgres decodes a large transaction for
	// long before it sends anything.
	patience     = 3 * time.Minute
	pollInterval = 20 * time.Millisecond
)

// rig is what a benchmark of the line works on: a database with the outbox and a publication,
// and a registry with the schema of the events. All of it goes when the benchmark ends.
type rig struct {
	b           *testing.B
	url         string
	db          *pgx.Conn
	kafka       *kadm.Client
	registry    *schemaregistry.Client
	registryURL string
	name        string // of the publication, and of the slot before the loaded events
	slots       int    // how many were made besides
	noteBytes   int
}

func newRig(b *testing.B) *rig {
	b.Helper()
	needServers(b, "POSTGRES_URL", "KAFKA_BROKERS")
	r := &rig{b: b, url: testserver.Postgres(b), name: testserver.UniqueName(b)}
	r.db = connect(b, r.url)
	client, err := kgo.NewClient(kgo.SeedBrokers(testserver.Kafka(b)...))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(client.Close)
	r.kafka = kadm.NewClient(client)
	ddl, err := outbox.TableDDL(relay.DefaultTable)
	if err != nil {
		b.Fatal(err)
	}
	r.exec(ddl.Up)
	r.prepareWorkload()
	r.exec("CREATE PUBLICATION " + r.name + " FOR TABLE outbox WITH (publish = 'insert', publish_via_partition_root = true)")
	r.registryURL = startRegistry(b, nil).url
	if r.registry, err = schemaregistry.NewClient(schemaregistry.ClientConfig{URL: r.registryURL}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(r.registry.Close)
	r.register("order.created", benchmark.OrderSchema)
	r.noteServers()
	b.Logf("load average %s", loadAverage())
	return r
}

func needServers(b *testing.B, variables ...string) {
	b.Helper()
	for _, variable := range variables {
		if os.Getenv(variable) == "" {
			testserver.Absent(b, variable+" is not set; run the benchmarks by `make bench`, which starts the servers")
		}
	}
}

// connect returns a connection that lives as long as the benchmark.
func connect(b *testing.B, url string) *pgx.Conn {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), url)
	if err != nil {
		b.Fatalf("connect to the database of the benchmark: %v", err)
	}
	b.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func (r *rig) exec(sql string, args ...any) {
	r.b.Helper()
	if _, err := r.db.Exec(r.b.Context(), sql, args...); err != nil {
		r.b.Fatalf("%.80s: %v", sql, err)
	}
}

func (r *rig) scan(to any, sql string, args ...any) {
	r.b.Helper()
	if err := r.db.QueryRow(r.b.Context(), sql, args...).Scan(to); err != nil {
		r.b.Fatalf("%.80s: %v", sql, err)
	}
}

func (r *rig) register(subject, schema string) {
	r.b.Helper()
	if _, err := r.registry.Register(r.b.Context(), subject, schema); err != nil {
		r.b.Fatalf("register %s: %v", subject, err)
	}
}

// newSlot returns a slot that stands at the end of the WAL.
func (r *rig) newSlot() string {
	r.b.Helper()
	name := r.slotName()
	r.exec("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", name)
	return name
}

// loadedSlot returns a slot that stands before the loaded events, so that every reader finds
// the same ones.
func (r *rig) loadedSlot() string {
	r.b.Helper()
	name := r.slotName()
	r.exec("SELECT pg_copy_logical_replication_slot($1, $2)", r.name, name)
	return name
}

func (r *rig) slotName() string {
	r.slots++
	return fmt.Sprintf("%s_%d", r.name, r.slots)
}

// dropSlot drops a slot whose reader has ended, whether the walsender has noticed or not.
func (r *rig) dropSlot(slot string) {
	r.b.Helper()
	r.exec("SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots WHERE slot_name = $1 AND active", slot)
	r.exec("SELECT pg_drop_replication_slot($1)", slot)
}

// walsender returns the process that serves slot, 0 unless it runs on this machine.
func (r *rig) walsender(slot string) (pid int) {
	r.b.Helper()
	r.scan(&pid, "SELECT coalesce(max(active_pid), 0) FROM pg_replication_slots WHERE slot_name = $1", slot)
	if !benchmark.IsWalsender(pid) {
		return 0
	}
	return pid
}

// ends returns where the partitions of topic end. The producers are idempotent without
// transactions, so every offset is a record.
func (r *rig) ends(topic string) (ends map[int32]int64, records int64) {
	r.b.Helper()
	offsets, err := r.kafka.ListEndOffsets(r.b.Context(), topic)
	if err == nil {
		err = offsets.Error()
	}
	if err != nil {
		r.b.Fatalf("read the end offsets of %s: %v", topic, err)
	}
	ends = make(map[int32]int64)
	offsets.Each(func(o kadm.ListedOffset) {
		ends[o.Partition] = o.Offset
		records += o.Offset
	})
	return ends, records
}

// usedTopic makes a topic with a few records in each partition, as many as are returned: what
// the broker does when a partition is written to for the first time is no part of any rate.
// It makes the partition's indexes, files of 10 MB, when it has 4 kB and is given more.
func (r *rig) usedTopic(partitions int) (topic string, records int64) {
	r.b.Helper()
	topic = testserver.Topic(r.b, partitions)
	client, err := kgo.NewClient(kgo.SeedBrokers(testserver.Kafka(r.b)...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		r.b.Fatal(err)
	}
	defer client.Close()
	const rounds = 3
	for range rounds {
		first := make([]*kgo.Record, partitions)
		for n := range first {
			first[n] = &kgo.Record{Topic: topic, Partition: int32(n), Value: make([]byte, 5000)}
		}
		if err := client.ProduceSync(r.b.Context(), first...).FirstErr(); err != nil {
			r.b.Fatalf("produce to %s: %v", topic, err)
		}
	}
	return topic, int64(rounds * partitions)
}

// pause lets time pass that is measured.
func (r *rig) pause(d time.Duration) {
	r.b.Helper()
	select {
	case <-time.After(d):
	case <-r.b.Context().Done():
		r.b.Fatal(r.b.Context().Err())
	}
}

// setting returns a number of the environment.
func setting(b *testing.B, variable string, otherwise int) int {
	b.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		b.Fatalf("%s=%s: want a number above 0", variable, text)
	}
	return n
}
