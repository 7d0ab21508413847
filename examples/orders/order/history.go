package order

import (
	"context"
	"errors"
	"fmt"

	"github.com/postrider/postrider/examples/orders/events"
	"github.com/postrider/postrider/examples/orders/service"
	"github.com/postrider/postrider/outbox"
)

// State is an order as its events tell it.
type State struct {
	events.OrderCreated
	Status   string
	Reason   string // why it was cancelled
	ParcelID int64  // 0 until it is shipped
}

// ErrNoEvents means that the outbox keeps no event of an order: there is none of that id, or
// it is older than the outbox's retention.
var ErrNoEvents = errors.New("the outbox keeps no events of it")

// Rebuild makes an order of its events, without a look at the table of orders. That is right
// because every event of an order is written by who holds the lock on its row: so their order
// in the outbox is that in which they happened.
func Rebuild(ctx context.Context, db outbox.PgxQuerier, id string) (State, error) {
	var s State
	for event, err := range outbox.History(ctx, db, service.OrderTopic, id) {
		if err == nil {
			err = s.apply(&event)
		}
		if err != nil {
			return State{}, fmt.Errorf("order %s: %w", id, err)
		}
	}
	if s.Status == "" {
		return State{}, fmt.Errorf("order %s: %w", id, ErrNoEvents)
	}
	return s, nil
}

// apply takes one step. Old events are read with the defaults of the schemas of today.
func (s *State) apply(event *outbox.StoredEvent) error {
	switch event.Type {
	case "order.created":
		s.Status = "placed"
		return event.DecodeAs(events.OrderCreatedSchema, &s.OrderCreated)
	case "order.paid":
		s.Status = "paid"
	case "order.cancelled":
		var e events.OrderCancelled
		if err := event.DecodeAs(events.OrderCancelledSchema, &e); err != nil {
			return err
		}
		s.Status, s.Reason = "cancelled", e.Reason
	case "order.shipped":
		var e events.OrderShipped
		if err := event.DecodeAs(events.OrderShippedSchema, &e); err != nil {
			return err
		}
		s.Status, s.ParcelID = "shipped", e.ParcelID
	}
	return nil
}
