package relay

import (
	"encoding/binary"
	"errors"
	"reflect"
	"time"
	"unsafe"

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
	if err := knowsSarama(); err != nil {
		return nil, err
	}
	compress, err := newCompressor(codec)
	return &batchEncoder{codec: compressionCodecs[codec], compress: compress}, err
}

// fill makes s the batch of the queued records, straight from the bytes of their blocks.
func (e *batchEncoder) fill(s *batchSpace, queued []queuedRecord) {
	raw := e.raw[:0]
	for i, q := range queued {
		raw = appendRecord(raw, i, q.block.at(q.record().body))
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

// appendRecord appends the n-th record of a batch, whose time is the batch's (Kafka protocol,
// "Record Batch", "Record").
func appendRecord(dst []byte, n int, body []byte) []byte {
	dst = binary.AppendVarint(dst, int64(2+varintLen(n)+len(body)))
	dst = append(dst, 0, 0) // attributes, and the difference to the batch's time
	dst = binary.AppendVarint(dst, int64(n))
	return append(dst, body...)
}

// encodedField is where a sarama.RecordBatch keeps its records as they travel: encoded and
// compressed. sarama fills it from Records, by way of a structure for every record and header
// and a kilobyte of garbage per event, but sends what it finds there already. The field is
// not exported, and there is no other way to hand over records that are encoded.
var encodedField, _ = reflect.TypeFor[sarama.RecordBatch]().FieldByName("compressedRecords")

// knowsSarama returns an error where sarama has no such field, for then nothing can be sent.
func knowsSarama() error {
	if encodedField.Type != reflect.TypeFor[[]byte]() {
		return errors.New("this program was built with an IBM/sarama that postrider does not know, and could publish nothing: " +
			"build it with the version that postrider's go.mod names")
	}
	return nil
}

// nobody is the Records of a batch that is encoded, of which sarama only asks how many there
// are. Were it to look at one after all, it would find nil and end the process at once.
var nobody [batchRecords]*sarama.Record

// setEncoded makes b a batch of n records, which are encoded and compressed in wire.
func setEncoded(b *sarama.RecordBatch, n int, wire []byte) {
	b.Records = nobody[:n]
	*(*[]byte)(unsafe.Add(unsafe.Pointer(b), encodedField.Offset)) = wire
}
