package torture

import (
	"sync"
	"time"

	"github.com/jackc/pglogrepl"
)

// fate is where an event must be found.
type fate uint8

const (
	toTopic      fate = iota
	toDeadLetter      // it can never be published
	toDeleted         // its topic was deleted after it had been seen there
)

// event is one committed event.
type event struct {
	id      string
	topic   string
	key     string
	version int64 // rises along the key in commit order
	tx      int64
	fate    fate
	bound   pglogrepl.LSN // its transaction's commit is below
}

// ledger holds what was committed, as the writers know it, and what of it was seen in
// Kafka. It may be used by any goroutine.
type ledger struct {
	mu         sync.Mutex
	events     []event
	index      map[string]int // by id
	seen       []bool         // by place in events
	early      map[string]bool
	delivered  int
	through    int // all events before are seen
	ambiguous  []transaction
	rolledBack int // events in transactions and savepoints that were rolled back

	stallSince time.Time
	longest    time.Duration
}

func newLedger() *ledger {
	return &ledger{index: make(map[string]int), early: make(map[string]bool)}
}

// commit records a transaction that is known to be committed. bound is a position in the
// WAL, read after the commit.
func (l *ledger) commit(tx transaction, bound pglogrepl.LSN) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rolledBack += tx.rolledBack
	for _, e := range tx.events {
		e.bound = bound
		l.index[e.id] = len(l.events)
		l.events = append(l.events, e)
		seen := l.early[e.id]
		delete(l.early, e.id)
		l.seen = append(l.seen, seen)
		if seen {
			l.delivered++
		}
	}
	l.advance()
}

// doubt records a transaction whose commit was not answered.
func (l *ledger) doubt(tx transaction) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ambiguous = append(l.ambiguous, tx)
}

// forget records a transaction that was rolled back.
func (l *ledger) forget(tx transaction) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rolledBack += tx.rolledBack + len(tx.events)
}

// deliver records that an event was read from Kafka, which can happen before its writer
// has the answer to its commit.
func (l *ledger) deliver(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, known := l.index[id]
	if !known {
		l.early[id] = true
		return
	}
	if !l.seen[at] {
		l.seen[at] = true
		l.delivered++
		l.advance()
	}
}

// advance moves the mark below which everything is delivered, and ends a stall.
func (l *ledger) advance() {
	before := l.through
	for l.through < len(l.events) && l.seen[l.through] {
		l.through++
	}
	switch {
	case l.through == len(l.events):
		l.endStall(time.Time{})
	case l.through > before || l.stallSince.IsZero():
		l.endStall(time.Now())
	}
}

func (l *ledger) endStall(next time.Time) {
	if !l.stallSince.IsZero() {
		l.longest = max(l.longest, time.Since(l.stallSince))
	}
	l.stallSince = next
}

// counts returns how many events are committed and how many of them are delivered.
func (l *ledger) counts() (committed, delivered int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.events), l.delivered
}

// deliveredThrough reports whether the first n events are all delivered.
func (l *ledger) deliveredThrough(n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.through >= n
}

// stall returns the longest time for which nothing became complete although something was
// outstanding.
func (l *ledger) stall() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.endStall(l.stallSince)
	return l.longest
}

// doubtful takes out the transactions whose commit was not answered.
func (l *ledger) doubtful() []transaction {
	l.mu.Lock()
	defer l.mu.Unlock()
	doubtful := l.ambiguous
	l.ambiguous = nil
	return doubtful
}
