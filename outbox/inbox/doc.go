// Package inbox handles each event once, though Kafka may deliver it more often. A mark
// with the event's id is written in the transaction that handles the event: both are
// committed, or neither.
//
//	tx, err := pool.Begin(ctx)
//	if err != nil { … }
//	defer tx.Rollback(ctx)
//	ctx = inbox.WithHeaders(ctx, headers)
//	ran, err := inbox.Once(ctx, tx, "shipping", headers["ce_id"], func(ctx context.Context) error {
//		return ship(ctx, tx, order) // and outbox.Insert(ctx, tx, …) of what follows from it
//	})
//	if err != nil { … }
//	err = tx.Commit(ctx)
//	// Only now the offset may be committed.
//
// The dedupe key is the record's header ce_id. The package knows no Kafka client: package
// consumer has a loop for one, and any other works the same way.
//
// What is done to the database of tx happens once. What else fn does (a mail, a call of
// another service) is done again whenever the transaction fails after it: put an event into
// the outbox instead, and let its consumer do that.
//
// # The table
//
// [TableDDL] returns its migration, `postrider outbox sql --part inbox` prints it for the
// common migration tools. The partition of a mark follows from the event's id, not from when
// it was handled: a duplicate meets the mark on whatever day it comes. A UUIDv7, which is
// what package outbox makes, has its day in it; the marks of all other ids are in one
// partition together. Consumers in other languages call SELECT inbox_once(consumer, key).
//
// # Retention
//
// [Maintain] removes marks that are older than a retention time, counted from when the event
// was handled. A duplicate within that time is always recognized. A later one is handled
// again if its mark is gone: so the retention must be longer than a record can take to come
// a second time. That is as long as the topic keeps it, if offsets are ever set back.
package inbox
