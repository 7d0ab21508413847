package bench_test

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/internal/benchmark"
	"github.com/postrider/postrider/outbox"
)

const (
	// payloadBytes is the size of an event's JSON.
	payloadBytes = 325
	// payloads is how many are made before the clock runs, where they are.
	payloads = 5000
)

//go:embed testdata/variants.sql
var variantsSQL string

// orderCreated is an event as a service would have it.
type orderCreated struct {
	Seq      int64   `json:"seq" avro:"seq"`
	Customer string  `json:"customer" avro:"customer"`
	Currency string  `json:"currency" avro:"currency"`
	Total    float64 `json:"total" avro:"total"`
	Status   string  `json:"status" avro:"status"`
	Lines    []line  `json:"lines" avro:"lines"`
	Note     string  `json:"note" avro:"note"`
}

type line struct {
	SKU string `json:"sku" avro:"sku"`
	Qty int    `json:"qty" avro:"qty"`
}

// prepareWorkload makes the procedures that load events.
func (r *rig) prepareWorkload() {
	r.b.Helper()
	r.exec(benchmark.WorkloadSQL)
	r.exec(variantsSQL)
	var bare int
	r.scan(&bare, "SELECT octet_length(event_payload(100000, 0)::text)")
	r.noteBytes = payloadBytes - bare
	r.exec("CALL prepare_payloads($1, $2)", payloads, r.noteBytes)
}

// load has a procedure commit events, so many in each transaction, and keeps a slot that
// stands before them. What was loaded before is out of its reach.
func (r *rig) load(procedure string, events, perTransaction int, args ...any) {
	r.b.Helper()
	r.exec("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1", r.name)
	r.exec("TRUNCATE outbox")
	r.exec("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", r.name)
	call := fmt.Sprintf("CALL %s($1, $2, $3", procedure)
	for i := range args {
		call += fmt.Sprintf(", $%d", i+4)
	}
	started := time.Now()
	var loaded atomic.Int64
	transactions := (events + perTransaction - 1) / perTransaction
	loaders := min(runtime.NumCPU(), transactions)
	group, ctx := errgroup.WithContext(r.b.Context())
	for n := range loaders {
		first, last := n*transactions/loaders*perTransaction, min((n+1)*transactions/loaders*perTransaction, events)
		group.Go(func() error {
			conn, err := pgx.Connect(ctx, r.url)
			if err != nil {
				return err
			}
			defer conn.Close(context.WithoutCancel(ctx))
			// It is not the loading that is measured: let it be fast.
			if _, err := conn.Exec(ctx, "SET synchronous_commit = off; SET plan_cache_mode = force_generic_plan"); err != nil {
				return err
			}
			step := max((last-first)/50/perTransaction, 1) * perTransaction
			for ; first < last; first += step {
				until := min(first+step, last)
				if _, err := conn.Exec(ctx, call+")", append([]any{first, until, perTransaction}, args...)...); err != nil {
					return err
				}
				loaded.Add(int64(until - first))
			}
			return nil
		})
	}
	stop := r.sayEvery(10*time.Second, func() string {
		return fmt.Sprintf("loaded %d of %d events in %v", loaded.Load(), events, time.Since(started).Round(100*time.Millisecond))
	})
	err := group.Wait()
	stop()
	if err != nil {
		r.b.Fatalf("%s: %v", call, err)
	}
	// Else one would begin by itself in the middle of what is measured.
	r.exec("CHECKPOINT")
}

// sayEvery prints what text returns now and then, and once more when it is stopped.
func (r *rig) sayEvery(interval time.Duration, text func() string) (stop func()) {
	ended, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for going := true; going; {
			select {
			case <-tick.C:
			case <-ended:
				going = false
			}
			fmt.Fprintf(os.Stderr, "%s: %s\n", r.b.Name(), text())
		}
	}()
	return func() { close(ended); <-done }
}

func (r *rig) loadJSON(events, perTransaction int) {
	r.b.Helper()
	r.load("load_events", events, perTransaction, r.noteBytes)
}

// loadTyped loads events of so many types, each with a schema of its own.
func (r *rig) loadTyped(events, perTransaction, types int) {
	r.b.Helper()
	for n := range types {
		name := fmt.Sprintf("created_%d", n)
		r.register("order."+name, strings.Replace(benchmark.OrderSchema, `"created"`, `"`+name+`"`, 1))
	}
	r.load("load_typed_events", events, perTransaction, r.noteBytes, types)
}

// loadAvro loads events that the service has encoded.
func (r *rig) loadAvro(events, perTransaction int) {
	r.b.Helper()
	schema, err := outbox.ParseSchema(benchmark.OrderSchema)
	if err != nil {
		r.b.Fatal(err)
	}
	if err := outbox.RegisterSchemas(r.b.Context(), r.db, schema); err != nil {
		r.b.Fatal(err)
	}
	var texts []string
	r.scan(&texts, "SELECT array_agg(payload::text ORDER BY n) FROM prepared")
	encoded := make([][]byte, len(texts))
	for n, text := range texts {
		var event orderCreated
		if err := json.Unmarshal([]byte(text), &event); err != nil {
			r.b.Fatal(err)
		}
		if encoded[n], err = schema.Encode(event); err != nil {
			r.b.Fatal(err)
		}
	}
	r.exec(`UPDATE prepared p SET payload_avro = e.avro
		FROM unnest($1::bytea[]) WITH ORDINALITY AS e (avro, n) WHERE p.n = e.n - 1`, encoded)
	fingerprint := schema.Fingerprint()
	r.load("load_avro_events", events, perTransaction, payloads, fingerprint[:])
}
