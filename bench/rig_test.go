package bench_test

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

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
)

var (
	//go:embed testdata/workload.sql
	workloadSQL string
	//go:embed testdata/order.created.avsc
	orderSchema string
)

// rig is what a benchmark works on: a database with the outbox and a publication, and a
// registry with the schema of the events. All of it goes when the benchmark ends.
type rig struct {
	b           *testing.B
	url         string
	db          *pgx.Conn
	registryURL string
	name        string // of the publication, and of the slot before the loaded events
	slots       int    // how many were made for relays
}

func newRig(b *testing.B) *rig {
	b.Helper()
	for _, variable := range []string{"POSTGRES_URL", "KAFKA_BROKERS"} {
		if os.Getenv(variable) == "" {
			testserver.Absent(b, variable+" is not set; run the benchmarks by `make bench`, which starts the servers")
		}
	}
	r := &rig{b: b, url: testserver.Postgres(b), name: testserver.UniqueName(b)}
	var err error
	if r.db, err = pgx.Connect(b.Context(), r.url); err != nil {
		b.Fatalf("connect to the database of the benchmark: %v", err)
	}
	b.Cleanup(func() { _ = r.db.Close(context.Background()) })
	ddl, err := outbox.TableDDL(relay.DefaultTable)
	if err != nil {
		b.Fatal(err)
	}
	r.exec(ddl.Up)
	r.exec(workloadSQL)
	r.exec("CREATE PUBLICATION " + r.name + " FOR TABLE outbox WITH (publish = 'insert', publish_via_partition_root = true)")
	r.registryURL = r.startRegistry()
	r.registerSchema()
	r.logMachine()
	return r
}

func (r *rig) exec(sql string, args ...any) {
	r.b.Helper()
	if _, err := r.db.Exec(r.b.Context(), sql, args...); err != nil {
		r.b.Fatalf("%.80s: %v", sql, err)
	}
}

func (r *rig) registerSchema() {
	r.b.Helper()
	client, err := schemaregistry.NewClient(schemaregistry.ClientConfig{URL: r.registryURL})
	if err != nil {
		r.b.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Register(r.b.Context(), "order.created", orderSchema); err != nil {
		r.b.Fatal(err)
	}
}

// logMachine logs what the figures depend on.
func (r *rig) logMachine() {
	r.b.Helper()
	var version, fsync, buffers string
	err := r.db.QueryRow(r.b.Context(), `SELECT current_setting('server_version'), current_setting('fsync'), current_setting('shared_buffers')`).
		Scan(&version, &fsync, &buffers)
	if err != nil {
		r.b.Fatal(err)
	}
	r.b.Logf("Postgres %s, fsync %s, shared_buffers %s; %s; %d cores, load average %s",
		version, fsync, buffers, runtime.Version(), runtime.NumCPU(), loadAverage())
}

// loadEvents commits events, so many in each transaction, in about ten steps, and keeps a
// slot that stands before them.
func (r *rig) loadEvents(events, perTransaction int) {
	r.b.Helper()
	r.exec("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", r.name)
	// It is not the loading that is measured: let it be fast.
	r.exec("SET synchronous_commit = off")
	r.exec("SET plan_cache_mode = force_generic_plan")
	step := max(events/10/perTransaction, 1) * perTransaction
	started := time.Now()
	for first := 0; first < events; first += step {
		last := min(first+step, events)
		r.exec("CALL load_orders($1, $2, $3)", first, last, perTransaction)
		fmt.Fprintf(os.Stderr, "%s: loaded %d of %d events in %v\n",
			r.b.Name(), last, events, time.Since(started).Round(100*time.Millisecond))
	}
	// Else one would begin by itself in the middle of what is measured.
	r.exec("CHECKPOINT")
}

// newSlot returns a slot that stands at the end of the WAL.
func (r *rig) newSlot() string {
	r.b.Helper()
	name := r.slotName()
	r.exec("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", name)
	return name
}

// loadedSlot returns a slot that stands before the loaded events, so that every relay finds
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

// dropSlot drops a slot whose relay has ended, whether the walsender has noticed or not.
func (r *rig) dropSlot(slot string) {
	r.b.Helper()
	r.exec("SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots WHERE slot_name = $1 AND active", slot)
	r.exec("SELECT pg_drop_replication_slot($1)", slot)
}

// walsender returns the process that serves slot, if it runs on this machine.
func (r *rig) walsender(slot string) (pid int, ok bool) {
	r.b.Helper()
	err := r.db.QueryRow(r.b.Context(), "SELECT coalesce(active_pid, 0) FROM pg_replication_slots WHERE slot_name = $1", slot).Scan(&pid)
	if err != nil {
		r.b.Fatal(err)
	}
	if command, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); strings.TrimSpace(string(command)) != "postgres" {
		r.b.Logf("process %d is no Postgres on this machine: no figures of the walsender", pid)
		return 0, false
	}
	return pid, true
}

// records returns how many records topic has. The producer is idempotent without
// transactions, so every offset is a record.
func (r *rig) records(topic string) int64 {
	r.b.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(testserver.Kafka(r.b)...))
	if err != nil {
		r.b.Fatal(err)
	}
	defer client.Close()
	offsets, err := kadm.NewClient(client).ListEndOffsets(r.b.Context(), topic)
	if err == nil {
		err = offsets.Error()
	}
	if err != nil {
		r.b.Fatalf("read the end offsets of %s: %v", topic, err)
	}
	var n int64
	offsets.Each(func(o kadm.ListedOffset) { n += o.Offset })
	return n
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

// figures are what was measured, by unit, one value for each repetition.
type figures map[string][]float64

func (f figures) add(unit string, value float64) { f[unit] = append(f[unit], value) }

// report reports the medians. The time of the whole loop, servers and all, says nothing and
// is left out.
func (f figures) report(b *testing.B) {
	for unit, values := range f {
		slices.Sort(values)
		b.ReportMetric(values[len(values)/2], unit)
	}
	b.ReportMetric(0, "ns/op")
}
