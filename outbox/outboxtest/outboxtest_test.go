package outboxtest_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"math/big"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/postrider/postrider/internal/testserver"
	"github.com/postrider/postrider/outbox"
	"github.com/postrider/postrider/outbox/outboxtest"
	"github.com/postrider/postrider/testdata/schemas"
)

var created = outbox.MustParseSchema(schemas.OrderCreatedText)

func orderCreated(currency string) outbox.Event {
	return outbox.Event{
		AggregateType: "order", AggregateID: "o-1", Schema: created,
		Payload: schemas.OrderCreated{OrderID: "o-1", Currency: currency, Total: big.NewRat(5, 2)},
	}
}

func paid(amount int) outbox.Event {
	return outbox.Event{AggregateType: "order", AggregateID: "o-1", Type: "order.paid", Payload: map[string]any{"amount": amount}}
}

func newDatabase(t *testing.T) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), testserver.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(t.Context()) })
	ddl, err := outbox.TableDDL("")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), ddl.Up, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	if err := outbox.RegisterSchemas(t.Context(), conn, created); err != nil {
		t.Fatal(err)
	}
	return conn
}

// recorder is a testing.TB that notes failures instead of failing.
type recorder struct {
	testing.TB
	failure string
}

func (r *recorder) Errorf(format string, args ...any) { r.failure += fmt.Sprintf(format, args...) }

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

// failureOf returns what check reports, empty if it is content.
func failureOf(t *testing.T, check func(testing.TB)) string {
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		check(r)
	}()
	<-done
	return r.failure
}

func TestExpect_SeesTheEventsOfTheOpenTransaction(t *testing.T) {
	t.Parallel()
	conn := newDatabase(t)
	if _, err := conn.Exec(t.Context(), "SELECT outbox_emit('order', 'o-0', 'order.paid', '{}')"); err != nil {
		t.Fatal(err) // of another transaction, none of our business
	}
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	outboxtest.Expect(t, tx)

	deadline := time.Now().Add(time.Hour)
	first := orderCreated("EUR")
	first.ID, first.ExpiresAt, first.Topic = outbox.NewID(), deadline, "orders"
	first.Headers = map[string]string{"a": "1", "b": "2"}
	err = outbox.Insert(t.Context(), tx, first, paid(1), outbox.Event{AggregateType: "order", AggregateID: "o-1", Type: "order.gone", Tombstone: true})
	if err == nil {
		_, err = tx.Exec(t.Context(), `SELECT outbox_emit('order', 'o-2', 'order.paid', '{"amount": 12345678901234567890}')`)
	}
	if err != nil {
		t.Fatal(err)
	}

	want := []outbox.Event{
		first, paid(1),
		{AggregateType: "order", AggregateID: "o-1", Type: "order.gone", Tombstone: true},
		{AggregateType: "order", AggregateID: "o-2", Type: "order.paid", Payload: json.RawMessage(`{"amount":12345678901234567890}`)},
	}
	outboxtest.Expect(t, tx, want...)
	want[0].ID, want[0].ExpiresAt, want[0].Headers = [16]byte{}, time.Time{}, map[string]string{"b": "2"}
	outboxtest.Expect(t, tx, want...)

	got := outboxtest.Emitted(t, tx)
	if len(got) != 4 || got[0].Payload.(map[string]any)["currency"] != "EUR" || got[2].Payload != nil {
		t.Errorf("Emitted: %+v", got)
	}
}

func TestExpect_ReportsEveryDifference(t *testing.T) {
	t.Parallel()
	conn := newDatabase(t)
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	withHeader := paid(1)
	withHeader.Headers = map[string]string{"a": "1"}
	if err := outbox.Insert(t.Context(), tx, orderCreated("EUR"), withHeader); err != nil {
		t.Fatal(err)
	}
	change := func(e outbox.Event, change func(*outbox.Event)) outbox.Event { change(&e); return e }
	for _, test := range []struct {
		name string
		want []outbox.Event
		says string
	}{
		{"none wanted", nil, `AggregateID:   "o-1"`},
		{"one missing", []outbox.Event{orderCreated("EUR"), paid(1), paid(2)}, "order.paid"},
		{"other order", []outbox.Event{paid(1), orderCreated("EUR")}, `"order.created"`},
		{"other Avro payload", []outbox.Event{orderCreated("USD"), paid(1)}, `"USD"`},
		{"other JSON payload", []outbox.Event{orderCreated("EUR"), paid(2)}, `"2"`},
		{"other topic", []outbox.Event{orderCreated("EUR"), change(paid(1), func(e *outbox.Event) { e.Topic = "t" })}, "Topic"},
		{"other id", []outbox.Event{orderCreated("EUR"), change(paid(1), func(e *outbox.Event) { e.ID[0] = 1 })}, "-0000-0000-0000-"},
		{"other deadline", []outbox.Event{orderCreated("EUR"), change(paid(1), func(e *outbox.Event) { e.ExpiresAt = time.Now() })}, "ExpiresAt"},
		{"other header", []outbox.Event{orderCreated("EUR"), change(paid(1), func(e *outbox.Event) { e.Headers = map[string]string{"a": "2"} })}, `"2"`},
		{"missing header", []outbox.Event{orderCreated("EUR"), change(paid(1), func(e *outbox.Event) { e.Headers = map[string]string{"x": "y"} })}, `"y"`},
		{"impossible event", []outbox.Event{orderCreated("CHF")}, `wanted event 0 cannot be: payload: field currency: "CHF"`},
	} {
		got := failureOf(t, func(tb testing.TB) { outboxtest.Expect(tb, tx, test.want...) })
		if !strings.Contains(got, test.says) {
			t.Errorf("%s: got %q, want it to contain %q", test.name, got, test.says)
		}
	}
}

func TestExpectSQL_SeesTheEventsOfTheOpenTransaction(t *testing.T) {
	t.Parallel()
	conn := newDatabase(t)
	db := stdlib.OpenDB(*conn.Config())
	defer db.Close()
	tx, err := db.BeginTx(t.Context(), &sql.TxOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if err := outbox.InsertSQL(t.Context(), tx, orderCreated("EUR"), paid(1)); err != nil {
		t.Fatal(err)
	}
	outboxtest.ExpectSQL(t, tx, orderCreated("EUR"), paid(1))
	if got := failureOf(t, func(tb testing.TB) { outboxtest.ExpectSQL(tb, tx, paid(1)) }); got == "" {
		t.Error("a missing event was not reported")
	}
	if got := failureOf(t, func(tb testing.TB) { outboxtest.Table("public.elsewhere").EmittedSQL(tb, tx) }); !strings.Contains(got, "does not exist") {
		t.Errorf("a table that is not there: %q", got)
	}
}
