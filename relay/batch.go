package relay

import (
	"time"

	"github.com/IBM/sarama"
)

// batchRecords bounds the records of a batch, and with them the memory of batchSpace.
const batchRecords = 2048

// batchSpace is a batch as sarama sends it. Only what is on the wire has one: everything that
// waits is in blocks.
type batchSpace struct {
	batch   sarama.RecordBatch
	records []sarama.Record
	refs    []*sarama.Record
	headers []sarama.RecordHeader
	href    []*sarama.RecordHeader
}

// fill makes the batch of the queued records.
func (s *batchSpace) fill(queued []queuedRecord) {
	headers := 0
	for _, q := range queued {
		r := q.record()
		headers += int(r.after - r.first)
	}
	s.records, s.refs = room(s.records, len(queued)), room(s.refs, len(queued))
	s.headers, s.href = room(s.headers, headers), room(s.href, headers)
	n := 0
	for i, q := range queued {
		b, r := q.block, q.record()
		from := n
		for _, h := range b.headers[r.first:r.after] {
			s.headers[n] = sarama.RecordHeader{Key: b.at(h.name), Value: b.at(h.value)}
			s.href[n] = &s.headers[n]
			n++
		}
		s.records[i] = sarama.Record{Headers: s.href[from:n:n], OffsetDelta: int64(i), Key: b.at(r.key), Value: b.at(r.value)}
		s.refs[i] = &s.records[i]
	}
	now := time.Now()
	s.batch = sarama.RecordBatch{
		Version: 2, CompressionLevel: sarama.CompressionLevelDefault,
		FirstTimestamp: now, MaxTimestamp: now,
		LastOffsetDelta: int32(len(queued) - 1), Records: s.refs,
	}
}

// clear lets go of the blocks.
func (s *batchSpace) clear() {
	clear(s.records)
	clear(s.headers)
	s.batch = sarama.RecordBatch{}
}

// room returns a slice of n elements, in the memory of s if they fit.
func room[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}
