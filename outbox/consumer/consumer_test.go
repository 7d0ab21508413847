package consumer_test

import (
	"context"
	"database/sql"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/postrider/postrider/internal/testserver"
	"github.com/postrider/postrider/outbox"
	"github.com/postrider/postrider/outbox/consumer"
	"github.com/postrider/postrider/testdata/schemas"
)

func order(id string) schemas.OrderCreated {
	return schemas.OrderCreated{
		OrderID: id, CustomerID: "c-1", Currency: "EUR", Total: big.NewRat(1999, 100),
		Lines:    []schemas.OrderLine{{Sku: "SKU-1", Quantity: 2}},
		PlacedAt: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC),
	}
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	encoded, err := created.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

func TestRun_DecodesAndTiesWhatFollows(t *testing.T) {
	t.Parallel()
	for _, driver := range []string{"pgx", "database/sql"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, 1)
			registry, id := newRegistry(t)
			cfg := f.config()
			cfg.Registry, cfg.Schemas = registry, []*outbox.Schema{created}
			follow := func(r *consumer.Record) (outbox.Event, error) {
				event := outbox.Event{AggregateType: "shipment", AggregateID: r.Key(), Type: "shipment.cancelled", Tombstone: true}
				if r.Tombstone() {
					return event, nil
				}
				var order schemas.OrderCreated
				err := r.Decode(&order)
				event.Type, event.Tombstone, event.Payload = "shipment.ordered", false, map[string]any{"order": order.OrderID, "sku": order.Lines[0].Sku, "type": r.Type}
				return event, err
			}
			cfg.Handler = consumer.Pgx(f.pool, func(ctx context.Context, tx pgx.Tx, r *consumer.Record) error {
				event, err := follow(r)
				if err != nil {
					return err
				}
				return outbox.Insert(ctx, tx, event)
			})
			if driver == "database/sql" {
				db := stdlib.OpenDBFromPool(f.pool)
				t.Cleanup(func() { db.Close() })
				cfg.Handler = consumer.SQL(db, func(ctx context.Context, tx *sql.Tx, r *consumer.Record) error {
					event, err := follow(r)
					if err != nil {
						return err
					}
					return outbox.InsertSQL(ctx, tx, event)
				})
			}
			f.produce(
				f.record("o-1", "e-1", wire(id, encode(t, order("o-1"))), "ce_type", "order.created", "correlationid", "checkout-1", "causationid", "c-0", "traceparent", "00-1-2-01"),
				f.record("o-1", "e-1", wire(id, encode(t, order("o-1"))), "ce_type", "order.created"), // again
				f.record("o-1", "e-2", nil),
			)
			running := start(t, cfg)
			eventually(t, "three records settled", func() bool { return running.counts.settled() == 3 })
			running.stop()

			want := [][]string{
				{"shipment.ordered", `{"order":"o-1","sku":"SKU-1","type":"order.created"}`, `{"causationid": "e-1", "traceparent": "00-1-2-01", "correlationid": "checkout-1"}`},
				{"shipment.cancelled", "", `{"causationid": "e-2", "correlationid": "e-2"}`},
			}
			got := column[[]string](f, "SELECT ARRAY[event_type, coalesce(payload::text, ''), headers::text] FROM outbox ORDER BY tx_id")
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("events that followed (-want +got):\n%s", diff)
			}
			if n := running.counts.of(consumer.Duplicate); n != 1 {
				t.Errorf("%d duplicates, want 1", n)
			}
		})
	}
}

