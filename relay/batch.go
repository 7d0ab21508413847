package relay

import (
	"encoding/binary"
	"time"

	"github.com/IBM/sarama"
)

// batchRecords bounds the records of a batch.
const batchRecords = 2048

// batchSpace is a batch as it travels. Only what is on the wire has one: everything that
// waits is in blocks.
type batchSpace struct {
	batch sarama.RecordBatch
	wire  []byte // the records, compressed
}

// batchEncoder makes the batches of one publisher.
type batchEncoder struct {
	codec    sarama.CompressionCodec
	compress compressor
	raw      []byte // the records of the batch that is being made
}

// newBatchEncoder makes one that compresses as kafka.compression says.
func newBatchEncoder(codec string) (*batchEncoder, error) {
	compress, err := newCompressor(codec)
	return &batchEncoder{codec: compressionCodecs[codec], compress: compress}, err
}

// fill makes s the batch of the queued records, straight from the bytes of their blocks.
func (e *batchEncoder) fill(s *batchSpace, queued []queuedRecord) {
	raw := e.raw[:0]
	for i, q := range queued {
		raw = appendRecord(raw, i, q.block, q.record())
	}
	s.wire = e.compress(s.wire[:0], raw)
	if e.raw = raw; cap(raw) > 2*maxBatchBytes {
		e.raw = nil // a huge record has blown it up
	}
	now := time.Now()
	s.batch = sarama.RecordBatch{
		Version: 2, Codec: e.codec,
		FirstTimestamp: now, MaxTimestamp: now,
		LastOffsetDelta: int32(len(queued) - 1),
	}
	setEncoded(&s.batch, len(queued), s.wire)
}

// clear empties s for the next use.
func (s *batchSpace) clear() {
	s.batch = sarama.RecordBatch{}
	if cap(s.wire) > 2*maxBatchBytes {
		s.wire = nil
	}
}

// appendRecord appends the n-th record of a batch as it travels (Kafka protocol, "Record
// Batch", "Record"). Its time is the batch's.
func appendRecord(dst []byte, n int, b *block, r *blockRecord) []byte {
	headers := b.headers[r.first:r.after]
	size := 2 + varintLen(n) + bytesLen(r.key) + bytesLen(r.value) + varintLen(len(headers))
	for _, h := range headers {
		size += bytesLen(h.name) + bytesLen(h.value)
	}
	dst = binary.AppendVarint(dst, int64(size))
	dst = append(dst, 0, 0) // attributes, and the difference to the batch's time
	dst = binary.AppendVarint(dst, int64(n))
	dst = appendBytes(dst, b, r.key)
	dst = appendBytes(dst, b, r.value)
	dst = binary.AppendVarint(dst, int64(len(headers)))
	for _, h := range headers {
		dst = appendBytes(dst, b, h.name)
		dst = appendBytes(dst, b, h.value)
	}
	return dst
}

// appendBytes appends what s names behind its length, which is -1 for null.
func appendBytes(dst []byte, b *block, s span) []byte {
	if s == null {
		return append(dst, 1)
	}
	dst = binary.AppendVarint(dst, int64(s.len()))
	return append(dst, b.bytes[s.from:s.to]...)
}

// bytesLen is how many bytes appendBytes appends.
func bytesLen(s span) int {
	if s == null {
		return 1
	}
	return varintLen(s.len()) + s.len()
}

// varintLen is how many bytes n takes as a zigzag varint. n is not negative.
func varintLen(n int) int {
	size := 1
	for n >>= 6; n > 0; n >>= 7 {
		size++
	}
	return size
}
