package relay

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Checkpoint turns acknowledgements, which arrive in any order, into one LSN that only
// rises: everything up to it is durably in Kafka. It is the only source of what the relay
// confirms to Postgres.
//
// One goroutine opens and closes transactions, in the order of the stream; any goroutine
// may acknowledge and read.
type Checkpoint struct {
	mu      sync.Mutex
	ring    []transaction // ring buffer; its length is a power of two
	first   Ticket        // the oldest transaction in the ring
	next    Ticket        // the ticket that Begin hands out next
	flushed LSN
	waiters []waiter
	settled *settling     // of the goroutine that opens transactions; nil for none
	moved   chan struct{} // signals that first has moved

	// observe is told the commit time of every transaction with events when the last of
	// them has been acknowledged, which is now. It runs under the lock and must be quick.
	observe func(committed, now time.Time)
}

// Ticket names a transaction within a Checkpoint. Tickets rise by one.
type Ticket uint64

// waiter wants to know when flushed reaches lsn.
type waiter struct {
	lsn  LSN
	done chan struct{}
}

// settling wants to know when nothing of a transaction is pending.
type settling struct {
	ticket Ticket
	done   chan struct{}
}

type transaction struct {
	end       LSN
	pending   int32 // events added and not acknowledged
	events    bool
	closed    bool
	committed time.Time
}

// NewCheckpoint returns a checkpoint that stands at flushed: the slot's confirmed LSN.
func NewCheckpoint(flushed LSN, observe func(committed, now time.Time)) *Checkpoint {
	if observe == nil {
		observe = func(_, _ time.Time) {}
	}
	return &Checkpoint{ring: make([]transaction, 1024), flushed: flushed, observe: observe, moved: make(chan struct{}, 1)}
}

// maxTransactions bounds the transactions behind one that is not acknowledged, about 10 MB.
const maxTransactions = 1 << 18

// awaitRoom returns when there is room for another transaction, or when one of the contexts
// ends, with its cause.
func (c *Checkpoint) awaitRoom(ctx, stop context.Context) error {
	for {
		c.mu.Lock()
		room := c.next-c.first < maxTransactions
		c.mu.Unlock()
		if room {
			return nil
		}
		select {
		case <-c.moved:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-stop.Done():
			return context.Cause(stop)
		}
	}
}

// Begin opens the next transaction of the stream. The one before must have been closed by
// Commit.
func (c *Checkpoint) Begin(committed time.Time) Ticket {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.push(transaction{committed: committed})
}

func (c *Checkpoint) push(tx transaction) Ticket {
	if int(c.next-c.first) == len(c.ring) {
		grown := make([]transaction, 2*len(c.ring))
		for t := c.first; t < c.next; t++ {
			grown[int(t)&(len(grown)-1)] = *c.at(t)
		}
		c.ring = grown
	}
	t := c.next
	c.next++
	*c.at(t) = tx
	return t
}

func (c *Checkpoint) at(t Ticket) *transaction { return &c.ring[int(t)&(len(c.ring)-1)] }

// Add counts one more event of transaction t, before it is handed to the publisher.
func (c *Checkpoint) Add(t Ticket) {
	c.mu.Lock()
	defer c.mu.Unlock()
	tx := c.at(t)
	tx.pending++
	tx.events = true
}

// Commit closes transaction t, which ends at end: the LSN that may be confirmed once every
// event of it, and of every transaction before it, is acknowledged.
func (c *Checkpoint) Commit(t Ticket, end LSN) {
	c.mu.Lock()
	defer c.mu.Unlock()
	tx := c.at(t)
	tx.end, tx.closed = end, true
	if !tx.events && t == c.next-1 && t > c.first {
		// Transactions without events behind a slow one need one entry, not many.
		if before := c.at(t - 1); before.closed {
			before.end = max(before.end, end)
			c.next--
		}
	}
	c.advance()
}

// Progress records that the stream holds nothing for us up to lsn. It takes its place in
// the line like a transaction without events, so that an LSN from a keepalive can never
// overtake an event that was read before it.
func (c *Checkpoint) Progress(lsn LSN) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if bug(bugConfirmKeepalive) {
		c.flushed = max(c.flushed, lsn)
	}
	if c.next > c.first {
		// Many keepalives behind one slow event need one entry, not many.
		if last := c.at(c.next - 1); last.closed {
			last.end = max(last.end, lsn)
			c.advance()
			return
		}
	}
	c.push(transaction{end: lsn, closed: true})
	c.advance()
}

// Ack records that the broker has durably accepted one event of each transaction in
// tickets; a transaction stands there as often as it has events acknowledged.
func (c *Checkpoint) Ack(tickets []Ticket) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range tickets {
		c.at(t).pending--
	}
	c.settle()
	c.advance()
}

// awaitSettled returns nil when every event of the open transaction t that was added so far
// is acknowledged, or the cause of the end of one of the contexts. What was added must be on
// its way.
func (c *Checkpoint) awaitSettled(ctx, stop context.Context, t Ticket) error {
	done := make(chan struct{})
	c.mu.Lock()
	c.settled = &settling{t, done}
	c.settle()
	c.mu.Unlock()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-stop.Done():
		return context.Cause(stop)
	}
}

func (c *Checkpoint) settle() {
	if s := c.settled; s != nil && c.at(s.ticket).pending == 0 {
		close(s.done)
		c.settled = nil
	}
}

// advance moves flushed over every leading transaction that is closed and acknowledged.
func (c *Checkpoint) advance() {
	first := c.first
	defer func() {
		if c.first != first {
			select {
			case c.moved <- struct{}{}:
			default:
			}
		}
	}()
	var now time.Time // asked for once: for each of them it is dearer than the rest of this
	for c.first < c.next {
		tx := c.at(c.first)
		if !tx.closed || tx.pending > 0 {
			break
		}
		if tx.events {
			if now.IsZero() {
				now = time.Now()
			}
			c.observe(tx.committed, now)
		}
		c.flushed = max(c.flushed, tx.end)
		c.first++
	}
	for i := 0; i < len(c.waiters); i++ {
		if w := c.waiters[i]; w.lsn <= c.flushed {
			close(w.done)
			c.waiters = slices.Delete(c.waiters, i, i+1)
			i--
		}
	}
}

// wait returns nil when flushed has reached lsn, or the cause of ctx's end.
func (c *Checkpoint) wait(ctx context.Context, lsn LSN) error {
	c.mu.Lock()
	if c.flushed >= lsn {
		c.mu.Unlock()
		return nil
	}
	done := make(chan struct{})
	c.waiters = append(c.waiters, waiter{lsn, done})
	c.mu.Unlock()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Flushed returns the LSN up to which everything is durably in Kafka.
func (c *Checkpoint) Flushed() LSN {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.flushed
}

// Oldest returns the commit time of the oldest transaction that is still open or not wholly
// acknowledged, or false where there is none.
func (c *Checkpoint) Oldest() (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for t := c.first; t < c.next; t++ {
		if tx := c.at(t); tx.events || !tx.closed { // an open one holds the event that waits to be encoded
			return tx.committed, true
		}
	}
	return time.Time{}, false
}