func TestRun_RetriesInOrder(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	cfg := f.config()
	cfg.Attempts = 4
	failures := map[string]int{"e-1": 3, "e-2": 1 << 20}
	var calls []string
	cfg.Handler = consumer.Pgx(f.pool, func(ctx context.Context, tx pgx.Tx, r *consumer.Record) error {
		calls = append(calls, r.ID)
		if err := note("")(ctx, tx, r); err != nil {
			return err
		}
		if failures[r.ID]--; failures[r.ID] >= 0 {
			return errors.New("no stock\xff")
		}
		return nil
	})
	f.produce(f.record("k", "e-0", []byte("0")), f.record("k", "e-1", []byte("1")),
		f.record("k", "e-2", []byte("2"), "x", "y", "postrider-error", "an older one"), f.record("k", "e-3", []byte("3")))
	running := start(t, cfg)
	eventually(t, "four records settled", func() bool { return running.counts.settled() == 4 })
	running.stop()

	if diff := cmp.Diff(strings.Fields("e-0 e-1 e-1 e-1 e-1 e-2 e-2 e-2 e-2 e-3"), calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(strings.Fields("e-0 e-1 e-3"), f.handled()); diff != "" {
		t.Errorf("effects (-want +got):\n%s", diff)
	}
	letter := f.deadLetters(1)[0]
	got := map[string]string{"key": string(letter.Key), "value": string(letter.Value)}
	for _, h := range letter.Headers {
		got[h.Key] += string(h.Value)
	}
	want := map[string]string{
		"key": "k", "value": "2", "x": "y", "ce_id": "e-2",
		consumer.HeaderErrorCode: consumer.CodeFailed, consumer.HeaderError: "no stock\uFFFD", consumer.HeaderTopic: f.topic,
		consumer.HeaderPartition: "0", consumer.HeaderOffset: "2", consumer.HeaderConsumer: f.topic, consumer.HeaderFailures: "4",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("dead letter (-want +got):\n%s", diff)
	}

	// A dead letter has no mark: once the cause is mended it can be handled.
	failures["e-2"] = 0
	f.produce(&kgo.Record{Topic: f.topic, Key: letter.Key, Value: letter.Value, Headers: letter.Headers})
	running = start(t, cfg)
	eventually(t, "the dead letter is handled", func() bool { return running.counts.of(consumer.Handled) == 1 })
}

func TestRun_BuriesPoison(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	registry, id := newRegistry(t)
	cfg := f.config()
	cfg.Attempts, cfg.Registry = 2, registry
	cfg.Handler = consumer.Pgx(f.pool, func(ctx context.Context, tx pgx.Tx, r *consumer.Record) error {
		switch r.ID {
		case "panics":
			panic("out of stock")
		case "refused":
			return errors.Join(errors.New("context"), consumer.Final(errors.New("not for us")))
		case "deferred":
			_, err := tx.Exec(ctx, "INSERT INTO child VALUES (1)")
			return err
		case "aborted":
			_, _ = tx.Exec(ctx, "SELECT 1/0")
			return nil // and yet the transaction cannot be committed
		}
		var v any
		if err := r.Decode(&v); err != nil {
			return err
		}
		return note("")(ctx, tx, r)
	})
	f.exec("CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED)")
	good := wire(id, encode(t, order("o-1")))
	f.produce(
		f.record("k", "", good),
		f.record("k", strings.Repeat("x", 257), good),
		f.record("k", "json", []byte(`{"order_id": "o-1"}`)),
		f.record("k", "empty", []byte{}),
		f.record("k", "short", good[:4]),
		f.record("k", "cut", good[:9]),
		f.record("k", "unknown", wire(id+999, nil)),
		f.record("k", "panics", good),
		f.record("k", "refused", good),
		f.record("k", "deferred", good),
		f.record("k", "aborted", good),
		f.record("k", "tombstone", nil),
		f.record("k", "good", good),
	)
	running := start(t, cfg)
	eventually(t, "all settled", func() bool { return running.counts.settled() == 13 })
	running.stop()

	want := []string{
		"NO_EVENT_ID 1", "NO_EVENT_ID 1", "UNDECODABLE 1", "UNDECODABLE 1", "UNDECODABLE 1", "UNDECODABLE 1", "SCHEMA_NOT_FOUND 2",
		"HANDLER_FAILED 2", "HANDLER_REFUSED 1", "HANDLER_FAILED 2", "HANDLER_FAILED 2", "UNDECODABLE 1",
	}
	var got []string
	for _, letter := range f.deadLetters(len(want)) {
		got = append(got, header(letter, consumer.HeaderErrorCode)+" "+header(letter, consumer.HeaderFailures))
		switch header(letter, "ce_id") {
		case "panics":
			if text := header(letter, consumer.HeaderError); !strings.Contains(text, "out of stock") || !strings.Contains(text, "consumer_test.go") {
				t.Errorf("the panic's dead letter says %s", text)
			}
		case "tombstone":
			if letter.Value != nil {
				t.Errorf("the tombstone became %q", letter.Value)
			}
		case "empty":
			if letter.Value == nil {
				t.Error("the empty value became a tombstone")
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("dead letters (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"good"}, f.handled()); diff != "" {
		t.Errorf("effects (-want +got):\n%s", diff)
	}
}

func TestRun_WaitsForADatabaseThatIsDown(t *testing.T) {
	t.Parallel()
	cluster := testserver.NewPostgresCluster(t)
	f := newFixtureOn(t, cluster.URL(), 1)
	cfg := f.config()
	cfg.Attempts = 2
	f.produce(f.record("k", "e-0", nil))
	running := start(t, cfg)
	eventually(t, "the first is handled", func() bool { return running.counts.of(consumer.Handled) == 1 })
	cluster.Crash()
	f.produce(f.record("k", "e-1", nil), f.record("k", "e-2", nil))
	eventually(t, "more attempts than an event has", func() bool { return running.counts.of(consumer.Waited) > 5 })
	cluster.Start()
	eventually(t, "all are handled", func() bool { return running.counts.of(consumer.Handled) == 3 })
	if n := running.counts.of(consumer.DeadLettered); n != 0 {
		t.Errorf("%d dead letters", n)
	}
}

func TestRun_SaysWhatIsWrongAtTheStart(t *testing.T) {
	t.Parallel()
	err := consumer.Run(t.Context(), consumer.Config{Attempts: -1, MinBackoff: time.Hour, MaxBackoff: time.Minute, Grace: time.Hour, Topics: []string{"a_dead_letter"}, DeadLetterTopic: "a_dead_letter"})
	for _, want := range []string{"Brokers is empty", "Group is empty", "Handler is nil", "Attempts is -1", "MinBackoff is 1h0m0s", "Grace is 1h0m0s", `both "a_dead_letter"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}

	f := newFixture(t, 1)
	cfg := f.config()
	cfg.DeadLetterTopic = f.dead + "_missing"
	if err := consumer.Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "create it first") {
		t.Errorf("without a dead-letter topic: %v", err)
	}
	cfg = f.config()
	cfg.Schemas = []*outbox.Schema{created, created}
	if err := consumer.Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "two schemas") {
		t.Errorf("with a schema twice: %v", err)
	}
	cfg = f.config()
	cfg.Brokers = []string{"127.0.0.1:1"}
	cfg.Kafka.Metadata.Retry.Max = 0
	if err := consumer.Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "connect to Kafka at 127.0.0.1:1") {
		t.Errorf("without Kafka: %v", err)
	}
}
