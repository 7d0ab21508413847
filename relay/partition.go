package relay

import "time"

// A partition is where records queue. Only the publisher's goroutine touches it, but for
// what does not change.
type partition struct {
	topic string
	id    int32
	// known is the position of the last record that earlier sessions appended. Positions
	// rise along a partition, so whatever is not above it is in Kafka already.
	known Position

	appended Position // of the last record that this session appended
	queue    recordQueue
	batch    *batchSpace // on its way or waiting to be sent again; nil for none
	batched  []queuedRecord
	sequence int32 // of the next new batch
	limit    int   // records in a batch; 0 for no limit but bytes
	attempts int
	retryAt  time.Time
	refresh  bool // ask the cluster for the leader
	troubled bool // counted in the publisher's troubled
	state    partitionState
}

// partitionState says which of the publisher's lists a partition stands in: never in two,
// or its batch could be sent and settled twice.
type partitionState byte

const (
	partitionIdle    partitionState = iota // nothing to send
	partitionReady                         // in ready: something to send
	partitionSent                          // its batch is on the way
	partitionWaiting                       // in waiting: for retryAt
)

type queuedRecord struct {
	block *block
	index int32
}

func (q queuedRecord) record() *blockRecord { return &q.block.records[q.index] }

// recordQueue is a first-in-first-out queue that reuses its memory.
type recordQueue struct {
	records []queuedRecord
	head    int
}

func (q *recordQueue) len() int            { return len(q.records) - q.head }
func (q *recordQueue) push(r queuedRecord) { q.records = append(q.records, r) }
func (q *recordQueue) peek(i int) queuedRecord {
	return q.records[q.head+i]
}

// front returns the first n records, until the next call of another method.
func (q *recordQueue) front(n int) []queuedRecord { return q.records[q.head : q.head+n] }

// pop removes the first n records. What they pointed to is let go of: a place in the queue may
// not be used again for long.
func (q *recordQueue) pop(n int) {
	clear(q.records[q.head : q.head+n])
	q.head += n
	if q.head > len(q.records)/2 {
		kept := copy(q.records, q.records[q.head:])
		clear(q.records[max(kept, q.head):])
		q.records, q.head = q.records[:kept], 0
	}
}
