package relay

import (
	"time"

	"github.com/IBM/sarama"
)

// A relay that died may have appended records that it could not confirm to Postgres any
// more: they are sent again. Before the first record of a topic the next relay therefore
// reads what stands at the end of its partitions, and skips those events by their id.

const (
	// tailFirst is how many records of a partition are read at first; where they are all
	// unconfirmed, more are, up to tailLimit in all. Beyond that duplicates are possible.
	tailFirst = 64
	tailLimit = 300_000
	// snapshotTail bounds what is read of a topic when the slot is made anew.
	snapshotTail = 100_000
	// tailGrace is how long after it got the slot a relay lets the brokers append what the one
	// before still had on the wire.
	tailGrace = 200 * time.Millisecond
	// tailSilence ends the reading of a partition whose last offsets hold no records, as
	// transaction markers do.
	tailSilence = 2 * time.Second
)

// tail is the set of events that stand unconfirmed at the end of a topic: their ids, or the
// positions of records without one (outbox.headers: none).
type tail struct {
	ids   map[string]struct{}
	last  LSN       // the highest position among them
	since time.Time // older records are another slot's
	whole bool      // read for a snapshot: what an earlier one published has a position of its own
}

// has reports whether the event with this id, at this place in the stream, is in the topic
// already. Once the stream has passed the tail it is forgotten.
func (t *tail) has(id []byte, at Position) bool {
	if len(t.ids) == 0 {
		return false
	}
	if t.whole {
		t.whole, t.last = false, max(t.last, at.LSN) // what comes behind the snapshot is new
	}
	if at.LSN > t.last {
		t.ids = nil
		return false
	}
	if _, ok := t.ids[string(id)]; ok {
		return true
	}
	_, ok := t.ids[at.String()]
	return ok
}

// tailReader reads one partition backwards in growing steps.
type tailReader struct {
	partition int32
	oldest    int64
	from, to  int64 // the offsets of the present step: from ≤ offset < to
	newest    int64
	reached   bool // a record that is confirmed
}

// readTail returns the ids of the records at the end of topic whose position is confirmed
// or above. It needs the right to read the topic; where that is missing it says so and
// returns an empty tail.
//
// With confirmed 0 the slot is made in this session. A relay that died in its snapshot may
// have been here before: of what it published up to snapshotTail events are found.
func (c *cluster) readTail(topic string, partitions []int32, confirmed LSN) (tail, error) {
	t := tail{whole: confirmed == 0}
	limit := tailLimit / int64(len(partitions))
	if t.whole {
		limit = snapshotTail / int64(len(partitions))
	}
	t.since = c.since
	var readers []*tailReader
	for _, id := range partitions {
		newest, err := c.client.GetOffset(topic, id, sarama.OffsetNewest)
		if err != nil {
			return t, err
		}
		oldest, err := c.client.GetOffset(topic, id, sarama.OffsetOldest)
		if err != nil {
			return t, err
		}
		if newest > oldest {
			readers = append(readers, &tailReader{
				partition: id, oldest: max(oldest, newest-limit), newest: newest, from: max(oldest, newest-tailFirst), to: newest,
			})
		}
	}
	if len(readers) == 0 {
		return t, nil
	}
	consumer, err := sarama.NewConsumerFromClient(c.client)
	if err != nil {
		return t, err
	}
	defer func() { _ = consumer.Close() }()
	t.ids = make(map[string]struct{})
	for len(readers) > 0 {
		if err := t.step(consumer, topic, readers, confirmed); err != nil {
			return t, err
		}
		further := readers[:0]
		for _, r := range readers {
			if r.extend() {
				further = append(further, r)
			}
		}
		readers = further
	}
	return t, nil
}

// extend moves the reader to the records before those that were read, eight times as many,
// and reports whether there is need to read them.
func (r *tailReader) extend() bool {
	if r.reached || r.from == r.oldest || r.newest-r.from >= int64(tailLimit) {
		return false
	}
	size := 8 * (r.newest - r.from)
	r.to = r.from
	r.from = max(r.oldest, r.newest-size)
	return true
}

// step reads the present step of all readers.
func (t *tail) step(consumer sarama.Consumer, topic string, readers []*tailReader, confirmed LSN) error {
	runs := make([]offsets, len(readers))
	for i, r := range readers {
		runs[i] = offsets{r.partition, r.from, r.to}
	}
	return readOffsets(consumer, topic, runs, tailSilence, func(i int, m *sarama.ConsumerMessage) { t.add(m, readers[i], confirmed) })
}

// add takes one record. Records without a position are another producer's.
func (t *tail) add(m *sarama.ConsumerMessage, r *tailReader, confirmed LSN) {
	id, position := messageHeader(m, ceID), messageHeader(m, headerPosition)
	at, err := ParsePosition(string(position))
	if err != nil {
		return
	}
	if at.LSN < confirmed || m.Timestamp.Before(t.since) {
		r.reached = true
		return
	}
	if id == nil {
		id = position
	}
	t.ids[string(id)] = struct{}{}
	t.last = max(t.last, at.LSN)
}
