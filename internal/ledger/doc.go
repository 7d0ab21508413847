// Package ledger compares, in tests, what was committed to an outbox table with what a
// topic holds: the invariants that must stand after every fault.
//
// A Writer keeps committing events while the test breaks things; a Ledger then reads the
// table and the topic, with a client that shares no code with the relay's, and counts:
//
//	w := ledger.Write(t, url)
//	... break things ...
//	w.Stop()
//	l := ledger.Open(t, url, brokers, topic)
//	l.Await()                   // until every committed event is in the topic
//	... stop the relay ...
//	balance := l.Balance()      // lost, twice, out of order, never committed
//
// The table is the truth: a commit whose answer was lost in a crash counts if the row is
// there. Rows that are rolled back are written too, and must never be seen.
package ledger
