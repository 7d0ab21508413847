package outbox_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/outbox"
)

func TestQueue_StoresEveryKindOfEventInOrder(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	if err := outbox.RegisterSchemas(t.Context(), pool, created); err != nil {
		t.Fatal(err)
	}
	inTx(t, pool, func(tx pgx.Tx) error { // several events in one statement
		var batch pgx.Batch
		if err := outbox.Queue(t.Context(), &batch, sampler()...); err != nil {
			return err
		}
		return tx.SendBatch(t.Context(), &batch).Close()
	})
	checkSampler(t, read(t, pool))
	mustExec(t, pool, "TRUNCATE outbox")
	inTx(t, pool, func(tx pgx.Tx) error { // a statement for each
		var batch pgx.Batch
		for _, e := range sampler() {
			if err := outbox.Queue(t.Context(), &batch, e); err != nil {
				return err
			}
		}
		return tx.SendBatch(t.Context(), &batch).Close()
	})
	checkSampler(t, read(t, pool))
}

func TestQueue_OutsideOfATransactionIsOneWithTheBusinessStatements(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	mustExec(t, pool, "CREATE TABLE orders (id text PRIMARY KEY)")
	place := func(id string) error {
		var batch pgx.Batch
		if err := outbox.Queue(t.Context(), &batch, jsonEvent(id)); err != nil {
			return err
		}
		batch.Queue("INSERT INTO orders VALUES ($1)", id)
		return pool.SendBatch(t.Context(), &batch).Close()
	}
	if err := place("o-1"); err != nil {
		t.Fatal(err)
	}
	if err := place("o-1"); err == nil { // the order exists: its second event must not
		t.Fatal("the same order was stored twice")
	}
	if n := count(t, pool); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
}

func TestQueue_LeavesTheBatchAloneWhenOneEventIsRefused(t *testing.T) {
	t.Parallel()
	var batch pgx.Batch
	err := outbox.Queue(t.Context(), &batch, jsonEvent("o-1"), outbox.Event{AggregateType: "order", Type: "order.created"})
	var refused *outbox.EventError
	if !errors.As(err, &refused) || refused.Index != 1 {
		t.Errorf("got %v, want an EventError for event 1", err)
	}
	if err := outbox.Queue(t.Context(), &batch); err != nil {
		t.Errorf("no events: %v", err)
	}
	if batch.Len() != 0 {
		t.Errorf("the batch has %d statements, want none", batch.Len())
	}
}
