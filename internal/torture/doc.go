// Package torture proves the relay's guarantees on real servers, or shows where they break.
//
// Writers commit events with many keys to a Postgres and keep a ledger of what was
// committed. A nemesis injects faults, drawn from a seed that is printed. The relay runs as
// a process of its own, so that it can be killed. A consumer that shares no code with the
// relay reads the topics, and in the end an auditor reads them once more from offset 0 and
// compares them with the ledger:
//
//	report, err := torture.Run(ctx, torture.Config{Duration: time.Minute, Seed: 1})
//	...
//	report.Print(os.Stdout) // a line for each invariant, and one for each kind of fault
//	if !report.OK() { ... }
//
// The invariants are called I1 to I10 and stand in Invariants. What can be injected stands
// in the table Faults, one value each: adding a fault is adding a value. Matrix runs every
// row of the fault matrix by itself.
//
// Without addresses it starts servers of its own from testdata/servers, and can then break
// those too. It makes a database and topics of its own and removes them at the end.
package torture
