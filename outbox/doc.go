// Package outbox puts events into the outbox table inside the caller's own transaction:
// an event exists exactly when the work that it tells of was committed. The relay carries
// it on to Kafka. The package needs Postgres and nothing else: no broker, no registry, no
// goroutine.
//
//	//go:embed order.created.avsc
//	var text string
//	var created = outbox.MustParseSchema(text)
//
//	// Once, at start-up:
//	err := outbox.RegisterSchemas(ctx, pool, created)
//
//	// In the transaction that creates the order:
//	err = outbox.Insert(ctx, tx, outbox.Event{
//		AggregateType: "order",
//		AggregateID:   order.ID,
//		Schema:        created,
//		Payload:       events.OrderCreated{OrderID: order.ID, Total: order.Total},
//	})
//
// A payload with a Schema is encoded to Avro by Insert, so that a value the schema refuses
// fails here, before the commit, with an [EventError] that names the field. Without a Schema
// the payload is JSON, and the relay encodes it by the latest schema of its subject.
//
// The table comes from a migration: `postrider outbox sql` prints it for the common
// migration tools, [TableDDL] returns it.
//
// The table keeps events for its retention time: [History] returns those of an aggregate, to
// rebuild it, and [Correlated] those of a process, to see what led to what.
//
// Events of one aggregate reach Kafka in the order of the commits, within a transaction in
// the order of the inserts. Two transactions that write events of one aggregate without a
// common lock (the aggregate's row, usually) have no order of their own: lock it first.
package outbox
