package demo

import (
	"fmt"
	"strconv"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/postrider/postrider/relay"
)

// Ledger accounts for every event: Committed = Delivered + InFlight + DeadLettered + Expired.
type Ledger struct {
	Committed    int `json:"committed"`
	Delivered    int `json:"delivered"`
	InFlight     int `json:"in_flight"`
	DeadLettered int `json:"dead_lettered"`
	Expired      int `json:"expired"`
	Duplicates   int `json:"duplicates"`
	OutOfOrder   int `json:"out_of_order"`
}

func (l Ledger) equation() string {
	return fmt.Sprintf("committed %d = delivered %d + in flight %d + dead-lettered %d + expired %d",
		l.Committed, l.Delivered, l.InFlight, l.DeadLettered, l.Expired)
}

func (l Ledger) String() string {
	return fmt.Sprintf("%s    duplicates %d  out of order %d", l.equation(), l.Duplicates, l.OutOfOrder)
}

// of is the ledger with that many committed events.
func (l Ledger) of(committed int) Ledger {
	// The consumer may have seen events that were committed after they were counted.
	l.Committed = max(committed, l.accounted())
	l.InFlight = l.Committed - l.accounted()
	return l
}

// accounted is how many events are where they belong.
func (l Ledger) accounted() int { return l.Delivered + l.DeadLettered + l.Expired }

// book compares what the database committed with what the consumer saw.
type book struct {
	mu        sync.Mutex
	counted   Ledger
	seen      map[string]bool           // by ce_id
	positions map[string]relay.Position // the last of each partition
}

func newBook() *book {
	return &book{seen: make(map[string]bool), positions: make(map[string]relay.Position)}
}

// receive books a record of one of the services' topics or, where dead, of the relay's
// dead-letter topic.
func (b *book) receive(r *kgo.Record, headers map[string]string, dead bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if id := headers["ce_id"]; b.seen[id] {
		b.counted.Duplicates++
		return
	} else if id != "" {
		b.seen[id] = true
	}
	switch {
	case dead && headers["postrider-error-code"] == "EXPIRED":
		b.counted.Expired++
	case dead:
		b.counted.DeadLettered++
	default:
		b.counted.Delivered++
		partition := r.Topic + "/" + strconv.Itoa(int(r.Partition))
		at, err := relay.ParsePosition(headers["postrider-position"])
		if last, known := b.positions[partition]; err != nil || known && !last.Less(at) {
			b.counted.OutOfOrder++
		}
		b.positions[partition] = at
	}
}

// setCommitted takes the number of rows in the outbox.
func (b *book) setCommitted(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counted.Committed = n
}

// ledger returns the ledger as it stands.
func (b *book) ledger() Ledger {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.counted.of(b.counted.Committed)
}

// audit compares the committed events with those that were seen, one by one: a number could be
// right by two mistakes. It removes nothing from either.
func (b *book) audit(committed []string) (lost, phantoms int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	found := 0
	for _, id := range committed {
		if b.seen[id] {
			found++
		}
	}
	return len(committed) - found, len(b.seen) - found
}
