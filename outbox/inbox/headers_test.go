package inbox_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/outbox"
	"github.com/postrider/postrider/outbox/inbox"
	"github.com/postrider/postrider/outbox/outboxtest"
)

func TestWithHeaders_TiesEmittedEventsToTheRecord(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	ddl, err := outbox.TableDDL("")
	if err != nil {
		t.Fatal(err)
	}
	mustExec(t, pool, ddl.Up)
	stale := outbox.WithTraceparent(outbox.WithCorrelationID(outbox.WithCausationID(context.Background(), "another"), "another"), "another", "another")
	for name, c := range map[string]struct{ record, want map[string]string }{
		"in the middle of a process": {
			map[string]string{"ce_id": "e-2", "correlationid": "checkout-1", "causationid": "e-1", "traceparent": "00-1-2-01", "tracestate": "a=b", "x": "y"},
			map[string]string{"correlationid": "checkout-1", "causationid": "e-2", "traceparent": "00-1-2-01", "tracestate": "a=b"},
		},
		"the first of a process": {
			map[string]string{"ce_id": "e-1"},
			map[string]string{"correlationid": "e-1", "causationid": "e-1"},
		},
		"values that no header can have": {
			map[string]string{"ce_id": "e-1", "correlationid": "a\xff", "traceparent": "a\x00"},
			map[string]string{"correlationid": "e-1", "causationid": "e-1"},
		},
		"no CloudEvent": {map[string]string{"x": "y"}, nil},
	} {
		tx, err := pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback(t.Context())
		_, err = inbox.Once(inbox.WithHeaders(stale, c.record), tx, "shipping", name, func(ctx context.Context) error {
			return outbox.Insert(ctx, tx, outbox.Event{AggregateType: "order", AggregateID: "o-1", Type: "order.shipped", Tombstone: true})
		})
		if err != nil {
			t.Fatal(err)
		}
		emitted := outboxtest.Emitted(t, tx)
		if len(emitted) != 1 {
			t.Fatalf("%s: %d events", name, len(emitted))
		}
		if diff := cmp.Diff(c.want, emitted[0].Headers); diff != "" {
			t.Errorf("%s: headers (-want +got):\n%s", name, diff)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
